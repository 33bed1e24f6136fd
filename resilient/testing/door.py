"""Where a fault proxy listens: a door that can be shut without giving the address away."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress

from resilient.core.addresses import Address, TcpAddress, UnixAddress

__all__ = ["Door"]

NO_FILE = 1.0  # seconds without accepts when no descriptor is left, as in asyncio's servers (ACCEPT_RETRY_DELAY)
BACKLOG = 128  # connections that wait to be accepted: the default of Linux's somaxconn until 5.4


class Door:
    """A socket that listens for a fault proxy.

    Args:
        address: where; port 0 takes any that is free.
        accepted: is given every new connection.

    Attributes:
        address: where it listens, with the port that was found.

    Raises:
        OSError: somebody listens there, or the address is not ours.
    """

    def __init__(self, address: Address, accepted: Callable[[socket.socket], None]) -> None:
        self.address = address
        self._accepted = accepted
        self._listener: socket.socket | None = None
        self._holder: socket.socket | None = None
        self._inode = -1
        self._hold()
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def open(self) -> None:
        """Begins to listen for connections."""
        if self._listener is not None:
            return
        made = self._bound()
        try:
            made.listen(BACKLOG)
        except BaseException:
            made.close()
            raise
        self._listener = made
        if isinstance(self.address, TcpAddress):
            self.address = TcpAddress(*made.getsockname()[:2])
        else:
            self._inode = os.stat(self.address).st_ino
        self._listen(made)

    def shut(self) -> None:
        """Refuses connections; the address stays ours."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Gives the address away."""
        self.shut()
        if self._holder is not None:
            self._holder.close()
        if isinstance(self.address, UnixAddress):
            with suppress(OSError):
                if os.stat(self.address).st_ino == self._inode and not _answers(self.address):
                    os.unlink(self.address)

    def _hold(self) -> None:
        # While nobody listens, a second socket that is bound, but does not listen, keeps the system from giving the
        # port to others. Linux lets both be bound, by SO_REUSEADDR; other systems do not.
        if isinstance(self.address, TcpAddress) and sys.platform == "linux":
            self._holder = self._bound()
            self.address = TcpAddress(*self._holder.getsockname()[:2])

    def _bound(self) -> socket.socket:
        if isinstance(self.address, UnixAddress):
            self._clear(self.address)
            where: str | tuple[object, ...] = self.address
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            host, port = self.address
            family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            made = socket.socket(family, kind, protocol)
            if os.name == "posix":  # elsewhere it would let others steal the port
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.setblocking(False)
            made.bind(where)
        except BaseException:
            made.close()
            raise
        return made

    def _clear(self, path: UnixAddress) -> None:
        """Takes away a socket that nobody listens on any more; a live one is never stolen."""
        if not os.path.exists(path):
            return
        found = os.stat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket", path)
        if _answers(path):
            raise OSError(errno.EADDRINUSE, f"somebody listens on {path.url}")
        os.unlink(path)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # it stays in the queue, and would be told of without a pause
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(NO_FILE, self._listen, listener)
            return
        client.setblocking(False)
        with suppress(OSError):  # a Unix socket, or one that is gone already
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # slices are to be packets of their own
        self._accepted(client)

    def _listen(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)


def _answers(path: UnixAddress) -> bool:
    """Whether somebody listens there. The number of a file says nothing: the next one may have it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its queue is full
            pass
    return True
