"""The book of open ``with`` blocks, so that a shared policy holds nothing of any of them."""

from __future__ import annotations

from threading import get_ident
from types import FrameType
from typing import Any

from resilient.drivers.loops.current import current_task

__all__ = ["close_block", "open_block"]

# The tickets of open blocks, by the policy and the thread and task that opened them, and within that by the frame of
# the block: a shared policy holds nothing of any of them, and generators and tasks suspended inside a block are not
# mixed up.
_OPEN: dict[tuple[int, int, int], dict[int, list[Any]]] = {}


def open_block(policy: object, ticket: object, frame: FrameType) -> None:
    """Keeps the ticket of a ``with`` block that begins in this frame."""
    owned = _OPEN.setdefault((id(policy), get_ident(), id(current_task())), {})
    owned.setdefault(id(_users(frame)), []).append(ticket)


def close_block(policy: object, frame: FrameType) -> Any:
    """The ticket of the block that ends in this frame.

    A block may begin and end in different functions, of an ``ExitStack`` or of a class with an ``__enter__`` of its
    own: then it is the latest of this task that its own function did not end. A generator's may end in another task.

    Raises:
        RuntimeError: no block of this policy is open.
    """
    owner, own = (id(policy), get_ident(), id(current_task())), id(_users(frame))
    owned = _OPEN.get(owner)
    if owned is None:
        owner, owned = _elsewhere(policy, own)
    if own not in owned:
        own = next(reversed(owned))
    tickets = owned[own]
    ticket = tickets.pop()
    if not tickets:
        del owned[own]
        if not owned:
            del _OPEN[owner]
    return ticket


def _elsewhere(policy: object, frame: int) -> tuple[tuple[int, int, int], dict[int, list[Any]]]:
    """The blocks of another thread or task, which this frame was in before; else those begun last."""
    others = [(owner, owned) for owner, owned in reversed(list(_OPEN.items())) if owner[0] == id(policy)]
    if not others:
        raise RuntimeError(f"a block of {policy!r} ends that was never begun")
    return next((other for other in others if frame in other[1]), others[0])


def _users(frame: FrameType) -> FrameType:
    """The frame in whose block this is: an ``ExitStack`` enters and leaves from frames of its own."""
    while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
        frame = frame.f_back
    return frame
