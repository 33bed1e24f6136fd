"""Waits as text, in settings files and on the command line.

A duration is a number of seconds, or a number with its unit: ``0.25``, ``250ms``, ``5s``, ``2m``, ``1h``.
A backoff is one of::

    constant:2
    linear:1..10            linear:1+0.5..10            first [+ step] [.. cap]
    exponential:0.1..300    exponential:0.1*1.5..15     first [* factor] [.. cap]
    fibonacci:1..300                                    first [.. cap]
    decorrelated:0.1..300                               first .. cap
    sequence:1,2,5                                      the last repeats

and may end in its jitter: ``/full``, ``/equal`` or a fraction such as ``/0.3``. Every wait in it is a duration
(``exponential:100ms..5m``). What is left out is as in :mod:`resilient.core.backoff`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

from resilient.core import backoff as curves
from resilient.core.backoff import Backoff
from resilient.core.setting_errors import SettingValueError

__all__ = ["EXAMPLES", "TIME", "jittered", "read_backoff", "read_duration", "said", "written"]

NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
WAIT = rf"{NUMBER}(?:ms|s|m|h)?"
FIRST, CAP = rf"(?P<first>{WAIT})", rf"\.\.(?P<cap>{WAIT})"
TIME = "seconds or a time such as 250ms, 5s, 2m or 1h"  # what a duration is, for errors
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Form(NamedTuple):
    """How one shape is written, and what makes it."""

    pattern: str
    make: Callable[..., Backoff]
    examples: tuple[str, ...]


FORMS = {
    "constant": Form(rf"(?P<delay>{WAIT})", curves.constant, ("constant:2",)),
    "linear": Form(rf"{FIRST}(?:\+(?P<step>{WAIT}))?(?:{CAP})?", curves.linear, ("linear:1..10", "linear:1+0.5..10")),
    "exponential": Form(
        rf"{FIRST}(?:\*(?P<factor>{NUMBER}))?(?:{CAP})?",
        curves.exponential,
        ("exponential:0.1..300", "exponential:0.1*1.5..15"),
    ),
    "fibonacci": Form(rf"{FIRST}(?:{CAP})?", curves.fibonacci, ("fibonacci:1..300",)),
    "decorrelated": Form(rf"{FIRST}{CAP}", curves.decorrelated, ("decorrelated:0.1..300",)),
    "sequence": Form(rf"(?P<delays>{WAIT}(?:,{WAIT})*)", curves.sequence, ("sequence:1,2,5",)),
}
EXAMPLES = tuple(example for form in FORMS.values() for example in form.examples)


def read_duration(name: str, text: str, wanted: str = TIME) -> float:
    """A duration in seconds, from text such as "1.5s".

    Args:
        name: the setting's name, for the error.
        text: a number of seconds, or a number with ms, s, m or h.
        wanted: what the setting may be, for the error, where that is more than a time.

    Raises:
        ValueError: it is neither.
    """
    found = re.fullmatch(rf"({NUMBER})(ms|s|m|h)?", text.strip())
    if found is None:
        raise SettingValueError(name, f"must be {wanted}, got {text!r}")
    number, unit = float(found[1]), found[2] or ""
    # Divided, because a thousandth is no binary fraction: 9 * 0.001 is not 0.009.
    return number / 1000 if unit == "ms" else number * SECONDS[unit]


def read_backoff(name: str, text: str) -> Backoff:
    """The backoff that a text describes.

    Args:
        name: the setting's name, for the error.
        text: as in this module's first lines.

    Raises:
        ValueError: it is not written like that, or a wait is out of range.
    """
    curve, slash, spread = text.strip().partition("/")
    shape, _, waits = curve.partition(":")
    form = FORMS.get(shape)
    found = re.fullmatch(form.pattern, waits) if form else None
    if form is None or found is None:
        raise SettingValueError(name, _lesson(shape, text))
    try:
        made = _made(form, found.groupdict())
        return jittered(made, spread) if slash else made
    except ValueError as error:
        raise SettingValueError(name, f"{error} (in {text!r})", subject=f"{name}:") from None


def jittered(backoff: Backoff, spread: object) -> Backoff:
    """A backoff with these waits and another jitter.

    Args:
        spread: "full", "equal", "none", or a fraction from 0 to 1, which may be text.

    Raises:
        ValueError: it is none of these, or the backoff takes no jitter.
    """
    if spread == "none":
        return backoff.jitter(0.0)
    if isinstance(spread, str) and re.fullmatch(NUMBER, spread):
        spread = float(spread)
    return backoff.jitter(spread)  # type: ignore[arg-type]  # checked there


def written(backoff: Backoff) -> str:
    """The text that :func:`read_backoff` takes for this backoff.

    Raises:
        ValueError: it has a floor, which the notation cannot say; a table in a settings file can.
    """
    if backoff.least:
        raise SettingValueError("backoff", f"must have no floor to be written as text, got {backoff!r}")
    text = f"{backoff.shape}:{','.join(map(_plain, backoff.steps))}"
    if backoff.shape == "linear" and backoff.growth != backoff.steps[0]:
        text += f"+{_plain(backoff.growth)}"
    if backoff.shape == "exponential" and backoff.growth != 2:
        text += f"*{_plain(backoff.growth)}"
    if backoff.cap is not None:
        text += f"..{_plain(backoff.cap)}"
    match backoff.spread:
        case "decorrelated" | 0.0:
            return text
        case "full" | "equal" as word:
            return f"{text}/{word}"
        case fraction:
            return f"{text}/{_plain(fraction)}"


def said(backoff: Backoff) -> str:
    """The backoff for a reader: its notation, and its floor in words."""
    text = written(replace(backoff, least=0.0))
    return f"{text}, at least {backoff.least:g} s" if backoff.least else text


def _made(form: Form, parts: dict[str, str | None]) -> Backoff:
    given = {key: part for key, part in parts.items() if part is not None}
    if "delays" in given:
        return form.make(*(read_duration("delays", part) for part in given["delays"].split(",")))
    return form.make(
        **{key: float(part) if key == "factor" else read_duration(key, part) for key, part in given.items()}
    )


def _lesson(shape: str, text: str) -> str:
    begun = [known for known in FORMS if shape and known.startswith(shape)]
    close = begun or get_close_matches(shape, FORMS, n=1)
    examples = FORMS[close[0]].examples if close else EXAMPLES
    return f"must be written like {', '.join(examples)}; jitter may follow (/full, /equal, /0.3), got {text!r}"


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")
