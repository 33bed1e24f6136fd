"""Callers that crowd at a gate with a queue: threads that are waited for, tasks that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from resilient.testing import FakeClock

__all__ = ["Crowd", "join", "until"]

T = TypeVar("T", covariant=True)


class Queue(Protocol[T]):
    """The async form of a gate whose tickets are true."""

    def ready(self) -> T | None: ...

    async def join(self) -> T: ...


async def join(gate: Queue[T]) -> T:
    """A ticket, at once or after waiting for it."""
    return gate.ready() or await gate.join()


def until(condition: Callable[[], bool]) -> None:
    """Lets other threads run until something is so."""
    given_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < given_up, "never came to pass"
        time.sleep(0)


class Crowd(RuleBasedStateMachine):
    """Tasks of one event loop that come, and are cancelled at any moment, while virtual time passes.

    Attributes:
        rejection: what a gate raises for those that it turns away; a task ends with nothing else.
    """

    rejection: type[Exception]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.clock.__enter__()
        self.loop = asyncio.new_event_loop()
        self.tasks: list[asyncio.Task[None]] = []
        self.count = 0

    def begin(self, task: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Another task, by its number."""
        self.count += 1
        self.tasks.append(self.loop.create_task(task(self.count)))

    @precondition(lambda self: self.tasks)
    @rule(place=st.integers(0, 9))
    def is_cancelled(self, place: int) -> None:
        self.tasks[place % len(self.tasks)].cancel()

    @rule(turns=st.sampled_from([1, 1, 2, 3, 20]))
    def time_passes(self, turns: int) -> None:
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                assert isinstance(task.exception(), (self.rejection, type(None))), task.exception()

    def teardown(self) -> None:
        self.time_passes(20)
        for task in self.tasks:
            task.cancel()
        self.time_passes(20)
        self.loop.close()
        self.clock.__exit__(None, None, None)
