"""Time and chance as policies see them: the system's, or a fake clock's.

``FakeClock`` puts itself in :data:`CLOCK` for its context; everything else uses :data:`SYSTEM`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, TypeGuard, runtime_checkable

__all__ = ["CLOCK", "SWITCHES", "SYSTEM", "Clock", "Switches", "SystemClock", "Timer", "VirtualClock", "is_virtual"]

LONGEST_SLEEP = 86_400.0 * 365  # seconds; the platform's own limit is some 292 years


class Clock(Protocol):
    """What a policy asks of time and chance."""

    def now(self) -> float:
        """The present monotonic instant, seconds."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for dates that a server names."""
        ...

    def sleep(self, seconds: float) -> None:
        """Blocks the thread for ``seconds`` >= 0."""
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...


class Timer(Protocol):
    """A callback that is due at some instant."""

    def cancel(self) -> None: ...


@runtime_checkable
class VirtualClock(Clock, Protocol):
    """A clock whose time passes only when nothing else can run."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Calls back when that much virtual time has passed."""
        ...

    def record(self, seconds: float) -> None:
        """Notes that a policy waits."""
        ...

    def jump(self) -> bool:
        """Moves to the next timer and fires it; False if there is none left after that."""
        ...


class SystemClock:
    """The clock and the chance of the system."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(min(seconds, LONGEST_SLEEP))

    def random(self) -> float:
        from random import random  # only a jittered wait pays for the module

        return random()


class Switches:
    """What ``no_retries`` and ``fast_retries`` turn off, for the whole process: servers under test run in
    threads of their own, which a context variable would not reach.
    """

    __slots__ = ("retries", "waits")

    def __init__(self) -> None:
        self.retries = True
        self.waits = True


SYSTEM = SystemClock()
SWITCHES = Switches()
CLOCK: ContextVar[Clock] = ContextVar("resilient.clock", default=SYSTEM)


def is_virtual(clock: Clock) -> TypeGuard[VirtualClock]:
    """Whether a clock's time passes only when nothing else can run."""
    return clock is not SYSTEM and isinstance(clock, VirtualClock)  # the latter takes microseconds
