"""One table of settings, made into a Retry."""

from __future__ import annotations

from functools import partial
from typing import Any

from resilient.core.backoff import Backoff
from resilient.policies.retry import DEFAULT_BACKOFF, Retry
from resilient.settings import reconnect, targets
from resilient.settings.notation import jittered, written
from resilient.settings.table import Table
from resilient.settings.waits import as_seconds, read_curve

__all__ = ["KEYS", "UNLIMITED", "checked", "read_policy"]

DURATIONS = ("timeout", "attempt_timeout", "max_wait")
PLAIN = ("attempts", *DURATIONS, "name")
KEYS = (*targets.KEYS, *PLAIN, "backoff", "jitter", *reconnect.KEYS)
NEEDS_CODE = {
    key: f'is code, which no settings file holds: load(...)["name"].with_({key}=...)'
    for key in ("recovery", "budget", "listeners", "resume", "streaming")
}
UNLIMITED = "unlimited"


def read_policy(table: Table, name: str) -> Retry | None:
    """The policy that a table describes.

    Args:
        table: its settings.
        name: the policy's name where the table gives none.

    Returns:
        None and problems, if anything in it is wrong.
    """
    before = len(table.problems)
    table.check_keys(KEYS, NEEDS_CODE)
    settings: dict[str, Any] = {"name": name} | reconnect.read_reconnect(table)
    default = reconnect.PRESET if "attempts" in settings else None
    for key in PLAIN:
        if key in table:
            settings[key] = table.read(key, partial(checked, key))
    if "backoff" in table:
        settings["backoff"] = read_curve(table)
    if "jitter" in table:
        settings["backoff"] = _read_jitter(table, settings.get("backoff", DEFAULT_BACKOFF))
    settings["on"] = targets.read_errors(table, default)
    return Retry(**settings) if len(table.problems) == before else None


def _attempts(value: object) -> object:
    """A number of calls; the word "unlimited" is None, which TOML cannot say."""
    if isinstance(value, str):
        if value != UNLIMITED:
            raise ValueError(f'attempts must be a whole number >= 1 or "{UNLIMITED}", got {value!r}')
        return None
    return value


def checked(key: str, value: object) -> Any:
    """One setting, from text where it is written as text, as Retry itself takes it.

    Raises:
        TypeError, ValueError: Retry's own, beginning with the key.
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
