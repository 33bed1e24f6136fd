"""The block form: ``for attempt in policy:`` ``with attempt: ...``, blocking and async.

The layers around the block decide what follows an attempt (see ``levels.py``); here is what the loop and its ``with``
do about it.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, cast

from resilient.drivers.blocks.levels import BlockGate, Cut, Levels, Over
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE, lift
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.drivers.loops.base import Cutoff
from resilient.drivers.loops.current import current_backend
from resilient.drivers.retry import aio, sync
from resilient.drivers.retry.attempts import BLOCK, Attempt
from resilient.drivers.retry.guard import Guard

__all__ = ["AsyncAttempts", "AttemptBlock", "Attempts"]


class AttemptBlock(Attempt):
    """One turn of the block form."""

    last_error: Exception | None

    __slots__ = ("_attempts", "_block_token", "_cut", "_cutoff", "_deadline", "_deadline_token", "_result")

    def __init__(
        self, attempts: Attempts, guard: Guard | None, number: int, error: Exception | None, deadline: float | None
    ) -> None:
        super().__init__(guard, number, error, None, None)
        self._attempts: Attempts | None = attempts
        self._deadline = deadline
        self._cut: Cut | None = None
        self._cutoff: Cutoff | None = None
        self._result: tuple[object, ...] = ()

    @property
    def remaining(self) -> float | None:
        """Seconds left for this attempt, >= 0; None if nothing limits it."""
        return None if self._deadline is None else max(0.0, self._deadline - CLOCK.get().now())

    def cut_at(self, cut: Cut | None) -> None:
        """Sets what cuts the attempt off."""
        self._cut = cut

    def set_result(self, value: object) -> None:
        """Says what the block came to, for rules that judge results (``Rule.result``)."""
        self._result = (value,)

    def __enter__(self) -> AttemptBlock:
        if self._attempts is None:
            raise RuntimeError("this attempt is over: the loop gives the next one")
        if self._attempts.entered:
            raise RuntimeError("this attempt is entered already: write `with attempt:` once in the loop")
        self._attempts.entered = True
        if self._cut is not None:
            self._cutoff = current_backend().cutoff(self._cut.limit.seconds, CLOCK.get()).__enter__()
        # The frame lives at least as long as its block runs.
        self._block_token: Token[Any] = BLOCK.set((id(sys._getframe(1)), self))
        self._deadline_token = DEADLINE.set(self._deadline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        lift(self._deadline_token)
        with suppress(ValueError):  # an async generator closed by another task ends in that task's context
            BLOCK.reset(self._block_token)
        attempts, self._attempts = self._attempts, None  # a loop that is left holds nothing any more
        assert attempts is not None  # __enter__ has looked
        # The user's frame holds the attempt, and the error holds that frame.
        given, previous, self.last_error = error, self.last_error, None
        try:
            cut, error = self._uncut(kind, error, traceback)
            if cut is not None:
                return _cut_off(attempts, cut, previous)
            if error is None:
                attempts.finished(self._result)
            elif attempts.failed(error):
                return True
            elif error is not given:
                raise error
            return False
        finally:
            del error, given, previous, traceback

    def _uncut(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> tuple[Cut | None, BaseException | None]:
        """Takes the limit of time off; gives it if that is what ended the attempt, and what is left of the error."""
        cutoff, self._cutoff = self._cutoff, None
        if cutoff is None:
            return None, error
        try:
            cutoff.__exit__(kind, error, traceback)
        except BaseException as rest:  # of a group, without the cancellation
            return None, rest
        return (self._cut if cutoff.expired else None), error


def _cut_off(attempts: Attempts, cut: Cut, previous: Exception | None) -> bool:
    error = cut.limit.passed() if cut.layer is None else cut.layer.exceeded()
    try:
        if attempts.failed(error, cut, previous):
            return True
        raise error from error.__cause__  # not from the cancellation that carried it
    finally:
        cut.limit.error = None
        del error, previous


class Attempts(Levels):
    """The attempts of one blocking block."""

    __slots__ = ()

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> AttemptBlock:
        self._check_entered()
        while self._again:
            try:
                self._enter()
            except Over:
                self._finish(self._at - 1, ())
            except BaseException as error:
                if not self.failed(error):
                    raise
            else:
                return self._begin(cuts=False)
        raise StopIteration

    def _enter(self) -> None:
        steps, given = self._steps(), cast("Any", None)
        with suppress(StopIteration):
            while True:
                step = steps.send(given)
                if isinstance(step, BlockGate):
                    given = self._entered(step.gate)
                else:
                    given = sync.prepare(step.rescue, step.error, step.born)

    def _entered(self, gate: Gate) -> tuple[Gate, object]:
        token = DEADLINE.set(self._deadline())
        try:
            return gate, gate.enter()
        finally:
            DEADLINE.reset(token)

    def _begin(self, *, cuts: bool) -> AttemptBlock:
        self.entered = False
        level = self._levels[-1]
        number = 1 if level.rescue is None else level.rescue.failures + 1
        block = AttemptBlock(self, level.guard, number, level.error, self._deadline())
        level.error = None
        if cuts:
            block.cut_at(min(self._cuts(), key=lambda cut: cut.limit.seconds, default=None))
        return block

    def _check_entered(self) -> None:
        if not self.entered:
            raise RuntimeError("the attempt was never entered: write `with attempt:` inside the loop")


class AsyncAttempts(Attempts):
    """The attempts of one block in a coroutine."""

    __slots__ = ()

    def __aiter__(self) -> AsyncAttempts:
        return self

    async def __anext__(self) -> AttemptBlock:
        self._check_entered()
        while self._again:
            try:
                await self._enter_async()
            except Over:
                self._finish(self._at - 1, ())
            except BaseException as error:
                if not self.failed(error):
                    raise
            else:
                return self._begin(cuts=True)
        raise StopAsyncIteration

    async def _enter_async(self) -> None:
        steps, given = self._steps(), cast("Any", None)
        with suppress(StopIteration):
            while True:
                step = steps.send(given)
                if isinstance(step, BlockGate):
                    given = await self._ticket(step.async_gate)
                else:
                    given = await aio.prepare(step.rescue, step.error, step.born)

    async def _ticket(self, gate: AsyncGate) -> tuple[AsyncGate, object]:
        token = DEADLINE.set(self._deadline())
        try:
            ticket = gate.ready()
            return gate, await gate.join() if ticket is None else ticket
        finally:
            DEADLINE.reset(token)
