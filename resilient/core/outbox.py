"""What waits to be sent over a connection whose frames nobody acknowledges, and what became of it.

Every accepted frame has a number and is, at any time, exactly one of these::

    pending       it waits, is being handed to the pipe, or is in the pipe: its fate is open
    delivered     the other side took it out of the pipe
    dropped       it was given up before all of it was sent: by the rule for overflows, at the end, or since so many
                  connections in a row were cut while it was being handed over that the other side must refuse it
    unconfirmed   it was in the pipe when the connection was cut: nobody can know

    accepted = pending + delivered + dropped + unconfirmed

The pipe is all that lies between the writer and the other side's reads: what our own transport buffers, two kernels'
buffers, and those of any proxy between them. That our kernel took a frame says nothing: a reset throws away what
either side has not yet read. So being written never makes a frame delivered. Three things do:

1. Word from the other side. Streams keep their order, so whatever answers anything that was sent after a frame (a
   pong, a reply, the end of its stream after ours) has ``confirmed`` the frame and all before it.
2. Room in the pipe. It holds so many bytes at most; once that many were handed over after a frame, the frame is out
   at the other end, or they would not have fitted in. Writing says that what was written before has been handed over.
3. A measure of the pipe. Where the driver can learn that nothing is left in it, it says that it is ``flushed`` (a Unix
   socket's SIOCOUTQ counts what the peer has not read; TCP's only what its kernel has not got, so the peer's receive
   buffer comes on top).

The writer takes batches. One of which not every byte was handed over cannot have arrived whole: it goes out again,
whole, on the next connection, and so no frame is torn over two. That rests on the driver telling ``written`` before the
last byte of a batch is given to anything that may send it, and not giving it if the answer is False.

``resend`` makes a cut put the frames of the pipe back instead. Then none is lost, but some may come twice; if such a
frame is given up after all it is unconfirmed, not dropped.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from resilient.core.outbox_plan import PIPE, OutboxPlan

__all__ = ["CUTS", "Batch", "Outbox", "OutboxCounts", "Refusal"]

T = TypeVar("T")

# Small batches in the pipe are counted together, up to this part of it: so a full one is some dozens of things to keep,
# not a hundred thousand, and its frames count as delivered by so much later at most.
PARTS = 64
# Cuts in a row with the same single frame in hand, after which it is given up: the other side's limit may be smaller
# than ours, and then it would cut every connection for it, and no frame behind it would ever be sent.
CUTS = 5


class Refusal(StrEnum):
    """Why a frame was not accepted."""

    FULL = "the outbox is full"  # "block": it may be offered again when there is room; "error": that is the answer
    TOO_LARGE = "it is larger than the whole outbox"


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


class Batch:
    """Frames for the writer, in order.

    Attributes:
        numbers: theirs.
        frames: as they go over the wire.
        size: their bytes.
    """

    __slots__ = ("frames", "numbers", "size")

    def __init__(self, numbers: list[int], frames: list[bytes], size: int) -> None:
        self.numbers = numbers
        self.frames = frames
        self.size = size


class Stretch:
    """Batches that are in the pipe, one behind the other.

    Args:
        limit: to where it may reach.

    Attributes:
        numbers: of their frames.
        frames: empty, unless they may be sent again.
        end: how many bytes had been written when the last of these were.
    """

    __slots__ = ("end", "frames", "limit", "numbers")

    def __init__(self, limit: int) -> None:
        self.numbers = array("Q")
        self.frames: list[bytes] = []
        self.limit = limit
        self.end = 0


class Outbox:
    """The frames of one connection and its successors, in order. Not thread-safe: the driver holds its lock.

    Args:
        plan: the settings.

    Numbers begin at 1. There is one writer at a time: that of an old connection has stopped before another asks for
    the ``next_batch``.
    """

    __slots__ = (
        "_accepted", "_bytes", "_cuts", "_delivered", "_dropped", "_dropped_news", "_frames", "_hand", "_latest",
        "_numbers", "_part", "_pipe", "_refused", "_resent", "_room", "_sent", "_stuck", "_unconfirmed",
        "_unconfirmed_news", "plan",
    )  # fmt: skip

    def __init__(self, plan: OutboxPlan) -> None:
        self.plan = plan
        self._numbers: deque[int] = deque()  # of the frames that wait
        self._frames: deque[bytes] = deque()  # those
        self._bytes = 0  # of them
        self._hand: Batch | None = None  # what the writer has taken
        self._pipe: deque[Stretch] = deque()
        self._room = PIPE if plan.pipe is None else plan.pipe
        self._part = self._room // PARTS
        self._sent = 0  # bytes written, to all pipes
        self._latest = 0  # number of the last frame that was ever written
        self._accepted = self._delivered = self._dropped = self._unconfirmed = self._resent = self._refused = 0
        self._stuck = self._cuts = 0  # the frame that was in hand at the last cuts, and how many they were
        self._dropped_news: list[int] = []
        self._unconfirmed_news: list[int] = []

    def offered(self, frame: bytes) -> int | Refusal:
        """The user wants a frame sent: its number, or why it is not accepted.

        Args:
            frame: as it goes over the wire; not empty.

        A number does not mean that it stays: ask :meth:`take_dropped`.
        """
        plan, after = self.plan, self._bytes + len(frame)
        if len(self._frames) >= plan.max_items or after > plan.max_bytes:
            return self._overflowed(frame)
        self._accepted = number = self._accepted + 1
        self._numbers.append(number)
        self._frames.append(frame)
        self._bytes = after
        return number

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        return len(self._frames) < self.plan.max_items and self._bytes + size <= self.plan.max_bytes

    def next_batch(self, limit: int) -> Batch | None:
        """What to write next, which is in the writer's hand from now on; None if nothing waits.

        Args:
            limit: most bytes; a frame that is larger comes alone.
        """
        assert self._hand is None  # written() comes first, or cut()
        if not self._frames:
            return None
        count = len(self._frames) if self._bytes <= limit else self._fitting(limit)
        numbers, frames = _taken(self._numbers, count), _taken(self._frames, count)
        size = sum(map(len, frames))
        self._bytes -= size
        self._hand = batch = Batch(numbers, frames, size)
        return batch

    def written(self, batch: Batch) -> bool:
        """The batch in hand is about to be handed over whole; whatever was written before it has been.

        Returns:
            False if it is in nobody's hand, since the connection was cut: its last byte must not be handed over.
        """
        if batch is not self._hand:
            return False
        self._hand = None
        sent, pipe = self._sent + batch.size, self._pipe
        if not pipe or sent > pipe[-1].limit:
            self._begin_stretch()
        stretch = pipe[-1]
        stretch.numbers.extend(batch.numbers)
        if self.plan.resend:
            stretch.frames += batch.frames
        self._sent = stretch.end = sent
        self._latest = max(self._latest, batch.numbers[-1])
        return True

    def passed(self, frame: bytes) -> int | None:
        """The user wants a frame sent, and the writer is about to hand it over: accepted and written in one step.

        Returns:
            its number; None if it has to be offered: others wait or are in hand, or it is too large.
        """
        plan, size, pipe = self.plan, len(frame), self._pipe
        if self._frames or self._hand is not None or size > plan.max_bytes:
            return None
        sent = self._sent + size
        if not pipe or sent > pipe[-1].limit:
            self._begin_stretch()
        stretch = pipe[-1]
        self._accepted = self._latest = number = self._accepted + 1
        stretch.numbers.append(number)
        if plan.resend:
            stretch.frames.append(frame)
        self._sent = stretch.end = sent
        return number

    def confirmed(self, number: int) -> None:
        """The other side is known to have this frame of the present connection, and so all that were sent before."""
        pipe = self._pipe
        while pipe and pipe[0].numbers[-1] <= number:
            self._delivered += len(pipe.popleft().numbers)
        if pipe:
            first = pipe[0]
            count = bisect_right(first.numbers, number)
            del first.numbers[:count], first.frames[:count]
            self._delivered += count

    def flushed(self) -> None:
        """The other side has taken all that was handed over."""
        self._settle(self._sent)

    def cut(self) -> int:
        """The connection was lost: what was in the pipe is unconfirmed, or waits once more, ahead of all others.

        Returns:
            the number of the frame that is given up, since it was in hand at so many cuts in a row; 0 if none is.
        """
        refused = self._refused_in_hand()
        self._empty_hand()
        if self.plan.resend:
            while self._pipe:
                stretch = self._pipe.pop()
                self._resent += len(stretch.numbers)
                self._put_back(stretch.numbers, stretch.frames)
        self._close_pipe()
        return refused

    def abandoned(self) -> None:
        """The connection was given up for good: nothing is pending any more."""
        self._empty_hand()
        self._close_pipe()
        for number in self._numbers:
            self._drop(number)
        self._numbers.clear()
        self._frames.clear()
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
    def last(self) -> int:
        """Number of the last frame that was written, if it is in the pipe; 0 if nothing is."""
        return self._pipe[-1].numbers[-1] if self._pipe else 0

    @property
    def has_news(self) -> bool:
        """Whether there are numbers to be taken."""
        return bool(self._dropped_news or self._unconfirmed_news)

    @property
    def drained(self) -> bool:
        """Whether every accepted frame has been handed over or given up."""
        return not self._frames and self._hand is None

    def counts(self) -> OutboxCounts:
        """What became of the frames so far."""
        in_pipe = sum(len(stretch.numbers) for stretch in self._pipe)
        in_hand = 0 if self._hand is None else len(self._hand.numbers)
        return OutboxCounts(
            accepted=self._accepted,
            delivered=self._delivered,
            pending=len(self._numbers) + in_hand + in_pipe,
            dropped=self._dropped,
            unconfirmed=self._unconfirmed,
            in_pipe=in_pipe,
            resent=self._resent,
            refused=self._refused,
            waiting_bytes=self._bytes,
        )

    def _overflowed(self, frame: bytes) -> int | Refusal:
        """There is no room for a frame: what becomes of it."""
        size, overflow = len(frame), self.plan.overflow
        if size > self.plan.max_bytes or overflow in ("block", "error"):
            self._refused += 1
            return Refusal.TOO_LARGE if size > self.plan.max_bytes else Refusal.FULL
        if overflow == "drop_oldest":
            while not self.fits(size):
                self._bytes -= len(self._frames.popleft())
                self._drop(self._numbers.popleft())
            return self.offered(frame)
        self._accepted += 1
        self._drop(self._accepted)
        return self._accepted

    def _fitting(self, limit: int) -> int:
        """How many of the frames that wait, of which not all fit, make the next batch."""
        frames = iter(self._frames)
        size, count = len(next(frames)), 1
        while (size := size + len(next(frames, b""))) <= limit:
            count += 1
        return count

    def _begin_stretch(self) -> None:
        self._settle(self._sent - self._room)
        self._pipe.append(Stretch(self._sent + self._part))

    def _refused_in_hand(self) -> int:
        """Gives the frame in hand up if it was there at too many cuts; its number, or 0."""
        batch = self._hand
        if batch is None or len(batch.numbers) > 1:
            self._stuck = self._cuts = 0
            return 0
        (number,) = batch.numbers
        self._cuts = self._cuts + 1 if number == self._stuck else 1
        self._stuck = number
        if self._cuts < CUTS:
            return 0
        self._hand = None
        self._drop(number)
        return number

    def _empty_hand(self) -> None:
        batch, self._hand = self._hand, None
        if batch is not None:
            self._put_back(batch.numbers, batch.frames)

    def _put_back(self, numbers: Sequence[int], frames: list[bytes]) -> None:
        self._numbers.extendleft(reversed(numbers))
        self._frames.extendleft(reversed(frames))
        self._bytes += sum(map(len, frames))

    def _close_pipe(self) -> None:
        for stretch in self._pipe:
            self._unconfirmed += len(stretch.numbers)
            self._unconfirmed_news += stretch.numbers
        self._pipe.clear()

    def _drop(self, number: int) -> None:
        if number <= self._latest:  # it was sent once, and may have arrived
            self._unconfirmed += 1
            self._unconfirmed_news.append(number)
        else:
            self._dropped += 1
            self._dropped_news.append(number)

    def _settle(self, end: int) -> None:
        """Whatever ends by this byte of all written has been taken out of the pipe."""
        pipe = self._pipe
        while pipe and pipe[0].end <= end:
            self._delivered += len(pipe.popleft().numbers)


def _taken(queue: deque[T], count: int) -> list[T]:
    """So many from its left end."""
    if count < len(queue):
        return [queue.popleft() for _ in range(count)]
    taken = list(queue)
    queue.clear()
    return taken
