"""The async driver, for asyncio and trio: awaits where the blocking one sleeps, and can cut an attempt off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from resilient.core.flight import Part
from resilient.core.run import Again
from resilient.drivers.backends import current_backend, pause
from resilient.drivers.episode import FIRST, Episode, First, Guard, Limit, Recoverer, given, outer_cut

__all__ = ["adopt", "bounded", "go_on", "guard", "prepare", "rescue", "settle"]


async def rescue(
    policy: Guard,
    call: Callable[..., Any],
    error: Exception,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    started: float | None = None,
    born: int = 0,
) -> Any:
    """The first call failed: decides, waits, recovers and calls again until it works or has to stop.

    Args:
        error: what the first call raised.
        started: when it began, monotonic seconds; None if nobody had to know.
        born: the generation of the resource on which it began.
    """
    try:
        return given(await settle(Episode(policy, call, started), call, args, kwargs, error, born))
    finally:
        del error  # a frame that holds the error it raised is a cycle


async def guard(policy: Guard, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A whole guarded call, the first attempt included."""
    return given(await settle(Episode(policy, call), call, args, kwargs))


async def settle(
    episode: Episode,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    error: Exception | None = None,
    born: int = 0,
    *,
    pending: Coroutine[Any, Any, Any] | None = None,
) -> tuple[Exception | None, Any]:
    """Calls until it works or has to stop: the last error, or None and the value.

    ``pending`` is what the first call gave already.
    """
    value: Any = None
    step: Again | First | None = FIRST if error is None else episode.failed(outer_cut(error))
    while step is not None:
        if isinstance(step, Again) and not await prepare(episode, step, error, born):
            break
        born, limit = episode.begins(), episode.limit()
        try:
            coroutine, pending = (call(*args, **kwargs) if pending is None else pending), None
            value = await (coroutine if limit is None else bounded(episode, limit, coroutine))
        except Exception as failure:
            error = outer_cut(failure)
            step = episode.failed(error, limit)
        else:
            error = None
            step = episode.returned(value)
    return error, value


async def prepare(episode: Episode, step: Again, error: Exception | None, born: int) -> bool:
    """Waits and recovers before the next attempt; False if that took until it was too late."""
    await pause(episode.clock, step.wait)
    recovery = episode.recovers(step)
    if recovery is None:
        return True
    remaining = episode.remaining_in_all()
    if remaining is None:
        return await _recover(episode, step, recovery, error, born)
    with current_backend().cutoff(remaining, episode.clock):
        if not await _recover(episode, step, recovery, error, born):
            return False
    return not episode.too_late(step, error)


async def bounded(episode: Episode, limit: Limit, attempt: Awaitable[Any]) -> Any:
    """One attempt, cut off at its limit."""
    with current_backend().cutoff(limit.seconds, episode.clock) as cutoff:
        value = await attempt
    if cutoff.expired:
        raise limit.passed()
    return value


async def adopt(
    policy: Guard,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    started: float | None = None,
    born: int = 0,
) -> Any:
    """A guarded call of something that looked blocking and then returned a coroutine."""
    return await go_on(Episode(policy, call, started), call, coroutine, args, kwargs, born)


async def go_on(
    episode: Episode,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    born: int,
) -> Any:
    """The rest of a call whose attempt returned a coroutine."""
    return given(await settle(episode, call, args, kwargs, born=born, pending=coroutine))


async def _recover(episode: Episode, step: Again, recovery: Recoverer, error: Exception | None, born: int) -> bool:
    flight = recovery.flight
    while True:
        over = current_backend().waiter()
        match flight.ask(born, over.wake):
            case Part.SKIP:
                return True
            case Part.LEAD:
                return await _lead(episode, step, recovery, error)
            case Part.JOIN:
                try:
                    await over.wait()
                finally:
                    flight.leave(over.wake)


async def _lead(episode: Episode, step: Again, recovery: Recoverer, error: Exception | None) -> bool:
    flight, ended_at = recovery.flight, None
    unmark = flight.lead()
    try:
        hold = episode.hold(flight)
        if hold:
            if episode.too_late(step, error, ahead=hold):
                return False
            await pause(episode.clock, hold)
        await _perform(episode, step, recovery)
        ended_at = episode.clock.now()
    finally:
        unmark()
        flight.finish(ended_at)
    return True


async def _perform(episode: Episode, step: Again, recovery: Recoverer) -> None:
    handler = recovery.handler(step.action)
    assert handler is not None  # recovers() has looked
    episode.recovering(step.action)
    try:
        pending = handler()
        if isawaitable(pending):
            await pending
    except Exception as failure:
        episode.recovery_failed(step.action, failure)
    else:
        episode.recovered(step.action)
