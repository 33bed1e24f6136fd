"""A gate that keeps a book, for tests of whatever goes through gates."""

from __future__ import annotations

import asyncio

from resilient import current_deadline
from resilient.drivers.blocks.levels import BlockGate

__all__ = ["Book", "part"]


class Book:
    """A gate, either form, that notes what it is told; a ticket is a number, and comes back once.

    Args:
        refusals: what its first entries raise, in turn; None lets one through, as all that follow.
        joins: whether tickets of the async form have to be waited for.
        broken: raised wherever it is told what became of a call.

    Attributes:
        story: how tickets were had and how they came back, in order.
        ended: of those, how they came back.
        open: the tickets that are out.
        given: how many there were.
        deadlines: what each entry could read.
    """

    def __init__(
        self, *refusals: BaseException | None, joins: bool = False, broken: BaseException | None = None
    ) -> None:
        self.refusals = list(refusals)
        self.joins = joins
        self.broken = broken
        self.story: list[str] = []
        self.ended: list[str] = []
        self.open: set[int] = set()
        self.given = 0
        self.deadlines: list[float | None] = []

    def enter(self) -> int:
        return self.admit("enter")

    def enter_soon(self) -> int:
        return self.admit("enter soon")

    def ready(self) -> int | None:
        return None if self.joins else self.admit("ready")

    async def join(self) -> int:
        await asyncio.sleep(0)
        return self.admit("join")

    def on_success(self, ticket: int, value: object) -> None:
        self._told(ticket, f"passed {value}")

    def on_failure(self, ticket: int, error: BaseException) -> None:
        self._told(ticket, f"failed {type(error).__name__}")

    def release(self, ticket: int) -> None:
        self._back(ticket, "forgotten")

    def left(self, ticket: int) -> None:
        """For those that take a ticket back and nothing else."""
        self._back(ticket, "left")

    def admit(self, how: str) -> int:
        """What all ways in come down to."""
        self.deadlines.append(current_deadline())
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        self.given += 1
        self.open.add(self.given)
        self.story.append(how)
        return self.given

    def _told(self, ticket: int, what: str) -> None:
        self._back(ticket, what)
        if self.broken is not None:
            raise self.broken

    def _back(self, ticket: int, what: str) -> None:
        self.open.remove(ticket)
        self.story.append(what)
        self.ended.append(what)


def part(book: Book) -> BlockGate:
    """A book as a layer of a block."""
    return BlockGate(book, book)
