"""The faults that a :class:`~resilient.testing.FaultProxy` can inject, as values that never change.

The names, and what they mean, are Toxiproxy's where it has them (Shopify/toxiproxy, README, "Toxics"): latency,
bandwidth, slow_close, timeout, reset_peer, slicer, limit_data. Durations are seconds or a ``timedelta``; bad settings
raise ``ValueError`` or ``TypeError``. Faults of one kind add up: two latencies are both waited, of two bandwidths the
smaller one holds.

A fault works in a direction: ``"up"`` (client to upstream), ``"down"`` (upstream to client), or in both, each counted
by itself.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from resilient.core.backoff import Rng
from resilient.core.duration import Duration, number, optional_seconds, seconds, whole
from resilient.testing.effects import (
    Cut,
    Delay,
    Effect,
    Flips,
    Hold,
    Hole,
    Limit,
    Rate,
    Silence,
    Slices,
    SlowEnd,
    Threshold,
)

__all__ = [
    "FAULTS",
    "AcceptThenClose",
    "Bandwidth",
    "Corrupt",
    "Down",
    "Fault",
    "HalfOpen",
    "Latency",
    "LimitData",
    "ResetPeer",
    "Slicer",
    "SlowClose",
    "Stall",
    "Timeout",
]

BOTH = ("up", "down")


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble."""

    name: ClassVar[str] = ""
    directed: ClassVar[bool] = True  # whether it works in a direction; if not, on connections as a whole

    @property
    def spares_old(self) -> bool:
        """Whether connections that were there before it are left alone."""
        return False

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        raise NotImplementedError

    def _fix(self, **checked: object) -> None:
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Latency(Fault):
    """Delays all data. The order is kept, and data under way does not hold up what follows, up to 32 MiB.

    Args:
        latency: seconds.
        jitter: the delay is uniform in latency +- jitter, drawn for each chunk that was read.
    """

    name: ClassVar[str] = "latency"
    latency: Duration = field(metadata={"unit": "duration"})
    jitter: Duration = field(default=0.0, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(latency=seconds("latency", self.latency), jitter=seconds("jitter", self.jitter))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Delay(self.name, acted, rng, seconds("latency", self.latency), seconds("jitter", self.jitter))


@dataclass(frozen=True, slots=True)
class Bandwidth(Fault):
    """Limits each connection to a rate.

    Args:
        rate: bytes per second, > 0. (Toxiproxy counts in kilobytes.)
    """

    name: ClassVar[str] = "bandwidth"
    rate: float = field(metadata={"unit": "size"})

    def __post_init__(self) -> None:
        number("rate", self.rate, least=0, above=True)

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Rate(self.name, acted, self.rate)


@dataclass(frozen=True, slots=True)
class SlowClose(Fault):
    """Passes on the end of a stream late.

    Args:
        delay: seconds.
    """

    name: ClassVar[str] = "slow_close"
    delay: Duration = field(metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(delay=seconds("delay", self.delay))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return SlowEnd(self.name, acted, seconds("delay", self.delay))


@dataclass(frozen=True, slots=True)
class Timeout(Fault):
    """Lets all data vanish, and closes the connection after a while.

    A connection that has lost data is closed when the fault is removed: a stream with a hole must not go on.

    Args:
        timeout: seconds from when the fault meets the connection; None or 0: it stays open.
    """

    name: ClassVar[str] = "timeout"
    timeout: Duration | None = field(default=None, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(timeout=optional_seconds("timeout", self.timeout))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        limit = optional_seconds("timeout", self.timeout)
        return Hole(self.name, acted, now + limit if limit else math.inf)


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Holds all data, and the end of the stream, in silence; it goes on when the fault is removed.

    The sender can still write as much as the buffers on the way take: the proxy's and those of the system.
    """

    name: ClassVar[str] = "stall"

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Hold(self.name, acted)


@dataclass(frozen=True, slots=True)
class ResetPeer(Fault):
    """Resets connections (TCP RST, by SO_LINGER 0). A Unix socket knows no reset: it is closed.

    The direction says who sees the reset: the upstream ("up") or the client ("down"); the other one sees an orderly
    close. What was still under way to a peer that is reset is lost.

    Args:
        timeout: seconds from when the fault meets the connection.
    """

    name: ClassVar[str] = "reset_peer"
    timeout: Duration = field(default=0.0, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(timeout=seconds("timeout", self.timeout))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Cut(self.name, acted, now + seconds("timeout", self.timeout), (direction,))


@dataclass(frozen=True, slots=True)
class Slicer(Fault):
    """Slices data into small pieces, each written by itself.

    Args:
        average_size: bytes, >= 1.
        size_variation: sizes are uniform in average +- variation; smaller than the average.
        delay: seconds between two pieces. (Toxiproxy counts in microseconds.)
    """

    name: ClassVar[str] = "slicer"
    average_size: int = field(metadata={"unit": "size"})
    size_variation: int = field(default=0, metadata={"unit": "size"})
    delay: Duration = field(default=0.0, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        whole("average_size", self.average_size, least=1)
        whole("size_variation", self.size_variation, least=0)
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"size_variation must be smaller than average_size ({self.average_size}), got {self.size_variation}"
            )
        self._fix(delay=seconds("delay", self.delay))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Slices(self.name, acted, rng, self.average_size, self.size_variation, seconds("delay", self.delay))


@dataclass(frozen=True, slots=True)
class LimitData(Fault):
    """Cuts a connection after so many bytes, counted from when the fault meets it.

    As with any close, a peer that goes on sending loses what the system had yet to send to it.

    Args:
        bytes: how many pass in the fault's direction, >= 0.
        average: the number is drawn for each connection and direction, exponentially distributed with this mean: cuts
            come at random, equally likely at every byte.
        reset: both sides see a reset instead of an orderly close.
    """

    name: ClassVar[str] = "limit_data"
    bytes: int = field(metadata={"unit": "size"})
    average: bool = field(default=False, kw_only=True, metadata={"unit": "flag"})
    reset: bool = field(default=False, kw_only=True, metadata={"unit": "flag"})

    def __post_init__(self) -> None:
        whole("bytes", self.bytes, least=0)

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        left = self.bytes
        if self.average:
            left = math.ceil(-self.bytes * math.log(1.0 - rng.random()))
        return Limit(self.name, acted, left, BOTH if self.reset else ())


@dataclass(frozen=True, slots=True)
class Corrupt(Fault):
    """Flips a bit in some bytes.

    Args:
        rate: the share of bytes that are changed, above 0 to 1; each by itself.
    """

    name: ClassVar[str] = "corrupt"
    rate: float = field(metadata={"unit": "number"})

    def __post_init__(self) -> None:
        number("rate", self.rate, least=0, above=True, most=1)

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Flips(self.name, acted, rng, self.rate)


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """One side is closed, and the other is never told. "down": the client is not told; "up": the upstream is not.

    What the side that knows nothing still sends vanishes. It is told when the fault is removed.

    Args:
        after: seconds after which the proxy itself closes the other side; None: when that side does so.
    """

    name: ClassVar[str] = "half_open"
    after: Duration | None = field(default=None, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(after=optional_seconds("after", self.after))

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        after = optional_seconds("after", self.after)
        return Silence(self.name, acted, math.inf if after is None else now + after)


@dataclass(frozen=True, slots=True)
class AcceptThenClose(Fault):
    """Accepts new connections and closes them, without a word to the upstream.

    Args:
        after: seconds from the accept to the close.
    """

    name: ClassVar[str] = "accept_then_close"
    directed: ClassVar[bool] = False
    after: Duration = field(default=0.0, metadata={"unit": "duration"})

    def __post_init__(self) -> None:
        self._fix(after=seconds("after", self.after))

    @property
    def spares_old(self) -> bool:
        """Whether connections that were there before it are left alone."""
        return True

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Threshold(self.name, acted, now + seconds("after", self.after), ())


@dataclass(frozen=True, slots=True)
class Down(Fault):
    """The service is gone: new connections are refused, those that are there are reset.

    Args:
        accept: new connections are accepted and reset at once, instead of refused by the system because nobody
            listens.
        keep: connections that are there live on.
    """

    name: ClassVar[str] = "down"
    directed: ClassVar[bool] = False
    accept: bool = field(default=False, kw_only=True, metadata={"unit": "flag"})
    keep: bool = field(default=False, kw_only=True, metadata={"unit": "flag"})

    @property
    def spares_old(self) -> bool:
        """Whether connections that were there before it are left alone."""
        return self.keep

    def effect(self, now: float, rng: Rng, direction: str, acted: Counter[str]) -> Effect:
        """The effect of the fault on one direction of one connection."""
        return Cut(self.name, acted, now, (direction,))


FAULTS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        Latency,
        Bandwidth,
        SlowClose,
        Timeout,
        Stall,
        ResetPeer,
        Slicer,
        LimitData,
        Corrupt,
        HalfOpen,
        AcceptThenClose,
        Down,
    )
}
"""Every fault, by its name."""
