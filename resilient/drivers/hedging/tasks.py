"""Hedging of async calls: the call runs in its caller's task, extra copies in tasks of their own.

A call that answers in time starts no task on asyncio. None of them outlives the call: whoever loses is cancelled and
awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from resilient.drivers.clock import CLOCK
from resilient.drivers.hedging.base import HedgeTasks
from resilient.drivers.hedging.race import Race, Terms
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import current_backend, running
from resilient.errors import PolicyTimeout

__all__ = ["adopt", "call_in_tasks"]


def _hedge_tasks() -> HedgeTasks:
    if running() == "trio":
        from resilient.drivers.hedging.trio import TrioHedgeTasks

        return TrioHedgeTasks()
    from resilient.drivers.hedging.asyncio import AsyncioHedgeTasks

    return AsyncioHedgeTasks()


class _HedgedCall:
    """One async call and its copies."""

    __slots__ = ("_began", "_call", "_clock", "_first", "_over", "_race", "_tasks", "_terms")

    def __init__(self, terms: Terms, race: Race, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._terms = terms
        self._race = race
        self._call = call
        self._clock = CLOCK.get()
        self._tasks = _hedge_tasks()
        self._first = True  # whether the caller's task still runs the call
        self._began = 0.0
        self._over: Waiter | None = None

    async def run(self, first: Coroutine[Any, Any, Any] | None) -> Any:
        race = self._race
        async with self._tasks as tasks:
            try:
                self._watch()
                with tasks.first():
                    try:
                        await self._play(1, first)
                    finally:
                        self._first = False
                if not race.over:
                    self._over = current_backend().waiter()
                    await self._over.wait()
            finally:
                race.over = True  # cancelled or not, no copy goes out any more
        return race.result()

    def _watch(self) -> None:
        if self._race.more:
            self._tasks.alarm(self._race.delay, self._clock, self._silent, self._race.copies)

    def _silent(self, copies: int) -> None:
        if self._race.silent(copies):
            self._start()

    def _start(self) -> None:
        self._tasks.start(self._extra, self._race.copies)
        self._watch()

    async def _play(self, number: int, pending: Coroutine[Any, Any, Any] | None = None) -> None:
        began = self._terms.now()
        if number == 1:
            self._began = began
        try:
            value = await (self._call() if pending is None else pending)
        except Exception as error:
            self._terms.failed(began, error)
            if self._tasks.leaving():
                self._race.more = False  # an error that a cancellation made
            if self._race.failed(number, error):
                self._start()
        else:
            self._terms.took(began)
            self._race.won(value)

    async def _extra(self, number: int) -> None:
        try:
            await self._play(number)
        except self._tasks.cancelled:
            self._race.gone()
        except BaseException as error:
            self._race.left(error)
        if self._race.over:
            self._finish()

    def _finish(self) -> None:
        if self._over is not None:
            self._over.wake()
        elif self._first:
            self._first = False
            # It takes at least so long: without it, the durations would be those of the quick ones alone.
            self._terms.took(self._began)
            self._tasks.cut()


async def call_in_tasks(terms: Terms, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Makes a hedged async call."""
    return await _hedged(terms, terms.hedges.begin(), lambda: call(*args, **kwargs), None)


async def adopt(
    terms: Terms,
    delay: float | None,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    coroutine: Coroutine[Any, Any, Any],
) -> Any:
    """Hedges an async call that has begun: it returned this coroutine, which is awaited as the first copy."""
    try:
        return await _hedged(terms, delay, lambda: call(*args, **kwargs), coroutine)
    finally:
        coroutine.close()  # where the task was cancelled before it could be awaited


async def _hedged(
    terms: Terms,
    delay: float | None,
    call: Callable[[], Coroutine[Any, Any, Any]],
    first: Coroutine[Any, Any, Any] | None,
) -> Any:
    if delay is not None:
        return await _HedgedCall(terms, Race(terms, delay), call).run(first)
    began = terms.now()
    try:
        value = await (call() if first is None else first)
    except PolicyTimeout as error:
        terms.failed(began, error)
        raise
    terms.took(began)
    return value
