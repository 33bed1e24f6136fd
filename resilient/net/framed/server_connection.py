"""One connection of a framed server, and what all of them share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, cast

from resilient.core.frames import BEAT, FrameReader, encode
from resilient.net.framed.settings import BATCH
from resilient.net.framed.sockets import read_buffer, tuned

__all__ = ["Peer", "Service"]

# Bounds of what waits for a handler; beyond them reading pauses. They are wide, as heartbeats stand behind what is not
# read: a server that works off what it was sent must not seem dead.
MOST_WAITING = 100_000  # frames
MOST_WAITING_BYTES = 16 * 2**20


@dataclass(slots=True, eq=False)
class Service:
    """What the connections of one server share.

    Attributes:
        answer: the handler, made harmless: called with each frame, and with its connection if ``to_peer``.
        to_peer: whether it wants to be told whose frame it is.
        greet: called with each new connection.
        part: called with each that is gone.
        refuse: called with each answer that is no frame.
        max_frame, max_connections, max_pending, heartbeat, cancel_on_disconnect: as of the server.
        open: whether it takes connections.
        made: all connections, those that are turned away included.
        peers: those that were accepted and are open, by their numbers.
        accepted, turned_away, cut_off, received, sent, unhandled: as of the statistics.
    """

    answer: Callable[..., Any]
    to_peer: bool
    greet: Callable[[Peer], object]
    part: Callable[[Peer], object]
    refuse: Callable[[object], object]
    max_frame: int
    max_connections: int
    max_pending: int
    heartbeat: bool
    cancel_on_disconnect: bool
    open: bool = False
    made: set[Peer] = field(default_factory=set)
    peers: dict[int, Peer] = field(default_factory=dict)
    accepted: int = 0
    turned_away: int = 0
    cut_off: int = 0
    received: int = 0
    sent: int = 0
    unhandled: int = 0

    def came(self, peer: Peer) -> bool:
        """A connection is there; whether there is room for it."""
        if len(self.peers) >= self.max_connections or not self.open:
            self.turned_away += 1
            return False
        self.accepted += 1
        peer.number = self.accepted
        self.peers[peer.number] = peer
        self.greet(peer)
        return True

    def left(self, peer: Peer) -> None:
        """A connection is gone; what came by it may yet be worked off."""
        if self.peers.pop(peer.number, None) is not None:
            self.part(peer)


class Peer(asyncio.BufferedProtocol):
    """One connection of a server.

    Attributes:
        number: from 1 on, in the order of the accepts.
        address: of the other side; empty for a Unix socket without a name.
    """

    _hand_over: Callable[[bytes], object]

    def __init__(self, service: Service) -> None:
        self.number = 0
        self.address: object = ""
        self._service = service
        self._reader = FrameReader(service.max_frame)
        self._buffer = read_buffer()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._unhandled = 0
        self._open = self._full = False
        self._parting = False  # to be ended when all is answered
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, frame: bytes | bytearray | memoryview) -> bool:
        """Sends a frame, in the server's event loop; whether it was handed over.

        It is not if the connection is closed, or is now, since the other side left too much unread.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
        """
        service, transport = self._service, self._transport
        data = encode(frame, service.max_frame)
        unread = 0 if transport is None else transport.get_write_buffer_size()
        if self._open and unread + len(data) > service.max_pending + service.max_frame:
            service.cut_off += 1
            self.abort()
        return self._write(data, 1)

    def close(self) -> None:
        """Ends the connection behind what was sent."""
        self._open = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._hand_over = self._transport.write
        self._open = True
        tuned(transport)
        self.address = transport.get_extra_info("peername", "")
        if not self._service.came(self):
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        service = self._service
        frames = self._reader.feed(self._buffer[:nbytes])
        if service.heartbeat and b"" in frames:
            self._write(BEAT * frames.count(b""), 0)  # at once, ahead of all answers
            frames = [frame for frame in frames if frame]
        service.received += len(frames)
        if self._task is None and not self._waiting:
            self._answer(frames)
        else:
            self._wait(frames)
        if self._reader.refused is not None:
            service.cut_off += 1
            self.abort()

    def eof_received(self) -> bool:
        self._parting = True
        self._open = bool(self._task or self._waiting)  # what it asked before is still answered
        return self._open

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open = self._full = False
        self._transport = None
        self._service.left(self)
        if self._service.cancel_on_disconnect:
            self.give_up()
        # What has come whole is worked off, though nobody waits for its answers.
        asyncio.get_running_loop().call_soon(self._go_on)

    def pause_writing(self) -> None:
        self._full = True
        self._steer()

    def resume_writing(self) -> None:
        self._full = False
        # Not now: asyncio (3.11) tells of the end twice if what is written within this fails.
        asyncio.get_running_loop().call_soon(self._go_on)

    # Inside.

    def _answer(self, frames: list[bytes]) -> None:
        """Handles frames at once, as long as no handler is async and the answers leave, which they do together."""
        service, answers, size = self._service, list[bytes](), 0
        answer, to_peer, limit = service.answer, service.to_peer, service.max_frame
        rest = iter(frames)
        for frame in rest:
            result = answer(frame, self) if to_peer else answer(frame)
            if result is None:
                continue
            if type(result) is not bytes and isawaitable(result):  # the former is quick
                self._task = asyncio.get_running_loop().create_task(self._handle(result), name="framed server")
                self._wait(list(rest))
                break
            try:
                wire = encode(result, limit)
            except (TypeError, ValueError):
                service.refuse(result)
                continue
            answers.append(wire)
            size += len(wire)
            if size >= BATCH:
                self._write(b"".join(answers), len(answers))
                answers, size = [], 0
                if self._full:
                    self._wait(list(rest))
                    break
        if answers:
            self._write(b"".join(answers), len(answers))

    def _wait(self, frames: list[bytes]) -> None:
        self._waiting.extend(frames)
        self._unhandled += sum(map(len, frames))
        self._steer()

    async def _handle(self, begun: Any) -> None:
        """Handles frames one after the other, until none waits, or the answers do not leave."""
        service = self._service
        try:
            while True:
                result = await begun if isawaitable(begun) else begun
                if result is not None:
                    self._answer_with(result)
                if not self._waiting or self._full:
                    break
                frame = self._waiting.popleft()
                self._unhandled -= len(frame)
                self._steer()
                begun = service.answer(frame, self) if service.to_peer else service.answer(frame)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # the handler's own: what came after is handled all the same
                asyncio.get_running_loop().call_soon(self._go_on)
            raise
        finally:
            self._task = None
            self._note_end()
        self._part()

    def _answer_with(self, result: Any) -> None:
        try:
            self._write(encode(result, self._service.max_frame), 1)
        except (TypeError, ValueError):
            self._service.refuse(result)

    def _go_on(self) -> None:
        """Goes on answering, as answers leave again."""
        if self._task is None and not self._full:
            frames = list(self._waiting)
            self._waiting.clear()
            self._unhandled = 0
            self._answer(frames)
            self._part()
        self._steer()
        self._note_end()

    def _note_end(self) -> None:
        """The connection is over when it is lost, and all that came by it worked off."""
        if self._transport is None and self._task is None and not self._waiting and not self._over.done():
            self._over.set_result(None)
            self._service.made.discard(self)

    def _part(self) -> None:
        if self._parting and self._task is None and not self._waiting:
            self.close()

    def _write(self, data: bytes, frames: int) -> bool:
        if not self._open:
            return False
        self._service.sent += frames
        self._hand_over(data)
        return True

    def _steer(self) -> None:
        """Reads on, or lets the other side wait until what is there has been worked off."""
        transport = self._transport
        if transport is None or not self._open:
            return
        if self._full or self._parting or len(self._waiting) >= MOST_WAITING or self._unhandled >= MOST_WAITING_BYTES:
            transport.pause_reading()
        elif len(self._waiting) <= MOST_WAITING // 2 and self._unhandled <= MOST_WAITING_BYTES // 2:
            transport.resume_reading()

    async def finish(self) -> None:
        """Handles what has come, and ends the connection when the answers are out."""
        self._parting = True
        self._steer()
        self._part()
        await asyncio.wait([self._over])

    def give_up(self) -> None:
        """Handles nothing more of what has come."""
        if self._given_up:
            return
        self._given_up = True
        self._service.unhandled += len(self._waiting) + (self._task is not None)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that runs an async handler for this connection, if one does."""
        return self._task

    def __repr__(self) -> str:
        return f"<Peer {self.number} at {self.address!r}>"
