"""The framed client for asyncio: opaque frames, in order, over a connection that is kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from os import getpid
from threading import get_ident
from types import TracebackType
from typing import Any, TypeVar

from resilient.core.addresses import AddressLike, UnixAddress, read_address
from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds
from resilient.core.events import Event, LinkChanged
from resilient.core.frames import MAX_FRAME, checked_limit
from resilient.core.link import State
from resilient.core.link_plan import BACKOFF, STABLE_AFTER
from resilient.core.outbox import OutboxPlan
from resilient.drivers.backends import current_backend
from resilient.drivers.clock import Clock
from resilient.drivers.kind import Kind
from resilient.errors import ManagerClosed
from resilient.net.framed import ON, FramedStats, Numbers, Post, panics_only, refuse_trio
from resilient.net.manager import ConnectionManager
from resilient.net.manager_plan import CLOSE_TIMEOUT, CONNECT_TIMEOUT, MISSES
from resilient.net.polled import checked_kind
from resilient.net.wire import Wire
from resilient.observe.listeners import Listener
from resilient.policies.catch import Catch
from resilient.policies.gate import checked_listeners

__all__ = ["FramedClient"]

H = TypeVar("H", bound=Listener)

PLAN = OutboxPlan()
LINGER = 1.0  # seconds that close leaves to what was handed over: as long as a lost segment takes to be sent again


class _Link(ConnectionManager[Wire]):
    """The manager of a framed client's connections, as the client needs it."""

    @property
    def clock(self) -> Clock:
        """The one by which it was started."""
        return self._steward.clock

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one where it was entered."""
        return self._steward.forked

    def check(self) -> None:
        """Whether it may be used in this process.

        Raises:
            RuntimeError: it does not run, or was entered before a fork.
        """
        self._steward.check()

    def heard(self) -> None:
        """Something came: a sign of life."""
        self._steward.heard()


class _Sleeper:
    """A task of the event loop that runs here, waiting; woken at once from its own thread."""

    __slots__ = ("_loop", "_thread", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        if get_ident() == self._thread:
            self._finish()
        else:
            with suppress(RuntimeError):  # the event loop is closed: nobody is left to wake
                self._loop.call_soon_threadsafe(self._finish)

    async def wait(self) -> None:
        await self._woken

    def _finish(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


def _tell(on_unconfirmed: Any, on_dropped: Any, news: Numbers) -> None:
    if news.unconfirmed and on_unconfirmed is not None:
        on_unconfirmed(news.unconfirmed)
    if news.dropped and on_dropped is not None:
        on_dropped(news.dropped)


class FramedClient:
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost.

    Entering it (``async with``) begins to connect, and waits for nothing. ``send`` accepts a frame at once, connected
    or not; frames go out in order, each whole on one connection. Nobody acknowledges them: what was in the pipe when a
    connection was cut is told to ``on_unconfirmed``. It runs on asyncio and uvloop; under trio, use the client of
    :mod:`resilient.net.sync`.

    Args:
        address: ``"tcp://host:port"``, ``"unix:/path"`` or ``(host, port)``; a name is looked up at each attempt.
        on_frame: called with each frame that comes, in order, blocking or async; what it raises is told as a Panic,
            nothing more. None: they are there for ``receive`` and ``async for``. While too many wait, none are read.
        outbox: bounds of what waits to be sent, the rule for overflows, and whether to send again what was in a pipe.
        on_unconfirmed: called with the numbers of frames that were in the pipe at a cut; a plain function.
        on_dropped: called with the numbers of frames that were given up unsent; a plain function.
        heartbeat: interval of heartbeats while nothing comes, seconds, > 0: empty frames, which the other side has to
            answer by the same, and which it must never send otherwise. None: no heartbeats.
        misses: intervals without any sign of life after which the connection counts as lost, >= 2.
        on: what trouble calls for: classes of errors, a predicate or a classifier. FAIL ends the link.
        backoff: waits between connections that fail.
        attempts: connections that may fail in a row, the lost one included, before it gives up; None for ever.
        stable_after: uptime that resets the backoff, seconds, >= 0.
        throttle: least time between the starts of two attempts, seconds, >= 0.
        connect_timeout: for one attempt, and the answer to the first heartbeat, seconds, > 0; None for no limit.
        max_frame: most bytes of a frame, in both directions; a peer that announces more is cut off.
        name: for events and errors; the address by default.
        listeners: plain functions of an event.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        address: AddressLike,
        *,
        on_frame: Callable[[bytes], object] | None = None,
        outbox: OutboxPlan = PLAN,
        on_unconfirmed: Callable[[tuple[int, ...]], object] | None = None,
        on_dropped: Callable[[tuple[int, ...]], object] | None = None,
        heartbeat: Duration | None = None,
        misses: int = MISSES,
        on: object = ON,
        backoff: Backoff = BACKOFF,
        attempts: int | None = None,
        stable_after: Duration = STABLE_AFTER,
        throttle: Duration = 0,
        connect_timeout: Duration | None = CONNECT_TIMEOUT,
        max_frame: int = MAX_FRAME,
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        self._address = read_address("address", address)
        if not isinstance(outbox, OutboxPlan):
            raise TypeError(f'outbox must be an OutboxPlan, such as OutboxPlan("drop_oldest"), got {outbox!r}')
        self._max_frame = checked_limit(max_frame)
        hears = checked_listeners(listeners)
        self._manager: _Link = _Link(
            self._connect,
            close=self._hang_up,
            probe=None if heartbeat is None else self._probe,
            on=on,
            backoff=backoff,
            attempts=attempts,
            stable_after=stable_after,
            throttle=throttle,
            connect_timeout=connect_timeout,
            heartbeat=heartbeat,
            misses=misses,
            name=name or self._address.url,
            listeners=(self._hear, *hears),
        )
        blown_up = panics_only(hears)
        self._beats = heartbeat is not None
        self._post = Post(outbox, self._max_frame, self.name, beats=self._beats, link=self._manager.stats)
        self._mind: Callable[[Numbers], None] = partial(_tell, *self._hooks(on_unconfirmed, on_dropped, blown_up))
        self._on_frame: Any = None
        self._inline = False
        if on_frame is not None:
            kind = checked_kind("on_frame", on_frame, (Kind.SYNC, Kind.ASYNC, Kind.EITHER))
            self._on_frame = Catch(f"{self.name}: on_frame").guard(on_frame, kind, blown_up)
            self._inline = kind is not Kind.ASYNC
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = self._pid = 0
        self._due = False
        self._answers = False  # whether frames came since something was sent at once
        self._closing = False
        self._parting = False
        self._reader: asyncio.Task[None] | None = None

    def _hooks(self, unconfirmed: Any, dropped: Any, hears: tuple[Listener, ...]) -> tuple[Any, Any]:
        guarded: list[Any] = []
        for what, hook in (("on_unconfirmed", unconfirmed), ("on_dropped", dropped)):
            if hook is not None:
                kind = checked_kind(what, hook, (Kind.SYNC, Kind.EITHER))
                hook = Catch(f"{self.name}: {what}").guard(hook, kind, hears)
            guarded.append(hook)
        return guarded[0], guarded[1]

    @property
    def name(self) -> str:
        """As it was given, or the address."""
        return self._manager.name

    @property
    def state(self) -> State:
        """What the connection is doing: IDLE before the client is entered."""
        return self._manager.state

    def stats(self) -> FramedStats:
        """The present numbers; from any thread."""
        if self._wire is not None and get_ident() == self._thread:
            self._wire.measure()
        return self._post.stats()

    def on_event(self, listener: H) -> H:
        """Tells a function of every event from now on; a decorator, too. What it raises is logged, nothing more.

        Raises:
            TypeError: it cannot be called, or is async: nobody would await it.
        """
        return self._manager.on_event(listener)

    def send(self, frame: bytes | bytearray | memoryview) -> int:
        """Accepts a frame, to be sent in its turn; from any thread, connected or not.

        Returns:
            its number, from 1 on.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
            OutboxFull: there is no room, by the rules "block" (see ``send_when_room``) and "error"; or it is larger
                than the whole outbox.
            ManagerClosed: the client drains, or is closed.
            RuntimeError: it is not entered, or in another process.
        """
        if getpid() != self._pid:
            self._manager.check()
        number = self._post.offer(frame)
        assert number is not None  # nobody waits
        self._stir()
        return number

    async def send_when_room(self, frame: bytes | bytearray | memoryview) -> int:
        """Accepts a frame as ``send`` does, but waits for room if the rule is "block"; in the client's event loop.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as ``send``, but "block" is never full.
        """
        self._check_loop()
        while True:
            waiter = _Sleeper()
            number = self._post.offer(frame, waiter)
            if number is not None:
                self._stir()
                return number
            try:
                await waiter.wait()
            finally:
                self._post.forget(waiter)

    async def receive(self) -> bytes:
        """The oldest frame that nobody has taken; waits for one, also while there is no connection.

        Raises:
            ManagerClosed: the client is closed, and every frame taken.
            NotConnected: it gave up, until it is resumed; its cause is the last error.
            RuntimeError: the frames go to ``on_frame``; or the client is not entered, or in another event loop.
        """
        if self._on_frame is not None:
            raise RuntimeError(f"the frames of {self.name!r} go to its on_frame: leave that out to receive them")
        self._check_loop()
        wire = self._wire
        if wire is not None and wire.reads:
            frame = self._post.take()
            if frame is not None:
                return frame
        return await self._receive()

    def __aiter__(self) -> FramedClient:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except ManagerClosed:
            raise StopAsyncIteration from None

    def resume(self) -> None:
        """Lets a client that gave up begin anew; from any thread. In any other state it does nothing.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        self._manager.resume()

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle; from any thread.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        wire = self._wire if self.state is State.READY else None
        self._manager.reconnect_now()
        if wire is None or self._loop is None:
            return
        if get_ident() == self._thread:
            self._retire(wire)
        else:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._retire, wire)

    async def drain(self, timeout: Duration | None = None) -> bool:
        """Accepts no more, sends what waits, over a new connection if need be, lets the other side read it, and closes.

        When all is handed over the client ends its stream, and waits for the other side to do the same, 10 s at most.

        Args:
            timeout: for all of this, seconds, >= 0; None: for as long as there is hope.

        Returns:
            whether everything was handed over. What of it arrived say the ``stats``.
        """
        limit = optional_seconds("timeout", timeout)
        self._check_loop()
        self._post.refuse("drains")
        try:
            if limit is None:
                await self._sent()
            else:
                with current_backend().cutoff(limit, self._manager.clock):
                    await self._sent()
            return self._post.drained
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times.

        What was handed over has a second to leave. Called by one of the client's own hooks, it does not wait.
        """
        self._closing = True
        self._post.refuse("is closed")
        try:
            await self._manager.close()
        finally:
            self._over()

    disconnect = close

    async def __aenter__(self) -> FramedClient:
        refuse_trio("FramedClient", "use resilient.net.sync.FramedClient, in a thread of its own")
        loop = asyncio.get_running_loop()
        await self._manager.__aenter__()
        self._loop, self._thread, self._pid = loop, get_ident(), getpid()
        if self._on_frame is not None and not self._inline:
            self._reader = loop.create_task(self._read(None), name=f"{self.name}: frames")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._post.refuse("is closed")
        reader = self._reader
        if reader is not None:
            reader.cancel()
        try:
            await self._manager.__aexit__(kind, error, traceback)
        finally:
            del error, traceback  # a frame that holds the error it raised is a cycle
            self._over()
        if reader is not None and kind is not GeneratorExit and reader is not asyncio.current_task():
            await asyncio.wait([reader])

    # What the manager asks for.

    async def _connect(self) -> Wire:
        loop = asyncio.get_running_loop()
        wire = Wire(self, self._post, self._max_frame, beats=self._beats)
        try:
            if isinstance(self._address, UnixAddress):
                await loop.create_unix_connection(lambda: wire, self._address)
            else:
                await loop.create_connection(lambda: wire, *self._address)
        except BaseException:
            wire.abort()
            raise
        if not self._beats:
            self._attach(wire)
        return wire

    async def _probe(self, wire: Wire) -> None:
        if wire is self._wire and not wire.quiet:
            wire.quiet = True
            return
        await wire.prove()
        if wire is not self._wire:
            self._attach(wire)

    async def _hang_up(self, wire: Wire) -> None:
        if self._closing:
            wire.close()
            await asyncio.wait([wire.over], timeout=LINGER)
        wire.abort()
        if not wire.over.done():
            await asyncio.wait([wire.over])

    # What the wire tells.

    def came(self, frames: list[bytes]) -> bool:
        """For the connection: frames came."""
        self._answers = True
        self._post.count(len(frames))
        if not self._inline:
            return self._post.keep(frames)
        for place, frame in enumerate(frames):
            result = self._on_frame(frame)
            if result is not None and isawaitable(result):  # it is async after all: from here on by a task
                self._inline = False
                room = self._post.keep(frames[place + 1 :])
                self._reader = asyncio.get_running_loop().create_task(self._read(result), name=f"{self.name}: frames")
                return room
        return True

    def heard(self) -> None:
        """For the connection: the other side gave a sign of life."""
        self._manager.heard()

    def ended(self, wire: Wire, error: Exception | None) -> None:
        """For the connection: it is over."""
        try:
            self._retire(wire)
            if not (self._closing or (self._parting and self._post.drained)):
                self._manager.lost(error, wire)
        finally:
            del error  # a frame that holds the error is a cycle

    # Inside.

    def _attach(self, wire: Wire) -> None:
        """From now on frames go out by this connection."""
        if self._wire is not None:
            self._retire(self._wire)
        if not wire.over.done():
            self._wire = wire
            wire.pump()

    def _retire(self, wire: Wire) -> None:
        """No frame goes out by this connection any more."""
        if wire is self._wire:
            self._wire = None
            self._post.cut()
            self._tell_news()
            self._post.wake()
        wire.abort()

    def _stir(self) -> None:
        """Something waits to be sent, or told: the event loop looks soon, once for all that comes meanwhile."""
        if self._due or self._loop is None:
            return
        self._due, loop = True, self._loop
        if get_ident() == self._thread:
            post, wire = self._post, self._wire
            if self._answers and wire is not None and not (post.busy or post.has_news):
                self._answers = self._due = False  # what answers a frame goes at once: it may be the only one
                wire.pump()
            else:
                loop.call_soon(self._turn)
        else:
            with suppress(RuntimeError):  # the event loop is closed: nobody is left to send
                loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self._wire is not None and not self._post.drained:
            self._wire.pump()
        self._tell_news()

    def _tell_news(self) -> None:
        news = self._post.news()
        if news is not None:
            self._mind(news)

    def _hear(self, event: Event) -> None:
        if isinstance(event, LinkChanged) and event.after in (State.FAILED, State.CLOSED):
            if event.after is State.CLOSED:
                self._over()
            self._post.wake()

    async def _receive(self, *, patient: bool = False) -> bytes:
        post = self._post
        while True:
            frame = post.take()
            if frame is not None:
                if self._wire is not None and not self._wire.reads:
                    self.made_room()
                return frame
            waiter = _Sleeper()
            if post.await_frame(waiter, patient=patient):
                try:
                    await waiter.wait()
                except BaseException:  # whoever wakes it forgets it
                    post.forget(waiter)
                    raise

    def made_room(self) -> None:
        """A frame was taken: reading goes on, if it had paused; from any thread."""
        wire, loop = self._wire, self._loop
        if wire is not None and not wire.reads and self._post.room and loop is not None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(wire.resume_reading)

    async def _read(self, begun: Any) -> None:
        """Hands frames to an async on_frame, one after the other."""
        if begun is not None:
            await begun
        with suppress(ManagerClosed):
            while True:
                result = self._on_frame(await self._receive(patient=True))
                if isawaitable(result):
                    await result

    async def _sent(self) -> None:
        """Returns when all is handed over, and the other side has ended its stream; or when there is no hope."""
        post = self._post
        while True:
            waiter = _Sleeper()
            if self.state in (State.FAILED, State.CLOSED) or post.sent(waiter):
                post.forget(waiter)
                wire = self._wire
                if wire is None or not post.drained:
                    return
                self._parting = True
                wire.part()
                with current_backend().cutoff(CLOSE_TIMEOUT, self._manager.clock):
                    await asyncio.wait([wire.over])
                if post.drained:
                    return
                continue
            self._stir()
            try:
                await waiter.wait()
            finally:
                post.forget(waiter)

    def _over(self) -> None:
        self._post.end()
        self._tell_news()
        reader = self._reader
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()

    def _check_loop(self) -> None:
        if self._loop is asyncio.get_running_loop():
            return
        self._manager.check()
        if self._loop is not None:
            raise RuntimeError(f"{self.name!r} was entered in another event loop: only send works from there")

    def __repr__(self) -> str:
        return f"<FramedClient {self.name!r}: {self.state}>"
