"""What is to be sent by a framed client: the outbox, as any thread may use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import RLock

from resilient.core.frames import encode
from resilient.core.outbox import Batch, Outbox, OutboxCounts
from resilient.core.outbox_plan import PIPE, OutboxPlan
from resilient.drivers.locks import let_go
from resilient.errors import ManagerClosed
from resilient.net.framed.settings import BATCH, Numbers, OutboxFull
from resilient.net.framed.wakers import wake_all

__all__ = ["SendQueue"]

# What our side holds of what was handed over: a batch, and what a transport had before it said that it has enough.
OURS = 4 * BATCH


class SendQueue:
    """The frames of one client that are to be sent, and who waits for them to leave. Any thread may use it.

    Its lock is held for a few assignments at a time; whoever waits is woken after it.

    Args:
        plan: of the outbox.
        max_frame: most bytes of a frame.
        name: of the client, for errors.
        beats: whether empty frames are heartbeats.

    Attributes:
        gone: why nothing is accepted any more; empty while something is.
    """

    __slots__ = ("_blocks", "_least", "_lock", "_max_frame", "_name", "_outbox", "_over", "_waiting", "gone")

    def __init__(self, plan: OutboxPlan, max_frame: int, name: str, *, beats: bool) -> None:
        self.gone = ""
        self._name = name
        self._max_frame = max_frame
        self._least = 1 if beats else 0
        self._blocks = plan.overflow == "block"
        self._lock = RLock()
        self._outbox = Outbox(replace(plan, pipe=(PIPE if plan.pipe is None else plan.pipe) + OURS))
        self._over = False
        self._waiting: deque[Callable[[], object]] = deque()

    def offer(self, frame: bytes | bytearray | memoryview, wake: Callable[[], object] | None = None) -> int | None:
        """A frame is to be sent: its number.

        Args:
            frame: its bytes.
            wake: called when there may be room, if the rule is to wait for it: then the answer is None.

        Raises:
            FrameTooLarge, ValueError, TypeError: it is no frame, or the heartbeat.
            OutboxFull: there is no room.
            ManagerClosed: the client drains, or is closed.
        """
        wire, lock = encode(frame, self._max_frame, self._least), self._lock
        try:
            lock.acquire()
            if self.gone:
                raise ManagerClosed(self._name, f"its client {self.gone}")
            answer = None
            if wake is None or not self._must_wait(len(wire), wake):
                answer = self._outbox.offered(wire)
        except BaseException:
            let_go(lock)
            raise
        lock.release()
        if isinstance(answer, str):
            raise OutboxFull(self._name, None, answer)
        return answer

    def pass_on(self, frame: bytes | bytearray | memoryview, write: Callable[[bytes], object]) -> int | None:
        """A frame is to be sent at once, by ``write``: its number; None if it has to be offered after all.

        Raises:
            FrameTooLarge, ValueError, TypeError: it is no frame, or the heartbeat.
        """
        wire, lock, number = encode(frame, self._max_frame, self._least), self._lock, None
        try:
            lock.acquire()
            if len(wire) <= BATCH and not self.gone:
                number = self._outbox.passed(wire)
        except BaseException:
            let_go(lock)
            raise
        lock.release()
        if number is not None:
            write(wire)
        return number

    def next_batch(self) -> Batch | None:
        """What to hand over next; None if there is nothing.

        One that is larger than a batch should be is a single frame, for slices, and its end is to be told as
        ``written``. Any other is handed over at once, and counts as written.
        """
        outbox = self._outbox
        with self._lock:
            batch = outbox.next_batch(BATCH)
            if batch is not None and batch.size <= BATCH:
                outbox.written(batch)
        if batch is not None:
            self.wake()
        return batch

    def written(self, batch: Batch) -> bool:
        """The last bytes of a large frame are about to be handed over; whether they may be."""
        with self._lock:
            written = self._outbox.written(batch)
        self.wake()
        return written

    def confirmed(self, number: int) -> None:
        """The other side has this frame of the present connection, and all before it."""
        with self._lock:
            self._outbox.confirmed(number)

    def flushed(self) -> None:
        """The other side has taken all that was handed over."""
        with self._lock:
            self._outbox.flushed()

    def cut(self) -> int:
        """The connection was lost; the number of the frame that is given up as the other side refuses it, or 0."""
        with self._lock:
            refused = self._outbox.cut()
        self.wake()
        return refused

    def news(self) -> Numbers | None:
        """What was dropped or lost sight of since the last time; None if there is nothing."""
        if not self._outbox.has_news:
            return None
        with self._lock:
            return Numbers(tuple(self._outbox.take_dropped()), tuple(self._outbox.take_unconfirmed()))

    def sent(self, wake: Callable[[], object]) -> bool:
        """Whether all is handed over, or will never be; else ``wake`` is called as frames leave."""
        with self._lock:
            if self._outbox.drained or self._over:
                return True
            self._waiting.append(wake)
            return False

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._outbox.drained

    @property
    def last(self) -> int:
        """Number of the last frame that was handed over, if it is in the pipe; 0 if nothing is."""
        return self._outbox.last

    def counts(self) -> OutboxCounts:
        """What became of the frames."""
        with self._lock:
            return self._outbox.counts()

    def forget(self, wake: Callable[[], object]) -> None:
        """Somebody waits no more."""
        with suppress(ValueError):  # it was woken
            self._waiting.remove(wake)

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
        wake_all(self._waiting)

    def _must_wait(self, size: int, wake: Callable[[], object]) -> bool:
        outbox = self._outbox
        if not self._blocks or size > outbox.plan.max_bytes or outbox.fits(size):
            return False
        self._waiting.append(wake)
        return True
