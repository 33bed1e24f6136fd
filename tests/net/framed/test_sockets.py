"""Sockets under framed connections."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from loops import run

from resilient.net.framed.sockets import pipe_is_empty, read_buffer, tuned


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
