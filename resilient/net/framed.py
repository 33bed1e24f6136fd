"""What the framed clients for tasks and for threads share: the letters that wait, in both directions.

A :class:`Post` is the one thing of a client that any thread touches: what is to be sent (the outbox), what has come
and nobody has taken yet (the inbox), and who waits for room, for a frame or for the end. Its lock is held for a few
assignments at a time; whoever waits is woken after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.events import Event, Panic
from resilient.core.frames import FrameTooLarge, encode
from resilient.core.link import State
from resilient.core.outbox import Outbox, OutboxPlan, Refusal
from resilient.core.rule import Rule
from resilient.errors import ManagerClosed, NotConnected, Rejected
from resilient.net.manager_plan import ManagerStats
from resilient.observe.listeners import Listener, tell

__all__ = [
    "BATCH", "MOST_BYTES", "MOST_FRAMES", "ON", "FrameTooLarge", "FramedStats", "Numbers", "OutboxFull", "OutboxPlan",
    "Post", "panics_only", "refuse_trio",
]  # fmt: skip

# What trouble calls for: all that a network does, and a peer that speaks another language, may mend itself.
ON = Classifier(Rule((OSError, EOFError, FrameTooLarge), Action.RECONNECT))

BATCH = 65536  # bytes handed over at once: asyncio's own mark for a transport that has enough
# What our side holds of what was handed over: a batch, and what a transport had before it said that it has enough.
OURS = 4 * BATCH

# Bounds of what nobody has taken; beyond them reading pauses, so that the peer has to wait. One read comes on top.
MOST_FRAMES = 1000
MOST_BYTES = 2**20


class Sleeper(Protocol):
    """A task or thread that waits, as whoever wakes it sees it."""

    def wake(self) -> object:
        """Wakes it, from any thread; again does nothing."""
        ...


class OutboxFull(Rejected):
    """There is no room for a frame: it was not accepted."""

    what = "frame not accepted"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Frames by their numbers, as ``send`` gave them.

    Attributes:
        dropped: given up before any of them was sent.
        unconfirmed: in the pipe when the connection was cut: nobody can know whether they arrived.
    """

    dropped: tuple[int, ...]
    unconfirmed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FramedStats:
    """What became of a client's frames so far: accepted = delivered + pending + dropped + unconfirmed.

    Attributes:
        accepted: frames that got a number.
        delivered: frames that the other side is known to have taken out of the pipe.
        pending: frames whose fate is open: they wait, or are in the pipe.
        dropped: frames that were given up unsent.
        unconfirmed: frames that were in the pipe when it was cut, and were not sent again.
        in_pipe: those of the pending that were handed over.
        resent: frames that were put back to be sent once more.
        refused: offers for which there was no room.
        waiting_bytes: bytes of the frames that wait.
        received: frames that came.
        unread: those of them that nobody has taken yet.
        link: the connections.
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
    received: int
    unread: int
    link: ManagerStats


class Post:
    """The frames of one client that wait, in both directions. Any thread may use it.

    Args:
        plan: of the outbox.
        max_frame: most bytes of a frame.
        name: of the client, for errors.
        beats: whether empty frames are heartbeats.
        link: asked for the connection's state and last error.

    Attributes:
        gone: why nothing is accepted any more; empty while something is.
    """

    def __init__(
        self, plan: OutboxPlan, max_frame: int, name: str, *, beats: bool, link: Callable[[], ManagerStats]
    ) -> None:
        self.gone = ""
        self._name = name
        self._max_frame = max_frame
        self._least = 1 if beats else 0
        self._link = link
        self._lock = Lock()
        self._blocks = plan.overflow == "block"
        self._drops = plan.overflow in ("drop_oldest", "drop_newest")
        self._outbox: Outbox[bytes] = Outbox(replace(plan, pipe=plan.pipe + OURS))
        self._inbox: deque[bytes] = deque()
        self._unread = 0
        self._received = 0
        self._over = False
        self._senders: dict[Sleeper, None] = {}
        self._readers: dict[Sleeper, None] = {}
        self._drainers: dict[Sleeper, None] = {}

    # Out.

    def offer(self, frame: bytes | bytearray | memoryview, waiter: Sleeper | None = None) -> int | None:
        """A frame is to be sent: its number.

        Args:
            frame: its bytes.
            waiter: woken when there may be room, if the rule is to wait for it: then the answer is None.

        Raises:
            FrameTooLarge, ValueError, TypeError: it is no frame.
            OutboxFull: there is no room.
            ManagerClosed: the client drains, or is closed.
        """
        wire = encode(frame, self._max_frame)
        if len(frame) < self._least:
            raise ValueError("a frame must not be empty: that is the heartbeat")
        with self._lock:
            if self.gone:
                raise ManagerClosed(self._name, f"its client {self.gone}")
            if waiter is not None and self._must_wait(len(wire)):
                self._senders[waiter] = None
                return None
            answer = self._outbox.offered(wire, len(wire))
        if isinstance(answer, Refusal):
            raise OutboxFull(self._name, None, answer.value)
        return answer

    def _must_wait(self, size: int) -> bool:
        return self._blocks and size <= self._outbox.plan.max_bytes and not self._outbox.fits(size)

    def next_batch(self, begin: bytes) -> tuple[bytes, tuple[int, bytes] | None, int]:
        """What to hand over next.

        Args:
            begin: goes ahead of it.

        Returns:
            bytes; behind them a frame too large for one batch, with its number, for which ``written`` is yet to be
            told, or None; the last number among the bytes, 0 if there is none.
        """
        pieces, size, last, large = [begin] if begin else [], 0, 0, None
        outbox = self._outbox
        with self._lock:
            while size < BATCH:
                found = outbox.next()
                if found is None:
                    break
                number, wire = found
                if len(wire) > BATCH:
                    large = found
                    break
                outbox.written(number)
                last = number
                pieces.append(wire)
                size += len(wire)
            woken = tuple(self._senders) if self._senders and (size or large) else ()
            if self._drainers and outbox.drained:
                woken += tuple(self._drainers)
        for waiter in woken:
            waiter.wake()
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), large, last

    def written(self, number: int) -> bool:
        """The last bytes of a large frame are about to be handed over; whether they may be."""
        with self._lock:
            return self._outbox.written(number)

    def confirmed(self, number: int) -> None:
        """The other side has this frame of the present connection, and all before it."""
        with self._lock:
            self._outbox.confirmed(number)

    def flushed(self) -> None:
        """The other side has taken all that was handed over."""
        with self._lock:
            self._outbox.flushed()

    def cut(self) -> None:
        """The connection was lost."""
        with self._lock:
            self._outbox.cut()

    def news(self) -> Numbers | None:
        """What was dropped or lost sight of since the last time; None if there is nothing."""
        with self._lock:
            dropped, unconfirmed = self._outbox.take_dropped(), self._outbox.take_unconfirmed()
        return Numbers(tuple(dropped), tuple(unconfirmed)) if dropped or unconfirmed else None

    def sent(self, waiter: Sleeper) -> bool:
        """Whether all is handed over, or will never be; else ``waiter`` is woken then."""
        with self._lock:
            if self._outbox.drained or self._over:
                return True
            self._drainers[waiter] = None
            return False

    @property
    def has_news(self) -> bool:
        """Whether frames may have been dropped since the last time: by the rules that drop."""
        return self._drops

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._outbox.drained

    # In.

    def count(self, frames: int) -> None:
        """So many frames came; told by the event loop only."""
        self._received += frames

    def keep(self, frames: list[bytes]) -> bool:
        """Frames that came are to be taken, in this order; whether there is room for more."""
        with self._lock:
            self._inbox.extend(frames)
            self._unread += sum(map(len, frames))
            woken = tuple(self._readers) if self._readers else ()
            self._readers.clear()
            room = len(self._inbox) < MOST_FRAMES and self._unread < MOST_BYTES
        for waiter in woken:
            waiter.wake()
        return room

    def take(self) -> bytes | None:
        """The oldest frame that nobody has taken; None if there is none."""
        with self._lock:
            if not self._inbox:
                return None
            frame = self._inbox.popleft()
            self._unread -= len(frame)
            return frame

    def await_frame(self, waiter: Sleeper, *, patient: bool = False) -> bool:
        """Whether the caller is to wait for a frame; if not, there is one.

        Args:
            waiter: woken when that changes; to be forgotten by the caller.
            patient: whether to wait even for somebody to resume a client that gave up.

        Raises:
            ManagerClosed: there will be none.
            NotConnected: there will be none before somebody calls ``resume``.
        """
        with self._lock:
            if self._inbox:
                return False
            if self._over:
                raise ManagerClosed(self._name, "its client is closed")
            self._readers[waiter] = None
        if not patient:
            link = self._link()
            if link.state is State.FAILED:
                self.forget(waiter)
                raise NotConnected(self._name, "it gave up, until it is resumed") from link.last_error
        return True

    @property
    def busy(self) -> bool:
        """Whether frames wait to be taken: whoever takes them may have more to send in a moment."""
        return bool(self._inbox)

    @property
    def room(self) -> bool:
        """Whether so much has been taken that reading may go on."""
        return len(self._inbox) <= MOST_FRAMES // 2 and self._unread <= MOST_BYTES // 2

    # Both.

    def forget(self, waiter: Sleeper) -> None:
        """Somebody waits no more."""
        with self._lock:
            for waiting in (self._senders, self._readers, self._drainers):
                waiting.pop(waiter, None)

    def refuse(self, why: str) -> None:
        """Nothing is accepted from now on."""
        with self._lock:
            self.gone = self.gone or why
        self.wake()

    def end(self) -> None:
        """The client is closed: nothing is pending any more."""
        with self._lock:
            self.gone = "is closed"
            self._over = True
            self._outbox.abandoned()
        self.wake()

    def wake(self) -> None:
        """Wakes everybody who waits, to look again."""
        with self._lock:
            woken = (*self._senders, *self._readers, *self._drainers)
        for waiter in woken:
            waiter.wake()

    def stats(self) -> FramedStats:
        """The present numbers."""
        link = self._link()
        with self._lock:
            counts = self._outbox.counts()
            return FramedStats(
                counts.accepted,
                counts.delivered,
                counts.pending,
                counts.dropped,
                counts.unconfirmed,
                counts.in_pipe,
                counts.resent,
                counts.refused,
                counts.waiting_bytes,
                self._received,
                len(self._inbox),
                link,
            )


def panics_only(hears: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """The same listeners for what guards a hook: they are not told of every call, only of those that blow up."""

    def hear(event: Event) -> None:
        if isinstance(event, Panic):
            tell(event, hears)

    return (hear,) if hears else ()


def refuse_trio(what: str, instead: str) -> None:
    """Says early that something needs asyncio.

    Raises:
        RuntimeError: trio runs.
    """
    import sys

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise RuntimeError(f"{what} runs on asyncio (or uvloop), not on trio: {instead}")
