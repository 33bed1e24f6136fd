"""The async driver, for asyncio and trio: awaits where the blocking one sleeps, and can cut an attempt off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from resilient.core.flight import Part
from resilient.core.run import Limit
from resilient.drivers.deadline import DEADLINE, lift
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.retry.rescue import Episode, Guard, Recoverer
from resilient.observe.listeners import Listener

__all__ = ["adopt", "bounded", "drive", "go_on", "perform", "prepare", "settle"]


async def settle(
    policy: Guard,
    call: Callable[..., Any],
    error: Exception | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    started: float | None = None,
    born: int = 0,
    listeners: tuple[Listener, ...] = (),
) -> Any:
    """Decides, waits, recovers and calls again until it works or has to stop; see the blocking twin."""
    try:
        return await drive(Episode(policy, call, started, listeners), call, error, args, kwargs, born, None)
    finally:
        del error, listeners  # a frame that holds the error it raised is a cycle


async def adopt(
    policy: Guard,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    started: float | None = None,
    born: int = 0,
) -> Any:
    """A guarded call of something that looked blocking and then returned a coroutine."""
    return await drive(Episode(policy, call, started), call, None, args, kwargs, born, coroutine)


async def go_on(
    episode: Episode,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    born: int,
) -> Any:
    """The rest of a call whose attempt returned a coroutine."""
    episode.idle = True  # what had to be done before this attempt was done
    return await drive(episode, call, None, args, kwargs, born, coroutine)


async def drive(
    episode: Episode,
    call: Callable[..., Any],
    error: Exception | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    born: int,
    pending: Coroutine[Any, Any, Any] | None,
) -> Any:
    """The loop itself; ``pending`` is what the first call gave already."""
    short, value, limit = episode.short, None, None
    try:
        again = error is None or (short and episode.repeats(error)) or episode.attempt_failed(error)
        while again:
            if episode.failures and pending is None and not await prepare(episode, error, born):
                break
            born, limit = episode.begins(), episode.limited()
            try:
                coroutine, pending = (call(*args, **kwargs) if pending is None else pending), None
                value = await (coroutine if limit is None else bounded(episode, limit, coroutine))
            except Exception as failure:
                again = (short and episode.repeats(failure)) or episode.attempt_failed(failure, limit, error)
                error = failure
            else:
                error = None
                again = episode.attempt_returned(value)
        if error is None:
            return value
        raise error
    finally:
        del error, episode, limit  # a frame that holds the error it raised is a cycle; so is what refers to it


async def bounded(episode: Episode, limit: Limit, attempt: Awaitable[Any]) -> Any:
    """One attempt, cut off at its limit."""
    token = DEADLINE.set(episode.attempt_deadline())
    try:
        with current_backend().cutoff(limit.seconds, episode.clock) as cutoff:
            value = await attempt
    finally:
        lift(token)
    if cutoff.expired:
        raise limit.passed()
    return value


async def prepare(episode: Episode, error: Exception | None, born: int) -> bool:
    """Waits and recovers before the next attempt; False if that took until it was too late."""
    await pause(episode.clock, 0.0 if episode.idle else episode.wait)
    recovery = None if episode.idle else episode.recovers()
    if recovery is None:
        return True
    left = episode.time_left()
    if left is None:
        return await _recover(episode, recovery, error, born)
    with current_backend().cutoff(left, episode.clock) as cutoff:
        if not await _recover(episode, recovery, error, born):
            return False
    # A loop's timer may fire a little before the clock says so: the cut itself counts, whatever the time.
    return not episode.too_late(error, surely=cutoff.expired)


async def _recover(episode: Episode, recovery: Recoverer, error: Exception | None, born: int) -> bool:
    flight = recovery.flight
    while True:
        over = current_backend().waiter()
        part = flight.ask(born, over.wake)
        if part is Part.SKIP:
            return True
        if part is Part.LEAD:
            return await _lead(episode, recovery, error)
        try:
            await over.wait()
        finally:
            flight.leave(over.wake)


async def _lead(episode: Episode, recovery: Recoverer, error: Exception | None) -> bool:
    flight, ended_at = recovery.flight, None
    unmark = flight.lead()
    try:
        hold = episode.hold(flight)
        if hold:
            if episode.too_late(error, ahead=hold):
                return False
            await pause(episode.clock, hold)
        await perform(episode, recovery)
        ended_at = episode.clock.now()
    finally:
        unmark()
        flight.finish(ended_at)
    return True


async def perform(episode: Episode, recovery: Recoverer) -> None:
    """Runs the handler of the verdict's action; what it raises is an event."""
    handler = recovery.handler(episode.verdict.action)
    assert handler is not None  # recovers() has looked
    episode.recovering()
    try:
        pending = handler()
        if isawaitable(pending):
            await pending
    except Exception as failure:
        episode.recovery_failed(failure)
    else:
        episode.recovered()
