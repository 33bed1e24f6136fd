"""Upstreams: real servers on loopback that send back what they get, and note how each connection ended."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

HANG = 60  # seconds: only a guard


class Echo:
    """Sends everything back.

    Attributes:
        address: where.
        got: everything received, in a bytearray for each connection.
        ends: "closed" or "reset" for each connection that has ended.
        sockets: the accepted ones.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.address = listener.getsockname()
        by_path = listener.family == socket.AF_UNIX
        self.url = f"unix:{self.address}" if by_path else f"tcp://{self.address[0]}:{self.address[1]}"
        self.got: list[bytearray] = []
        self.ends: Queue[str] = Queue()
        self.sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[:1]:
            thread.join()
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.sockets.append(accepted)
            self.got.append(bytearray())
            thread = threading.Thread(target=self._serve, args=(accepted, self.got[-1]))
            self._threads.append(thread)
            thread.start()

    def _serve(self, accepted: socket.socket, got: bytearray) -> None:
        with accepted:
            try:
                while data := accepted.recv(65536):
                    got += data
                    accepted.sendall(data)
            except OSError:
                self.ends.put("reset")
            else:
                self.ends.put("closed")


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Callable[..., Echo]]:
    """Starts servers: ``echo()`` by TCP, ``echo("unix")``."""
    made: list[Echo] = []

    def start(kind: str = "tcp") -> Echo:
        if kind == "tcp":
            listener = socket.create_server(("127.0.0.1", 0))
        else:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(os.fspath(tmp_path / f"upstream{len(made)}.sock"))
            listener.listen()
        made.append(Echo(listener))
        return made[-1]

    yield start
    for each in made:
        each.close()
