"""Sockets under framed connections: what they read into, how they are set up, what they tell."""

from __future__ import annotations

import asyncio
import socket
import sys
from threading import local

from resilient.net.framed.settings import BATCH

__all__ = ["pipe_is_empty", "read_buffer", "tuned"]

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


def pipe_is_empty(transport: asyncio.Transport) -> bool:
    """Whether the other side has read all that was written; False if nobody can tell.

    Linux's SIOCOUTQ counts what the peer of a Unix socket has not read (unix(7)); of TCP only what its kernel has not
    got, which says nothing.
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
    return left[0] == 0
