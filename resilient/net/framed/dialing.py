"""Connected sockets: every address of a name is tried, and what did not connect is a failed dial.

asyncio's own ways have gaps: a Unix socket whose accept queue is full (EAGAIN) passes for connected, a name's addresses
are waited for one by one, lookups take threads of the program's executor, and a TCP connection to oneself, which a
dial of a free local port can make, passes for a peer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from itertools import chain, zip_longest
from threading import Lock, Thread
from typing import Any, TypeAlias

from resilient.core.addresses import Address, UnixAddress

__all__ = ["connected"]

Found: TypeAlias = tuple[int, tuple[Any, ...]]
"""An address family and an address of it."""

STAGGER = 0.25  # seconds until the next address is tried beside those under way: RFC 8305, section 8


async def connected(address: Address) -> socket.socket:
    """A connected socket that does not block.

    Raises:
        OSError: nobody listens there, or has room; or there is no such name.
    """
    if isinstance(address, UnixAddress):
        return _connected_unix(address)
    found = await _looked_up(*address)
    return await _first_of(found)


def _connected_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        try:
            made.connect(path)
        except BlockingIOError:
            raise BlockingIOError(errno.EAGAIN, "too many wait to be accepted", path) from None
    except BaseException:
        made.close()
        raise
    return made


async def _first_of(found: list[Found]) -> socket.socket:
    """The first connection that comes up; the next address is tried when one fails, or takes its time."""
    waiting, errors = list(found), list[OSError]()
    dials: set[asyncio.Task[socket.socket]] = set()
    try:
        while waiting or dials:
            if waiting:
                dials.add(asyncio.get_running_loop().create_task(_connected_tcp(*waiting.pop(0))))
            done, dials = await asyncio.wait(
                dials, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for dial in done:
                error = dial.exception()
                if error is None:
                    dials |= done - {dial}
                    return dial.result()
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
        raise errors[0] if len(errors) == 1 else OSError(errors[0].errno, "; ".join(map(str, errors)))
    finally:
        for dial in dials:
            dial.cancel()
            dial.add_done_callback(_closed)
        errors.clear()  # a frame that holds the error it raised is a cycle


def _closed(dial: asyncio.Task[socket.socket]) -> None:
    """A dial that nobody waits for any more: what it made all the same is closed."""
    if not dial.cancelled() and dial.exception() is None:
        dial.result().close()


async def _connected_tcp(family: int, where: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, where)
        if made.getsockname() == made.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: connected to itself")
    except BaseException:
        made.close()
        raise
    return made


async def _looked_up(host: str, port: int) -> list[Found]:
    """The addresses of a name, those of different families in turn (RFC 8305, section 4)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]
    loop = asyncio.get_running_loop()
    if _resolves_itself(loop):
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        infos = await _resolve(loop, host, port)
    families: dict[int, list[Found]] = {}
    for family, _, _, _, where in infos:
        families.setdefault(family, []).append((family, where))
    found = [each for each in chain.from_iterable(zip_longest(*families.values())) if each is not None]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, f"there is no address of {host}")
    return found


def _resolves_itself(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop has a resolver that somebody chose."""
    own = "getaddrinfo" in getattr(loop, "__dict__", {})
    return own or type(loop).getaddrinfo.__module__.partition(".")[0] not in {"asyncio", "uvloop", None}


class _Lookup:
    """A name that is being looked up in a thread of its own, for all who ask for it meanwhile."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.told: list[Callable[[Any, Exception | None], object]] = []

    def run(self) -> None:
        infos: Any = None
        error: Exception | None = None
        try:
            infos = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except Exception as failure:
            error = failure.with_traceback(None)
        self.end(infos, error)
        del error

    def end(self, infos: Any, error: Exception | None) -> None:
        with _lock:
            _lookups.pop((self.host, self.port), None)
        for tell in self.told:
            tell(infos, error)


_lookups: dict[tuple[str, int], _Lookup] = {}
_lock = Lock()


def _begin_anew() -> None:
    """In a forked child: the threads that looked names up are the parent's."""
    global _lock
    _lock = Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_begin_anew)


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    """Looks a name up in a daemon thread: one that hangs holds up neither the program's executor nor its end."""
    answered: asyncio.Future[list[Any]] = loop.create_future()

    def answer(infos: Any, error: Exception | None) -> None:
        if answered.done():
            return
        if error is None:
            answered.set_result(infos)
        else:
            answered.set_exception(type(error)(*error.args))

    def tell(infos: Any, error: Exception | None) -> None:
        try:
            loop.call_soon_threadsafe(answer, infos, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    with _lock:
        lookup = _lookups.get((host, port))
        begun = lookup is not None
        if lookup is None:
            lookup = _lookups[host, port] = _Lookup(host, port)
        lookup.told.append(tell)
    if not begun:
        try:
            Thread(target=lookup.run, name=f"lookup of {host}", daemon=True).start()
        except RuntimeError as error:
            lookup.end(None, OSError(errno.EAGAIN, f"no thread to look {host} up: {error}"))
    return await answered
