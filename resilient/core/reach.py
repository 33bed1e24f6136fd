"""Whether a rule can be reached: what earlier rules leave it to match."""

from __future__ import annotations

from collections.abc import Sequence

from resilient.core.naming import is_named
from resilient.core.rule import ErrorTarget, Rule

__all__ = ["is_covered"]


def is_covered(rule: Rule, earlier: Sequence[Rule]) -> bool:
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
    if issubclass(target, BaseExceptionGroup) and not rule.names_groups:
        return False  # a rule that names groups is asked before the leaves, wherever it stands
    return issubclass(target, rule.classes) or any(is_named(target, name) for name in rule.names)
