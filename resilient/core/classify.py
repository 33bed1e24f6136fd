"""Classification: an error in, a :class:`Verdict` out.

Rules are tried in order, like ``except`` clauses; the first that matches decides. A rule that can never be
reached is an error where the classifier is made, not a surprise in production.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from resilient.core.action import SEVERITY, Action, Verdict, check_limits, checked_action
from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, seconds
from resilient.core.naming import check_dotted_name, is_named

__all__ = ["Classifier", "ErrorTarget", "Rule", "classifier_of"]

ErrorTarget: TypeAlias = type[Exception] | str
"""An error class, or the dotted name of one."""

# A hook sees whichever error its rule matched, so its author may declare a narrower parameter than Exception.
Predicate: TypeAlias = Callable[[Any], bool]
DelayOf: TypeAlias = Callable[[Any], Duration | None]

FAIL = Verdict(Action.FAIL)

MOST_PLAIN = 256  # classes that a classifier remembers; a program that makes classes on the fly must not fill it


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause of a classifier: which errors, and what they call for.

    Args:
        on: an error class, its dotted name (matched along the error's MRO, importing nothing), or a tuple
            of either.
        action: what a match calls for.
        category: the kind of trouble; attempts and waits are counted by it within a call.
        when: a predicate of the error that must hold too.
        message: a text that the error's message must contain, in any case.
        delay: seconds to wait, or a function of the error that gives them (None: no hint in this one).
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
        targets = self.on if isinstance(self.on, tuple) else (self.on,)
        if not targets and self.judge is None:
            raise ValueError("on must name at least one error, got ()")
        fix(self, "on", tuple(_checked_target(target) for target in targets))
        fix(self, "action", checked_action(self.action))
        check_limits(self.category, self.attempts, self.backoff)
        _check_hook("when", self.when)
        if self.message is not None and not (isinstance(self.message, str) and self.message):
            raise ValueError(f"message must be a text to look for, got {self.message!r}")
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
            raise TypeError(f"predicate must be a function of the result, got {predicate!r}")
        limits = {"category": category, "delay": delay, "attempts": attempts, "backoff": backoff}
        return cls((), action, judge=predicate, **limits)  # type: ignore[arg-type]  # checked in __post_init__

    def matches(self, error: Exception) -> bool:
        """Whether the rule speaks of this error."""
        return (
            (isinstance(error, self.classes) or any(is_named(type(error), name) for name in self.names))
            and (self.message is None or self.message.lower() in str(error).lower())
            and (self.when is None or bool(self.when(error)))
        )

    def verdict_on(self, subject: object) -> Verdict:
        """The verdict, its delay read from the error (or the result) that matched."""
        if not callable(self.delay):
            return self.verdict
        hint = self.delay(subject)
        return self.verdict if hint is None else replace(self.verdict, delay=hint)


@dataclass(frozen=True, slots=True, init=False)
class Classifier:
    """Rules in order, like ``except`` clauses.

    Args:
        rules: tried from first to last.
        otherwise: the verdict where none matches; FAIL by default.

    Raises:
        ValueError: a rule can never be reached.

    An exception group gets the strictest verdict of its leaves (FAIL before RELOGIN before ROTATE_PROXY
    before RECONNECT before WAIT before RETRY), unless a rule names a group class itself.
    """

    rules: tuple[Rule, ...]
    otherwise: Verdict
    plain: _PlainRetries = field(compare=False, repr=False)

    def __init__(self, *rules: Rule, otherwise: Verdict = FAIL) -> None:
        for position, rule in enumerate(rules):
            if not isinstance(rule, Rule):
                raise TypeError(f"rules must be Rule objects, got {rule!r}")
            if _is_covered(rule, rules[:position]):
                raise ValueError(f"rule {position + 1} can never be reached, earlier rules match all it does: {rule!r}")
        if not isinstance(otherwise, Verdict):
            raise TypeError(f"otherwise must be a Verdict, got {otherwise!r}")
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "otherwise", otherwise)
        object.__setattr__(self, "plain", _PlainRetries(rules))

    def __call__(self, error: Exception, /) -> Verdict:
        """The verdict on an error."""
        found = self.match(error)
        return self.otherwise if found is None else found

    def match(self, error: Exception) -> Verdict | None:
        """The verdict of the first rule that matches an error, or None."""
        if isinstance(error, ExceptionGroup):
            return self._match_group(error)
        for rule in self.rules:
            if rule.matches(error):
                return rule.verdict_on(error)
        return None

    def match_result(self, value: object) -> Verdict | None:
        """The verdict of the first result rule that a returned value meets, or None: the value is good."""
        for rule in self.rules:
            if rule.judge is not None and rule.judge(value):
                return rule.verdict_on(value)
        return None

    @property
    def judges_results(self) -> bool:
        """Whether any rule looks at returned values."""
        return any(rule.judge is not None for rule in self.rules)

    def _match_group(self, group: ExceptionGroup[Exception]) -> Verdict | None:
        for rule in self.rules:
            if _names_groups(rule) and rule.matches(group):
                return rule.verdict_on(group)
        verdicts = [self.match(leaf) for leaf in _leaves(group)]
        if all(verdict is None for verdict in verdicts):
            return None
        return max((self.otherwise if verdict is None else verdict for verdict in verdicts), key=_strictness)

    def __or__(self, other: Classifier) -> Classifier:
        """This classifier's rules, then the other's, less those that these make unreachable.

        ``otherwise`` is the other's, unless only this one was given any.
        """
        if not isinstance(other, Classifier):
            return NotImplemented
        rules = list(self.rules)
        for rule in other.rules:
            if not _is_covered(rule, rules):
                rules.append(rule)
        return Classifier(*rules, otherwise=self.otherwise if other.otherwise == FAIL else other.otherwise)

    def __repr__(self) -> str:
        parts = [repr(rule) for rule in self.rules]
        if self.otherwise != FAIL:
            parts.append(f"otherwise={self.otherwise!r}")
        return f"Classifier({', '.join(parts)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.rules, self.otherwise)


class _PlainRetries(dict[type[Exception], None]):
    """The error classes known to be met by a rule that says RETRY or WAIT and nothing else, whatever the error.

    Filled in by :meth:`learn`; a retry of these needs no classification.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__()
        # Only rules by class, and only as long as every rule before them is: their answers never change.
        self._rules: list[Rule] = []
        for rule in rules:
            if rule.names or rule.judge is not None:
                break
            self._rules.append(rule)

    def learn(self, kind: type[Exception]) -> None:
        """Notes a class if errors of it are always plainly retried."""
        if issubclass(kind, BaseExceptionGroup) or len(self) >= MOST_PLAIN:
            return
        for rule in self._rules:
            if issubclass(kind, rule.classes):
                if _is_plain(rule):
                    self[kind] = None
                return


def _is_plain(rule: Rule) -> bool:
    settings = (rule.when, rule.message, rule.delay, rule.attempts, rule.backoff)
    return rule.action in (Action.RETRY, Action.WAIT) and all(setting is None for setting in settings)


def classifier_of(on: object) -> Classifier:
    """What a policy's ``on`` means: class(es), dotted name(s), a predicate or a classifier.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if isinstance(on, Classifier):
        return on
    if isinstance(on, Rule):
        return Classifier(on)
    if isinstance(on, (type, str)):
        return Classifier(Rule(on))
    if isinstance(on, (tuple, list)):
        return Classifier(Rule(tuple(on)))
    if callable(on):
        return Classifier(Rule(Exception, when=cast("Predicate", on)))
    raise TypeError(
        f"on must say which errors: a class, a tuple of classes, a dotted name, a predicate or a Classifier, got {on!r}"
    )


def _rebuilt(rules: tuple[Rule, ...], otherwise: Verdict) -> Classifier:
    return Classifier(*rules, otherwise=otherwise)


def _checked_target(target: object) -> ErrorTarget:
    if isinstance(target, str):
        return check_dotted_name("on", target)
    if not (isinstance(target, type) and issubclass(target, BaseException)):
        raise TypeError(f"on must be error classes or their dotted names, got {target!r}")
    if not issubclass(target, Exception):
        raise ValueError(
            f"on must be a kind of Exception, got {target.__name__}: cancellation and exits are never classified"
        )
    return target


def _check_hook(name: str, hook: object) -> None:
    if hook is not None and not callable(hook):
        raise TypeError(f"{name} must be a function of the error, got {hook!r}")


def _is_covered(rule: Rule, earlier: tuple[Rule, ...] | list[Rule]) -> bool:
    """Whether earlier rules match everything that a rule does."""
    rivals = [other for other in earlier if _asks_no_more(other, rule)]
    if rule.judge is not None:
        return any(other.judge == rule.judge for other in rivals)
    targets: tuple[ErrorTarget, ...] = (*rule.classes, *rule.names)
    return all(any(_takes(other, target) for other in rivals) for target in targets)


def _asks_no_more(rule: Rule, than: Rule) -> bool:
    same_when = rule.when is None or rule.when == than.when
    wanted, given = (rule.message or "").lower(), (than.message or "").lower()
    return same_when and wanted in given


def _takes(rule: Rule, target: ErrorTarget) -> bool:
    if isinstance(target, str):
        return target in rule.names or Exception in rule.classes
    if issubclass(target, BaseExceptionGroup) and not _names_groups(rule):
        return False  # a rule that names groups is asked before the leaves, wherever it stands
    return issubclass(target, rule.classes) or any(is_named(target, name) for name in rule.names)


def _names_groups(rule: Rule) -> bool:
    return any(issubclass(kind, BaseExceptionGroup) for kind in rule.classes)


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    pending: list[Exception] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, ExceptionGroup):
            pending.extend(error.exceptions)
        else:
            yield error


def _strictness(verdict: Verdict) -> tuple[int, float]:
    return SEVERITY[verdict.action], verdict.seconds or 0.0
