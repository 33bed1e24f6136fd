"""Gates: what lets a call through, and hears what became of it.

A gate hands out a ticket before the call and takes it back after it, in one of three ways: the call returned,
raised, or never happened. The blocking and the async form differ only in how they wait for a ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Protocol

from resilient.core.events import CallRejected
from resilient.drivers.clock import CLOCK, SYSTEM, is_virtual
from resilient.drivers.loops.current import loop_runs
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import wrap_admitted, wrap_gated, wrap_scoped
from resilient.errors import Rejected
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import DEBUG

__all__ = ["NO_VALUE", "AsyncGate", "Entry", "Gate", "gated", "in_event_loop", "reject"]


class NoValue(Enum):
    """What a block comes to that names no result: no rule about results has a say."""

    NO_VALUE = "no value"

    def __str__(self) -> str:
        return self.value


NO_VALUE = NoValue.NO_VALUE


class Entry(Protocol):
    """How a ticket comes back."""

    def on_success(self, ticket: Any, value: object, /) -> None:
        """The call returned this value."""
        ...

    def on_failure(self, ticket: Any, error: BaseException, /) -> None:
        """The call raised, or was cancelled; may raise an error of its own instead."""
        ...

    def release(self, ticket: Any, /) -> None:
        """The call never happened."""
        ...


class Gate(Entry, Protocol):
    """The blocking form of a gate."""

    def enter(self) -> object:
        """A ticket, after waiting for it in this thread if the gate has a queue.

        Raises:
            Rejected: the call is not let through.
        """
        ...

    def enter_soon(self) -> object:
        """A ticket as by ``enter``, where the call may turn out to be async: never blocks an event loop."""
        ...


class AsyncGate(Entry, Protocol):
    """The async form, on any event loop."""

    def ready(self) -> object | None:
        """A ticket that can be had at once; None if it has to be waited for.

        Raises:
            Rejected: the call is not let through.
        """
        ...

    async def join(self) -> object:
        """A ticket, after waiting for it.

        Raises:
            Rejected: the call is not let through.
        """
        ...


def gated(
    call: Callable[..., Any],
    gate: Gate,
    async_gate: AsyncGate,
    kind: Kind,
    *,
    hears: bool = True,
    leave: Callable[[Any], object] | None = None,
) -> Callable[..., Any]:
    """A callable behind a gate.

    Args:
        call: what is guarded.
        gate: its blocking form.
        async_gate: its async form.
        kind: what calling gives.
        hears: whether the gate wants its tickets back.
        leave: takes a ticket of the blocking form back, if it is all the same what became of the call.
    """
    if kind is Kind.EITHER:
        return wrap_gated(call, gate, kind=kind, adopt=_Adoption(getattr(gate, "adopted", async_gate)))
    if kind is Kind.SYNC and leave is not None:
        return wrap_scoped(call, gate.enter, leave)
    form = async_gate if kind is Kind.ASYNC else gate
    return wrap_gated(call, form, kind=kind) if hears else wrap_admitted(call, form, kind=kind)


class _Adoption:
    """Lets a coroutine, already made by its call, through a gate when it is awaited."""

    def __init__(self, gate: AsyncGate) -> None:
        self._run = wrap_gated(_awaited, gate, kind=Kind.ASYNC)

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        return self._outer(coroutine)

    async def _outer(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await self._run(coroutine)
        finally:
            coroutine.close()  # where the gate rejected it: it will never be awaited


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def in_event_loop() -> bool:
    """Whether blocking this thread would block an event loop (virtual time passes without blocking)."""
    clock = CLOCK.get()
    return loop_runs() and (clock is SYSTEM or not is_virtual(clock))


def reject(error: Rejected, policy: str, listeners: tuple[Listener, ...]) -> Rejected:
    """A rejection, told to whoever listens; to be raised.

    Args:
        error: the rejection, with the policy's name if it has one.
        policy: the kind of policy, such as "CircuitBreaker".
        listeners: the policy's own.
    """
    heard = hearers(listeners, DEBUG)
    if heard:
        retry_at = None if error.retry_after is None else CLOCK.get().now() + error.retry_after
        tell(CallRejected(error.name or policy, 0.0, policy, error, retry_at), heard)
    return error
