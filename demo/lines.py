"""A connection that blocks: numbered lines there and back."""

from __future__ import annotations

import socket
import time
from itertools import count

from demo.process import Address

__all__ = ["Line"]

SHORTEST = 0.001  # seconds; a socket timeout of 0 would not mean "no time left" but "never block"


class Line:
    """One connection.

    Args:
        address: where to.
        timeout: for connecting, seconds.

    Raises:
        OSError: nobody answers there.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._socket = socket.create_connection(address, timeout)
        self._numbers = count(1)
        self._received = b""

    def ask(self, request: str, timeout: float) -> str:
        """The answer to a request.

        Args:
            request: without its number.
            timeout: seconds.

        Raises:
            TimeoutError: there was none in time; if it comes late, the next request skips it.
            OSError: the connection is lost.
        """
        deadline = time.monotonic() + timeout
        number = str(next(self._numbers))
        self._socket.settimeout(max(SHORTEST, timeout))
        self._socket.sendall(f"{number} {request}\n".encode())
        while True:
            answered, _, answer = self._next_line(deadline).partition(" ")
            if answered == number:
                return answer

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def _next_line(self, deadline: float) -> str:
        while b"\n" not in self._received:
            self._socket.settimeout(max(SHORTEST, deadline - time.monotonic()))
            chunk = self._socket.recv(4096)
            if not chunk:
                raise ConnectionResetError("the server hung up")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()
