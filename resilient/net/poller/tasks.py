"""Poller: fetches something at an interval, and keeps the last good value in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration
from resilient.core.failures import ATTEMPTS, BACKOFF
from resilient.core.polling import PollPlan
from resilient.drivers.clock import is_virtual
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import current_backend, task_group
from resilient.drivers.loops.steps import play_async
from resilient.drivers.loops.waiters import Latch, await_woken
from resilient.drivers.wrapping.kind import Kind
from resilient.net.poller.base import BasePoller
from resilient.observe.listeners import Listener
from resilient.policies.timeout import Timeout

__all__ = ["Poller"]

T = TypeVar("T")


class Poller(BasePoller[T]):
    """Fetches something again and again, for as long as ``run()`` runs: give that to a :class:`Supervisor`.

    What was fetched is applied under ``catch``: if that blows up, it is told as a :class:`~resilient.events.Panic` and
    the value before stays in force. A fetch that raises is tried again by a backoff. After so many failures in a row a
    :class:`~resilient.events.GaveUp` is told, and the poller goes on at the backoff's cap, or stops. A fetch has no
    limit of time here: put it under a ``Timeout``.

    Args:
        fetch: an async function without arguments; what it returns is the value, what it raises a failure.
        apply: a function of each value fetched, sync or async, that makes it work.
        interval: between an answer and the next fetch, seconds, > 0.
        backoff: the waits after failures.
        attempts: failures in a row after which it gives up, >= 1; None: never.
        keep_trying: whether it then goes on; else ``run()`` returns.
        jitter: how much earlier or later than after its interval a fetch may come, as a fraction of it, >= 0 and <= 1:
            clients that were started together are not to fetch together.
        name: for events.
        listeners: functions of an event.

    Attributes:
        rejected: values that blew up when they were applied.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it is outside its range.
    """

    _fetch_kinds = (Kind.ASYNC, Kind.EITHER)
    _apply_kinds = (Kind.SYNC, Kind.ASYNC, Kind.EITHER)

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
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
        self._fetch = partial(_fetched, fetch)
        self._ready = Latch()
        self._sleeper: Waiter | None = None
        self._hurry = False

    async def ready(self, timeout: Duration | None = None) -> None:
        """Waits until a value is in force.

        Args:
            timeout: seconds, > 0; None: no limit.

        Raises:
            DeadlineExceeded: there is none in that time.
        """
        if timeout is None:
            await self._ready.wait()
        else:
            await Timeout(timeout).call(self._ready.wait)

    def poll_now(self) -> None:
        self._hurry = True
        sleeper = self._sleeper
        if sleeper is not None:
            sleeper.wake()

    def _arrived(self) -> None:
        self._ready.happen()

    async def run(self) -> None:
        """Polls until it is cancelled, or gives up and does not keep trying.

        Raises:
            RuntimeError: it runs already.
        """
        with self._running() as clock:
            while (wait := await play_async(self._polled(), clock)) is not None:
                self._sleeper = current_backend().waiter()
                if not self._hurry:  # else somebody was in a hurry while it fetched
                    if is_virtual(clock):
                        clock.record(wait)
                    await await_woken(self._sleeper, clock, wait)
                self._sleeper, self._hurry = None, False


async def _fetched(fetch: Callable[[], Awaitable[T]]) -> T:
    """What is fetched; where something that the fetch awaits was cancelled, and not the poller, that is a failure."""
    tasks = task_group()
    before = tasks.cancellations()
    try:
        return await fetch()
    except tasks.cancelled as error:
        if tasks.left(before):
            raise
        raise RuntimeError("what the fetch awaited was cancelled") from error
