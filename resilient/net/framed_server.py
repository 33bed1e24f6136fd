"""The framed server for asyncio: opaque frames from many connections, answered in order."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import isawaitable
from types import TracebackType
from typing import Any, cast

from resilient.core.addresses import Address, AddressLike, TcpAddress, UnixAddress, read_address
from resilient.core.duration import Duration, seconds, whole
from resilient.core.frames import BEAT, MAX_FRAME, FrameReader, checked_limit, encode
from resilient.drivers.kind import Kind
from resilient.net.framed import MOST_BYTES, MOST_FRAMES, panics_only, refuse_trio
from resilient.net.polled import checked_kind
from resilient.net.wire import tuned
from resilient.observe.listeners import Listener
from resilient.policies.catch import Catch
from resilient.policies.gate import checked_listeners

__all__ = ["FramedServer", "Peer", "ServerStats"]

BACKLOG = 128  # connections that wait to be accepted: Linux's somaxconn until 5.4
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
    """

    connections: int
    accepted: int
    turned_away: int
    cut_off: int
    received: int
    sent: int


class Peer(asyncio.Protocol):
    """One connection of a server.

    Attributes:
        number: from 1 on, in the order of the accepts.
        address: of the other side; empty for a Unix socket without a name.
    """

    def __init__(self, server: FramedServer) -> None:
        self.number = 0
        self.address: object = ""
        self._server = server
        self._reader = FrameReader(server.max_frame)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._unhandled = 0
        self._full = False
        self._parted = False
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, frame: bytes | bytearray | memoryview) -> bool:
        """Sends a frame, in the server's event loop; whether it was handed over.

        It is not if the connection is closed, or is now, since the other side left too much unread.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
        """
        return self._write(encode(frame, self._server.max_frame), 1)

    def close(self) -> None:
        """Ends the connection behind what was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tuned(transport)
        self.address = transport.get_extra_info("peername", "")
        if not self._server.came(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        server = self._server
        frames = self._reader.feed(data)
        if server.heartbeat and b"" in frames:
            self._write(BEAT * frames.count(b""), 0)  # at once, ahead of all answers
            frames = [frame for frame in frames if frame]
        server.received += len(frames)
        if self._task is None:
            self._answer(frames)
        else:
            self._wait(frames)
        if self._reader.refused is not None:
            server.cut_off += 1
            self.abort()

    def eof_received(self) -> bool:
        self._parted = True
        return bool(self._task)  # what it asked before is still answered

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        if not self._over.done():
            self._over.set_result(None)
        self._server.left(self)

    def pause_writing(self) -> None:
        self._full = True
        self._steer()

    def resume_writing(self) -> None:
        self._full = False
        self._steer()

    # Inside.

    def _answer(self, frames: list[bytes]) -> None:
        """Handles frames at once, as long as the handler is not async; the answers go out together."""
        answer, server, answers = self._server.answer, self._server, list[bytes]()
        for place, frame in enumerate(frames):
            result = answer(frame, self) if server.to_peer else answer(frame)
            if result is None:
                continue
            if type(result) is not bytes and isawaitable(result):  # the former is quick
                self._flush(answers)
                self._task = asyncio.get_running_loop().create_task(self._handle(result), name="framed server")
                self._wait(frames[place + 1 :])
                return
            wire = server.encoded(result)
            if wire is not None:
                answers.append(wire)
        self._flush(answers)

    def _flush(self, answers: list[bytes]) -> None:
        if answers:
            self._write(answers[0] if len(answers) == 1 else b"".join(answers), len(answers))

    def _wait(self, frames: list[bytes]) -> None:
        self._waiting.extend(frames)
        self._unhandled += sum(map(len, frames))
        self._steer()

    async def _handle(self, begun: Any) -> None:
        """Handles frames one after the other, until none waits."""
        server = self._server
        try:
            while True:
                result = await begun if isawaitable(begun) else begun
                if result is not None and (wire := server.encoded(result)) is not None:
                    self._write(wire, 1)
                if not self._waiting:
                    break
                frame = self._waiting.popleft()
                self._unhandled -= len(frame)
                self._steer()
                begun = server.answer(frame, self) if server.to_peer else server.answer(frame)
        finally:
            self._task = None
        if self._parted:
            self.close()

    def _write(self, data: bytes, frames: int) -> bool:
        transport, server = self._transport, self._server
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(data) > server.max_pending + server.max_frame:
            server.cut_off += 1
            transport.abort()
            return False
        server.sent += frames
        transport.write(data)
        return True

    def _steer(self) -> None:
        """Reads on, or lets the other side wait until what is there has been worked off."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._full or len(self._waiting) >= MOST_FRAMES or self._unhandled >= MOST_BYTES:
            transport.pause_reading()
        elif len(self._waiting) <= MOST_FRAMES // 2 and self._unhandled <= MOST_BYTES // 2:
            transport.resume_reading()

    async def finish(self) -> None:
        """Handles what has come, and ends the connection when the answers are out."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        while self._task is not None and not self._over.done():
            await asyncio.wait([self._task, self._over], return_when=asyncio.FIRST_COMPLETED)
        self.close()
        await asyncio.wait([self._over])

    def __repr__(self) -> str:
        return f"<Peer {self.number} at {self.address!r}>"


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
        on_connect: Callable[[Peer], object] | None = None,
        on_disconnect: Callable[[Peer], object] | None = None,
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        self._address = read_address("address", address)
        self.max_frame = checked_limit(max_frame)
        self.max_connections = whole("max_connections", max_connections, least=1)
        self.max_pending = whole("max_pending", max_pending, least=1)
        if not isinstance(heartbeat, bool):
            raise TypeError(f"heartbeat must be True or False, got {heartbeat!r}")
        self.heartbeat = heartbeat
        self.name = name or self._address.url
        hears = panics_only(checked_listeners(listeners))
        self.answer = self._guarded("handler", handler, hears, Kind.SYNC, Kind.ASYNC, Kind.EITHER)
        self.to_peer = handler is not None and _takes_peer(handler)
        self._greet = self._guarded("on_connect", on_connect, hears, Kind.SYNC, Kind.EITHER)
        self._part = self._guarded("on_disconnect", on_disconnect, hears, Kind.SYNC, Kind.EITHER)
        self._refuse = Catch(f"{self.name}: answer").guard(self._checked, Kind.SYNC, hears)
        self._peers: dict[int, Peer] = {}
        self._made: set[Peer] = set()  # those that are turned away, too
        self._admitting: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._inode = -1
        self._accepted = self._turned_away = self.cut_off = self.received = self.sent = 0

    def _guarded(self, what: str, hook: Any, hears: tuple[Listener, ...], *kinds: Kind) -> Any:
        if hook is None:
            return _nothing
        kind = checked_kind(what, hook, kinds)
        return Catch(f"{self.name}: {what}").guard(hook, kind, hears)

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
        return tuple(self._peers.values())

    def stats(self) -> ServerStats:
        """The present numbers."""
        return ServerStats(len(self._peers), self._accepted, self._turned_away, self.cut_off, self.received, self.sent)

    def broadcast(self, frame: bytes | bytearray | memoryview) -> int:
        """Sends a frame to all connections, in the server's event loop; to how many it was handed over.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
        """
        frame = bytes(frame)
        encode(frame, self.max_frame)
        return sum(peer.send(frame) for peer in self.connections)

    async def start(self) -> None:
        """What entering does.

        Raises:
            OSError: somebody listens there, or it is no place to listen.
            RuntimeError: it runs already; or not on asyncio.
        """
        refuse_trio("FramedServer", "run it by asyncio, in a thread or process of its own")
        if self._listener is not None:
            raise RuntimeError(f"the server at {self.url} runs already")
        loop = asyncio.get_running_loop()
        self._listener = await self._listen(loop)
        loop.add_reader(self._listener, self._accept)

    async def close(self, timeout: Duration = CLOSE_TIMEOUT) -> None:
        """Stops listening, lets handlers end and answers leave, and closes every connection; again does nothing.

        Args:
            timeout: after which connections are cut off, seconds, >= 0, by the real clock.
        """
        limit = seconds("timeout", timeout)
        listener, self._listener = self._listener, None
        if listener is None:
            return
        asyncio.get_running_loop().remove_reader(listener)
        if isinstance(self._address, UnixAddress):
            with suppress(OSError):
                if os.stat(self._address).st_ino == self._inode:
                    os.unlink(self._address)
        listener.close()
        if self._admitting:
            await asyncio.wait(self._admitting)
        ending = [asyncio.ensure_future(peer.finish()) for peer in self._made]
        try:
            if ending:
                await asyncio.wait(ending, timeout=limit)
        finally:
            for peer in self._made:
                peer.abort()
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

    # What connections tell.

    def came(self, peer: Peer) -> bool:
        """For connections: a new one; whether there is room for it."""
        if len(self._peers) >= self.max_connections or self._listener is None:
            self._turned_away += 1
            return False
        self._accepted += 1
        peer.number = self._accepted
        self._peers[peer.number] = peer
        self._greet(peer)
        return True

    def left(self, peer: Peer) -> None:
        """For connections: one is gone."""
        self._made.discard(peer)
        if self._peers.pop(peer.number, None) is not None:
            self._part(peer)

    def encoded(self, answer: object) -> bytes | None:
        """For connections: an answer as it goes over the wire; None, and a Panic, if it is no frame."""
        try:
            return encode(answer, self.max_frame)  # type: ignore[arg-type]  # that is what it finds out
        except (TypeError, ValueError):
            self._refuse(answer)
            return None

    # Inside.

    # Not by asyncio's own server: one that is closed while it accepts leaks the connection (3.11), and it would unlink
    # a live Unix socket that has taken the place of ours.
    def _accept(self) -> None:
        """Connections wait at the door."""
        loop, listener = asyncio.get_running_loop(), self._listener
        for _ in range(BACKLOG):
            if listener is None:
                return
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # descriptors or memory ran out: trying at once would keep the loop busy
                loop.remove_reader(listener)
                loop.call_later(BREATHER, self._accept_again, listener)
                return
            accepted.setblocking(False)
            task = loop.create_task(self._admit(accepted), name="framed server: accept")
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept)

    async def _admit(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make, accepted)
        except OSError:  # it is gone again
            accepted.close()

    def _make(self) -> Peer:
        peer = Peer(self)
        self._made.add(peer)
        return peer

    def _checked(self, answer: Any) -> bytes:
        return encode(answer, self.max_frame)

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        if isinstance(self._address, UnixAddress):
            listener = listen_unix(self._address)
            self._inode = os.stat(self._address).st_ino
            return listener
        host, port = self._address
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would let others steal the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(where)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._address = TcpAddress(*listener.getsockname()[:2])
        return listener

    def __repr__(self) -> str:
        return f"<FramedServer at {self.url}, {len(self._peers)} connections>"


def _nothing(*_: object) -> None:
    """In place of a hook that nobody gave."""


def _takes_peer(handler: Any) -> bool:
    """Whether a handler wants to be told whose frame it is."""
    try:
        inspect.signature(handler).bind(b"", None)
    except (TypeError, ValueError):  # one argument; or a builtin that does not tell
        return False
    return True


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
