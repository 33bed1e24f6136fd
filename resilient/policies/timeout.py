"""Timeout: a limit of time around a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypedDict, Unpack

from resilient.core.duration import Duration, seconds
from resilient.core.setting_errors import SettingTypeError, checked_name
from resilient.drivers.blocks.attempts import Attempts
from resilient.drivers.blocks.levels import BlockLimit, Part
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.drivers.gates.open_blocks import open_block
from resilient.drivers.gates.timeout import AsyncTimeLimit, TimeLimit, call_in_worker
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import wrap_eager
from resilient.errors import AttemptTimeout, DeadlineExceeded, PolicyTimeout
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.gate import GatePolicy
from resilient.policies.policy import Policy

__all__ = ["Timeout"]


class TimeoutSettings(TypedDict, total=False):
    """The settings of a Timeout, as ``with_`` takes them."""

    seconds: Duration
    worker: bool
    name: str
    listeners: tuple[Listener, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Timeout(GatePolicy):
    """Limits the time of a call, and of everything it calls.

    Async code is cancelled at the limit, cleans up, and the caller gets the error. Blocking code cannot be
    stopped from outside: it reads ``current_deadline()`` and hands what remains to the client that does the waiting;
    ``Retry``, ``RateLimiter`` and ``Bulkhead`` inside do so by themselves. The error is
    :class:`~resilient.DeadlineExceeded`, or :class:`~resilient.AttemptTimeout` inside a pipeline's ``Retry``, which
    tries again. A function's own ``TimeoutError`` stays its own.

    Args:
        seconds: the limit, > 0. An outer limit that ends earlier holds as well.
        worker: runs blocking calls in a daemon thread each, so that the caller gets its error at the limit. The call
            itself goes on in that thread until it ends by itself, with whatever it holds: its effects may still
            happen, and calls that never end pile up. For functions that no other limit reaches: async code is cancelled
            where it runs, and a blocking block, which cannot move to a thread, is refused with a TypeError.
        name: for events.
        listeners: functions that are told every event of this policy.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.
    """

    seconds: Duration
    worker: bool = field(default=False, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    error: type[PolicyTimeout] = field(default=DeadlineExceeded, kw_only=True, repr=False, compare=False)
    gate: TimeLimit = field(init=False, compare=False, repr=False)
    async_gate: AsyncTimeLimit = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        fix(self, "seconds", limit := seconds("seconds", self.seconds, above=True))
        fix(self, "listeners", checked_listeners(self.listeners))
        checked_name(self.name)
        if not isinstance(self.worker, bool):
            raise SettingTypeError("worker", f"must be True or False, got {self.worker!r}")
        fix(self, "gate", TimeLimit(limit, self.error, self.name or self.kind, self.listeners))
        fix(self, "async_gate", AsyncTimeLimit(self.gate))

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind."""
        guarded = GatePolicy.guard(self, call, kind, listeners)
        if not self.worker or kind is Kind.ASYNC:
            return guarded
        limit = TimeLimit(self.gate.seconds, self.error, self.gate.name, (*self.listeners, *listeners))
        return wrap_eager(call, partial(call_in_worker, limit, guarded), kind=kind)

    @property
    def leave(self) -> Callable[[Any], object]:
        """Takes a ticket back: it is all the same what became of the call."""
        return DEADLINE.reset

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.async_gate

    def with_(self, **changes: Unpack[TimeoutSettings]) -> Timeout:
        """A copy with some settings changed."""
        return replace(self, **changes)

    def of_attempts(self) -> Timeout:
        """The limit inside a Retry: what it cuts off is one attempt."""
        return replace(self, error=AttemptTimeout)

    def __enter__(self) -> Self:
        self.check_blocking()
        open_block(self, self.gate.enter(), sys._getframe(1))
        return self

    def __iter__(self) -> Attempts:
        """The block form: ``for attempt in policy:`` ``with attempt: ...``"""
        self.check_blocking()
        return Policy.__iter__(self)

    def check_blocking(self) -> None:
        """Checks whether a blocking block can be guarded.

        Raises:
            TypeError: it would need a worker.
        """
        if self.worker:
            raise TypeError(
                f"Timeout({self.gate.seconds:g}, worker=True) cannot guard a blocking block, which cannot move to a "
                "thread: make it a function, for @policy or policy.call(fn), or leave worker out and hand "
                "current_deadline().remaining to whatever waits"
            )

    def parts(self) -> tuple[Part, ...]:
        """What the block form is made of."""
        return (BlockLimit(self.gate),)
