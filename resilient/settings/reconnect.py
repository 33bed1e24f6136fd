"""The five keys by which the loopback message client is configured, understood as attempts and a backoff.

=========================== ======= ==================================================================
key                         default meaning
=========================== ======= ==================================================================
``enable_auto_reconnect``   true    false: one call, no retry
``max_reconnect_attempts``  5       retries after the first call, so ``attempts`` is one more
``reconnect_interval_ms``   1000    the base of the waits
``reconnect_backoff_ms``    2000    their cap
``enable_reconnect_backoff`` true   wait n is min(base * n, cap) above n = 1, else base; false: the base
=========================== ======= ==================================================================
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from resilient.core import backoff
from resilient.core.backoff import Backoff
from resilient.core.duration import whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError
from resilient.settings.table import Table

__all__ = ["KEYS", "PRESET", "read_reconnect"]

DURATIONS = ("reconnect_interval_ms", "reconnect_backoff_ms")
SWITCHES = ("enable_auto_reconnect", "enable_reconnect_backoff")
DEFAULTS: dict[str, Any] = {
    "enable_auto_reconnect": True,
    "max_reconnect_attempts": 5,
    "reconnect_interval_ms": 1000,
    "reconnect_backoff_ms": 2000,
    "enable_reconnect_backoff": True,
}
KEYS = tuple(DEFAULTS)
PRESET = "sockets"  # what these keys are for


def read_reconnect(table: Table) -> dict[str, Any]:
    """The settings that the keys in this table stand for; empty if there is none of them."""
    given = [key for key in KEYS if key in table]
    if not given:
        return {}
    for key in ("attempts", "backoff"):
        if key in table:
            table.note(f"{key} cannot stand beside {given[0]}, which sets it too: give one or the other")
    read = {key: table.read(key, partial(_checked, key)) for key in given}
    return _meaning(**DEFAULTS | {key: value for key, value in read.items() if value is not None})


def _meaning(
    *,
    enable_auto_reconnect: bool,
    max_reconnect_attempts: int,
    reconnect_interval_ms: int,
    reconnect_backoff_ms: int,
    enable_reconnect_backoff: bool,
) -> dict[str, Any]:
    base, cap = reconnect_interval_ms / 1000, reconnect_backoff_ms / 1000
    attempts = 1 + max_reconnect_attempts if enable_auto_reconnect else 1
    return {"attempts": attempts, "backoff": _waits(base, cap, enable_reconnect_backoff)}


def _waits(base: float, cap: float, grows: bool) -> Backoff:
    if not grows:
        return backoff.constant(base)
    if base > cap:  # the cap binds only from the second wait on, so that the first is longer
        return backoff.sequence(base, cap)
    return backoff.linear(base, cap=cap)


def _checked(key: str, value: object) -> Any:
    if key not in SWITCHES:
        number = whole(key, value, least=0)
        if key in DURATIONS and number > sys.float_info.max:
            raise SettingValueError(key, "must be finite, got an integer beyond any float")
        return number
    if isinstance(value, bool):
        return value
    raise SettingTypeError(key, f"must be true or false, got {value!r}")
