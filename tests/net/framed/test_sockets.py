"""Sockets under framed connections; of those that listen, dead ones are replaced, live ones never."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from loops import run
from threads import together

from resilient.core.outbox_plan import PIPE
from resilient.net.framed import sockets
from resilient.net.framed.sockets import (
    goodbyes_cross,
    has_ended,
    listen_everywhere,
    listen_tcp,
    listen_unix,
    pipe_is_empty,
    pipe_size,
    read_buffer,
    tuned,
)


def test_a_thread_reads_into_one_buffer() -> None:
    """Another one into its own: they would overwrite each other's."""
    others: list[memoryview] = []
    thread = threading.Thread(target=lambda: others.append(read_buffer()))
    thread.start()
    thread.join()
    assert read_buffer() is read_buffer()
    assert others[0] is not read_buffer()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_unix_socket_tells_what_is_unread(loop: str) -> None:
    """As soon as the other side has read it, nothing is left in the pipe."""

    async def main() -> None:
        mine, other = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=mine)
        assert pipe_is_empty(transport)
        transport.write(b"abc")
        assert not pipe_is_empty(transport)
        other.recv(3)
        assert pipe_is_empty(transport)
        other.setblocking(False)
        transport.write(bytes(10_000_000))
        assert not pipe_is_empty(transport)
        transport.abort()
        assert not pipe_is_empty(transport)
        other.close()

    run(loop, main)


def test_tcp_connections_are_tuned() -> None:
    """Dead peers are to be found, and little is to queue in the kernel."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *listener.getsockname())
        tuned(transport)
        found = transport.get_extra_info("socket")
        assert 1 == found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not pipe_is_empty(transport)  # nobody can tell
        transport.abort()
        listener.close()

    asyncio.run(main())


def test_of_many_servers_one_gets_a_dead_socket(tmp_path: Path) -> None:
    """However close they start."""
    path = str(tmp_path / "s")
    for _ in range(20):
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
        won: list[socket.socket] = []
        raised = together(4, lambda n: won.append(listen_unix(path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert (1, [OSError] * 3) == (len(won), [type(error) for error in raised])
        won[0].close()
        os.unlink(path)


def test_a_file_stays(tmp_path: Path) -> None:
    """One that is no socket was put there by somebody."""
    path = tmp_path / "s"
    path.write_text("a file")
    with pytest.raises(FileExistsError, match="there is a file that is no socket"):
        listen_unix(str(path))
    assert "a file" == path.read_text()


def test_a_socket_whose_queue_is_full_is_alive(tmp_path: Path) -> None:
    """Whoever finds no room there finds nobody dead."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="somebody listens there"):
            listen_unix(path)


def test_a_port_is_taken_once() -> None:
    """The error is the system's."""
    with listen_tcp(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        with pytest.raises(OSError, match="in use"):
            listen_tcp(socket.AF_INET, listener.getsockname())


BOTH = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]


def test_a_name_is_listened_on_everywhere() -> None:
    """At one port; an address that is told twice is one."""
    listeners = listen_everywhere([*BOTH, *BOTH])
    assert 2 == len(listeners)
    assert 1 == len({each.getsockname()[1] for each in listeners})
    for each in listeners:
        socket.create_connection(each.getsockname()[:2], timeout=20).close()
        each.close()


def test_wildcards_do_not_get_into_each_others_way() -> None:
    """IPv6's takes IPv4 as well on Linux, unless told otherwise."""
    for each in listen_everywhere([(socket.AF_INET6, ("::", 0, 0, 0)), (socket.AF_INET, ("0.0.0.0", 0))]):
        each.close()


def test_addresses_that_are_not_here_are_left_out() -> None:
    """As long as there is one that is."""
    elsewhere = (socket.AF_INET, ("192.0.2.1", 0))
    (listener,) = listen_everywhere([elsewhere, BOTH[1]])
    listener.close()
    with pytest.raises(OSError, match="Cannot assign"):
        listen_everywhere([elsewhere])


def test_a_port_is_free_everywhere_or_another_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody cares which; otherwise it is in use."""
    tried = list[int]()

    def listen(family: int, where: tuple[Any, ...], *, alone: bool) -> socket.socket:
        if len(tried) < 2 and family == socket.AF_INET:
            tried.append(where[1])
            raise OSError(errno.EADDRINUSE, "in use")
        return listen_tcp(family, where, alone=alone)

    monkeypatch.setattr(sockets, "listen_tcp", listen)
    for each in listen_everywhere(BOTH):
        each.close()
    assert 2 == len(tried)
    monkeypatch.setattr(sockets, "FREE_PORTS", 1)
    tried.clear()
    with pytest.raises(OSError, match="in use"):
        listen_everywhere(BOTH)


def test_a_port_that_is_taken_is_refused() -> None:
    """Nothing stays open of the others."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen_everywhere([(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))])
    listen_tcp(socket.AF_INET6, ("::1", port, 0, 0)).close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_a_dead_peer_had_not_read_is_not_taken_for_read(loop: str) -> None:
    """Linux purges its queue, which looks empty then."""

    async def main() -> None:
        mine, other = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=mine)
        transport.write(b"abc")
        other.close()
        assert not pipe_is_empty(transport)
        transport.abort()

    run(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("unix", [False, True])
def test_an_end_that_is_there_already_answers_nothing(unix: bool, loop: str) -> None:
    """The other side has ended its stream, and then we end ours."""

    async def main() -> None:
        if unix:
            mine, other = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                mine = socket.create_connection(server.getsockname())
                other, _ = server.accept()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=mine)
        transport.pause_reading()
        assert not has_ended(transport)
        other.shutdown(socket.SHUT_WR)
        assert has_ended(transport)
        assert not goodbyes_cross(transport)
        transport.abort()
        other.close()

    run(loop, main)


def test_the_pipe_is_as_large_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no smaller than where nobody has changed it; nor where the system does not tell."""
    files = {"wmem": "1 2 100000000", "rmem": "1 2 3"}

    def opened(path: str, **_: object) -> io.StringIO:
        return io.StringIO(files[path.rpartition("_")[2]])

    monkeypatch.setattr(sockets, "open", opened, raising=False)
    assert 100_000_003 == pipe_size()
    files["wmem"] = ""
    assert PIPE == pipe_size()


def test_ends_that_cross_are_known_by_the_state_of_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux; a closed socket tells nothing."""

    class Transport(asyncio.BaseTransport):
        """One whose socket is in a state."""

        family = socket.AF_INET

        def __init__(self, state: int, descriptor: int) -> None:
            super().__init__({"socket": self})
            self.state, self.descriptor = state, descriptor

        def fileno(self) -> int:
            return self.descriptor

        def getsockopt(self, *_: int) -> bytes:
            return bytes([self.state])

    assert [True, False, False] == [goodbyes_cross(Transport(*each)) for each in ((11, 1), (7, 1), (11, -1))]
    assert not has_ended(Transport(11, -1))
    monkeypatch.setattr(sockets.sys, "platform", "darwin")
    assert not goodbyes_cross(Transport(11, 1))
