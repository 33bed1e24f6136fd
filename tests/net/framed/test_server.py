"""The framed server: answers in order, limits, addresses that are never stolen, a clean end."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loops import run

from resilient import events
from resilient.core.frames import encode
from resilient.net import FramedServer, FrameTooLarge, Peer

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s"


class Client:
    """The other side, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: FramedServer) -> Client:
        if server.url.startswith("unix"):
            return cls(*await asyncio.open_unix_connection(str(server.address)))
        return cls(*await asyncio.open_connection(*server.address))

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(map(encode, frames)))

    async def receive(self) -> bytes:
        return await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(4), "little"))

    async def hangs_up(self) -> bool:
        self.writer.close()
        await self.writer.wait_closed()
        return True

    async def is_cut_off(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        except ConnectionError:
            return True
        finally:
            await self.hangs_up()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.001)


def at_once(frame: bytes) -> bytes:
    return frame.upper()


async def in_a_moment(frame: bytes) -> bytes:
    await asyncio.sleep(0)
    return frame.upper()


def to_whom(frame: bytes, peer: Peer) -> bytes:
    return frame.upper() if peer.number == 1 else b""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("where", ["unix", "tcp"])
@pytest.mark.parametrize("handler", [at_once, in_a_moment, to_whom, bytes.upper, lambda frame: in_a_moment(frame)])
def test_answers_come_in_order(handler: Any, where: str, loop: str, place: str) -> None:
    """Whatever the handler is; what was asked is answered also behind the end of the asking."""

    async def main() -> None:
        async with FramedServer(place if where == "unix" else ("127.0.0.1", 0), handler) as server:
            client = await Client.to(server)
            client.send(b"a", b"b", b"c")
            client.writer.write_eof()
            assert [b"A", b"B", b"C"] == [await client.receive() for _ in range(3)]
            assert await client.is_cut_off()
            assert (1, 3, 3) == (server.stats().accepted, server.stats().received, server.stats().sent)

    run(loop, main)


def test_some_answers_are_none(place: str) -> None:
    """And some handlers change their ways."""

    async def main() -> None:
        def handler(frame: bytes) -> Any:
            if frame == b"a":
                return in_a_moment(b"x")
            return None if frame == b"n" else frame

        async with FramedServer(place, handler) as server:
            client = await Client.to(server)
            client.send(b"1", b"n", b"a", b"n", b"2", b"a")
            assert [b"1", b"X", b"2", b"X"] == [await client.receive() for _ in range(4)]
            client.close()
        async with FramedServer(place) as server:  # takes frames, and says nothing
            client = await Client.to(server)
            client.send(b"1")
            await until(lambda: server.stats().received)
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize("answer", ["text", bytes(101), ValueError()])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_handlers_that_fail_harm_nothing(answer: object, kind: str, place: str) -> None:
    """A Panic each; the connection lives, and later frames are answered."""

    def handler(frame: bytes) -> Any:
        if frame == b"ok":
            return frame
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def async_handler(frame: bytes) -> Any:
        return handler(frame)

    async def main() -> None:
        heard: list[events.Event] = []
        chosen: Any = handler if kind == "sync" else async_handler
        async with FramedServer(place, chosen, max_frame=100, listeners=heard.append) as server:
            client = await Client.to(server)
            client.send(b"bad", b"ok")
            assert b"ok" == await client.receive()
            client.close()
        assert [events.Panic] == [type(event) for event in heard]

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_too_large_a_frame_cuts_off(loop: str, place: str) -> None:
    """What came before it is answered."""

    async def main() -> None:
        async with FramedServer(place, at_once, max_frame=3) as server:
            client = await Client.to(server)
            client.send(b"abc")
            assert b"ABC" == await client.receive()
            client.writer.write(b"\xff\xff\xff\xff")
            assert await client.is_cut_off()
            assert 1 == server.stats().cut_off
            with pytest.raises(FrameTooLarge):
                server.broadcast(b"abcd")

    run(loop, main)


def test_connections_are_limited(place: str) -> None:
    """One too many is closed at once; hooks hear of the others, and may fail."""

    async def main() -> None:
        came: list[int] = []
        left: list[int] = []

        def greet(peer: Peer) -> None:
            came.append(peer.number)
            raise ValueError

        async with FramedServer(
            place, at_once, max_connections=1, on_connect=greet, on_disconnect=lambda peer: left.append(peer.number)
        ) as server:
            first = await Client.to(server)
            first.send(b"a")
            assert b"A" == await first.receive()
            assert await (await Client.to(server)).is_cut_off()
            assert (1, 1) == (server.stats().connections, server.stats().turned_away)
            assert "<Peer 1 at" in repr(server.connections[0])
            first.close()
            await until(lambda: not server.connections)
        assert ([1], [1]) == (came, left)

    asyncio.run(main())


def test_broadcast_reaches_all(place: str) -> None:
    """And says how many; a peer can be addressed alone, and closed."""

    async def main() -> None:
        async with FramedServer(place) as server:
            clients = [await Client.to(server) for _ in range(3)]
            await until(lambda: len(server.connections) == 3)
            assert 3 == server.broadcast(memoryview(b"all"))
            assert [b"all"] * 3 == [await client.receive() for client in clients]
            peer = server.connections[0]
            assert peer.send(b"one")
            peer.close()
            peer.close()
            assert not peer.send(b"late")
            assert b"one" == await clients[0].receive()
            assert await clients[0].is_cut_off()
            await until(lambda: len(server.connections) == 2)
            peer.close()
            peer.abort()
            assert not peer.send(b"later")
            for client in clients:
                client.close()

    asyncio.run(main())


@pytest.mark.parametrize("handler", [at_once, in_a_moment])
def test_a_client_that_asks_and_never_reads_has_to_wait(
    handler: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing more is read from it: memory stays bounded, and all is answered in the end."""
    monkeypatch.setattr("resilient.net.framed.server_connection.MOST_WAITING", 1000)

    async def main() -> None:
        async with FramedServer(place, handler) as server:
            client = await Client.to(server)
            client.send(*[b"x" * 1000] * 5000)
            await asyncio.sleep(0.1)
            assert server.stats().received < 4000
            assert 5000 == len([await client.receive() for _ in range(5000)])
            client.close()

    asyncio.run(main())


async def much_later(frame: bytes) -> bytes:
    await asyncio.sleep(0)
    return bytes(100_000)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("handler", [lambda frame: bytes(100_000), much_later])
def test_large_answers_wait_for_their_reader(handler: Any, loop: str, place: str) -> None:
    """They are made as they leave: nobody is cut off for what was asked for, nor for ending the asking early."""

    async def main() -> None:
        async with FramedServer(place, handler, max_pending=1, max_frame=200_000) as server:
            client = await Client.to(server)
            client.send(*[b"x"] * 900)
            client.writer.write_eof()
            await until(lambda: server.stats().sent)
            await asyncio.sleep(0.05)
            assert server.stats().sent < 100
            assert 900 == len([await client.receive() for _ in range(900)])
            assert await client.is_cut_off()
            assert (0, 900) == (server.stats().cut_off, server.stats().sent)

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("handler", [at_once, in_a_moment])
def test_what_came_before_a_reset_is_worked_off(handler: Any, loop: str) -> None:
    """The frames were taken: that nobody waits for their answers does not undo it."""
    handled = list[bytes]()

    async def main() -> None:
        def noting(frame: bytes) -> Any:
            handled.append(frame)
            return handler(frame)

        async with FramedServer("tcp://127.0.0.1:0", noting) as server:
            client = await Client.to(server)
            client.send(*[bytes([number]) for number in range(200)])
            await until(lambda: server.stats().received == 200)
            client.reset()
            await until(lambda: len(handled) == 200)
            await until(lambda: not server._service.made)
            assert (0, 0) == (server.stats().connections, server.stats().unhandled)
        assert [bytes([number]) for number in range(200)] == handled

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_handlers_are_cancelled_with_their_connection_on_demand(loop: str) -> None:
    """When it is reset, not when the other side ends it in order; what was given up is counted."""
    handled = list[bytes]()

    async def main() -> None:
        async def handler(frame: bytes) -> None:
            handled.append(frame)
            await asyncio.Event().wait()

        async with FramedServer("tcp://127.0.0.1:0", handler, cancel_on_disconnect=True) as server:
            client = await Client.to(server)
            client.send(b"1", b"2", b"3")
            await until(lambda: server.stats().received == 3)
            client.reset()
            await until(lambda: not server._service.made)
            assert 3 == server.stats().unhandled
        assert 3 == server.stats().unhandled
        assert [b"1"] == handled

    run(loop, main)


def test_what_an_end_gives_up_is_counted(place: str) -> None:
    """A close whose time is over tells how many frames it threw away."""
    handled = list[bytes]()

    async def main() -> None:
        async def handler(frame: bytes) -> None:
            handled.append(frame)
            await asyncio.sleep(0 if len(handled) < 3 else 100)

        server = FramedServer(place, handler)
        await server.start()
        client = await Client.to(server)
        client.send(*[b"x"] * 10)
        await until(lambda: len(handled) == 3)
        await server.close(0.05)
        assert (3, 8) == (len(handled), server.stats().unhandled)
        client.close()

    asyncio.run(main())


def test_a_handler_may_end_its_server(place: str) -> None:
    """It does not wait for itself; the others are waited for."""

    async def main() -> None:
        ended = asyncio.Event()

        async def handler(frame: bytes) -> bytes:
            if frame == b"stop":
                await server.close(10)
                ended.set()
            else:
                await asyncio.sleep(0.02)
            return frame

        server = FramedServer(place, handler)
        await server.start()
        other, stopper = await Client.to(server), await Client.to(server)
        other.send(b"other")
        stopper.send(b"stop")
        await asyncio.wait_for(ended.wait(), 5)
        assert b"other" == await other.receive()
        assert await stopper.is_cut_off()
        assert await other.is_cut_off()
        assert 0 == server.stats().unhandled

    asyncio.run(main())


def test_a_handler_that_is_cancelled_from_below_harms_nothing(place: str) -> None:
    """What it awaited was cancelled, not the handler: the next frame is handled."""

    async def main() -> None:
        async def handler(frame: bytes) -> bytes:
            await asyncio.sleep(0)
            if frame == b"bad":
                raise asyncio.CancelledError
            return frame

        async with FramedServer(place, handler) as server:
            client = await Client.to(server)
            client.send(b"bad", b"good", b"bad", b"good")
            assert [b"good"] * 2 == [await client.receive() for _ in range(2)]
            client.close()

    asyncio.run(main())


def test_a_client_that_never_reads_is_cut_off(place: str) -> None:
    """Broadcasts do not pile up for it without end."""

    async def main() -> None:
        async with FramedServer(place, max_pending=1000, max_frame=1_000_000) as server:
            client = await Client.to(server)
            await until(lambda: server.connections)
            while server.broadcast(bytes(100_000)):
                pass
            assert 1 == server.stats().cut_off
            await until(lambda: not server.connections)
            client.close()

    asyncio.run(main())


def test_heartbeats_are_answered_ahead(place: str) -> None:
    """Also while a handler takes its time; no handler sees them."""

    async def main() -> None:
        go = asyncio.Event()

        async def slow(frame: bytes) -> bytes:
            await go.wait()
            return frame

        async with FramedServer(place, slow, heartbeat=True) as server:
            client = await Client.to(server)
            client.send(b"a", b"", b"")
            assert [b"", b""] == [await client.receive() for _ in range(2)]
            go.set()
            assert b"a" == await client.receive()
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_end_lets_handlers_end(loop: str, place: str) -> None:
    """What has come is answered; what hangs is cut off; nothing is left."""

    async def main() -> None:
        async def handler(frame: bytes) -> bytes:
            await (asyncio.sleep(0.02) if frame == b"slow" else asyncio.Event().wait())
            return frame

        async with FramedServer(place, at_once) as server:  # an event loop has descriptors of its own, made when needed
            assert await (await Client.to(server)).hangs_up()
        before = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        server = FramedServer(place, handler)
        await server.start()
        with pytest.raises(RuntimeError, match="runs already"):
            await server.start()
        slow, hanging = await Client.to(server), await Client.to(server)
        slow.send(b"slow")
        hanging.send(b"for ever")
        await until(lambda: server.stats().received == 2)
        await server.close(0.2)
        await server.close()
        assert b"slow" == await slow.receive()
        assert await slow.is_cut_off()
        assert await hanging.is_cut_off()
        assert not os.path.exists(server.address)
        await until(lambda: before == (len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))))
        async with server:  # once more
            assert "0 connections" in repr(server)

    run(loop, main)


def test_a_dead_socket_is_replaced(place: str) -> None:
    """A server that was killed leaves one behind."""

    async def main() -> None:
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(place.removeprefix("unix:"))
        dead.close()
        async with FramedServer(place, at_once) as server:
            client = await Client.to(server)
            client.send(b"a")
            assert b"A" == await client.receive()
            client.close()
        assert not os.path.exists(server.address)

    asyncio.run(main())


def test_a_live_socket_is_never_stolen(place: str) -> None:
    """Not even one whose queue is full; nor a file that is no socket."""
    path = place.removeprefix("unix:")

    async def refused(error: type[OSError], text: str) -> None:
        with pytest.raises(error, match=text):
            await FramedServer(place).start()

    async def main() -> None:
        async with FramedServer(place, at_once, name="mine") as server:
            assert "mine" == server.name
            await refused(OSError, "somebody listens there")
            client = await Client.to(server)
            client.send(b"a")
            assert b"A" == await client.receive()
            client.close()
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
            busy.bind(path)
            busy.listen(0)
            waiting.connect(path)
            await refused(OSError, "somebody listens there")
        os.unlink(path)
        Path(path).write_text("a file")
        await refused(FileExistsError, "no socket")
        assert "a file" == Path(path).read_text()

    asyncio.run(main())


def test_a_socket_that_is_not_ours_stays(place: str) -> None:
    """Somebody may have replaced it meanwhile."""
    path = place.removeprefix("unix:")

    async def main() -> None:
        async with FramedServer(place):
            os.unlink(path)
            other = socket.socket(socket.AF_UNIX)
            other.bind(path)
        assert os.path.exists(path)
        other.close()
        os.unlink(path)
        async with FramedServer(place):
            os.unlink(path)

    asyncio.run(main())


def test_a_place_where_nobody_can_listen(tmp_path: Path) -> None:
    """The error is the system's."""

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await FramedServer(f"unix:{tmp_path}/none/s").start()
        async with FramedServer("tcp://127.0.0.1:0") as server:
            with pytest.raises(OSError, match="in use"):
                await FramedServer(server.url).start()

    asyncio.run(main())


def test_a_name_is_served_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever a client takes first."""
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    infos = [(family, socket.SOCK_STREAM, 6, "", where) for family, where in both]

    async def main() -> None:
        async def getaddrinfo(*_: object, **__: object) -> Any:
            return infos

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with FramedServer("tcp://both:0", at_once) as server:
            host, port = server.address
            assert "both" == host
            for _, where in both:
                client = Client(*await asyncio.open_connection(where[0], port))
                client.send(b"hello")
                assert b"HELLO" == await client.receive()
                assert await client.hangs_up()

    asyncio.run(main())


def test_an_event_loop_that_cannot_watch_sockets_serves(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' own is one; it also outlasts a lack of descriptors."""
    monkeypatch.setattr("resilient.net.framed.server.BREATHER", 0.001)
    failures = [ConnectionAbortedError(), OSError(24, "too many open files")]

    class Proactor(asyncio.SelectorEventLoop):
        """As far as it matters."""

        def add_reader(self, *_: Any) -> Any:
            raise NotImplementedError

        async def sock_accept(self, sock: socket.socket) -> Any:
            if failures:
                raise failures.pop()
            return await super().sock_accept(sock)

    async def main() -> None:
        async with FramedServer(place, at_once) as server:
            for _ in range(2):
                client = await Client.to(server)
                client.send(b"hello")
                assert b"HELLO" == await client.receive()
                assert await client.hangs_up()
        assert 1 == len(asyncio.all_tasks())

    with asyncio.Runner(loop_factory=Proactor) as runner:
        runner.run(main())


def test_trio_is_told(place: str) -> None:
    """Early, and in words."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="FramedServer runs on asyncio"):
            await FramedServer(place).start()

    run("trio", main)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"max_connections": 0}, ValueError, "max_connections"),
        ({"max_pending": 0}, ValueError, "max_pending"),
        ({"max_frame": 2**32}, ValueError, "max_frame"),
        ({"heartbeat": 30}, TypeError, "heartbeat must be True or False, got 30"),
        ({"handler": 3}, TypeError, "handler must be a function, got 3"),
        ({"on_connect": in_a_moment}, TypeError, "on_connect must be a blocking function"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """Where the server is made."""
    with pytest.raises(error, match=text):
        FramedServer("tcp://127.0.0.1:0", **settings)


def test_threads_are_none(place: str) -> None:
    """All of it happens in the event loop."""

    async def main() -> None:
        before = threading.active_count()
        async with FramedServer(place):
            assert before == threading.active_count()

    asyncio.run(main())
