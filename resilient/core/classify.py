"""Classification: an error in, a :class:`~resilient.core.action.Verdict` out.

Rules are tried in order, like ``except`` clauses; the first that matches decides. A rule that can never be
reached is an error where the classifier is made, not a surprise in production.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from resilient.core.action import SEVERITY, Action, Verdict
from resilient.core.reach import is_covered
from resilient.core.rule import Predicate, Rule, checked_targets
from resilient.core.setting_errors import SettingTypeError, SettingValueError
from resilient.errors import Rejected

__all__ = ["Classifier", "check_rules", "classifier_of"]

FAIL = Verdict(Action.FAIL)

MOST_PLAIN = 256  # classes that a classifier remembers; a program that makes classes on the fly must not fill it


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
        check_rules(rules)
        if not isinstance(otherwise, Verdict):
            raise SettingTypeError("otherwise", f"must be a Verdict, got {otherwise!r}")
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
            if rule.names_groups and rule.matches(group):
                return rule.verdict_on(group)
        verdicts = [self.match(leaf) for leaf in _leaves(group)]
        if all(verdict is None for verdict in verdicts):
            return None
        return max((self.otherwise if verdict is None else verdict for verdict in verdicts), key=_strictness)

    def __or__(self, other: Classifier) -> Classifier:
        """A classifier with the rules of this one, then the other's, less those that these make unreachable.

        ``otherwise`` is the other's, unless only this one was given any.
        """
        if not isinstance(other, Classifier):
            return NotImplemented
        rules = list(self.rules)
        for rule in other.rules:
            if not is_covered(rule, rules):
                rules.append(rule)
        return Classifier(*rules, otherwise=self.otherwise if other.otherwise == FAIL else other.otherwise)

    def __repr__(self) -> str:
        parts = [repr(rule) for rule in self.rules]
        if self.otherwise != FAIL:
            parts.append(f"otherwise={self.otherwise!r}")
        return f"Classifier({', '.join(parts)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.rules, self.otherwise)


# Groups are judged by their leaves, rejections by when they say that another call makes sense.
NEVER_PLAIN = (BaseExceptionGroup, Rejected)


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
        if issubclass(kind, NEVER_PLAIN) or len(self) >= MOST_PLAIN:
            return
        for rule in self._rules:
            if issubclass(kind, rule.classes):
                if rule.is_plain:
                    self[kind] = None
                return


def check_rules(rules: Sequence[Rule], name: str = "rules") -> None:
    """Checks that these are rules, and that each can be reached.

    Args:
        rules: in the order in which they are tried.
        name: of the argument that they come from, for the error.

    Raises:
        TypeError: one of them is no rule.
        ValueError: one of them can never be reached.
    """
    for position, rule in enumerate(rules):
        if not isinstance(rule, Rule):
            raise SettingTypeError(name, f"must be Rule objects, got {rule!r}")
        if is_covered(rule, rules[:position]):
            problem = f"can never be reached, earlier rules match all it does: {rule!r}"
            raise SettingValueError(name, problem, subject=f"rule {position + 1}")


def classifier_of(on: object, name: str = "on") -> Classifier:
    """What a policy's ``on`` means: class(es), dotted name(s), a predicate or a classifier.

    Args:
        on: what the user gave.
        name: the argument's name, for the error.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if isinstance(on, Classifier):
        return on
    if isinstance(on, Rule):
        return Classifier(on)
    if isinstance(on, (type, str, tuple, list)):
        return Classifier(Rule(checked_targets(tuple(on) if isinstance(on, list) else on, name)))
    if callable(on):
        return Classifier(Rule(Exception, when=cast("Predicate", on)))
    raise SettingTypeError(
        name,
        f"must say which errors: a class, a tuple of classes, a dotted name, a predicate or a Classifier, got {on!r}",
    )


def _rebuilt(rules: tuple[Rule, ...], otherwise: Verdict) -> Classifier:
    return Classifier(*rules, otherwise=otherwise)


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
