"""Sockets under framed connections: how they are set up and what they tell; those that listen take the place of dead
ones, never of live ones.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

from resilient.core.outbox_plan import PIPE
from resilient.net.framed.settings import BATCH

__all__ = [
    "BACKLOG",
    "goodbyes_cross",
    "has_ended",
    "listen_everywhere",
    "listen_tcp",
    "listen_unix",
    "pipe_is_empty",
    "pipe_size",
    "read_buffer",
    "tuned",
]

BACKLOG = 128  # connections that wait to be accepted: Linux's somaxconn until 5.4
FREE_PORTS = 10  # most ports that are tried where one must be free at several addresses
CLOSING = 11  # of Linux' tcp_states.h
READ = 256 * 1024  # bytes read at once: as many as asyncio reads


class _Local(local):
    """What each thread has of its own."""

    buffer: memoryview | None = None


_own = _Local()


def read_buffer() -> memoryview:
    """What all connections of this thread read into, one after the other.

    Otherwise asyncio makes a new one for each read, which costs more than all the rest of it where the system's memory
    has to be asked for it anew: glibc does so for what is larger than 128 KiB (mallopt(3), M_MMAP_THRESHOLD).
    """
    if _own.buffer is None:
        _own.buffer = memoryview(bytearray(READ))
    return _own.buffer


def tuned(transport: asyncio.BaseTransport) -> None:
    """Sets up a TCP connection; a Unix socket has no need of it.

    The kernel is to find peers that are gone for hours. And it is to take no more than it can send soon: so heartbeats
    do not queue behind megabytes, and bytes that leave can be seen to leave.
    """
    found = transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        unsent = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)  # named from 3.12 on
        if unsent is not None:
            found.setsockopt(socket.IPPROTO_TCP, unsent, 2 * BATCH)


def pipe_size() -> int:
    """How many bytes two kernels with the settings of this one may hold of a TCP connection, at least 36 MiB."""
    sizes = []
    for name in ("wmem", "rmem"):
        try:
            with open(f"/proc/sys/net/ipv4/tcp_{name}", encoding="ascii") as limits:
                sizes.append(int(limits.read().split()[-1]))
        except (OSError, ValueError, IndexError):  # another system
            pass
    return max(PIPE, sum(sizes))


def goodbyes_cross(transport: asyncio.BaseTransport) -> bool:
    """Whether the end of the other side's stream, which has just come, was sent before it knew of ours.

    False if nobody can tell. On Linux a TCP socket is in the state CLOSING until our end is acknowledged, which an
    answer to it would have done (RFC 9293, 3.3.2).
    """
    found = transport.get_extra_info("socket")
    if sys.platform != "linux" or found is None or found.family == socket.AF_UNIX or found.fileno() < 0:
        return False
    return bool(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSING)


def has_ended(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side has ended its stream, though that may not have been read yet; False if nobody can tell."""
    found = transport.get_extra_info("socket")
    return found is not None and found.fileno() >= 0 and hasattr(select, "poll") and _has_ended(found.fileno())


def _has_ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
    return bool(poll.poll(0))


def pipe_is_empty(transport: asyncio.Transport) -> bool:
    """Whether the other side has read all that was written; False if nobody can tell.

    Of one that is gone nobody can: the system throws away what it had not read. Linux's SIOCOUTQ counts what the peer
    of a Unix socket has not read (unix(7)); of TCP only what its kernel has not got, which says nothing.
    """
    found = transport.get_extra_info("socket")
    if sys.platform != "linux" or found is None or found.family != socket.AF_UNIX or transport.is_closing():
        return False
    if transport.get_write_buffer_size():
        return False
    from array import array
    from fcntl import ioctl
    from termios import TIOCOUTQ

    left = array("i", [0])
    ioctl(found.fileno(), TIOCOUTQ, left)
    return left[0] == 0 and not _has_ended(found.fileno())  # in this order: it was there when nothing was left


def listen_tcp(family: int, where: tuple[object, ...], *, alone: bool = False) -> socket.socket:
    """A listening TCP socket; one of IPv6 takes IPv4 as well where the system does so, unless it is to stand alone.

    Raises:
        OSError: somebody listens there, or it is no place to listen.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let others steal the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if alone and family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_everywhere(found: Iterable[tuple[int, tuple[Any, ...]]]) -> list[socket.socket]:
    """Listening TCP sockets at all of these addresses, with one port; those that this machine does not have are left.

    Args:
        found: families and addresses, at least one; with the same port. 0 becomes one that is free at all of them.

    Raises:
        OSError: somebody listens at one of them, or none is a place to listen.
    """
    found = list(dict.fromkeys(found))
    for _ in range(FREE_PORTS - 1):
        try:
            return _listen_at_all(found)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or found[0][1][1]:
                raise  # else the port that was free at the first address is taken at another
    return _listen_at_all(found)


def _listen_at_all(found: list[tuple[int, tuple[Any, ...]]]) -> list[socket.socket]:
    made: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, (host, port, *rest) in found:
            where = host, port or (made[0].getsockname()[1] if made else 0), *rest
            try:
                made.append(listen_tcp(family, where, alone=len(found) > 1))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error.with_traceback(None)
        if absent is not None and not made:
            raise absent
    except BaseException:
        for each in made:
            each.close()
        raise
    finally:
        absent = None  # a frame that holds the error it raised is a cycle
    return made


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
