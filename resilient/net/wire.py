"""One connection of a framed client, as asyncio sees it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from typing import Protocol, cast

from resilient.core.frames import BEAT, FrameReader
from resilient.net.framed import BATCH, Post

__all__ = ["Owner", "Wire", "pipe_is_empty", "tuned"]


class Owner(Protocol):
    """Whose connection it is."""

    def came(self, frames: list[bytes]) -> bool:
        """Frames came; whether there is room for more."""
        ...

    def heard(self) -> None:
        """The other side gave a sign of life."""
        ...

    def ended(self, wire: Wire, error: Exception | None) -> None:
        """The connection is over."""
        ...


class Wire(asyncio.Protocol):
    """Bytes to frames and back, on one connection.

    Args:
        owner: whose it is.
        post: what it sends.
        max_frame: most bytes of a frame.
        beats: whether empty frames are heartbeats.

    Attributes:
        over: done when the connection has ended.
        open: whether frames may be sent.
        reads: whether it reads, or waits for the owner's room.
        parted: whether the other side has ended its stream.
        quiet: whether nothing was heard since this was last set.
    """

    def __init__(self, owner: Owner, post: Post, max_frame: int, *, beats: bool) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = False
        self.reads = True
        self.parted = False
        self.quiet = True
        self._owner = owner
        self._post = post
        self._beats = beats
        self._reader = FrameReader(max_frame)
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._rest: memoryview | None = None
        self._rest_number = 0
        self._beat_due = False
        self._last = 0  # number of the latest frame handed over
        self._asked: deque[int] = deque()  # what it was at each beat that is not answered yet
        self._sign: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tuned(transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        frames = self._reader.feed(data)
        if self._beats:
            self._alive()
            if b"" in frames:
                self._answered(frames.count(b""))
                frames = [frame for frame in frames if frame]
        if frames and not self._owner.came(frames):
            self._stop_reading()
        if self._reader.refused is not None:
            self.abort(self._reader.refused)

    def eof_received(self) -> bool:
        self.parted = True
        if self._transport is not None and not self.open:  # we had ended ours: it has read all of it
            self._post.flushed()
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
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._beats:
            self._alive()  # somebody takes what we send
        # Not now: asyncio (3.11) tells of the end twice if what is written within this fails.
        asyncio.get_running_loop().call_soon(self.pump)

    # What the owner asks for.

    def pump(self) -> None:
        """Hands over what waits, as far as the transport takes it."""
        while self.open and not self._full:
            begin = b"" if self._rest is not None else self._beat()
            if self._rest is not None:
                self._hand_over_slice()
                continue
            batch, large, last = self._post.next_batch(begin)
            self._last = last or self._last
            if large is not None:
                self._rest_number, wire = large
                self._rest = memoryview(wire)
            if batch:
                self._write(batch)
            if large is None and len(batch) < BATCH:
                return

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
        if self.open and not self._full and self._rest is None:
            self._write(self._beat())
        self._sign = asyncio.get_running_loop().create_future()
        try:
            await self._sign
        finally:
            self._sign = None

    def part(self) -> None:
        """Ends our own stream behind what was handed over; the other side's goes on."""
        if self._transport is not None and self.open:
            self.open = False
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
        if self._transport is not None and self._rest is None and pipe_is_empty(self._transport):
            self._post.flushed()

    # Inside.

    def _write(self, data: bytes | memoryview) -> None:
        assert self._transport is not None  # it is open
        self._transport.write(data)

    def _hand_over_slice(self) -> None:
        assert self._rest is not None  # the caller has looked
        piece, self._rest = self._rest[:BATCH], self._rest[BATCH:]
        if not self._rest:
            self._rest = None
            if not self._post.written(self._rest_number):
                return
            self._last = self._rest_number
        self._write(piece)

    def _beat(self) -> bytes:
        if not self._beat_due:
            return b""
        self._beat_due = False
        self._asked.append(self._last)
        return BEAT

    def _answered(self, beats: int) -> None:
        """Streams keep their order: what answers a beat has read all that was sent before it."""
        number = 0
        while beats and self._asked:
            beats, number = beats - 1, self._asked.popleft()
        if number:
            self._post.confirmed(number)

    def _alive(self) -> None:
        self.quiet = False
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


def tuned(transport: asyncio.BaseTransport) -> None:
    """Sets up a TCP connection; a Unix socket has no need of it.

    The kernel is to find peers that are gone for hours. And it is to take no more than it can send soon: so heartbeats
    do not queue behind megabytes, and bytes that leave can be seen to leave.
    """
    found = transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        unsent = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)  # named from 3.12 on
        if unsent is not None:
            found.setsockopt(socket.IPPROTO_TCP, unsent, 2 * BATCH)


def pipe_is_empty(transport: asyncio.Transport) -> bool:
    """Whether the other side has read all that was written; False if nobody can tell.

    Linux's SIOCOUTQ counts what the peer of a Unix socket has not read (unix(7)); of TCP only what its kernel has not
    got, which says nothing.
    """
    found = transport.get_extra_info("socket")
    if sys.platform != "linux" or found is None or found.family != socket.AF_UNIX or transport.is_closing():
        return False
    if transport.get_write_buffer_size():
        return False
    from array import array
    from fcntl import ioctl
    from termios import TIOCOUTQ

    left = array("i", [0])
    ioctl(found.fileno(), TIOCOUTQ, left)
    return left[0] == 0
