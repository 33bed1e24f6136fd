"""Hedging: copies of a slow call race each other, and the first success is the result.

The call and its extra copies are counted from 1. What is decided is the same for blocking and async calls; the copies
run as threads in ``threads.py``, as tasks in ``tasks.py``.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, NamedTuple

from resilient.core.events import Hedged
from resilient.core.hedging import HedgeMetrics, HedgePlan, Hedging
from resilient.drivers.clock import CLOCK
from resilient.drivers.retry.rescue import outer_cut
from resilient.errors import PolicyTimeout
from resilient.observe.listeners import Listener, hearers, tell

__all__ = ["Hedges", "Race", "Terms"]


class Hedges:
    """What all calls of one policy share: durations, budget, counts. Safe for threads."""

    __slots__ = ("_hedging", "_lock", "_plan")

    def __init__(self, plan: HedgePlan) -> None:
        self._plan = plan
        self._lock = Lock()
        self._hedging = Hedging(plan)

    def begin(self) -> float | None:
        """A call begins: the silence before its next copy, seconds; None: it runs alone."""
        with self._lock:
            self._hedging.began()
            return self._hedging.delay()

    def launch(self) -> bool:
        """Whether another copy may go out; if so it is paid for."""
        with self._lock:
            return self._hedging.launch()

    def took(self, duration: float) -> None:
        """A copy took so many seconds."""
        with self._lock:
            self._hedging.took(duration)

    def metrics(self) -> HedgeMetrics:
        """The present numbers of the policy."""
        with self._lock:
            return self._hedging.metrics()

    def reset(self) -> None:
        """Forgets durations, budget and counts."""
        with self._lock:
            self._hedging = Hedging(self._plan)


class Terms(NamedTuple):
    """What a policy says about all calls that it guards.

    Attributes:
        hedges: the shared state.
        extra: most copies besides the call.
        timed: whether durations are wanted.
        name: for events.
        listeners: heard of every extra copy.
    """

    hedges: Hedges
    extra: int
    timed: bool
    name: str
    listeners: tuple[Listener, ...] = ()

    def took(self, began: float) -> None:
        """A copy that began at this instant has shown how long it takes, if anybody wants to know."""
        if self.timed:
            self.hedges.took(CLOCK.get().now() - began)

    def failed(self, began: float, error: BaseException) -> None:
        """A copy failed; only where a limit of time ended it does that say how long it takes."""
        if isinstance(error, PolicyTimeout):
            self.took(began)

    def now(self) -> float:
        """The instant at which a copy begins; 0 if nobody wants to know."""
        return CLOCK.get().now() if self.timed else 0.0


class Race:
    """The copies of one call, told of their ends one after the other.

    Attributes:
        delay: the silence before the next copy, seconds.
        copies: launched so far, the call included.
        over: whether the result is known, or nobody waits for it any more.
        more: whether another copy may still go out.
    """

    __slots__ = ("_error", "_running", "_terms", "_value", "_won", "copies", "delay", "more", "over")

    def __init__(self, terms: Terms, delay: float) -> None:
        self._terms = terms
        self._error: BaseException | None = None
        self._value: Any = None
        self._won = False
        self._running = 1
        self.delay = delay
        self.copies = 1
        self.over = False
        self.more = True

    def silent(self, copies: int) -> bool:
        """So many copies were silent for the whole delay: whether another goes out."""
        return copies == self.copies and self._launches(self.delay)

    def won(self, value: Any) -> None:
        """Takes note that a copy returned a value."""
        if not self.over:
            self.over = self._won = True
            self._value = value

    def failed(self, copy: int, error: Exception) -> bool:
        """A copy raised: whether another goes out at once."""
        self._running -= 1
        if self.over:
            return False
        if copy == 1:
            self._error = error
        if self._launches(0.0):
            return True
        self.over = not self._running
        return False

    def gone(self) -> None:
        """An extra copy was cancelled, whoever did it."""
        self._running -= 1
        self.over = self.over or not self._running

    def left(self, error: BaseException) -> None:
        """An exit, such as KeyboardInterrupt, came out of a copy: it ends everything."""
        if not self.over:
            self.over = True
            self._error = error

    def result(self) -> Any:
        """What the copy that won returned; if none did, the call's own error is raised."""
        error, self._error = self._error, None
        if self._won:
            return self._value
        assert error is not None  # somebody won, or the first copy failed
        try:
            raise outer_cut(error)
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def _launches(self, after: float) -> bool:
        self.more = self.more and not self.over and self._terms.hedges.launch()
        if not self.more:
            return False
        self.copies += 1
        self._running += 1
        self.more = self.copies <= self._terms.extra
        heard = hearers(self._terms.listeners)
        if heard:
            tell(Hedged(self._terms.name, 0.0, self.copies, after), heard)
        return True
