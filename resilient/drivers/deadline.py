"""The deadline that is passed inward: whatever runs under a limit of time can read when it ends.

It travels by context variable, so tasks that a call starts inherit it. (Threads do where their starter copies the
context, as ``asyncio.to_thread`` does.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

from resilient.core.run import Plan
from resilient.drivers.clock import CLOCK

__all__ = ["DEADLINE", "Deadline", "current_deadline", "lift", "limiting"]

DEADLINE: ContextVar[float | None] = ContextVar("resilient.deadline", default=None)


class Deadline(float):
    """A monotonic instant, seconds, at which the innermost limit of time around this code ends."""

    __slots__ = ()

    @property
    def remaining(self) -> float:
        """Seconds left, >= 0: hand this to the client that does the waiting."""
        return max(0.0, self - CLOCK.get().now())


def lift(token: Token[float | None]) -> None:
    """Takes a deadline off."""
    try:  # noqa: SIM105  # not suppress: that is a call, on the success path
        DEADLINE.reset(token)
    except ValueError:
        pass  # an async generator closed by another task ends in that task's context


def limiting(plan: Plan) -> Callable[[float], Token[float | None]]:
    """What sets the deadline of a first attempt, told when the call began; gives the token that takes it off."""
    limits = [limit for limit in (plan.timeout, plan.attempt_timeout) if limit is not None]
    least = min(limits)

    def limit(started: float) -> Token[float | None]:
        deadline, outer = started + least, DEADLINE.get()
        return DEADLINE.set(deadline if outer is None or deadline < outer else outer)

    return limit


def current_deadline() -> Deadline | None:
    """When the policies around this code want it to be over; None if none of them limits its time.

    Set by ``Timeout`` and by ``Retry`` with a ``timeout`` or ``attempt_timeout``; inner limits never reach beyond
    outer ones.
    """
    deadline = DEADLINE.get()
    return None if deadline is None else Deadline(deadline)
