"""One connection of a framed client, as asyncio sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from resilient.core.frames import BEAT, FrameReader
from resilient.core.outbox import Batch
from resilient.net.framed.send_queue import SendQueue
from resilient.net.framed.settings import BATCH
from resilient.net.framed.sockets import goodbyes_cross, has_ended, pipe_is_empty, read_buffer, tuned

__all__ = ["FramedProtocol", "Owner"]


class Owner(Protocol):
    """Whose connection it is."""

    def deliver(self, frames: list[bytes], /) -> bool:
        """Frames came; whether there is room for more."""
        ...

    def heard(self) -> None:
        """The other side gave a sign of life."""
        ...

    def ended(self, connection: FramedProtocol, error: Exception | None) -> None:
        """The connection is over."""
        ...


class FramedProtocol(asyncio.BufferedProtocol):
    """Bytes to frames and back, on one connection.

    Args:
        owner: whose it is.
        queue: what it sends.
        max_frame: most bytes of a frame.
        beats: whether empty frames are heartbeats.

    Attributes:
        over: done when the connection has ended.
        open: whether frames may be sent.
        full: whether they have to wait, as the transport has enough.
        write: gives bytes to the transport, if it is open.
        reads: whether it reads, or waits for the owner's room.
        parted: whether the other side has ended its stream.
    """

    write: Callable[[bytes | memoryview], object]

    def __init__(self, owner: Owner, queue: SendQueue, max_frame: int, *, beats: bool) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = self.full = False
        self.reads = True
        self.parted = False
        self._owner = owner
        self._queue = queue
        self._beats = beats
        self._reader = FrameReader(max_frame)
        self._buffer = read_buffer()
        self._transport: asyncio.Transport | None = None
        self._large: Batch | None = None  # one frame, being handed over in slices
        self._rest = memoryview(b"")  # of it
        self._beat_due = False
        self._answers_our_end = False  # whether the end of the other side's stream does so, when it comes
        self._asked: deque[int] = deque()  # number of the frame before each beat that is not answered yet
        self._sign: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tuned(transport)
        self.write = self._transport.write
        self.open = True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        frames = self._reader.feed(self._buffer[:nbytes])
        if self._beats:
            self._alive()
            if b"" in frames:
                self._answered(frames.count(b""))
                frames = [frame for frame in frames if frame]
        if frames and not self._owner.deliver(frames):
            self._stop_reading()
        if self._reader.refused is not None:
            self.abort(self._reader.refused)

    def eof_received(self) -> bool:
        self.parted = True
        if self._answers_our_end and self._transport is not None and not goodbyes_cross(self._transport):
            self._queue.flushed()  # it has read all of what we sent
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        transport, self._transport = self._transport, None
        del transport
        error = self._error or exc
        self._error = None
        try:
            self._settle()
            if not self.over.done():
                self.over.set_result(None)
            self._owner.ended(self, error)
        finally:
            del error, exc  # a frame that holds the error is a cycle

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._beats:
            self._alive()  # somebody takes what we send
        # Not now: asyncio (3.11) tells of the end twice if what is written within this fails.
        asyncio.get_running_loop().call_soon(self.pump)

    # What the owner asks for.

    def pump(self) -> None:
        """Hands over what waits, as far as the transport takes it."""
        while self.open and not self.full:
            if self._large is not None:
                self._hand_over_slice(self._large)
            elif self._beat_due:
                self._beat()
            else:
                batch = self._queue.next_batch()
                if batch is None:
                    return
                if batch.size > BATCH:
                    self._large, self._rest = batch, memoryview(batch.frames[0])
                else:
                    self.write(b"".join(batch.frames))

    def resume_reading(self) -> None:
        """There is room again."""
        if not self.reads and self._transport is not None and not self._transport.is_closing():
            self.reads = True
            self._transport.resume_reading()

    async def prove(self) -> None:
        """Returns as soon as the other side gives a sign of life, for which it is asked by a heartbeat."""
        if not self.reads:  # what it says is waiting for us
            return
        self._beat_due = True
        if self.open and not self.full and self._large is None:
            self._beat()
        self._sign = asyncio.get_running_loop().create_future()
        try:
            await self._sign
        finally:
            self._sign = None

    def part(self) -> None:
        """Ends our own stream behind what was handed over; the other side's goes on."""
        if self._transport is not None and self.open:
            if self._beats:  # its answer says that all was read; the end of the other side's stream may cross ours
                self._beat()
            self.open = False
            self._answers_our_end = not self._beats and not has_ended(self._transport)
            try:
                self._transport.write_eof()
            except OSError as error:  # it is lost, and asyncio has yet to find out
                self.abort(error)
            self.resume_reading()

    def close(self) -> None:
        """Ends the connection behind what was handed over."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Ends the connection at once."""
        self.open = False
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    def measure(self) -> None:
        """Finds out whether the other side has taken all that was handed over, where the system can tell."""
        if self._transport is not None and self._large is None and pipe_is_empty(self._transport):
            self._queue.flushed()

    # Inside.

    def _hand_over_slice(self, batch: Batch) -> None:
        piece, self._rest = self._rest[:BATCH], self._rest[BATCH:]
        if not self._rest:
            self._large = None
            if not self._queue.written(batch):
                return
        self.write(piece)

    def _beat(self) -> None:
        self._beat_due = False
        self._asked.append(self._queue.last)
        self.write(BEAT)

    def _answered(self, beats: int) -> None:
        """Streams keep their order: what answers a beat has read all that was sent before it."""
        number = 0
        while beats and self._asked:
            beats, number = beats - 1, self._asked.popleft()
        if number:
            self._queue.confirmed(number)

    def _alive(self) -> None:
        self._owner.heard()
        self._settle()

    def _settle(self) -> None:
        if self._sign is not None and not self._sign.done():
            self._sign.set_result(None)

    def _stop_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.reads = False
            self._transport.pause_reading()
            self._settle()
