"""What a settings file can say of each kind of policy beside Retry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from resilient.core.setting_errors import SettingValueError
from resilient.policies.adaptive_limiter import AdaptiveLimiter
from resilient.policies.adaptive_rate import AdaptiveRate
from resilient.policies.adaptive_throttle import AdaptiveThrottle
from resilient.policies.bulkhead import Bulkhead
from resilient.policies.circuit_breaker import CircuitBreaker
from resilient.policies.hedge import Hedge
from resilient.policies.policy import Policy
from resilient.policies.rate_limiter import RateLimiter
from resilient.policies.timeout import Timeout
from resilient.settings.notation import TIME, read_duration
from resilient.settings.retry import UNLIMITED
from resilient.settings.targets import errors_named
from resilient.settings.waits import as_seconds, seconds_or_curve

__all__ = ["CURVES", "KINDS", "Kind", "Reader", "plain"]

Reader = Callable[[str, Any], Any]
"""Makes a setting from its key and what TOML has there."""

NONE = "none"
CURVES = ("open_for",)  # what may be a table of waits


class Kind(NamedTuple):
    """What a settings file can say of one kind of policy.

    Attributes:
        make: the policy's class, which is the authority on what is allowed.
        keys: its settings, and how each is read.
        needed: those that must be given, with an example.
        code: settings that only code can give.
        beside: for settings that limit others: which. These are not looked at where that one is wrong.
    """

    make: Callable[..., Policy]
    keys: Mapping[str, Reader]
    needed: Mapping[str, object] = {}
    code: tuple[str, ...] = ("home",)
    beside: Mapping[str, tuple[str, ...]] = {}


def plain(key: str, value: Any) -> Any:
    """A setting as TOML has it, for the class to check."""
    return value


def _number_or(word: str) -> Reader:
    """A reader of numbers that takes a word for None, which TOML cannot say."""

    def read(key: str, value: Any) -> Any:
        if value == word:
            return None
        if isinstance(value, str):
            raise SettingValueError(key, f'must be a number or "{word}", got {value!r}')
        return value

    return read


def _seconds_or(word: str) -> Reader:
    """A reader of durations that takes a word for None, which TOML cannot say."""

    def read(key: str, value: Any) -> Any:
        return None if value == word else as_seconds(key, value, f'"{word}", {TIME}')

    return read


def _window(key: str, value: Any) -> Any:
    """A number of calls; text is a time, and has its unit so that nobody takes the one for the other."""
    if not isinstance(value, str):
        return value
    try:
        if value.strip()[-1:].isalpha():
            return timedelta(seconds=read_duration(key, value))
    except (OverflowError, ValueError):
        pass
    raise SettingValueError(
        key, f'must be a number of calls, or a time with its unit such as "30s" or "2m", got {value!r}'
    )


def _ignored(key: str, value: Any) -> Any:
    return () if value in ([], ()) else errors_named(key, value)


def _after(key: str, value: Any) -> Any:
    """Text that begins like a percentile is one."""
    if isinstance(value, str) and value.startswith("p"):
        return value
    return as_seconds(key, value, f'a percentile such as "p95", {TIME}')


KINDS: dict[str, Kind] = {
    "timeout": Kind(Timeout, {"seconds": as_seconds, "worker": plain}, needed={"seconds": "5s"}, code=()),
    "circuit_breaker": Kind(
        CircuitBreaker,
        {
            "failure_rate": _number_or(NONE),
            "window": _window,
            "min_calls": plain,
            "consecutive": _number_or(NONE),
            "slow_call": _seconds_or(NONE),
            "slow_rate": plain,
            "open_for": seconds_or_curve,
            "probes": plain,
            "on": errors_named,
            "ignore": _ignored,
        },
        code=("result", "home"),
        beside={"window": ("min_calls",)},
    ),
    "rate_limiter": Kind(
        RateLimiter,
        {"rate": plain, "per": as_seconds, "burst": plain, "max_wait": as_seconds},
        needed={"rate": 50},
    ),
    "bulkhead": Kind(
        Bulkhead,
        {"limit": plain, "max_wait": _seconds_or(UNLIMITED), "queue": _number_or(UNLIMITED)},
        needed={"limit": 10},
    ),
    "adaptive_limiter": Kind(
        AdaptiveLimiter,
        {"algorithm": plain, "initial": plain, "min_limit": plain, "max_limit": plain, "on": errors_named},
        beside={"min_limit": ("max_limit", "initial"), "max_limit": ("initial",)},
    ),
    "adaptive_throttle": Kind(
        AdaptiveThrottle, {"k": plain, "window": as_seconds, "min_calls": plain, "on": errors_named}
    ),
    "adaptive_rate": Kind(
        AdaptiveRate,
        {"on": errors_named, "max_wait": _seconds_or(UNLIMITED), "beta": plain, "scale": plain},
        needed={"on": "ConnectionError"},
    ),
    "hedge": Kind(
        Hedge,
        {"after": _after, "extra": plain, "min_samples": plain, "load": plain},
        needed={"after": "p95"},
        beside={"extra": ("load",)},
    ),
}
