"""Faults as text: ``resilient proxy --fault latency:50ms,10ms@down``.

A fault is its name, its settings in their order or by name, and its direction::

    latency:50ms                        latency:50ms,jitter=10ms@down
    limit_data:1MB,average,reset@up     slicer:64,size_variation=16,delay=5ms

A duration is seconds or has a unit (250ms, 5s, 2m, 1h); a size is bytes or has one (10KB is 10,000, 10KiB is 10,240);
a switch is its bare name. ``toxicity=0.5`` makes any fault meet half of the connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple, cast

from resilient.settings.notation import NUMBER, read_duration
from resilient.settings.table import choices
from resilient.testing.faults import FAULTS, Fault
from resilient.testing.relay import Direction

__all__ = ["EXAMPLES", "FaultText", "read_fault", "read_size"]

EXAMPLES = {
    "latency": "latency:50ms,10ms",
    "bandwidth": "bandwidth:100KB",
    "slow_close": "slow_close:2s",
    "timeout": "timeout:5s",
    "stall": "stall@down",
    "reset_peer": "reset_peer:1s",
    "slicer": "slicer:64,16,5ms",
    "limit_data": "limit_data:1MB,average,reset",
    "corrupt": "corrupt:0.001@up",
    "half_open": "half_open@down",
    "accept_then_close": "accept_then_close",
    "down": "down",
}

BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class FaultText(NamedTuple):
    """What a text says: the arguments of ``FaultProxy.add``."""

    fault: Fault
    direction: Direction
    toxicity: float


def read_fault(text: str) -> FaultText:
    """The fault that a text describes.

    Args:
        text: as in this module's first lines.

    Raises:
        ValueError: it is not written like that, or a setting is out of range.
    """
    body, at, direction = text.strip().partition("@")
    name, _, settings = body.partition(":")
    kind = FAULTS.get(name)
    if kind is None:
        raise ValueError(f"fault {name!r} is not known{choices(name, FAULTS)} (in {text!r})")
    try:
        if at and direction not in ("up", "down", "both"):
            raise ValueError(f"direction must be up, down or both, got {direction!r}")
        if at and not kind.directed:
            raise ValueError(f"works on whole connections, so that it takes no direction, got {direction!r}")
        given = _settings(kind, [part.strip() for part in settings.split(",")] if settings else [])
        toxicity = cast("float", given.pop("toxicity", 1.0))
        if kind is FAULTS["down"] and toxicity != 1:
            raise ValueError(f"toxicity must be 1, as the whole service is down, got {toxicity:g}")
        return FaultText(cast("Callable[..., Fault]", kind)(**given), cast("Direction", direction or "both"), toxicity)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error} (in {text!r}; write it like {EXAMPLES[name]})") from None


def read_size(name: str, text: str) -> int:
    """A number of bytes, from text such as "64kB".

    Args:
        name: the setting's name, for the error.
        text: a number, or a number with B, KB, MB, GB (powers of 1,000) or KiB, MiB, GiB (of 1,024); ``/s`` may follow.

    Raises:
        ValueError: it is neither, or no whole number of bytes.
    """
    found = re.fullmatch(rf"({NUMBER})\s*([KMG]i?)?B?(?:/s)?", text.strip(), re.IGNORECASE)
    if found is not None:
        size = float(found[1]) * BYTES[f"{found[2]}B".upper() if found[2] else ""]
        if size == int(min(size, 2**63)):
            return int(size)
    raise ValueError(f"{name} must be bytes or a size such as 64, 10KB or 1MiB, got {text!r}")


def _settings(kind: type[Fault], parts: list[str]) -> dict[str, object]:
    known: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}
    free = [name for name, each in known.items() if not each.kw_only]
    given: dict[str, object] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals and name not in known:
            if not free:
                raise ValueError(f"there is no setting left for {part!r}; it takes {_listed(known)}")
            name, value = free[0], part
        if name in given:
            raise ValueError(f"{name} is given twice")
        free = [each for each in free if each != name]
        given[name] = _value(name, value, known)
    missing = [name for name, each in known.items() if each.default is MISSING and name not in given]
    if missing:
        raise ValueError(f"{missing[0]} is missing; it takes {_listed(known)}")
    return given


def _value(name: str, text: str, known: dict[str, Field[Any]]) -> object:
    unit = "share" if name == "toxicity" else known[name].metadata["unit"] if name in known else None
    match unit:
        case None:
            raise ValueError(f"{name} is not one of its settings; it takes {_listed(known)}")
        case "duration":
            return read_duration(name, text)
        case "size":
            return read_size(name, text)
        case "flag":
            if text:
                raise ValueError(f"{name} is a switch that takes no value, got {text!r}")
            return True
        case _:
            return _share(name, text)


def _share(name: str, text: str) -> float:
    if re.fullmatch(NUMBER, text) and 0 <= float(text) <= 1:
        return float(text)
    raise ValueError(f"{name} must be a number from 0 to 1, got {text!r}")


def _listed(known: dict[str, Field[Any]]) -> str:
    return ", ".join([*known, "toxicity"])
