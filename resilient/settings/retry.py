"""The keys of a Retry: one table of settings, made into the policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from resilient.core.backoff import Backoff
from resilient.core.setting_errors import SettingValueError
from resilient.policies.retry import DEFAULT_BACKOFF, Retry
from resilient.policies.retry_budget import RetryBudget
from resilient.settings.budget import budget_of
from resilient.settings.notation import jittered, written
from resilient.settings.reconnect import KEYS as RECONNECT_KEYS
from resilient.settings.reconnect import PRESET, read_reconnect
from resilient.settings.table import Table
from resilient.settings.targets import KEYS as TARGET_KEYS
from resilient.settings.targets import read_errors
from resilient.settings.waits import as_seconds, read_curve

__all__ = ["KEYS", "UNLIMITED", "advice", "checked", "read_retry"]

DURATIONS = ("timeout", "attempt_timeout", "max_wait")
PLAIN = ("attempts", *DURATIONS, "nested", "name")
KEYS = (*TARGET_KEYS, *PLAIN, "backoff", "jitter", "budget", *RECONNECT_KEYS)
CODE = ("recovery", "listeners", "resume", "streaming")
UNLIMITED = "unlimited"


def advice(keys: Iterable[str]) -> dict[str, str]:
    """What to do about settings that only code can give."""
    return {key: f'is code, which no settings file holds: load(...)["name"].with_({key}=...)' for key in keys}


def read_retry(
    table: Table,
    name: str,
    budgets: Mapping[str, RetryBudget | None],
    more: tuple[str, ...] = (),
    lessons: Mapping[str, str] | None = None,
) -> Retry | None:
    """The policy that a table describes.

    Args:
        table: its settings.
        name: the policy's name where the table gives none.
        budgets: those that it may name.
        more: keys that may stand there too.
        lessons: for keys that people are likely to try: what to do instead.

    Returns:
        None and problems, if anything in it is wrong.
    """
    before = len(table.problems)
    table.check_keys((*KEYS, *more), {**(lessons or {}), **advice(CODE)})
    settings: dict[str, Any] = {"name": name} | read_reconnect(table)
    default = PRESET if "attempts" in settings else None
    for key in PLAIN:
        if key in table:
            settings[key] = table.read(key, partial(checked, key))
    if "backoff" in table:
        settings["backoff"] = read_curve(table, "backoff")
    if "jitter" in table:
        settings["backoff"] = _read_jitter(table, settings.get("backoff", DEFAULT_BACKOFF))
    if "budget" in table:
        settings["budget"] = budget_of(table, name if settings["name"] is None else settings["name"], budgets)
    settings["on"] = read_errors(table, default)
    return Retry(**settings) if len(table.problems) == before and _is_whole(settings) else None


def _is_whole(settings: Mapping[str, Any]) -> bool:
    """Whether a budget that was named is one: its own problems are noted in its table."""
    return "budget" not in settings or settings["budget"] is not None


def _attempts(value: object) -> object:
    """A number of calls; the word "unlimited" is None, which TOML cannot say."""
    if isinstance(value, str):
        if value != UNLIMITED:
            raise SettingValueError("attempts", f'must be a whole number >= 1 or "{UNLIMITED}", got {value!r}')
        return None
    return value


def checked(key: str, value: object) -> Any:
    """One setting, from text where it is written as text, as Retry itself takes it.

    Raises:
        TypeError, ValueError: Retry's own.
    """
    if key in DURATIONS:
        value = as_seconds(key, value)
    if key == "attempts":
        value = _attempts(value)
    settings: dict[str, Any] = {key: value}
    return getattr(Retry(on=Exception, **settings), key)


def _read_jitter(table: Table, backoff: Backoff | None) -> Backoff | None:
    if backoff is None:  # its own problem is noted
        return None
    if "backoff" in table and backoff.spread not in (0.0, "decorrelated"):
        table.note(f"jitter is given twice: backoff is {written(backoff)!r}")
        return None
    return table.read("jitter", lambda spread: jittered(backoff, spread))
