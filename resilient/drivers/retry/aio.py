"""The async driver, for asyncio and trio: awaits where the blocking one sleeps, and can cut an attempt off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import FrameType
from typing import Any

from resilient.core.run import Limit
from resilient.drivers.deadline import DEADLINE, lift
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.loops.steps import play_async
from resilient.drivers.retry.attempts import Attempt, Place, no_attempt, register
from resilient.drivers.retry.guard import Guard, Recoverer
from resilient.drivers.retry.recovery import RescueParticipant, recover
from resilient.drivers.retry.rescue import Rescue
from resilient.drivers.stack import locals_of
from resilient.observe.listeners import Listener

__all__ = ["adopt", "bounded", "drive", "go_on", "prepare", "settle"]


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
        return await drive(Rescue(policy, call, started, listeners), call, error, args, kwargs, born, None)
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
    return await drive(Rescue(policy, call, started), call, None, args, kwargs, born, coroutine)


register(settle.__code__, Place.DRIVER, None)
register(adopt.__code__, Place.DRIVER, None)


async def go_on(
    rescue: Rescue,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    born: int,
) -> Any:
    """Awaits the coroutine that an attempt of a blocking driver returned, and goes on under the async driver."""
    rescue.idle = True  # what had to be done before this attempt was done
    return await drive(rescue, call, None, args, kwargs, born, coroutine)


async def drive(
    rescue: Rescue,
    call: Callable[..., Any],
    error: Exception | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    born: int,
    pending: Coroutine[Any, Any, Any] | None,
) -> Any:
    """Runs attempts until one works or the rescue stops; ``pending`` is what the first call gave already."""
    short, value, limit = rescue.short, None, None
    try:
        again = error is None or (short and rescue.repeats(error)) or rescue.attempt_failed(error)
        while again:
            if rescue.failures and pending is None and not await prepare(rescue, error, born):
                break
            born, limit = rescue.begins(), rescue.limited()
            try:
                coroutine, pending = (call(*args, **kwargs) if pending is None else pending), None
                value = await (coroutine if limit is None else bounded(rescue, limit, coroutine))
            except Exception as failure:
                again = (short and rescue.repeats(failure)) or rescue.attempt_failed(failure, limit, error)
                error = failure
            else:
                error = None
                again = rescue.attempt_returned(value)
        if error is None:
            return value
        raise error
    finally:
        del error, rescue, limit  # a frame that holds the error it raised is a cycle; so is what refers to it


def _read_drive(frame: FrameType) -> Attempt:
    rescue, error = locals_of(frame, "rescue", "error")
    return rescue.attempt(error)  # type: ignore[no-any-return]  # a frame's locals are of any type


register(drive.__code__, Place.DRIVER, _read_drive)


async def bounded(rescue: Rescue, limit: Limit, attempt: Awaitable[Any]) -> Any:
    """Awaits one attempt, which is cut off at its limit."""
    token = DEADLINE.set(rescue.attempt_deadline())
    try:
        with current_backend().cutoff(limit.seconds, rescue.clock) as cutoff:
            value = await attempt
    finally:
        lift(token)
    if cutoff.expired:
        raise limit.passed()
    return value


async def prepare(rescue: Rescue, error: Exception | None, born: int) -> bool:
    """Waits and recovers before the next attempt; False if that took until it was too late."""
    await pause(rescue.clock, 0.0 if rescue.idle else rescue.wait)
    recovery = None if rescue.idle else rescue.recovers()
    if recovery is None:
        return True
    left = rescue.time_left()
    if left is None:
        return await _recover(rescue, recovery, error, born)
    with current_backend().cutoff(left, rescue.clock) as cutoff:
        if not await _recover(rescue, recovery, error, born):
            return False
    # A loop's timer may fire a little before the clock says so: the cut itself counts, whatever the time.
    return not rescue.too_late(error, surely=cutoff.expired)


async def _recover(rescue: Rescue, recovery: Recoverer, error: Exception | None, born: int) -> bool:
    participant = RescueParticipant(rescue, recovery, error, born, blocking=False)
    return await play_async(recover(participant, current_backend().waiter), rescue.clock)


register(_recover.__code__, Place.BETWEEN, no_attempt)
