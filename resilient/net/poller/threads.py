"""Poller for threads: the blocking twin of the one for tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds
from resilient.core.failures import ATTEMPTS, BACKOFF
from resilient.core.polling import PollPlan
from resilient.drivers.clock import CLOCK, is_virtual
from resilient.drivers.loops.steps import play
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import DeadlineExceeded
from resilient.net.poller.base import BasePoller
from resilient.net.supervisor.stop_signal import StopSignal
from resilient.observe.listeners import Listener

__all__ = ["Poller"]

T = TypeVar("T")


class Poller(BasePoller[T]):
    """Fetches something again and again with functions that block: ``run`` is a loop for a supervisor of threads.

    The blocking twin of :class:`resilient.net.Poller`.

    Args:
        fetch: a function without arguments; what it returns is the value, what it raises a failure.
        apply: a function of each value fetched, that makes it work.
        interval: between an answer and the next fetch, seconds, > 0.
        backoff: the waits after failures.
        attempts: failures in a row after which it gives up, >= 1; None: never.
        keep_trying: whether it then goes on; else ``run()`` returns.
        jitter: how much earlier or later than after its interval a fetch may come, as a fraction of it, >= 0 and <= 1:
            clients that were started together are not to fetch together.
        name: for events.
        listeners: functions of an event, called in the thread of ``run()``.

    Attributes:
        rejected: values that blew up when they were applied.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it is outside its range.
    """

    _fetch_kinds = (Kind.SYNC, Kind.EITHER)
    _apply_kinds = (Kind.SYNC, Kind.EITHER)

    def __init__(
        self,
        fetch: Callable[[], T],
        apply: Callable[[T], object] | None = None,
        *,
        interval: Duration,
        backoff: Backoff = BACKOFF,
        attempts: int | None = ATTEMPTS,
        keep_trying: bool = True,
        jitter: float = 0,
        name: str = "poller",
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        super().__init__(fetch, apply, PollPlan(interval, backoff, attempts, keep_trying, jitter), name, listeners)
        self._ready = ThreadWaiter()
        self._stop: StopSignal | None = None

    def ready(self, timeout: Duration | None = None) -> None:
        """Blocks until a value is in force.

        Args:
            timeout: seconds, > 0; None: no limit.

        Raises:
            DeadlineExceeded: there is none in that time.
        """
        limit = optional_seconds("timeout", timeout, above=True)
        self._ready.wait_outside(CLOCK.get(), limit)
        if limit is not None and self._good is None:
            raise DeadlineExceeded(limit)

    def poll_now(self) -> None:
        stop = self._stop
        if stop is not None:
            stop.interrupt()

    def _arrived(self) -> None:
        self._ready.wake()

    def run(self, stop: StopSignal) -> None:
        """Polls until the signal is given, or it gives up and does not keep trying.

        Raises:
            RuntimeError: it runs already.
        """
        with self._running() as clock:
            self._stop = stop
            while (wait := play(self._polled(), clock, taken)) is not None:
                if is_virtual(clock):
                    clock.record(wait)
                if stop.wait(wait):
                    return


def taken(value: object) -> object:
    """Gives a result back: a fetch may well return something that could be awaited."""
    return value
