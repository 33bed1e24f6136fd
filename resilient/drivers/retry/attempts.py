"""Attempts as users see them: the one that is running now, found on the stack.

The drivers register what their frames say, each beside the code whose locals it reads: nothing here knows any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from enum import Enum, auto
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeAlias

from resilient.core.run import remaining
from resilient.drivers.clock import CLOCK
from resilient.drivers.retry.guard import Guard
from resilient.drivers.wrapping.compile import POLICY, started_in

__all__ = [
    "BLOCK", "Attempt", "Place", "Reader", "attempt_around", "attempt_ended_at", "current_attempt", "handed_on",
    "is_ours", "no_attempt", "register",
]  # fmt: skip


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


Reader: TypeAlias = Callable[[FrameType], Attempt | None]
"""What a frame says of the attempt under way: None if it runs between two attempts."""


class Place(Enum):
    """What the code of a frame does for the call that it guards."""

    WRAPPER = auto()  # makes the first attempt itself
    DRIVER = auto()  # drives the rescue, or begins it
    BETWEEN = auto()  # acts between two attempts


class _Known(NamedTuple):
    """What is registered for a code object, which is kept so that its id stays its own."""

    code: CodeType | None
    place: Place | None
    read: Reader | None


_UNKNOWN = _Known(None, None, None)
_KNOWN: dict[int, _Known] = {}  # by the id of the code object, whose hash is that of all its instructions


def register(code: CodeType, place: Place, read: Reader | None) -> None:
    """Makes frames of a driver's function known.

    Args:
        code: the function's.
        place: what it does.
        read: finds the attempt in the function's locals; None if a frame further in or out shows it.
    """
    _KNOWN[id(code)] = _Known(code, place, read)


def no_attempt(frame: FrameType) -> None:
    """The reader of what runs between two attempts."""


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
        known = _KNOWN.get(id(frame.f_code), _UNKNOWN)
        if not driven and known.place is Place.DRIVER:
            driven = True
        elif not wrapped and (known.place is Place.WRAPPER or frame.f_globals.get(POLICY) is policy):
            wrapped = True
        elif known.read is not None or POLICY in frame.f_globals or not is_ours(frame.f_globals):
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


def is_ours(namespace: dict[str, Any]) -> bool:
    """Whether a frame with these globals belongs to a driver, a policy or a wrapper."""
    return POLICY in namespace or namespace.get("__name__", "").startswith(
        ("resilient.drivers.", "resilient.policies.")
    )


def _attempt_at(frame: FrameType | None, block: tuple[int, Attempt] | None) -> Attempt | None:
    while frame is not None:
        if block is not None and id(frame) == block[0]:
            return block[1]
        read = _KNOWN.get(id(frame.f_code), _UNKNOWN).read
        if read is not None:
            return read(frame)
        policy = frame.f_globals.get(POLICY)
        if policy is not None:
            started = started_in(frame)
            return Attempt(policy, 1, None, started, started)
        frame = frame.f_back
    return None if block is None else block[1]
