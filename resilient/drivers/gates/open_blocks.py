"""The book of open ``with`` blocks, so that a shared policy holds nothing of any of them."""

from __future__ import annotations

from threading import get_ident
from types import FrameType
from typing import Any

from resilient.drivers.loops.current import current_task

__all__ = ["close_block", "open_block"]

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
