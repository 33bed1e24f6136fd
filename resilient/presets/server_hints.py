"""How long a server asks to wait, wherever it says so."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from resilient.core.duration import seconds
from resilient.drivers.clock import CLOCK
from resilient.presets.http_dates import instant_of

__all__ = ["retry_after"]

# The finer hint first. The two in milliseconds are a convention of Azure's services and SDKs, which OpenAI's share.
HEADERS = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))

# RFC 9110, 10.2.3 has whole seconds; servers send fractions too. No sign, no exponent, ASCII digits only.
NUMBER = re.compile(r"[0-9]{1,10}(?:\.[0-9]+)?")
LONGEST = 1e10  # seconds, some 317 years: what is longer is a mistake
LONGEST_TEXT = 64  # characters; the longest HTTP date has 33


def retry_after(source: object, *, now: float | datetime | None = None) -> float | None:
    """Seconds to wait that a server named, or None if it named none that makes sense.

    Args:
        source: the text of a ``Retry-After`` header (seconds or an HTTP date), a number of seconds, a mapping of
            headers, a response, an error with ``.response``, ``.headers`` or ``.retry_after``, or None.
        now: the present, for a date: seconds since the epoch or an aware ``datetime``; None asks the clock.

    Returns:
        Seconds >= 0 (a date in the past gives 0.0); None for no hint and for garbage, which never raises.

    Raises:
        ValueError: ``now`` is a naive ``datetime``, or out of range.

    Source: RFC 9110, 10.2.3. Goes as it is where a rule wants a delay: ``Rule(..., delay=retry_after)``.
    """
    if isinstance(source, (str, bytes, int, float)):
        return _seconds(source, 1.0, now)
    headers = _headers(source)
    for name, unit in HEADERS:
        found = _seconds(_header(headers, name), unit, now)
        if found is not None:
            return found
    own = _attribute(source, "retry_after")
    return _seconds(own, 1.0, now) if isinstance(own, (str, int, float)) else None


def _seconds(value: object, unit: float, now: float | datetime | None) -> float | None:
    if isinstance(value, (int, float)):
        return None if isinstance(value, bool) else _checked(value, unit)
    text = _text(value).strip()
    if len(text) > LONGEST_TEXT:
        return None
    if NUMBER.fullmatch(text):
        return _checked(float(text), unit)
    if not text or unit != 1.0:
        return None
    present = _present(now)
    instant = instant_of(text, present)
    return None if instant is None else max(0.0, instant - present)


def _checked(number: float, unit: float) -> float | None:
    # An int beyond any float compares all the same, and NaN compares as False.
    return float(number) * unit if 0 <= number < LONGEST else None


def _present(now: float | datetime | None) -> float:
    if now is None:
        return CLOCK.get().wall()
    if not isinstance(now, datetime):
        return seconds("now", now)
    if now.tzinfo is None:
        raise ValueError(f"now must be an aware datetime or seconds since the epoch, got {now!r}")
    return now.timestamp()


def _headers(source: object) -> Any:
    """The headers of an error or a response; the source itself if it has none, for it may be a mapping of them."""
    for carrier in (source, _attribute(source, "response")):
        headers = _attribute(carrier, "headers")
        if headers is not None:
            return headers
    return source


def _attribute(source: object, name: str) -> object:
    with suppress(Exception):  # a property may raise what it likes; a hint is not worth an error of its own
        return getattr(source, name, None)
    return None


def _header(headers: Any, name: str) -> object:
    with suppress(Exception):  # what is no mapping has no hint
        for key, value in headers.items():
            if _text(key).lower() == name:
                return value
    return None


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
