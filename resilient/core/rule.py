"""A rule: which errors, and what they call for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from resilient.core.action import Action, Verdict, check_limits, checked_action
from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, seconds
from resilient.core.naming import check_dotted_name, is_named
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["DelayOf", "ErrorTarget", "Predicate", "Rule"]

ErrorTarget: TypeAlias = type[Exception] | str
"""An error class, or the dotted name of one."""

# A hook sees whichever error its rule matched, so its author may declare a narrower parameter than Exception.
Predicate: TypeAlias = Callable[[Any], bool]
DelayOf: TypeAlias = Callable[[Any], Duration | None]

GROUPS = frozenset({"builtins.ExceptionGroup", "builtins.BaseExceptionGroup"})


@dataclass(frozen=True, slots=True, repr=False)
class Rule:
    """One clause of a classifier: which errors, and what they call for.

    Args:
        on: an error class, its dotted name (matched along the error's MRO, importing nothing), or a tuple
            of either.
        action: what a match calls for.
        category: the kind of trouble; attempts and waits are counted by it within a call.
        when: a predicate of the error that must hold too.
        message: a text that the error's message must contain, in any case.
        delay: seconds to wait, or a function of the error that gives them (None, a negative number or one that
            is not finite: no hint in this one).
        attempts: calls in all while this category keeps failing, >= 1.
        backoff: the waits of this category.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    on: ErrorTarget | tuple[ErrorTarget, ...]
    action: Action = Action.RETRY
    category: str = field(default="", kw_only=True)
    when: Predicate | None = field(default=None, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    delay: Duration | DelayOf | None = field(default=None, kw_only=True)
    attempts: int | None = field(default=None, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    judge: Predicate | None = field(default=None, kw_only=True, repr=False)
    verdict: Verdict = field(init=False, compare=False, repr=False)
    classes: tuple[type[Exception], ...] = field(init=False, compare=False, repr=False)
    names: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        targets = () if self.judge is not None and self.on == () else checked_targets(self.on)
        fix(self, "on", targets)
        fix(self, "action", checked_action(self.action))
        check_limits(self.category, self.attempts, self.backoff)
        _check_hook("when", self.when)
        if self.message is not None and not (isinstance(self.message, str) and self.message):
            raise SettingValueError("message", f"must be a text to look for, got {self.message!r}")
        if not callable(self.delay) and self.delay is not None:
            fix(self, "delay", seconds("delay", self.delay))
        fixed = None if callable(self.delay) else self.delay
        fix(self, "verdict", Verdict(self.action, self.category, fixed, self.attempts, self.backoff))
        fix(self, "classes", tuple(target for target in targets if not isinstance(target, str)))
        fix(self, "names", tuple(target for target in targets if isinstance(target, str)))

    @classmethod
    def result(
        cls,
        predicate: Predicate,
        action: Action = Action.RETRY,
        *,
        category: str = "",
        delay: Duration | DelayOf | None = None,
        attempts: int | None = None,
        backoff: Backoff | None = None,
    ) -> Rule:
        """A rule that judges a returned value instead of an error.

        Args:
            predicate: says of a value whether it is as bad as an error.

        When attempts run out, the last value is returned as it is.
        """
        if not callable(predicate):
            raise SettingTypeError("predicate", f"must be a function of the result, got {predicate!r}")
        limits = {"category": category, "delay": delay, "attempts": attempts, "backoff": backoff}
        return cls((), action, judge=predicate, **limits)  # type: ignore[arg-type]  # checked in __post_init__

    def matches(self, error: Exception) -> bool:
        """Whether the rule speaks of this error."""
        return (
            (isinstance(error, self.classes) or any(is_named(type(error), name) for name in self.names))
            and (self.message is None or self.message.lower() in _message_of(error))
            and (self.when is None or bool(self.when(error)))
        )

    def verdict_on(self, subject: object) -> Verdict:
        """The verdict, its delay read from the error (or the result) that matched."""
        if not callable(self.delay):
            return self.verdict
        hint = self.delay(subject)
        if hint is None or (isinstance(hint, (int, float)) and not 0 <= hint < math.inf):
            return self.verdict  # nonsense from a server is no hint, and no reason to lose the error
        return replace(self.verdict, delay=hint)

    def __repr__(self) -> str:
        targets = [kind.__name__ for kind in self.classes] + [repr(name) for name in self.names]
        on = targets[0] if len(targets) == 1 else f"({', '.join(targets)})"
        asked = {"category": "", "when": None, "message": None, "delay": None, "attempts": None, "backoff": None}
        told = [f"{name}={getattr(self, name)!r}" for name, usual in asked.items() if getattr(self, name) != usual]
        said = [f"Action.{self.action.name}", *told]
        return (
            f"Rule({', '.join([on, *said])})"
            if self.judge is None
            else f"Rule.result({', '.join([repr(self.judge), *said])})"
        )

    @property
    def names_groups(self) -> bool:
        """Whether it speaks of exception groups themselves, not of the errors in them."""
        return any(issubclass(kind, BaseExceptionGroup) for kind in self.classes) or not GROUPS.isdisjoint(self.names)

    @property
    def is_plain(self) -> bool:
        """Whether it says RETRY or WAIT and nothing else, whatever the error of its classes."""
        settings = (self.when, self.message, self.delay, self.attempts, self.backoff)
        return self.action in (Action.RETRY, Action.WAIT) and all(setting is None for setting in settings)


def _message_of(error: Exception) -> str:
    try:
        return str(error).lower()
    except Exception:  # an error that cannot say what it is has no message to look for
        return ""


def checked_targets(on: object, name: str = "on") -> tuple[ErrorTarget, ...]:
    """The errors that a rule is for: one, or a tuple.

    Args:
        on: what the user gave.
        name: the argument's name, for the error.

    Raises:
        TypeError, ValueError: it is no error's class or dotted name, or an empty tuple.
    """
    targets = on if isinstance(on, tuple) else (on,)
    if not targets:
        raise SettingValueError(name, "must name at least one error, got ()")
    return tuple(_checked_target(target, name) for target in targets)


def _checked_target(target: object, name: str) -> ErrorTarget:
    if isinstance(target, str):
        return check_dotted_name(name, target)
    if not (isinstance(target, type) and issubclass(target, BaseException)):
        raise SettingTypeError(name, f"must be error classes or their dotted names, got {target!r}")
    if not issubclass(target, Exception):
        raise SettingValueError(
            name, f"must be a kind of Exception, got {target.__name__}: cancellation and exits are never classified"
        )
    return target


def _check_hook(name: str, hook: object) -> None:
    if hook is not None and not callable(hook):
        raise SettingTypeError(name, f"must be a function of the error, got {hook!r}")
