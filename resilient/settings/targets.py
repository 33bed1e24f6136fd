"""Which errors a policy is for: names, presets and rules, made into one classifier."""

from __future__ import annotations

import builtins
from functools import partial, reduce
from operator import or_
from typing import Any

from resilient.core.action import Verdict, checked_action
from resilient.core.classify import Classifier, classifier_of
from resilient.core.rule import Rule
from resilient.core.setting_errors import SettingValueError
from resilient.settings.table import Table, suggestion
from resilient.settings.waits import as_seconds, read_curve

__all__ = ["KEYS", "errors_named", "preset", "read_errors"]

KEYS = ("on", "rules", "otherwise")
RULE_KEYS = ("on", "action", "category", "message", "delay", "attempts", "backoff")
NEEDS_CODE: dict[str, str] = dict.fromkeys(
    ("when", "judge"), "is a function, which only code can give: use resilient.Rule there"
)
PRESET = "presets."


def read_errors(table: Table, default: str | None) -> Classifier | None:
    """The classifier of a policy: its rules in order, then ``on``, then ``otherwise``.

    Args:
        table: the policy's.
        default: the preset where neither ``on`` nor a rule is given; None if one must be.

    Returns:
        None and problems, if a part of it is wrong.
    """
    before = len(table.problems)
    rules = _read_rules(table) if "rules" in table else []
    named = table.read("on", partial(errors_named, "on")) if "on" in table else None
    otherwise = table.read("otherwise", _otherwise) if "otherwise" in table else None
    if not rules and named is None and len(table.problems) == before:
        if default is None:
            table.note('on is missing: say which errors, such as on = "ConnectionError" or on = "presets.http"')
        else:
            named = preset(default)
    if len(table.problems) > before:
        return None
    whole = Classifier(*rules) if named is None else Classifier(*rules) | named
    return whole if otherwise is None else Classifier(*whole.rules, otherwise=otherwise)


def errors_named(key: str, named: object) -> Classifier:
    """The classifier of the errors that a setting names, such as a breaker's ``ignore``.

    Args:
        key: the setting.
        named: names of errors and presets, or what code takes for errors.

    Raises:
        TypeError, ValueError: it names none.
    """
    if not isinstance(named, (str, list, tuple)):
        return classifier_of(named, key)
    names = [named] if isinstance(named, str) else named
    if not names:
        raise SettingValueError(key, "must name at least one error, got []")
    return reduce(or_, (_part(key, name) for name in names))


def preset(name: str, key: str = "on") -> Classifier:
    """A ready-made classifier, by its name.

    Args:
        name: as in :mod:`resilient.presets`.
        key: the setting that names it, for the error.

    Raises:
        ValueError: there is none of this name.
    """
    from resilient.presets import BY_NAME

    if name in BY_NAME:
        return BY_NAME[name]
    raise SettingValueError(key, f"must name a preset that exists, got {PRESET + name!r}{suggestion(name, BY_NAME)}")


def _part(key: str, named: object) -> Classifier:
    if isinstance(named, str) and (name := _preset_name(named)):
        return preset(name, key)
    return classifier_of(_target(key, named), key)


def _preset_name(named: str) -> str | None:
    short = named.removeprefix("resilient.") if named.startswith(f"resilient.{PRESET}") else named
    name = short.removeprefix(PRESET)
    return name if short.startswith(PRESET) and "." not in name else None


def _target(key: str, named: object) -> Any:
    """A built-in error by its bare name; a dotted name, or anything that code put there, as it is."""
    if not isinstance(named, str) or "." in named:
        return named
    found = getattr(builtins, named, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    known = [name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    hint = suggestion(named, known).partition("; there are")[0]  # all seventy would not help
    raise SettingValueError(
        key, f"must be a built-in error or a dotted name such as 'httpx.ConnectError', got {named!r}{hint}"
    )


def _otherwise(value: object) -> Verdict:
    return Verdict(checked_action(value, "otherwise"))


def _read_rules(table: Table) -> list[Rule]:
    entries = table.entries["rules"]
    if not isinstance(entries, (list, tuple)):
        table.note(
            f"rules must be a list of tables, written [[{table.place or 'policies.name'}.rules]], got {entries!r}"
        )
        return []
    rules: list[Rule] = []
    for number, entry in enumerate(entries):
        rule_table = table.within(f"rules[{number}]", entry)
        rule = None if rule_table is None else _read_rule(rule_table)
        if rule is not None and _reachable(table, number, rule, rules):
            rules.append(rule)
    return rules


def _read_rule(table: Table) -> Rule | None:
    before = len(table.problems)
    table.check_keys(RULE_KEYS, NEEDS_CODE)
    settings: dict[str, Any] = {"on": Exception}
    for key in table.entries:
        if key == "on":
            settings[key] = table.read(key, _rule_targets)
        elif key == "backoff":
            settings[key] = read_curve(table, "backoff")
        elif key in RULE_KEYS:
            settings[key] = table.read(key, partial(_checked, key))
    if "on" not in table:
        table.note('on is missing: say which errors, such as on = "ConnectionError"')
    return table.attempt(lambda: Rule(**settings)) if len(table.problems) == before else None


def _checked(key: str, value: object) -> Any:
    """One setting of a rule as Rule itself takes it."""
    given: dict[str, Any] = {key: as_seconds(key, value) if key == "delay" else value}
    return getattr(Rule(Exception, **given), key)


def _rule_targets(on: object) -> Any:
    named = list(on) if isinstance(on, (list, tuple)) else [on]
    for name in named:
        if isinstance(name, str) and _preset_name(name):
            raise SettingValueError(
                "on", f"must name errors: a preset has rules of its own, name it in the policy's on, got {name!r}"
            )
    return Rule(tuple(_target("on", name) for name in named)).on


def _reachable(table: Table, number: int, rule: Rule, earlier: list[Rule]) -> bool:
    try:
        Classifier(*earlier, rule)
    except ValueError:
        table.note(f"rules[{number}] can never be reached: earlier rules match all it does")
        return False
    return True
