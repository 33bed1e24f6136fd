"""The framed server for asyncio: opaque frames from many connections, answered in order."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from resilient.core.addresses import Address, AddressLike, TcpAddress, UnixAddress, read_address
from resilient.core.duration import Duration, seconds, whole
from resilient.core.frames import MAX_FRAME, checked_limit, encode
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.wrapping.kind import Kind, checked_kind
from resilient.net.connection.settings import checked_bool
from resilient.net.framed.server_connection import Peer, Service
from resilient.net.framed.settings import panics_only, refuse_trio
from resilient.net.framed.sockets import BACKLOG, listen_everywhere, listen_unix
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.catch import Catch

__all__ = ["FramedServer", "Peer", "ServerStats"]

MAX_CONNECTIONS = 10_000
MAX_PENDING = 16 * 2**20  # bytes
CLOSE_TIMEOUT = 5.0  # seconds
BREATHER = 1.0  # seconds: asyncio's own ACCEPT_RETRY_DELAY


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What has happened so far.

    Attributes:
        connections: those that are open.
        accepted: all that were.
        turned_away: those for which there was no room.
        cut_off: those that announced too large a frame, or did not read what was sent to them.
        received: frames that came.
        sent: frames that were handed over.
        unhandled: frames that came and were given up, whole or half-way: by ``close()`` when its time was over, or with
            a lost connection under ``cancel_on_disconnect``.
    """

    connections: int
    accepted: int
    turned_away: int
    cut_off: int
    received: int
    sent: int
    unhandled: int


class FramedServer:
    """Takes opaque frames from any number of connections, and answers them in order: ``async with``.

    It runs on asyncio and uvloop.

    Args:
        address: ``"tcp://127.0.0.1:0"`` (0 takes any port that is free), ``"unix:/path"`` or ``(host, port)``. A Unix
            socket that a dead server left behind is replaced, a live one never.
        handler: called with each frame, and with its :class:`Peer` if it takes two arguments, blocking or async; what
            it returns, if that is not None, is sent as the answer. What it raises is told as a Panic, nothing more.
            The frames of one connection are handled one after the other.
        max_frame: most bytes of a frame, in both directions; who announces more is cut off.
        max_connections: most open connections, >= 1; further ones are closed at once.
        max_pending: most bytes that a connection may leave unread, >= 1, before it is cut off.
        heartbeat: whether empty frames are heartbeats, answered by the same, which no handler sees.
        cancel_on_disconnect: whether a handler is cancelled when its connection is reset, and what waits given up;
            otherwise, and whenever the other side just ends its sending, all that came whole is worked off.
        on_connect: called with each new Peer; a plain function.
        on_disconnect: called with each Peer that is gone; a plain function.
        name: for events; the address by default.
        listeners: plain functions of an event.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
        OSError: on entering: somebody listens there, or it is no place to listen.
    """

    def __init__(
        self,
        address: AddressLike,
        handler: Callable[..., object] | None = None,
        *,
        max_frame: int = MAX_FRAME,
        max_connections: int = MAX_CONNECTIONS,
        max_pending: int = MAX_PENDING,
        heartbeat: bool = False,
        cancel_on_disconnect: bool = False,
        on_connect: Callable[[Peer], object] | None = None,
        on_disconnect: Callable[[Peer], object] | None = None,
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        self._address = read_address("address", address)
        self._name = name or self._address.url
        checked_bool("heartbeat", heartbeat)
        self._hears = panics_only(checked_listeners(listeners))
        limit = checked_limit(max_frame)
        self._service = Service(
            answer=self._guarded("handler", handler, Kind.SYNC, Kind.ASYNC, Kind.EITHER),
            to_peer=handler is not None and _takes_peer(handler),
            greet=self._guarded("on_connect", on_connect, Kind.SYNC, Kind.EITHER),
            part=self._guarded("on_disconnect", on_disconnect, Kind.SYNC, Kind.EITHER),
            refuse=self._guarded("answer", partial(encode, limit=limit), Kind.SYNC, Kind.EITHER),
            max_frame=limit,
            max_connections=whole("max_connections", max_connections, least=1),
            max_pending=whole("max_pending", max_pending, least=1),
            heartbeat=heartbeat,
            cancel_on_disconnect=checked_bool("cancel_on_disconnect", cancel_on_disconnect),
        )
        self._admitting: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._inode = -1

    def _guarded(self, what: str, hook: Any, *kinds: Kind) -> Any:
        if hook is None:
            return _nothing
        kind = checked_kind(what, hook, kinds)
        return Catch(f"{self._name}: {what}").guard(hook, kind, self._hears)

    @property
    def name(self) -> str:
        """The name that the server was given, or its address."""
        return self._name

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was found."""
        return self._address

    @property
    def url(self) -> str:
        """The address as text, for a client: ``tcp://127.0.0.1:40123`` or ``unix:/path``."""
        return self._address.url

    @property
    def connections(self) -> tuple[Peer, ...]:
        """The open connections, in the order of their accepts."""
        return tuple(self._service.peers.values())

    def stats(self) -> ServerStats:
        """The numbers of connections and frames, as of now."""
        now = self._service
        frames = now.received, now.sent, now.unhandled
        return ServerStats(len(now.peers), now.accepted, now.turned_away, now.cut_off, *frames)

    def broadcast(self, frame: bytes | bytearray | memoryview) -> int:
        """Sends a frame to all connections, in the server's event loop; to how many it was handed over.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
        """
        frame = bytes(frame)
        encode(frame, self._service.max_frame)
        return sum(peer.send(frame) for peer in self.connections)

    async def start(self) -> None:
        """Begins to listen, as entering does.

        Raises:
            OSError: somebody listens there, or it is no place to listen.
            RuntimeError: it runs already; or not on asyncio.
        """
        refuse_trio("FramedServer", "run it by asyncio, in a thread or process of its own")
        if self._listeners:
            raise RuntimeError(f"the server at {self.url} runs already")
        loop = asyncio.get_running_loop()
        self._listeners = await self._listen(loop)
        self._service.open = True
        for listener in self._listeners:
            try:
                loop.add_reader(listener, self._accept, listener)
            except NotImplementedError:  # Windows' own event loop
                self._accepting.append(loop.create_task(self._accept_by_turns(listener), name="framed server: listen"))

    async def close(self, timeout: Duration = CLOSE_TIMEOUT) -> None:
        """Stops listening, lets handlers end and answers leave, and closes every connection; again does nothing.

        Args:
            timeout: after which connections are cut off, seconds, >= 0, by the real clock.
        """
        limit = seconds("timeout", timeout)
        listeners, self._listeners = self._listeners, []
        if not listeners:
            return
        self._service.open = False
        loop = asyncio.get_running_loop()
        accepting, self._accepting = self._accepting, []
        for task in accepting:
            task.cancel()
        if accepting:
            await asyncio.wait(accepting)
        else:
            for listener in listeners:
                loop.remove_reader(listener)
        if isinstance(self._address, UnixAddress):
            with suppress(OSError):
                if os.stat(self._address).st_ino == self._inode:
                    os.unlink(self._address)
        for listener in listeners:
            listener.close()
        if self._admitting:
            await asyncio.wait(self._admitting)
        # A handler that closes its server does not wait for its own end.
        others = [peer for peer in self._service.made if peer.task is None or peer.task is not asyncio.current_task()]
        ending = [asyncio.ensure_future(peer.finish()) for peer in others]
        try:
            if ending:
                await asyncio.wait(ending, timeout=limit)
        finally:
            for peer in list(self._service.made):
                peer.abort()
                if peer in others:
                    peer.give_up()
        if ending:
            await asyncio.wait(ending)

    async def __aenter__(self) -> FramedServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del error, traceback  # a frame that holds the error it raised is a cycle
        await self.close(CLOSE_TIMEOUT if kind is None else 0)

    # Inside.

    # Not by asyncio's own server: one that is closed while it accepts leaks the connection (3.11), and it would unlink
    # a live Unix socket that has taken the place of ours.
    def _accept(self, listener: socket.socket) -> None:
        """Connections wait at the door."""
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            if listener not in self._listeners:
                return
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # descriptors or memory ran out: trying at once would keep the loop busy
                loop.remove_reader(listener)
                loop.call_later(BREATHER, self._accept_again, listener)
                return
            self._take(accepted)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _accept_by_turns(self, listener: socket.socket) -> None:
        """Connections wait at the door of an event loop that cannot watch a socket."""
        while True:
            try:
                accepted, _address = await asyncio.get_running_loop().sock_accept(listener)
            except ConnectionError:
                continue
            except OSError:
                await asyncio.sleep(BREATHER)
            else:
                self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._admit(accepted), name="framed server: accept")
        self._admitting.add(task)
        task.add_done_callback(self._admitting.discard)

    async def _admit(self, accepted: socket.socket) -> None:
        DEADLINE.set(None)  # that of whoever started the server is not the one of its handlers
        peer = Peer(self._service)
        self._service.made.add(peer)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: peer, accepted)
        except OSError:  # it is gone again
            self._service.made.discard(peer)
            accepted.close()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """The sockets that listen: of a name, at each of its addresses."""
        if isinstance(self._address, UnixAddress):
            listener = listen_unix(self._address)
            self._inode = os.stat(self._address).st_ino
            return [listener]
        host, port = self._address
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listeners = listen_everywhere([(family, where) for family, _, _, _, where in found])
        bound = listeners[0].getsockname()
        # Of several addresses the name is what leads to all of them.
        self._address = TcpAddress(host if len(listeners) > 1 else bound[0], bound[1])
        return listeners

    def __repr__(self) -> str:
        return f"<FramedServer at {self.url}, {len(self._service.peers)} connections>"


def _nothing(*_: object) -> None:
    """In place of a hook that nobody gave."""


def _takes_peer(handler: Any) -> bool:
    """Whether a handler wants to be told whose frame it is."""
    try:
        inspect.signature(handler).bind(b"", None)
    except (TypeError, ValueError):  # one argument; or a builtin that does not tell
        return False
    return True
