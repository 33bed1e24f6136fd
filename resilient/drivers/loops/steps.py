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
from inspect import isawaitable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from resilient.drivers.clock import SYSTEM, Clock
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import pause
from resilient.drivers.loops.waiters import ThreadWaiter, Wakeable, await_woken

__all__ = ["Call", "Join", "Sleep", "Steps", "play", "play_async"]

T = TypeVar("T")
W = TypeVar("W", bound=Wakeable)


class Call(NamedTuple):
    """Call a function without arguments; a task awaits what it returns, if that can be awaited."""

    fn: Callable[[], object]


class Sleep(NamedTuple):
    """Sleep for so many seconds, > 0."""

    seconds: float


class Join(NamedTuple, Generic[W]):
    """Wait until somebody wakes the waiter.

    Attributes:
        waiter: a :class:`ThreadWaiter` where a thread plays, the loop's own where a task does.
        seconds: the longest wait; None for no limit.
    """

    waiter: W
    seconds: float | None = None


Steps: TypeAlias = Generator[Call | Sleep | Join[W], Any, T]
"""A generator of steps for one kind of waiter, and what it returns in the end."""


def play(steps: Steps[ThreadWaiter, T], *, sleep: Callable[[float], object], plain: Callable[[object], object]) -> T:
    """Plays steps in this thread, by calling and blocking.

    Args:
        steps: what is to be done.
        sleep: blocks the thread for so many seconds.
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
                elif isinstance(step, Sleep):
                    sleep(step.seconds)
                else:
                    step.waiter.wait(SYSTEM, step.seconds)  # real threads take real time
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
                    answer = step.fn()
                    if isawaitable(answer):
                        answer = await answer
                elif isinstance(step, Sleep):
                    await pause(clock, step.seconds)
                else:
                    await await_woken(step.waiter, clock, step.seconds)
            except BaseException as raised:
                error = raised
    finally:
        del error  # a frame that holds the error it raised is a cycle
