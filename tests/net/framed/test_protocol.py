"""One connection of a framed client, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from loops import run

from resilient.core.frames import BEAT, FrameTooLarge, encode
from resilient.net.framed.protocol import FramedProtocol
from resilient.net.framed.send_queue import SendQueue
from resilient.net.framed.settings import OutboxPlan

LOOPS = ["asyncio", "uvloop"]


class Ends:
    """A wire, its owner, and the other side by hand."""

    def __init__(self, *, beats: bool = False, max_frame: int = 2**24) -> None:
        self.queue = SendQueue(OutboxPlan(), max_frame, "x", beats=beats)
        self.wire = FramedProtocol(self, self.queue, max_frame, beats=beats)
        self.frames: list[bytes] = []
        self.room = True
        self.signs = 0
        self.errors: list[Exception | None] = []

    async def open(self) -> Ends:
        mine, self.other = socket.socketpair()
        self.other.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self.wire, sock=mine)
        return self

    def deliver(self, frames: list[bytes], /) -> bool:
        self.frames += frames
        return self.room

    def heard(self) -> None:
        self.signs += 1

    def ended(self, wire: FramedProtocol, error: Exception | None) -> None:
        self.errors.append(error)

    async def read(self, size: int) -> bytes:
        loop, found = asyncio.get_running_loop(), b""
        while len(found) < size and (piece := await loop.sock_recv(self.other, size - len(found))):
            found += piece
        return found

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.other, data)

    async def over(self) -> None:
        self.wire.abort()
        await self.wire.over
        self.other.close()


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_of_any_size_leave_and_come(loop: str) -> None:
    """Large ones by slices, as the transport takes them."""

    async def main() -> None:
        ends = await Ends().open()
        bodies = [b"a", bytes(1_000_000), b"b", b""]
        for body in bodies:
            ends.queue.offer(body)
        ends.wire.pump()
        wire = b"".join(map(encode, bodies))
        assert wire == await ends.read(len(wire))
        await ends.write(wire)
        await until(lambda: len(ends.frames) == 4)
        assert bodies == ends.frames
        ends.wire.measure()
        assert 4 == ends.queue.counts().delivered
        await ends.over()
        ends.wire.measure()

    run(loop, main)


def test_a_beat_goes_ahead_and_its_answer_confirms() -> None:
    """What was sent before it, not what came after; any byte is a sign of life."""

    async def main() -> None:
        ends = await Ends(beats=True).open()
        ends.queue.offer(b"a")
        ends.wire.pump()
        proving = asyncio.create_task(ends.wire.prove())
        await asyncio.sleep(0)
        ends.queue.offer(b"b")
        ends.wire.pump()
        wire = encode(b"a") + BEAT + encode(b"b")
        assert wire == await ends.read(len(wire))
        await ends.write(BEAT + encode(b"x") + BEAT)
        await proving
        assert (1, [b"x"], True) == (ends.queue.counts().delivered, ends.frames, ends.signs > 0)
        await ends.over()

    asyncio.run(main())


def test_a_beat_waits_for_the_end_of_a_large_frame() -> None:
    """And bytes that leave are a sign of life, too."""

    async def main() -> None:
        ends = await Ends(beats=True).open()
        body = bytes(2_000_000)
        ends.queue.offer(body)
        ends.wire.pump()
        proving = asyncio.create_task(ends.wire.prove())
        wire = encode(body)
        assert wire + BEAT == await ends.read(len(wire) + 4)
        await proving
        assert (True, []) == (ends.signs > 0, ends.frames)
        await ends.over()

    asyncio.run(main())


def test_without_room_reading_pauses() -> None:
    """Then the other side owes no proof; with room it goes on."""

    async def main() -> None:
        ends = await Ends(beats=True).open()
        ends.room = False
        proving = asyncio.create_task(ends.wire.prove())
        await ends.write(encode(b"a"))
        await proving
        await until(lambda: not ends.wire.reads)
        await ends.wire.prove()
        await ends.write(encode(b"b"))
        await asyncio.sleep(0.01)
        assert [b"a"] == ends.frames
        ends.room = True
        ends.wire.resume_reading()
        ends.wire.resume_reading()
        await until(lambda: ends.frames == [b"a", b"b"])
        await ends.over()

    asyncio.run(main())


def test_too_large_a_frame_ends_it() -> None:
    """By its length alone."""

    async def main() -> None:
        ends = await Ends(max_frame=3).open()
        await ends.write(encode(b"abc") + b"\4\0\0\0")
        await ends.wire.over
        assert ([b"abc"], [FrameTooLarge]) == (ends.frames, [type(error) for error in ends.errors])
        ends.wire.pump()
        ends.wire.resume_reading()
        ends.wire.part()
        ends.wire.close()
        ends.other.close()

    asyncio.run(main())


def test_parting() -> None:
    """What was handed over is read when the other side ends its stream; a second time does nothing."""

    async def main() -> None:
        ends = await Ends().open()
        ends.queue.offer(b"a")
        ends.wire.pump()
        ends.wire.part()
        ends.wire.part()
        assert encode(b"a") == await ends.read(100)
        ends.other.close()
        await ends.wire.over
        assert (1, True, [None]) == (ends.queue.counts().delivered, ends.wire.parted, ends.errors)

    asyncio.run(main())


def test_tcp_tells_nothing_of_what_is_unread() -> None:
    """So what was handed over stays open, until the other side says something."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        ends = Ends()
        await asyncio.get_running_loop().create_connection(lambda: ends.wire, *listener.getsockname())
        ends.other, _ = listener.accept()
        ends.queue.offer(b"a")
        ends.wire.pump()
        ends.wire.measure()
        assert (0, 1) == (ends.queue.counts().delivered, ends.queue.counts().in_pipe)
        await ends.over()
        listener.close()

    asyncio.run(main())
