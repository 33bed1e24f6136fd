"""Attempts as users see them: the block form, and the attempt that is running now."""

from __future__ import annotations

import sys
from contextlib import suppress
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any, NoReturn

from resilient.core.run import Limit, remaining
from resilient.drivers import aio, streams, sync
from resilient.drivers.backends import Cutoff, current_backend
from resilient.drivers.clock import CLOCK
from resilient.drivers.episode import Episode, Guard
from resilient.drivers.wrap import POLICY, STARTED

__all__ = ["AsyncAttempts", "Attempt", "AttemptBlock", "Attempts", "current_attempt"]


class Attempt:
    """One attempt of a guarded call.

    Attributes:
        number: 1 for the first call.
        last_error: what the attempt before raised; None if there was none, or a result was rejected.
    """

    __slots__ = ("_began", "_policy", "_started", "last_error", "number")

    def __init__(
        self, policy: Guard, number: int, last_error: Exception | None, started: float | None, began: float | None
    ) -> None:
        self.number = number
        self.last_error = last_error
        self._policy = policy
        self._started = started
        self._began = began

    @property
    def remaining(self) -> float | None:
        """Seconds left for this attempt, >= 0; None if neither ``timeout`` nor ``attempt_timeout`` limits it.

        A blocking call cannot be cut off from outside: hand this to the client that does the waiting.
        """
        if self._started is None or self._began is None:
            return None
        return remaining(self._policy.plan, self._started, self._began, CLOCK.get().now())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}>"


class AttemptBlock(Attempt):
    """One turn of the block form: ``for attempt in policy:`` ``with attempt: ...``"""

    last_error: Exception | None

    __slots__ = ("_attempts", "_cutoff", "_frame", "_limit", "_result", "_token")

    def __init__(self, attempts: Attempts, episode: Episode, last_error: Exception | None, limit: Limit | None) -> None:
        super().__init__(episode.guard, episode.failures + 1, last_error, episode.started, episode.attempt_began)
        self._attempts = attempts
        self._limit = limit
        self._cutoff: Cutoff | None = None
        self._frame = 0
        self._result: tuple[object, ...] = ()

    def set_result(self, value: object) -> None:
        """Says what the block came to, for rules that judge results (``Rule.result``)."""
        self._result = (value,)

    def __enter__(self) -> AttemptBlock:
        self._attempts.entered = True
        self._frame = id(sys._getframe(1))  # the frame lives at least as long as its block runs
        if self._limit is not None:
            self._cutoff = current_backend().cutoff(self._limit.seconds, CLOCK.get()).__enter__()
        self._token: Token[AttemptBlock | None] = _BLOCK.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        with suppress(ValueError):  # an async generator closed by another task ends in that task's context
            _BLOCK.reset(self._token)
        if self._cutoff is not None and self._limit is not None:
            self._cutoff.__exit__(kind, error, traceback)
            if self._cutoff.expired:
                return self._cut_off(self._limit)
        self.last_error = None  # the user's frame holds the attempt, and the error holds that frame
        if error is None:
            self._attempts.finished(self._result)
            return False
        try:
            return isinstance(error, Exception) and self._attempts.failed(error, None, None)
        finally:
            del error, traceback

    def _cut_off(self, limit: Limit) -> bool:
        error, previous, self.last_error = limit.passed(), self.last_error, None
        try:
            if self._attempts.failed(error, limit, previous):
                return True
            raise error from error.__cause__  # not from the cancellation that carried it
        finally:
            limit.error = None
            del error, previous


class Attempts:
    """The attempts of one blocking block."""

    __slots__ = ("_again", "_born", "_episode", "_error", "entered")

    def __init__(self, policy: Guard) -> None:
        self._episode = Episode(policy, "block")
        self._again = True
        self._born = 0
        self.entered = True
        self._error: Exception | None = None

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> AttemptBlock:
        if not self._goes_on():
            raise StopIteration
        if self._episode.failures and not sync.prepare(self._episode, self._error, self._born):
            self._give_back(StopIteration())
        return self._begin(timed=False)

    def finished(self, result: tuple[object, ...]) -> None:
        """The block ended without an error."""
        self._error = None
        if result:
            self._again = self._episode.attempt_returned(*result)
        else:
            self._again = False
            self._episode.attempt_succeeded()

    def failed(self, error: Exception, limit: Limit | None, previous: Exception | None) -> bool:
        """The block raised; whether another attempt follows."""
        self._again = self._episode.attempt_failed(error, limit, previous)
        self._error = error if self._again else None
        return self._again

    def _goes_on(self) -> bool:
        if not self.entered:
            raise RuntimeError("the attempt was never entered: write `with attempt:` inside the loop")
        return self._again

    def _begin(self, *, timed: bool) -> AttemptBlock:
        self._born = self._episode.begins()
        limit = self._episode.limited() if timed else None
        block = AttemptBlock(self, self._episode, self._error, limit)
        self._error, self.entered = None, False
        return block

    def _give_back(self, otherwise: Exception) -> NoReturn:
        error, self._error, self._again = self._error, None, False
        try:
            raise otherwise if error is None else error
        finally:
            del error, otherwise  # a frame that holds the error it raised is a cycle


class AsyncAttempts(Attempts):
    """The attempts of one block in a coroutine."""

    __slots__ = ()

    def __aiter__(self) -> AsyncAttempts:
        return self

    async def __anext__(self) -> AttemptBlock:
        if not self._goes_on():
            raise StopAsyncIteration
        if self._episode.failures and not await aio.prepare(self._episode, self._error, self._born):
            self._give_back(StopAsyncIteration())
        return self._begin(timed=True)


_BLOCK: ContextVar[AttemptBlock | None] = ContextVar("resilient.block", default=None)
_SETTLE = (sync.settle.__code__, aio.drive.__code__)
_HANDLING = (sync.perform.__code__, aio.perform.__code__)  # between attempts, none runs
_STREAM = (streams.stream.__code__, streams.async_stream.__code__)


def current_attempt() -> Attempt | None:
    """The attempt that runs now, or None outside any guarded call.

    The innermost one on this call stack. It is found by walking the stack, so that calls which never ask pay
    nothing for it; a task or a thread that the call starts has a stack of its own, and finds only a block around it.
    Ask before you start one, and hand on what it needs.
    """
    block = _BLOCK.get()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if block is not None and id(frame) == block._frame:
            return block
        if frame.f_code in _HANDLING:
            return None
        if frame.f_code in _SETTLE:
            noted = frame.f_locals
            return _of_episode(noted["episode"], noted["error"])
        if frame.f_code in _STREAM:
            passage: streams.Passage = frame.f_locals["passage"]
            return _of_episode(passage.episode, passage.last_error)
        if frame.f_code is sync.begin.__code__:
            started = frame.f_locals["started"]
            return Attempt(frame.f_locals["policy"], 1, None, started, started)
        policy: Any = frame.f_globals.get(POLICY)
        if policy is not None:
            started = frame.f_locals.get(frame.f_globals[STARTED])
            return Attempt(policy, 1, None, started, started)
        frame = frame.f_back
    return block


def _of_episode(episode: Episode, last_error: Exception | None) -> Attempt:
    return Attempt(episode.guard, episode.failures + 1, last_error, episode.started, episode.attempt_began)
