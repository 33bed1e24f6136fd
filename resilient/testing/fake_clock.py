"""Virtual time for every policy in a context: tests of waits that do not wait.

Blocking sleeps advance it at once; async sleeps and timeouts when nothing else can run. Real input and output
counts as nothing: a task that waits for a socket "cannot run", and time moves on without it (as with trio's
``MockClock(autojump_threshold=0)``).
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType

from resilient.core.backoff import Rng
from resilient.core.duration import Duration, seconds
from resilient.drivers.clock import CLOCK, SYSTEM, Clock
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.current import pause

__all__ = ["FakeClock"]


class FakeTimer:
    """A callback on a fake clock."""

    __slots__ = ("callback", "due", "order")

    def __init__(self, due: float, order: int, callback: Callable[[], object]) -> None:
        self.due = due
        self.order = order
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Forgets the callback, unless it was called."""
        self.callback = None

    def __lt__(self, other: FakeTimer) -> bool:
        return (self.due, self.order) < (other.due, other.order)


class FakeClock:
    """Virtual time, as a context manager.

    Args:
        rng: source of jitter: any object with ``random()`` in [0, 1); the system's if None.
        start: the first instant, seconds.

    Attributes:
        sleeps: every wait of a policy, in order, seconds.
    """

    def __init__(self, rng: Rng | None = None, *, start: Duration = 0.0) -> None:
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must have a random() method, such as random.Random(7), got {rng!r}")
        self.sleeps: list[float] = []
        self._rng: Rng = SYSTEM if rng is None else rng
        self._now = self._start = seconds("start", start)
        self._epoch = time.time()
        self._timers: list[FakeTimer] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._tokens: list[tuple[Token[Clock], Token[float | None]]] = []

    def __enter__(self) -> FakeClock:
        self._tokens.append((CLOCK.set(self), DEADLINE.set(None)))  # a deadline is an instant of one clock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        clock, deadline = self._tokens.pop()
        CLOCK.reset(clock)
        DEADLINE.reset(deadline)

    def now(self) -> float:
        """The virtual instant, seconds."""
        return self._now

    def wall(self) -> float:
        """Seconds since the epoch: the real time at which this clock was made, plus virtual time since."""
        return self._epoch + self._now - self._start

    def random(self) -> float:
        """The next number for jitter."""
        return self._rng.random()

    def advance(self, duration: Duration) -> None:
        """Lets time pass, and whatever falls due in it happen.

        Args:
            duration: seconds, >= 0.
        """
        self._advance_to(self._now + seconds("duration", duration))

    def sleep(self, seconds: float) -> None:
        """A blocking wait: time passes at once."""
        self.record(seconds)
        self._advance_to(self._now + seconds)

    async def asleep(self, seconds: float) -> None:
        """An async wait, for the code under test: over when nothing else can run. Not among ``sleeps``."""
        await pause(_Unrecorded(self), seconds)

    def record(self, seconds: float) -> None:
        """Notes that a policy waits."""
        self.sleeps.append(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> FakeTimer:
        """Calls back when that much virtual time has passed."""
        with self._lock:
            timer = FakeTimer(self._now + seconds, next(self._order), callback)
            heapq.heappush(self._timers, timer)
        return timer

    def jump(self) -> bool:
        """Moves to the next timer and fires it; False if none is left after that."""
        due = self._next_due()
        if due is not None:
            self._advance_to(due)
        return self._next_due() is not None

    def _next_due(self) -> float | None:
        with self._lock:
            while self._timers and self._timers[0].callback is None:
                heapq.heappop(self._timers)
            return self._timers[0].due if self._timers else None

    def _advance_to(self, instant: float) -> None:
        while (due := self._next_due()) is not None and due <= instant:
            with self._lock:
                timer = heapq.heappop(self._timers)
                self._now = max(self._now, timer.due)
            if timer.callback is not None:
                timer.callback()
        with self._lock:
            self._now = max(self._now, instant)

    def __repr__(self) -> str:
        return f"<FakeClock at {self._now:g} s, {len(self.sleeps)} sleeps>"


class _Unrecorded:
    """A fake clock whose sleeps are not noted."""

    def __init__(self, clock: FakeClock) -> None:
        self.now, self.wall, self.sleep, self.random = clock.now, clock.wall, clock.sleep, clock.random
        self.call_later, self.jump = clock.call_later, clock.jump

    def record(self, seconds: float) -> None:
        """Notes nothing: this clock keeps no list."""
