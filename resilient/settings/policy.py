"""One table of settings, made into a policy of the kind that it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from resilient.core.setting_errors import setting_of
from resilient.policies.policy import Policy
from resilient.policies.retry_budget import RetryBudget
from resilient.settings.kinds import CURVES, KINDS, Kind, Reader, plain
from resilient.settings.retry import KEYS as RETRY_KEYS
from resilient.settings.retry import advice, read_retry
from resilient.settings.table import Table, suggestion
from resilient.settings.waits import read_curve

__all__ = ["KEYS", "read_policy"]

RETRY = "retry"
ELSEWHERE = {  # what people may try as a kind
    "fallback": 'needs code, which no settings file holds: resilient.Fallback(...) >> load(...)["name"]',
    "catch": "needs code, which no settings file holds: resilient.catch(...)",
    "pipeline": "has a section of its own: write a table such as [pipelines.db]",
}
COMMON = ("kind", "name")
KEYS = tuple(dict.fromkeys((*COMMON, *RETRY_KEYS, *(key for kind in KINDS.values() for key in kind.keys))))


def read_policy(
    table: Table, name: str, *, budgets: Mapping[str, RetryBudget | None], default: str | None = RETRY
) -> Policy | None:
    """The policy that a table describes.

    Args:
        table: its settings.
        name: the policy's name where the table gives none.
        budgets: those that a Retry may name.
        default: the kind where the table says none; None: it must.

    Returns:
        None and problems, if anything in it is wrong.
    """
    if "kind" not in table and (default is None or _is_foreign(table)):
        table.note(f"kind is missing{_kinds_for(table)}")
        return None
    kind = table.entries.get("kind", default)
    if kind == RETRY:
        return read_retry(table, name, budgets, ("kind",), _of_other_kinds(RETRY))
    if isinstance(kind, str) and kind in KINDS:
        return _of_kind(KINDS[kind], kind, table, name)
    if isinstance(kind, str) and kind in ELSEWHERE:
        table.note(f"kind {kind!r} {ELSEWHERE[kind]}")
    else:
        table.note(f"kind must be a known kind, got {kind!r}{suggestion(kind, (RETRY, *KINDS))}")
    return None


def _is_foreign(table: Table) -> bool:
    """Whether a table without a kind has settings of other kinds only, so that it was hardly meant as a Retry."""
    own = [key for key in table.entries if key not in COMMON]
    return any(key in KEYS for key in own) and not any(key in RETRY_KEYS for key in own)


def _kinds_for(table: Table) -> str:
    """A clause that says which kinds have the settings of a table."""
    lessons = _of_other_kinds("")
    known = [key for key in table.entries if key in lessons]
    return f": {known[0]} {lessons[known[0]]}" if known else suggestion(None, (RETRY, *KINDS))


def _of_kind(kind: Kind, word: str, table: Table, name: str) -> Policy | None:
    before = len(table.problems)
    table.check_keys((*COMMON, *kind.keys), _of_other_kinds(word) | advice(("listeners", *kind.code)))
    settings: dict[str, Any] = {"name": name}
    for key, read in {"name": plain, **kind.keys}.items():
        if key in table:
            noted = len(table.problems)
            settings[key] = _setting(table, key, read)
            if len(table.problems) > noted:
                settings[key] = _Wrong
    for key, example in kind.needed.items():
        if key not in table:
            table.note(f"{key} is missing: this kind needs it, such as {key} = {json.dumps(example)}")
            settings[key] = _Wrong
    made = _made(kind, settings, table)
    return made if len(table.problems) == before else None


class _Wrong:
    """Stands for a setting whose problem is noted."""


def _setting(table: Table, key: str, read: Reader) -> Any:
    if key in CURVES and isinstance(table.entries[key], Mapping):
        return read_curve(table, key)
    return table.read(key, partial(read, key))


def _made(kind: Kind, settings: dict[str, Any], table: Table) -> Policy | None:
    """The policy; or what is wrong with each setting, which its errors name."""
    told: set[str] = set()
    while True:
        for key in [key for key, value in settings.items() if value is _Wrong]:
            told.add(key)
            for other in (key, *kind.beside.get(key, ())):
                settings.pop(other, None)
            if key in kind.needed:
                settings[key] = kind.keys[key](key, kind.needed[key])
        try:
            return kind.make(**settings)
        except (TypeError, ValueError) as error:
            key = setting_of(error)
            if key not in told:  # else it is the usual value that does not fit
                table.note_error(error)
        if key in told or key not in settings:
            return None
        settings[key] = _Wrong


def _of_other_kinds(own: str) -> dict[str, str]:
    """Advice on the keys that other kinds have."""
    keys = {RETRY: RETRY_KEYS} | {word: tuple(kind.keys) for word, kind in KINDS.items()}
    homes = {key: [word for word, known in keys.items() if word != own and key in known] for key in KEYS[len(COMMON) :]}
    return {
        key: f"is a setting of kind = {' or '.join(map(json.dumps, words))}" for key, words in homes.items() if words
    }
