"""Gates: what lets a call through, and hears what became of it.

A gate hands out a ticket before the call and takes it back after it, in one of three ways: the call returned,
raised, or never happened. The blocking and the async form differ only in how they wait for a ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from threading import get_ident
from types import FrameType
from typing import Any, Protocol

from resilient.core.events import CallRejected
from resilient.drivers.clock import CLOCK, SYSTEM, is_virtual
from resilient.drivers.loops.current import current_task, loop_runs
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import wrap_admitted, wrap_gated, wrap_scoped
from resilient.errors import Rejected
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import DEBUG

__all__ = ["NO_VALUE", "AsyncGate", "Entry", "Gate", "close_block", "gated", "in_event_loop", "open_block", "reject"]


class NoValue(Enum):
    """What a block comes to that names no result: no rule about results has a say."""

    NO_VALUE = "no value"

    def __str__(self) -> str:
        return self.value


NO_VALUE = NoValue.NO_VALUE


class Entry(Protocol):
    """How a ticket comes back."""

    def passed(self, ticket: Any, value: object, /) -> None:
        """The call returned."""
        ...

    def failed(self, ticket: Any, error: BaseException, /) -> None:
        """The call raised, or was cancelled; may raise an error of its own instead."""
        ...

    def forgotten(self, ticket: Any, /) -> None:
        """The call never happened."""
        ...


class Gate(Entry, Protocol):
    """The blocking form."""

    def enter(self) -> object:
        """A ticket, after waiting for it in this thread if the gate has a queue.

        Raises:
            Rejected: the call is not let through.
        """
        ...

    def enter_soon(self) -> object:
        """As ``enter``, where the call may turn out to be async: never blocks an event loop."""
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


# The tickets of open blocks, each with the thread and task that opened it, by the policy and the frame of the block: a
# shared policy holds nothing of any of them, and generators and tasks suspended inside a block are not mixed up.
_OPEN: dict[tuple[int, int], list[tuple[object, Any]]] = {}


def open_block(policy: object, ticket: object, frame: FrameType) -> None:
    """Keeps the ticket of a ``with`` block that begins in this frame."""
    _OPEN.setdefault((id(policy), id(_users(frame))), []).append((_owner(), ticket))


def close_block(policy: object, frame: FrameType) -> Any:
    """The ticket of the block that ends in this frame.

    A block may begin and end in different functions, of an ``ExitStack`` or of a class with an ``__enter__`` of its
    own: then it is the latest of this task that its own function did not end. A generator's may end in another task.

    Raises:
        RuntimeError: no block of this policy is open.
    """
    own, owner = (id(policy), id(_users(frame))), _owner()
    keys = [own, *[key for key in reversed(list(_OPEN)) if key[0] == own[0] and key != own]]
    for wanted in (owner, None):
        for key in keys:
            blocks = _OPEN.get(key, [])
            for place in range(len(blocks) - 1, -1, -1):
                if wanted is None or blocks[place][0] == wanted:
                    _, ticket = blocks.pop(place)
                    if not blocks:
                        del _OPEN[key]
                    return ticket
    raise RuntimeError(f"a block of {policy!r} ends that was never begun")


def _owner() -> tuple[int, int]:
    """The thread, and the task in it, by which this code runs."""
    return get_ident(), id(current_task())


def _users(frame: FrameType) -> FrameType:
    """The frame in whose block this is: an ``ExitStack`` enters and leaves from frames of its own."""
    while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
        frame = frame.f_back
    return frame
