"""Poller: fetches something at an interval, and keeps the last good value in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration
from resilient.core.failures import ATTEMPTS, BACKOFF
from resilient.core.polling import PollPlan
from resilient.drivers.loops.current import pause
from resilient.drivers.loops.steps import play_async
from resilient.drivers.wrapping.kind import Kind
from resilient.net.poller.base import BasePoller
from resilient.observe.listeners import Listener

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
        name: str = "poller",
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        super().__init__(fetch, apply, PollPlan(interval, backoff, attempts, keep_trying), name, listeners)

    async def run(self) -> None:
        """Polls until it is cancelled, or gives up and does not keep trying.

        Raises:
            RuntimeError: it runs already.
        """
        with self._running() as clock:
            while (wait := await play_async(self._polled(), clock)) is not None:
                await pause(clock, wait)
