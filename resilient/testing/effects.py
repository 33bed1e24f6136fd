"""What faults do to one direction of one connection: pure, told the time and given their chance.

A pipe asks its effects about every chunk it read and every piece it is about to write, and tells them what it did.
All positions (slices, cuts, flipped bits) are counted in bytes of the stream and drawn from the effect's own source
of chance, so that they do not depend on how the bytes happened to be read.
"""

from __future__ import annotations

import math
from collections import Counter

from resilient.core.backoff import Rng

__all__ = [
    "Cut",
    "Delay",
    "Effect",
    "Flips",
    "Hold",
    "Hole",
    "Limit",
    "Rate",
    "Silence",
    "Slices",
    "SlowEnd",
    "Threshold",
]

NEVER = math.inf

# The longest piece that a limited rate sends at once, in seconds of its own rate. Toxiproxy's number
# (toxics/bandwidth.go): short enough that the stream flows, long enough that timers keep up.
SPELL = 0.1

# Bytes on their way, beyond which nothing more is read: small beside what the system itself buffers on loopback.
ROOM = 262_144
# The same for what is only delayed: a line that is long holds more. Toxiproxy's number (toxics/latency.go: 1,024 chunks
# of 32 KiB).
LONG_ROOM = 33_554_432

FAR = 2.0**62  # bytes: further than any stream goes


class Effect:
    """One fault at work. By itself it changes nothing.

    Attributes:
        holds: nothing passes, neither bytes nor the end of the stream.
        drops: bytes vanish.
        silent: the end of the stream is not passed on.
        undialled: the upstream is not even called.
        spent: the connection is to be cut here.
        resets: who sees a cut as a reset: "up" (the upstream), "down" (the client), both or neither.
        cut_at: the instant at which the connection is to be cut.
        quiet_at: the instant at which the source is to be closed, and the sink not told.
        ready_at: the instant before which the next piece may not be sent.
        room: bytes on their way, beyond which nothing more is read.
    """

    holds = drops = silent = undialled = spent = False
    resets: tuple[str, ...] = ()
    cut_at = quiet_at = NEVER
    ready_at = -NEVER
    room = ROOM

    def __init__(self, name: str, acted: Counter[str]) -> None:
        self.name = name
        self._acted = acted

    def act(self, times: int = 1) -> None:
        """Counts what was done."""
        self._acted[self.name] += times

    def delay(self) -> float:
        """How long the next chunk waits, counted from its arrival, seconds."""
        return 0.0

    def delay_of_end(self) -> float:
        """How long the end of the stream waits, counted from its arrival, seconds."""
        return self.delay()

    def most(self, size: int) -> int:
        """How many of the next so many bytes may go in one piece."""
        return size

    def reserve(self, now: float, size: int, waited: float = 0.0) -> None:
        """A piece is about to be sent, which no other fault has held back for so many seconds: sets ``ready_at``."""

    def bent(self, data: bytes) -> bytes:
        """The piece as it is sent."""
        return data

    def sent(self, size: int) -> None:
        """A piece was sent."""

    def dropped(self, size: int) -> None:
        """Bytes of this direction vanished."""

    def lifted(self) -> bool:
        """The fault is taken away; True if the stream has a hole, so that it must not go on."""
        return False


class Delay(Effect):
    """Holds every chunk for a while; uniform in latency +- jitter, and never negative."""

    room = LONG_ROOM

    def __init__(self, name: str, acted: Counter[str], rng: Rng, latency: float, jitter: float) -> None:
        super().__init__(name, acted)
        self._rng, self._latency, self._jitter = rng, latency, jitter

    def delay(self) -> float:
        self.act()
        if not self._jitter:
            return self._latency
        return max(0.0, self._latency + self._jitter * (2 * self._rng.random() - 1))


class Rate(Effect):
    """Lets bytes through as fast as a line of that rate would carry them."""

    def __init__(self, name: str, acted: Counter[str], rate: float) -> None:
        super().__init__(name, acted)
        self._rate = rate
        self._piece = max(1, int(rate * SPELL))

    def most(self, size: int) -> int:
        return min(size, self._piece)

    def reserve(self, now: float, size: int, waited: float = 0.0) -> None:
        # The line may be busy with the piece before; idle time is not saved up. It is not idle while a piece waits for
        # us to wake: timers are late, and small pieces would lose half of the rate to that.
        self.ready_at = max(now - min(waited, SPELL), self.ready_at) + size / self._rate
        self.act()


class Slices(Effect):
    """Cuts the stream into pieces of average +- variation bytes, each sent by itself, and a delay apart."""

    def __init__(self, name: str, acted: Counter[str], rng: Rng, average: int, variation: int, delay: float) -> None:
        super().__init__(name, acted)
        self._rng, self._average, self._variation, self._delay = rng, average, variation, delay
        self._next_at = -NEVER
        self._left = 0

    def most(self, size: int) -> int:
        if not self._left:
            self._left = self._average - self._variation + int(self._rng.random() * (2 * self._variation + 1))
        return min(size, self._left)

    def reserve(self, now: float, size: int, waited: float = 0.0) -> None:
        self.ready_at = self._next_at
        self._next_at = max(now, self._next_at) + self._delay

    def sent(self, size: int) -> None:
        self._left -= min(size, self._left)
        self.act()


class Limit(Effect):
    """Cuts the connection after exactly so many bytes."""

    def __init__(self, name: str, acted: Counter[str], left: int, resets: tuple[str, ...]) -> None:
        super().__init__(name, acted)
        self._left = left
        self.resets = resets

    @property
    def spent(self) -> bool:  # type: ignore[override]  # worked out here, a constant elsewhere
        """Whether they have passed."""
        return self._left <= 0

    def most(self, size: int) -> int:
        return min(size, self._left)

    def sent(self, size: int) -> None:
        self._left -= size


class Flips(Effect):
    """Changes single bytes, each with the same probability and independently of the others."""

    def __init__(self, name: str, acted: Counter[str], rng: Rng, rate: float) -> None:
        super().__init__(name, acted)
        self._rng, self._rate = rng, rate
        self._gap = self._draw()

    def bent(self, data: bytes) -> bytes:
        if self._gap >= len(data):
            self._gap -= len(data)
            return data
        changed, at = bytearray(data), self._gap
        while at < len(changed):
            changed[at] ^= 1 << int(self._rng.random() * 8)
            self.act()
            at += 1 + self._draw()
        self._gap = at - len(changed)
        return bytes(changed)

    def _draw(self) -> int:
        # The number of untouched bytes before the next one is geometric: one draw a flip instead of one a byte.
        if self._rate >= 1:
            return 0
        gap = math.log(1.0 - self._rng.random()) / math.log1p(-self._rate)
        return int(min(gap, FAR))


class Hold(Effect):
    """Holds everything: bytes and the end of the stream wait until the fault is taken away."""

    holds = True


class Hole(Effect):
    """Lets all bytes vanish, and cuts the connection at an instant."""

    drops = True

    def __init__(self, name: str, acted: Counter[str], cut_at: float) -> None:
        super().__init__(name, acted)
        self.cut_at = cut_at
        self._lost = 0

    def dropped(self, size: int) -> None:
        self._lost += size
        self.act()

    def lifted(self) -> bool:
        return self._lost > 0


class Silence(Effect):
    """Does not pass on the end of the stream; may bring it about, at an instant."""

    silent = True

    def __init__(self, name: str, acted: Counter[str], quiet_at: float) -> None:
        super().__init__(name, acted)
        self.quiet_at = quiet_at


class SlowEnd(Effect):
    """Passes on the end of the stream late."""

    def __init__(self, name: str, acted: Counter[str], delay: float) -> None:
        super().__init__(name, acted)
        self._delay = delay

    def delay_of_end(self) -> float:
        self.act()
        return self._delay


class Cut(Effect):
    """Cuts the connection at an instant, as a reset for some."""

    def __init__(self, name: str, acted: Counter[str], cut_at: float, resets: tuple[str, ...]) -> None:
        super().__init__(name, acted)
        self.cut_at = cut_at
        self.resets = resets


class Threshold(Cut):
    """The connection is closed before the upstream hears of it."""

    undialled = True
