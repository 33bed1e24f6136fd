"""Sockets that listen: in place of a dead one, never of a live one."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BACKLOG", "listen_tcp", "listen_unix"]

BACKLOG = 128  # connections that wait to be accepted: Linux's somaxconn until 5.4


def listen_tcp(family: int, where: tuple[object, ...]) -> socket.socket:
    """A listening TCP socket.

    Raises:
        OSError: somebody listens there, or it is no place to listen.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let others steal the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_unix(path: str) -> socket.socket:
    """A listening Unix socket, in place of one that nobody listens on any more.

    Raises:
        OSError: somebody listens there, or there is something else than a socket.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        with _alone(path):
            _clear(path)
            listener.bind(path)
            listener.listen(BACKLOG)  # before anybody else looks: bound alone, it would look dead
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """A lock on the folder: of two servers that find one dead socket, none must take away the other's new one."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    except OSError:  # a folder that may be used, but not listed
        yield
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _clear(path: str) -> None:
    """Takes away a dead socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # so many wait to be accepted that there is no room
            pass
    raise OSError(errno.EADDRINUSE, "somebody listens there", path)
