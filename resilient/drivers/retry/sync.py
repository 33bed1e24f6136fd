"""The blocking driver: sleeps in the thread, calls in the thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable, iscoroutine
from types import CoroutineType, FrameType
from typing import Any

from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.steps import play
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.drivers.retry import aio
from resilient.drivers.retry.attempts import Attempt, Place, no_attempt, register
from resilient.drivers.retry.guard import Guard, Recoverer
from resilient.drivers.retry.recovery import RescueParticipant, recover
from resilient.drivers.retry.rescue import Rescue
from resilient.drivers.stack import locals_of
from resilient.observe.listeners import Listener

__all__ = ["begin", "of_first", "prepare", "settle"]


def begin(policy: Guard, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A whole guarded call, the first attempt included: until that fails, little more than the call itself."""
    plan, recovery = policy.plan, policy.recovery
    if plan.judges_results or plan.timed:
        return settle(policy, call, None, args, kwargs)
    budget, started = plan.budget, None
    if budget is not None:
        budget.called(started := CLOCK.get().now())
    born = 0 if recovery is None else recovery.flight.generation
    try:
        value = call(*args, **kwargs)
    except Exception as failure:
        error = failure
    else:
        if value.__class__ is CoroutineType:
            return aio.adopt(policy, call, value, args, kwargs, started, born)
        if budget is not None:
            budget.succeeded(CLOCK.get().now(), None)
        return value
    try:
        return settle(policy, call, error, args, kwargs, started, born)
    finally:
        del error  # a frame that holds the error it raised is a cycle


def _read_begin(frame: FrameType) -> Attempt:
    (policy,) = locals_of(frame, "policy")
    return Attempt(policy, 1, None, None, None)


register(begin.__code__, Place.WRAPPER, _read_begin)


def settle(
    policy: Guard,
    call: Callable[..., Any],
    error: Exception | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    started: float | None = None,
    born: int = 0,
    listeners: tuple[Listener, ...] = (),
) -> Any:
    """Decides, waits, recovers and calls again until it works or has to stop.

    A call that turns out to return a coroutine goes on under the async driver: await what this returns.

    Args:
        policy: what is asked.
        call: what is called.
        error: what the first attempt raised; None to make it here.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.
        started: when the first attempt began, monotonic seconds; None if nobody had to know.
        born: the generation of the resource on which it began.
        listeners: heard beside the policy's own.
    """
    rescue = Rescue(policy, call, started, listeners)
    short, value = rescue.short, None
    made = partial(_in_time, rescue, call) if rescue.plan.timed else call
    try:
        again = error is None or (short and rescue.repeats(error)) or rescue.attempt_failed(error)
        while again:
            if not rescue.idle and not prepare(rescue, error, born):
                break
            if not short:
                born = rescue.begins()
            try:
                value = made(*args, **kwargs)
            except Exception as failure:
                again = (short and rescue.repeats(failure)) or rescue.attempt_failed(failure)
                error = failure
            else:
                if value.__class__ is CoroutineType:
                    return aio.go_on(rescue, call, value, args, kwargs, born)
                error = None
                again = not short and rescue.attempt_returned(value)
        if error is None:
            return value
        raise error
    finally:
        del error, rescue, made, listeners  # likewise; who listens may keep errors


def _read_settle(frame: FrameType) -> Attempt:
    rescue, error = locals_of(frame, "rescue", "error")
    return rescue.attempt(error)  # type: ignore[no-any-return]  # a frame's locals are of any type


register(settle.__code__, Place.DRIVER, _read_settle)


def _in_time(rescue: Rescue, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Makes one attempt, which can read when it must be over."""
    token = DEADLINE.set(rescue.attempt_deadline())
    try:
        return call(*args, **kwargs)
    finally:
        DEADLINE.reset(token)
        del rescue  # its listeners may keep errors


def of_first(step: Callable[..., Any]) -> Callable[..., Any]:
    """A driver's step for a call that calls its first argument: that argument is what the step is told of."""

    def bound(
        policy: Guard,
        call: Callable[..., Any],
        given: object,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        **facts: Any,
    ) -> Any:
        try:
            return step(policy, partial(call, args[0]), given, args[1:], kwargs, **facts)
        finally:
            del given  # an error, perhaps

    return bound


def prepare(rescue: Rescue, error: Exception | None, born: int) -> bool:
    """Waits and recovers before the next attempt; False if that took until it was too late."""
    rescue.clock.sleep(rescue.wait)
    recovery = rescue.recovers()
    if recovery is None:
        return True
    return _recover(rescue, recovery, error, born) and not rescue.too_late(error)


def _recover(rescue: Rescue, recovery: Recoverer, error: Exception | None, born: int) -> bool:
    participant = RescueParticipant(rescue, recovery, error, born, blocking=True)
    steps = recover(participant, ThreadWaiter)
    return play(steps, rescue.clock, partial(_refuse_awaitable, participant.handler))


register(_recover.__code__, Place.BETWEEN, no_attempt)


def _refuse_awaitable(handler: Callable[[], object], value: object) -> object:
    if isawaitable(value):
        if iscoroutine(value):
            value.close()
        raise TypeError(
            f"the handler {handler!r} is async, but the guarded call is not: give a blocking handler, "
            "or make the call async"
        )
    return value
