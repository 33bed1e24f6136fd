"""Dials of framed connections: every address of a name, and only what did connect passes for connected."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import run

from resilient.core.addresses import TcpAddress, UnixAddress
from resilient.net.framed import dialing
from resilient.net.framed.dialing import connected

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that swallows what wants to connect: its queue is full."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        where = made.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(where)
        yield where
        for filler in fillers:
            filler.close()


def resolving(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int]) -> None:
    """Every name has these addresses."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)


def test_a_full_queue_of_a_unix_socket_is_a_failed_dial(tmp_path: Path) -> None:
    """Linux answers EAGAIN, and nothing is connected."""
    path = f"{tmp_path}/s"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
            made.listen(0)
            there = await connected(UnixAddress(path))
            with pytest.raises(BlockingIOError, match="too many wait"):
                await connected(UnixAddress(path))
            there.close()

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_swallows_is_not_waited_for(
    loop: str, listener: socket.socket, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is tried a little later, and its connection is the one; the other dial is given up."""
    resolving(monkeypatch, black_hole, listener.getsockname())
    monkeypatch.setattr(dialing, "STAGGER", 0.01)

    async def main() -> None:
        sock = await asyncio.wait_for(connected(TcpAddress("twins", 1)), 5)
        assert listener.getsockname() == sock.getpeername()
        sock.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 1 == len(asyncio.all_tasks())

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_refuses_makes_room_at_once(
    loop: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stagger is for those that say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()
    resolving(monkeypatch, refusing, listener.getsockname())
    monkeypatch.setattr(dialing, "STAGGER", 100)

    async def main() -> None:
        sock = await asyncio.wait_for(connected(TcpAddress("twins", 1)), 5)
        assert listener.getsockname() == sock.getpeername()
        sock.close()

    run(loop, main)


def test_what_all_addresses_said_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first one's number."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        where = first.getsockname(), second.getsockname()
    resolving(monkeypatch, *where)

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match=f"{where[0][1]}.*; .*{where[1][1]}") as caught:
            await connected(TcpAddress("twins", 1))
        assert errno.ECONNREFUSED == caught.value.errno

    asyncio.run(main())


def test_a_cancelled_dial_leaves_nothing(black_hole: tuple[str, int]) -> None:
    """No task and no descriptor."""

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connected(TcpAddress(*black_hole)), 0.05)
        await asyncio.sleep(0.01)
        assert (1, before) == (len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))

    asyncio.run(main())


def test_a_socket_connected_to_itself_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP's simultaneous open: a dial of a free local port may be given that port as its own."""
    real = socket.socket

    class Bound(socket.socket):
        """Its own port is the one it dials."""

        def connect(self, where: Any) -> None:
            self.bind(where)
            super().connect(where)

    with real() as free:
        free.bind(("127.0.0.1", 0))
        where = free.getsockname()
    monkeypatch.setattr(socket, "socket", Bound)

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="connected to itself"):
            await connected(TcpAddress(*where))

    asyncio.run(main())


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8305, section 4: three addresses that are out of reach do not hold up the fourth."""
    six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"::{number}", 1, 0, 0)) for number in (1, 2, 3)]
    four = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: six + four)

    async def main() -> None:
        found = await dialing._looked_up("both", 1)
        assert ["::1", "127.0.0.1", "::2", "::3"] == [where[0] for _, where in found]

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_lookup_that_hangs_takes_one_thread_and_none_of_the_program(
    loop: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who ask for the name meanwhile wait for the one; the executor stays free, and the program may end."""
    asked, go = list[str](), threading.Event()

    def getaddrinfo(host: str, *_: object, **__: object) -> Any:
        asked.append(host)
        assert go.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        dials = [asyncio.create_task(connected(TcpAddress("slow", 1))) for _ in range(50)]
        assert 1 == await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5)
        assert ["slow"] == asked
        assert [True] == [each.daemon for each in threading.enumerate() if each.name == "lookup of slow"]
        dials.pop().cancel()
        go.set()
        for sock in await asyncio.gather(*dials):
            sock.close()
        assert {} == dialing._lookups

    run(loop, main)


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "later"), UnicodeError("label too long")])
def test_a_lookup_that_fails_tells_all(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets an error of its own, and the next dial looks the name up again."""

    def getaddrinfo(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        dials = [asyncio.create_task(connected(TcpAddress("no.where", 1))) for _ in range(2)]
        first, second = await asyncio.gather(*dials, return_exceptions=True)
        assert type(first) is type(second) is type(error)
        assert first is not second
        assert {} == dialing._lookups

    asyncio.run(main())


def test_a_lookup_without_a_thread_is_a_failed_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later, as all dials are."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    async def main() -> None:
        with pytest.raises(OSError, match="no thread to look"):
            await connected(TcpAddress("some.where", 1))
        assert {} == dialing._lookups

    asyncio.run(main())


def test_a_name_without_addresses_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system's own resolver says it."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])

    async def main() -> None:
        with pytest.raises(socket.gaierror, match="no address of no.where"):
            await connected(TcpAddress("no.where", 1))

    asyncio.run(main())


def test_a_resolver_that_somebody_chose_is_asked(listener: socket.socket) -> None:
    """An event loop may have one of its own."""

    class Loop(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())]

    async def main() -> None:
        sock = await connected(TcpAddress("chosen", 1))
        assert listener.getsockname() == sock.getpeername()
        sock.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_lookup_whose_loop_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits any more."""
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait(10) and [])

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connected(TcpAddress("late", 1)), 0.01)

    asyncio.run(main())
    thread = next(each for each in threading.enumerate() if each.name == "lookup of late")
    go.set()
    thread.join()
    assert {} == dialing._lookups


def test_a_fork_forgets_the_lookups_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their threads are the parent's: who waited for them would wait for ever."""
    dialing._lookups["slow", 1] = dialing._Lookup("slow", 1)
    try:
        child = os.fork()
        if not child:
            os._exit(len(dialing._lookups))
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert 1 == len(dialing._lookups)
    finally:
        dialing._lookups.clear()
