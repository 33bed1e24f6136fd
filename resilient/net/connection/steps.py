"""Steps of work that tasks and threads do alike: a generator says what it needs, a player does it.

A task plays by awaiting, a thread by blocking. What comes of a step is sent into the generator, what it raises is
thrown in; so every decision between two steps is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from inspect import isawaitable, iscoroutine
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from resilient.drivers.clock import SYSTEM, Clock, is_virtual
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.loops.waiters import ThreadWaiter, Wakeable, await_woken

__all__ = ["Call", "Join", "Sleep", "Step", "Steps", "block", "block_until_woken", "plain", "play"]

T = TypeVar("T")
W = TypeVar("W", bound=Wakeable)


class Call(NamedTuple):
    """Call a function of the user's; a task awaits what it returns, if that can be awaited.

    With a limit, seconds of a clock, a task is cut off there and ends; no thread can be stopped.
    """

    function: Callable[[], object]
    limit: float | None = None
    clock: Clock = SYSTEM


class Sleep(NamedTuple):
    """Let so many seconds of a clock pass; a thread goes on when this waiter is woken, a task when it is cancelled."""

    seconds: float
    clock: Clock
    waiter: Any = None


class Join(NamedTuple, Generic[W]):
    """Wait until somebody wakes the waiter, for so many seconds of a clock at most; None for no limit."""

    waiter: W
    seconds: float | None = None
    clock: Clock = SYSTEM


Step: TypeAlias = Call | Sleep | Join[Any]
Steps: TypeAlias = Generator[Step, Any, T]


async def play(steps: Generator[Any, Any, T]) -> T:
    """Does the steps in this task; gives what the generator returns."""
    try:
        step: Step = next(steps)
        while True:
            value: object = None
            try:
                if isinstance(step, Call):
                    value = await _called(step)
                elif isinstance(step, Join):
                    await await_woken(step.waiter, step.clock, step.seconds)
                else:
                    await pause(step.clock, step.seconds)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what it returns is typed by its generator


async def _called(step: Call) -> object:
    if step.limit is None:
        value = step.function()
        return await value if isawaitable(value) else value
    value = None
    with current_backend().cutoff(step.limit, step.clock):
        value = step.function()
        if isawaitable(value):
            value = await value
    return value


def block(steps: Generator[Any, Any, T]) -> T:
    """Does the steps in this thread; gives what the generator returns."""
    try:
        step: Step = next(steps)
        while True:
            value: object = None
            try:
                if isinstance(step, Call):
                    value = plain(step.function())
                elif isinstance(step, Join):
                    block_until_woken(step.waiter, step.clock, step.seconds)
                else:
                    _sleep(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # likewise


def plain(value: T) -> T:
    """Gives a result back, unless somebody would have to await it.

    Raises:
        TypeError: it is a coroutine.
    """
    if iscoroutine(value):
        value.close()
        raise TypeError("a coroutine cannot be awaited by threads: use resilient.net.ConnectionManager for async code")
    return value


def block_until_woken(waiter: ThreadWaiter, clock: Clock, seconds: float | None) -> None:
    """Blocks the thread until it is woken, or that much time has passed: of virtual time, what others let pass."""
    if seconds is None or not is_virtual(clock):
        waiter.wait(SYSTEM, seconds)
        return
    if seconds <= 0.0:
        return
    timer = clock.call_later(seconds, waiter.wake)
    try:
        waiter.wait(SYSTEM, None)
    finally:
        timer.cancel()


def _sleep(step: Sleep) -> None:
    clock = step.clock
    if step.waiter is None:
        clock.sleep(step.seconds)
        return
    if is_virtual(clock):
        clock.record(step.seconds)
    step.waiter.wait(clock, step.seconds)
