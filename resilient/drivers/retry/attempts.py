"""Attempts as users see them: the one that is running now, found on the stack."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

from resilient.core.run import remaining
from resilient.drivers.clock import CLOCK
from resilient.drivers.retry import aio, streams, sync
from resilient.drivers.retry.rescue import Guard, Rescue, is_ours
from resilient.drivers.wrapping.compile import POLICY, STARTED

__all__ = ["BLOCK", "Attempt", "attempt_around", "attempt_ended_at", "current_attempt", "handed_on"]


class Attempt:
    """One attempt of a guarded call.

    Attributes:
        number: 1 for the first call.
        last_error: what the attempt before raised; None if there was none, or a result was rejected.
    """

    __slots__ = ("_began", "_policy", "_started", "last_error", "number")

    def __init__(
        self,
        policy: Guard | None,
        number: int,
        last_error: Exception | None,
        started: float | None,
        began: float | None,
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
        if self._policy is None or self._started is None or self._began is None:
            return None
        return remaining(self._policy.plan, self._started, self._began, CLOCK.get().now())

    @property
    def name(self) -> str:
        """The policy's name; empty if it has none."""
        return "" if self._policy is None else self._policy.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}>"


# The innermost block around this code: the id of the frame that runs it, and its attempt; of an attempt that was handed
# on, 0, which is no frame's.
BLOCK: ContextVar[tuple[int, Attempt] | None] = ContextVar("resilient.block", default=None)


def current_attempt() -> Attempt | None:
    """The attempt that runs now, or None outside any guarded call.

    The innermost one on this call stack. It is found by walking the stack, so that calls which never ask pay
    nothing for it. Threads and tasks in which ``Timeout(worker=True)`` and ``Hedge`` run a call are given it, without
    its ``last_error``. One that the call itself starts has a stack of its own, and finds only a block around it: ask
    before you start one, and hand on what it needs.
    """
    return _attempt_at(sys._getframe(1), BLOCK.get())


def attempt_around(policy: Guard) -> Attempt | None:
    """The attempt within which the call runs that asks, which is itself a call under this policy."""
    frame: FrameType | None = sys._getframe(1)
    driven = wrapped = False  # whether the call's own driver, and its own wrapper, have been passed
    while frame is not None:
        if not driven and frame.f_code in _DRIVERS:
            driven = True
        elif not wrapped and (frame.f_code is _BEGIN or frame.f_globals.get(POLICY) is policy):
            wrapped = True
        elif not is_ours(frame.f_globals) or frame.f_code in _ATTEMPTS or POLICY in frame.f_globals:
            break
        frame = frame.f_back
    return _attempt_at(frame, BLOCK.get())


def handed_on(context: Context) -> Context:
    """A copy of this context, made for a thread or a task: it finds there the attempt that runs here.

    Without the attempt's ``last_error``, which a context would keep.
    """
    block = BLOCK.get()
    attempt = _attempt_at(sys._getframe(1), block)
    if attempt is not (None if block is None else block[1]):  # otherwise the context has it already
        context.run(BLOCK.set, None if attempt is None else (0, _without_error(attempt)))
    return context


def _without_error(attempt: Attempt) -> Attempt:
    return Attempt(attempt._policy, attempt.number, None, attempt._started, attempt._began)


def attempt_ended_at(deadline: float) -> float | None:
    """The ``attempt_timeout`` of the running attempt, seconds, if that is what ends at this instant."""
    attempt = _attempt_at(sys._getframe(1), BLOCK.get())
    if attempt is None or attempt._policy is None or attempt._began is None:
        return None
    limit = attempt._policy.plan.attempt_timeout
    if limit is None:
        return None
    # Computed by way of what remained, so equal but for rounding: less than a microsecond of any clock in seconds.
    return limit if abs(attempt._began + limit - deadline) < 1e-6 else None


def _attempt_at(frame: FrameType | None, block: tuple[int, Attempt] | None) -> Attempt | None:
    while frame is not None:
        if block is not None and id(frame) == block[0]:
            return block[1]
        code = frame.f_code
        if code in _HANDLING:
            return None
        if code in _SETTLE:
            rescue, error = _locals(frame, "rescue", "error")
            return _of_rescue(rescue, error)
        if code in _STREAM:
            (passage,) = _locals(frame, "passage")
            return _of_rescue(passage.rescue, passage.last_error)
        if code is _BEGIN:
            (policy,) = _locals(frame, "policy")
            return Attempt(policy, 1, None, None, None)
        policy = frame.f_globals.get(POLICY)
        if policy is not None:
            (started,) = _locals(frame, frame.f_globals[STARTED])
            return Attempt(policy, 1, None, started, started)
        frame = frame.f_back
    return None if block is None else block[1]


# Before 3.13 a frame's locals are a copy, which the frame would keep, with the errors in it.
_let_go: Callable[[Any], None] = dict.clear if sys.version_info < (3, 13) else lambda found: None


def _locals(frame: FrameType, *names: str | None) -> list[Any]:
    """Some locals of a frame that is running."""
    found = frame.f_locals
    values = [found.get(name) for name in names if name is not None] or [None]
    _let_go(found)
    return values


def _of_rescue(rescue: Rescue, last_error: Exception | None) -> Attempt:
    return Attempt(rescue.guard, rescue.failures + 1, last_error, rescue.started, rescue.attempt_began)


_BEGIN = sync.begin.__code__
_SETTLE = (sync.settle.__code__, aio.drive.__code__)
_HANDLING = (sync.perform.__code__, aio.perform.__code__)  # between attempts, none runs
_STREAM = (streams.stream.__code__, streams.async_stream.__code__)
_DRIVERS = (*_SETTLE, *_STREAM, aio.settle.__code__, aio.adopt.__code__)  # the latter two begin the rescue
_ATTEMPTS = (_BEGIN, *_SETTLE, *_HANDLING, *_STREAM)
