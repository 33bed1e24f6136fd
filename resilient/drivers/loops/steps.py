"""Work that is written once for threads and for tasks: a generator says what it needs, and a player does it.

::

    def dialled(dial):
        try:
            return (yield Call(dial))  # the value of the call; its error is raised here
        except OSError:
            yield Sleep(0.1)
            return (yield Call(dial))

A thread plays such steps by calling and blocking (:func:`play`), a task by awaiting (:func:`play_async`). Whatever
ends a step early, a cancellation too, is raised at its ``yield``, so ``finally`` means what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import nullcontext
from inspect import isawaitable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from resilient.drivers.clock import SYSTEM, Clock, is_virtual
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.loops.waiters import ThreadWaiter, Wakeable, await_woken

__all__ = ["Call", "Join", "Sleep", "Steps", "play", "play_async"]

T = TypeVar("T")
W = TypeVar("W", bound=Wakeable)


UNLIMITED = nullcontext()


class Call(NamedTuple):
    """Call a function without arguments; a task awaits what it returns, if that can be awaited.

    Attributes:
        fn: the function.
        limit: after so many seconds a task is cut off there, and goes on with None; no thread can be stopped.
    """

    fn: Callable[[], object]
    limit: float | None = None


class Sleep(NamedTuple):
    """Sleep for so many seconds, > 0.

    Attributes:
        seconds: how long.
        waiter: ends the sleep of a thread when it is woken; a task is cancelled instead.
    """

    seconds: float
    waiter: Wakeable | None = None


class Join(NamedTuple, Generic[W]):
    """Wait until somebody wakes the waiter.

    Attributes:
        waiter: a :class:`ThreadWaiter` where a thread plays, the loop's own where a task does.
        seconds: the longest wait; None for no limit.
        clock: by which that is measured; None for that of the player, or real time in a thread.
    """

    waiter: W
    seconds: float | None = None
    clock: Clock | None = None


Steps: TypeAlias = Generator[Call | Sleep | Join[W], Any, T]
"""A generator of steps for one kind of waiter, and what it returns in the end."""


def play(steps: Steps[ThreadWaiter, T], clock: Clock, plain: Callable[[object], object]) -> T:
    """Plays steps in this thread.

    Args:
        steps: what is to be done.
        clock: by which it sleeps.
        plain: gives back what a call returned; raises TypeError if that would have to be awaited.

    Returns:
        What the generator returns.
    """
    answer: object = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # of a generator that returns this
            answer = error = None
            try:
                if isinstance(step, Call):
                    answer = plain(step.fn())
                elif isinstance(step, Join):
                    step.waiter.wait_outside(step.clock or SYSTEM, step.seconds)
                elif isinstance(step.waiter, ThreadWaiter):
                    if is_virtual(clock):
                        clock.record(step.seconds)
                    step.waiter.wait(clock, step.seconds)
                else:
                    clock.sleep(step.seconds)
            except BaseException as raised:
                error = raised
    finally:
        del error  # a frame that holds the error it raised is a cycle


async def play_async(steps: Steps[Waiter, T], clock: Clock) -> T:
    """Plays steps in this task, by awaiting.

    Args:
        steps: what is to be done.
        clock: by which it sleeps, and waits no longer than it should.

    Returns:
        What the generator returns.
    """
    answer: object = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # of a generator that returns this
            answer = error = None
            try:
                if isinstance(step, Call):
                    with UNLIMITED if step.limit is None else current_backend().cutoff(step.limit, clock):
                        given = step.fn()
                        answer = await given if isawaitable(given) else given
                elif isinstance(step, Join):
                    await await_woken(step.waiter, step.clock or clock, step.seconds)
                else:
                    await pause(clock, step.seconds)
            except BaseException as raised:
                error = raised
    finally:
        del error  # a frame that holds the error it raised is a cycle
