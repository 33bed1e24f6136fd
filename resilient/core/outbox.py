"""What waits to be sent over a connection whose frames nobody acknowledges, and what became of it.

Every accepted frame has a number and is, at any time, exactly one of these::

    pending       it waits, is being handed to the pipe, or is in the pipe: its fate is open
    delivered     the other side took it out of the pipe
    dropped       it was given up before any of it was sent, by the rule for overflows or at the end
    unconfirmed   it was in the pipe when the connection was cut: nobody can know

    accepted = pending + delivered + dropped + unconfirmed

The pipe is all that lies between the writer and the other side's reads: what our own transport buffers, two kernels'
buffers, and those of any proxy between them. That our kernel took a frame says nothing: a reset throws away what
either side has not yet read. So being written never makes a frame delivered. Three things do:

1. Word from the other side. Streams keep their order, so whatever answers anything that was sent after a frame (a
   pong, a reply, the end of its stream after ours) has ``confirmed`` the frame and all before it.
2. Room in the pipe. It holds so many bytes at most; once that many were handed over after a frame, the frame is out
   at the other end, or they would not have fitted in. Asking for the ``next`` frame says that the last was.
3. A measure of the pipe. Where the driver can learn how much is still in it, it says what was ``flushed`` (a Unix
   socket's SIOCOUTQ counts what the peer has not read; TCP's only what its kernel has not got, so the peer's receive
   buffer comes on top).

A frame of which not every byte was handed over cannot have arrived whole: it goes out again, whole, on the next
connection, and so no frame is torn over two. That rests on the driver telling ``written`` before the last byte of a
frame is given to anything that may send it, and not giving it if the answer is False.

``resend`` makes a cut put the frames of the pipe back instead. Then none is lost, but some may come twice; if such a
frame is given up after all it is unconfirmed, not dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeAlias, TypeVar, cast, get_args

from resilient.core.duration import whole

__all__ = ["PIPE", "Outbox", "OutboxCounts", "OutboxPlan", "Overflow", "Refusal"]

T = TypeVar("T")

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "error"]
"""What happens to a frame for which there is no room."""

# What two Linux kernels hold at most unless told otherwise: 4 MiB to be sent and 6 MiB received (the last numbers of
# net.ipv4.tcp_wmem and tcp_rmem). Unix sockets hold far less. A proxy in between adds what it holds itself.
PIPE = (4 + 6) * 2**20
MAX_ITEMS = 1000
MAX_BYTES = 16 * 2**20


class Refusal(StrEnum):
    """Why a frame was not accepted."""

    FULL = "the outbox is full"  # "block": it may be offered again when there is room; "error": that is the answer
    TOO_LARGE = "it is larger than the whole outbox"


@dataclass(frozen=True, slots=True)
class OutboxPlan:
    """The settings of an outbox.

    Args:
        overflow: what happens to a frame for which there is no room: "block" and "error" refuse it, for the driver to
            wait or to raise; "drop_oldest" drops what has waited longest, "drop_newest" the new one itself.
        max_items: most frames that wait, >= 1.
        max_bytes: their most bytes, >= 1.
        pipe: most bytes that can be between the writer and the other side's reads, >= 0.
        resend: whether frames that were in the pipe when it was cut are sent again, which may double them.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Frames are sized as on the wire, header included. What a cut puts back to wait is never refused, and may exceed the
    bounds until it is sent. With ``resend`` frames in the pipe are kept too: up to ``pipe`` bytes more.
    """

    overflow: Overflow = "block"
    max_items: int = MAX_ITEMS
    max_bytes: int = MAX_BYTES
    pipe: int = PIPE
    resend: bool = False

    def __post_init__(self) -> None:
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}, got {self.overflow!r}")
        whole("max_items", self.max_items, least=1)
        whole("max_bytes", self.max_bytes, least=1)
        whole("pipe", self.pipe, least=0)
        if not isinstance(self.resend, bool):
            raise TypeError(f"resend must be True or False, got {self.resend!r}")


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """What became of the frames.

    Attributes:
        accepted: frames that got a number.
        delivered: frames that the other side has taken out of the pipe.
        pending: frames whose fate is open, those in the pipe included.
        dropped: frames that were given up unsent.
        unconfirmed: frames that were in a pipe when it was cut, and will not be sent again.
        in_pipe: frames that were written and may still be under way.
        resent: frames that were put back to be sent once more.
        refused: offers for which there was no room, and which got no number.
        waiting_bytes: bytes of the frames that wait.
    """

    accepted: int
    delivered: int
    pending: int
    dropped: int
    unconfirmed: int
    in_pipe: int
    resent: int
    refused: int
    waiting_bytes: int


class Item(Generic[T]):
    """A frame on its way.

    Attributes:
        frame: None once nobody needs it again.
        end: how many bytes had been written when it was, itself included.
        doubtful: whether it was in a pipe that was cut.
    """

    __slots__ = ("doubtful", "end", "frame", "number", "size")

    def __init__(self, number: int, frame: T, size: int) -> None:
        self.number = number
        self.frame: T | None = frame
        self.size = size
        self.end = 0
        self.doubtful = False


class Outbox(Generic[T]):
    """The frames of one connection and its successors, in order. Not thread-safe: the driver holds its lock.

    Args:
        plan: the settings.

    Numbers begin at 1. There is one writer at a time: that of an old connection has stopped before another asks for
    the ``next`` frame.
    """

    __slots__ = (
        "_accepted", "_bytes", "_delivered", "_dropped", "_dropped_news", "_hand", "_pipe", "_refused", "_resent",
        "_sent", "_unconfirmed", "_unconfirmed_news", "_waiting", "plan",
    )  # fmt: skip

    def __init__(self, plan: OutboxPlan) -> None:
        self.plan = plan
        self._waiting: deque[Item[T]] = deque()
        self._hand: deque[Item[T]] = deque()  # what the writer has taken
        self._pipe: deque[Item[T]] = deque()
        self._bytes = 0  # that wait
        self._sent = 0  # bytes written, to all pipes
        self._accepted = self._delivered = self._dropped = self._unconfirmed = self._resent = self._refused = 0
        self._dropped_news: list[int] = []
        self._unconfirmed_news: list[int] = []

    def offered(self, frame: T, size: int) -> int | Refusal:
        """The user wants a frame sent: its number, or why it is not accepted.

        Args:
            frame: what the writer will be given.
            size: its bytes on the wire, >= 1.

        A number does not mean that it stays: ask :meth:`take_dropped`.
        """
        fits = self.fits(size)
        if not fits:
            refusal = self._overflowed(size)
            if refusal is not None:
                self._refused += 1
                return refusal
            fits = self.plan.overflow == "drop_oldest"
        self._accepted = number = self._accepted + 1
        item = Item(number, frame, size)
        if fits:
            self._waiting.append(item)
            self._bytes += size
        else:
            self._drop(item)
        return number

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        return len(self._waiting) < self.plan.max_items and self._bytes + size <= self.plan.max_bytes

    def next(self) -> tuple[int, T] | None:
        """The number and frame to write next, which is in the writer's hand from now on; None if nothing waits.

        To ask says that all that was written before has been handed over.
        """
        self._settle(self._sent - self.plan.pipe)
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        self._bytes -= item.size
        self._hand.append(item)
        return item.number, cast("T", item.frame)

    def written(self, number: int) -> bool:
        """The frame in hand is about to be handed over whole; frames are in the order in which they were taken.

        Returns:
            False if it is in nobody's hand, since the connection was cut: its last byte must not be handed over.
        """
        if not self._hand or self._hand[0].number != number:
            return False
        item = self._hand.popleft()
        self._sent += item.size
        item.end = self._sent
        if not self.plan.resend:
            item.frame = None
        self._pipe.append(item)
        return True

    def confirmed(self, number: int) -> None:
        """The other side is known to have this frame of the present connection, and so all that were sent before."""
        pipe = self._pipe
        while pipe and pipe[0].number <= number:
            pipe.popleft()
            self._delivered += 1

    def flushed(self, left: int = 0) -> None:
        """The other side has taken all that was handed over, but for the last so many bytes at most."""
        self._settle(self._sent - left)

    def cut(self) -> None:
        """The connection was lost: what was in the pipe is unconfirmed, or waits once more, ahead of all others."""
        self._put_back(self._hand)
        if self.plan.resend:
            self._resent += len(self._pipe)
            for item in self._pipe:
                item.doubtful = True
            self._put_back(self._pipe)
        self._close_pipe()

    def abandoned(self) -> None:
        """The connection was given up for good: nothing is pending any more."""
        self._put_back(self._hand)
        self._close_pipe()
        for item in self._waiting:
            self._drop(item)
        self._waiting.clear()
        self._bytes = 0

    def take_dropped(self) -> list[int]:
        """The numbers of frames dropped since the last time. The driver takes them after each step."""
        taken, self._dropped_news = self._dropped_news, []
        return taken

    def take_unconfirmed(self) -> list[int]:
        """The numbers of frames found to be unconfirmed since the last time. The driver takes them after each step."""
        taken, self._unconfirmed_news = self._unconfirmed_news, []
        return taken

    @property
    def drained(self) -> bool:
        """Whether every accepted frame has been handed over or given up."""
        return not (self._waiting or self._hand)

    def counts(self) -> OutboxCounts:
        """What became of the frames so far."""
        return OutboxCounts(
            accepted=self._accepted,
            delivered=self._delivered,
            pending=len(self._waiting) + len(self._hand) + len(self._pipe),
            dropped=self._dropped,
            unconfirmed=self._unconfirmed,
            in_pipe=len(self._pipe),
            resent=self._resent,
            refused=self._refused,
            waiting_bytes=self._bytes,
        )

    def _overflowed(self, size: int) -> Refusal | None:
        """Why the frame cannot be accepted; None if it can: now there is room, or it will be dropped itself."""
        if size > self.plan.max_bytes:
            return Refusal.TOO_LARGE
        if self.plan.overflow in ("block", "error"):
            return Refusal.FULL
        if self.plan.overflow == "drop_oldest":
            while not self.fits(size):
                item = self._waiting.popleft()
                self._bytes -= item.size
                self._drop(item)
        return None

    def _put_back(self, items: deque[Item[T]]) -> None:
        self._bytes += sum(item.size for item in items)
        self._waiting.extendleft(reversed(items))
        items.clear()

    def _close_pipe(self) -> None:
        for item in self._pipe:
            self._doubt(item)
        self._pipe.clear()

    def _drop(self, item: Item[T]) -> None:
        if item.doubtful:  # it was sent once, and may have arrived
            self._doubt(item)
            return
        self._dropped += 1
        self._dropped_news.append(item.number)

    def _doubt(self, item: Item[T]) -> None:
        self._unconfirmed += 1
        self._unconfirmed_news.append(item.number)

    def _settle(self, end: int) -> None:
        """Whatever ends by this byte of all written has been taken out of the pipe."""
        pipe = self._pipe
        while pipe and pipe[0].end <= end:
            pipe.popleft()
            self._delivered += 1
