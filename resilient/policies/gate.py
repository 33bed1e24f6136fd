"""Policies that are gates: they let a call through, or not, and hear what became of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self

from resilient.core.events import CallRejected, Entered, TimedOut
from resilient.drivers.blocks.levels import BlockGate, Part
from resilient.drivers.clock import CLOCK
from resilient.drivers.gates.gate import NO_VALUE, AsyncGate, Gate, gated
from resilient.drivers.gates.open_blocks import close_block, open_block
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import PolicyTimeout, Rejected
from resilient.observe.listeners import Listener, tell
from resilient.policies.policy import Policy

__all__ = ["GatePolicy"]


class GatePolicy(Policy):
    """A policy that is also a plain context manager: ``with policy:``, ``async with policy:``.

    A subclass has the two forms of its gate.
    """

    __slots__ = ()

    name: str

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        raise NotImplementedError

    @property
    def hears(self) -> bool:
        """Whether the gate has to know what became of a call."""
        return True

    @property
    def leave(self) -> Callable[[Any], object] | None:
        """Takes a ticket of the blocking form back, if it is all the same what became of the call."""
        return None

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind."""
        gate, async_gate = self.gates
        if listeners:
            told = self.name or self.kind, self.kind, listeners
            return gated(call, _Noted(gate, *told), _Noted(async_gate, *told), kind)
        return gated(call, gate, async_gate, kind, hears=self.hears, leave=self.leave)

    def parts(self) -> tuple[Part, ...]:
        """What the block form is made of."""
        return (BlockGate(*self.gates),)

    def __enter__(self) -> Self:
        open_block(self, self.gates[0].enter(), sys._getframe(1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave(self.gates[0], close_block(self, sys._getframe(1)), error)

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        return self._enter_async(sys._getframe(1))

    async def _enter_async(self, frame: FrameType) -> Self:
        gate = self.gates[1]
        ticket = gate.ready()
        open_block(self, await gate.join() if ticket is None else ticket, frame)
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self._leave_async(error, sys._getframe(1))

    async def _leave_async(self, error: BaseException | None, frame: FrameType) -> None:
        try:
            _leave(self.gates[1], close_block(self, frame), error)
        finally:
            del error, frame  # a frame that holds the error it raised is a cycle


def _leave(gate: Gate | AsyncGate, ticket: object, error: BaseException | None) -> None:
    if error is None:
        gate.on_success(ticket, NO_VALUE)
    else:
        gate.on_failure(ticket, error)


class _Noted:
    """A gate, either form, that tells one call's timeline what it does."""

    def __init__(self, gate: Any, name: str, policy: str, listeners: tuple[Listener, ...]) -> None:
        self._gate = gate
        self._name = name
        self._policy = policy
        self._listeners = listeners
        self.on_success = gate.on_success
        self.release = gate.release
        adopted = getattr(gate, "adopted", None)
        if adopted is not None:
            self.adopted = adopted  # its entry was told when the call was made

    def enter(self) -> Any:
        return self._noted(self._gate.enter)

    def enter_soon(self) -> Any:
        return self._noted(self._gate.enter_soon)

    def ready(self) -> Any:
        return self._noted(self._gate.ready)

    async def join(self) -> Any:
        try:
            ticket = await self._gate.join()
        except Rejected as error:
            self._rejected(error)
            raise
        tell(Entered(self._name, 0.0, self._policy), self._listeners)
        return ticket

    def on_failure(self, ticket: object, error: BaseException) -> None:
        try:
            self._gate.on_failure(ticket, error)
        except PolicyTimeout as exceeded:
            tell(TimedOut(self._name, 0.0, exceeded), self._listeners)
            raise

    def _noted(self, enter: Callable[[], Any]) -> Any:
        try:
            ticket = enter()
        except Rejected as error:
            self._rejected(error)
            raise
        except PolicyTimeout as exceeded:
            tell(TimedOut(self._name, 0.0, exceeded), self._listeners)
            raise
        if ticket is not None:
            tell(Entered(self._name, 0.0, self._policy), self._listeners)
        return ticket

    def _rejected(self, error: Rejected) -> None:
        retry_at = None if error.retry_after is None else CLOCK.get().now() + error.retry_after
        tell(CallRejected(self._name, 0.0, self._policy, error, retry_at), self._listeners)
