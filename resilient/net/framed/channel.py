"""The channel of a framed client: its connections, one after the other, and the frames that go over them.

It lives in one event loop: that of the program, or one in a thread of its own. Frames are accepted from any thread; the
event loop is told once for all that come meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from threading import get_ident
from types import TracebackType
from typing import Any, TypeAlias

from resilient.core.addresses import Address, UnixAddress
from resilient.core.duration import Duration, optional_seconds
from resilient.core.events import Event, LinkChanged
from resilient.core.link import State
from resilient.core.outbox import CUTS
from resilient.drivers import forks
from resilient.drivers.clock import CLOCK, SYSTEM, Clock
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.forks import Origin
from resilient.drivers.loops.current import current_backend
from resilient.drivers.wrapping.kind import Kind, checked_kind
from resilient.net.connection.settings import CLOSE_TIMEOUT
from resilient.net.connection.tasks import ConnectionManager
from resilient.net.framed.dialing import connected
from resilient.net.framed.protocol import FramedProtocol
from resilient.net.framed.receive_queue import ReceiveQueue
from resilient.net.framed.send_queue import SendQueue
from resilient.net.framed.settings import FramedPlan, FramedStats, panics_only
from resilient.net.framed.sockets import pipe_size
from resilient.observe.log import caution
from resilient.policies.catch import Catch

__all__ = ["FramedChannel"]

NumbersHook: TypeAlias = Callable[[tuple[int, ...]], object]

LINGER = 1.0  # seconds that close leaves to what was handed over: as long as a lost segment takes to be sent again


class ChannelManager(ConnectionManager[FramedProtocol]):
    """The manager of a channel's connections."""

    def check(self) -> None:
        """Refuses to be used in a process where it does not run.

        Raises:
            RuntimeError: it does not run, or was entered before a fork.
        """
        self._state.check()


class FramedChannel:
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost: ``async with``.

    Args:
        plan: the settings.

    Attributes:
        name: of the client.
        manager: of the connections.
        send_queue: the frames that are to be sent.
        receive_queue: those that came.
        deliver: called with frames that came; says whether there is room for more.
        on_unconfirmed, on_dropped: called in the event loop with the numbers of frames.
        loop: the event loop, from when the client is entered on.
        thread: the one of that; 0 before.
        origin: the process where the client was entered.
        connection: the one that is up.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, plan: FramedPlan) -> None:
        self._plan = plan
        self._beats = plan.heartbeat is not None
        self.manager = ChannelManager(
            self._connect,
            close=self._hang_up,
            probe=self._probe if self._beats else None,
            on=plan.on,
            backoff=plan.backoff,
            attempts=plan.attempts,
            stable_after=plan.stable_after,
            throttle=plan.throttle,
            connect_timeout=plan.connect_timeout,
            heartbeat=plan.heartbeat,
            misses=plan.misses,
            endpoints=plan.addresses,
            name=plan.name,
            listeners=(self._hear, *plan.listeners),
        )
        self.name = plan.name
        outbox = plan.outbox if plan.outbox.pipe is not None else replace(plan.outbox, pipe=pipe_size())
        self.send_queue = SendQueue(outbox, plan.max_frame, plan.name, beats=self._beats)
        self.receive_queue = ReceiveQueue(plan.name, self.manager.stats, self._room_made)
        self.deliver: Callable[[list[bytes]], bool] = self.receive_queue.keep
        self.on_unconfirmed: NumbersHook | None = None
        self.on_dropped: NumbersHook | None = None
        self.thread = 0
        self.origin = Origin()
        self.connection: FramedProtocol | None = None
        self._clock: Clock = SYSTEM
        self._closing = self._parting = False  # is being closed, or was; the other side was told that no more is sent
        self._due = False

    def guarded(self, what: str, hook: Any, *kinds: Kind) -> Any:
        """A hook that harms nothing: what it raises is told as a Panic. None stays None."""
        if hook is None:
            return None
        kind = checked_kind(what, hook, kinds)
        return Catch(f"{self.name}: {what}").guard(hook, kind, panics_only(self._plan.listeners))

    def stats(self) -> FramedStats:
        """The present numbers; from any thread."""
        link, received = self.manager.stats(), self.receive_queue
        if self.connection is not None and get_ident() == self.thread:
            self.connection.measure()
        counts = asdict(self.send_queue.counts())
        return FramedStats(**counts, received=received.received, unread=len(received.frames), link=link)

    # What clients ask for.

    def send(self, frame: bytes | bytearray | memoryview) -> int:
        """Accepts a frame, from any thread: its number.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as of the clients.
        """
        received, connection = self.receive_queue, self.connection
        if forks.count != self.origin.forks:
            self.manager.check()
        if received.fresh and not received.frames and get_ident() == self.thread:
            received.fresh = False
            # What answers a frame goes at once: it may be the only one.
            if connection is not None and connection.open and not connection.full:
                number = self.send_queue.pass_on(frame, connection.write)
                if number is not None:
                    return number
        number = self.send_queue.offer(frame)
        assert number is not None  # nobody waits
        if not self._due:
            self._stir()
        return number

    def send_or_wait(self, frame: bytes | bytearray | memoryview, wake: Callable[[], object]) -> int | None:
        """Accepts a frame; None if the rule is to wait for room: then ``wake`` is called when there may be some.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as of the clients.
        """
        self.manager.check()
        number = self.send_queue.offer(frame, wake)
        self._stir()
        return number

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle; from any thread.

        Raises:
            ManagerClosed: the client drains, or is closed.
        """
        connection = self.connection if self.manager.state is State.READY else None
        self.manager.reconnect_now()
        if connection is None or not self.thread:
            return
        if get_ident() == self.thread:
            self._retire(connection)
        else:
            self._call_in_loop(self._retire, connection)

    async def drain(self, timeout: Duration | None) -> bool:
        """Accepts no more, sends what waits, and closes; whether everything was handed over."""
        limit = optional_seconds("timeout", timeout)
        self.check_loop()
        self.send_queue.refuse("drains")
        try:
            if limit is None:
                await self._sent()
            else:
                with current_backend().cutoff(limit, self._clock):
                    await self._sent()
            return self.send_queue.drained
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times."""
        self._refuse_more()
        try:
            await self.manager.close()
        finally:
            self._end()

    async def __aenter__(self) -> FramedChannel:
        loop, clock = asyncio.get_running_loop(), CLOCK.get()
        await self.manager.__aenter__()
        self.loop, self._clock, self.thread = loop, clock, get_ident()
        self.origin.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._refuse_more()
        try:
            await self.manager.__aexit__(kind, error, traceback)
        finally:
            del error, traceback  # a frame that holds the error it raised is a cycle
            self._end()

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs here, which is that of the channel.

        Raises:
            RuntimeError: it is not, or the client was not entered, or before a fork.
        """
        loop = asyncio.get_running_loop()
        if not self.thread or loop is not self.loop:
            self.manager.check()
            if self.thread:
                raise RuntimeError(f"{self.name!r} was entered in another event loop: only send works from there")
        return loop

    # What the manager asks for.

    async def _connect(self, address: Address) -> FramedProtocol:
        DEADLINE.set(None)  # that of this attempt is not the one of hooks that what comes will call
        loop = asyncio.get_running_loop()
        connection = FramedProtocol(self, self.send_queue, self._plan.max_frame, beats=self._beats)
        try:
            sock = await connected(address)
            try:
                if isinstance(address, UnixAddress):
                    await loop.create_unix_connection(lambda: connection, sock=sock)
                else:
                    await loop.create_connection(lambda: connection, sock=sock)
            except BaseException:
                sock.close()
                raise
        except BaseException:
            connection.abort()
            raise
        if not self._beats:
            self._attach(connection)
        return connection

    async def _probe(self, connection: FramedProtocol) -> None:
        await connection.prove()
        if connection is not self.connection:
            self._attach(connection)

    async def _hang_up(self, connection: FramedProtocol) -> None:
        if self._closing:
            connection.close()
            await asyncio.wait([connection.over], timeout=LINGER)
        connection.abort()
        if not connection.over.done():
            await asyncio.wait([connection.over])

    # What a connection tells.

    def heard(self) -> None:
        """The other side of a connection gave a sign of life."""
        self.manager.heard()

    def ended(self, connection: FramedProtocol, error: Exception | None) -> None:
        """A connection is over."""
        try:
            self._retire(connection)
            if not (self._closing or (self._parting and self.send_queue.drained)):
                self.manager.lost(error, connection)
        finally:
            del error  # a frame that holds the error is a cycle

    # Inside.

    def _attach(self, connection: FramedProtocol) -> None:
        """From now on frames go out by this connection."""
        if self.connection is not None:
            self._retire(self.connection)
        if not connection.over.done():
            self.connection = connection
            connection.pump()
            self._read_on()

    def _retire(self, connection: FramedProtocol) -> None:
        """No frame goes out by this connection any more."""
        if connection is self.connection:
            self.connection = None
            refused = self.send_queue.cut()
            if refused:
                caution(
                    f"{self.name}: frame {refused} is given up: {CUTS} connections in a row were lost while it was"
                    " sent; the other side may take no frames of its size"
                )
            self._tell_news()
        connection.abort()

    def _room_made(self) -> None:
        """Frames were taken, by any thread: reading goes on."""
        if self.thread:
            self._call_in_loop(self._read_on)

    def _read_on(self) -> None:
        if self.connection is not None and not self.receive_queue.full:
            self.connection.resume_reading()

    def _call_in_loop(self, call: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody is left to send or read
            self.loop.call_soon_threadsafe(call, *args)

    def _stir(self) -> None:
        """Something waits to be sent, or told: the event loop looks soon, once for all that comes meanwhile."""
        if self._due or not self.thread:
            return
        self._due, loop = True, self.loop
        if get_ident() == self.thread:
            loop.call_soon(self._turn)
        else:
            self._call_in_loop(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self.connection is not None and not self.send_queue.drained:
            self.connection.pump()
        self._tell_news()

    def _tell_news(self) -> None:
        news = self.send_queue.news()
        if news is None:
            return
        if news.unconfirmed and self.on_unconfirmed is not None:
            self.on_unconfirmed(news.unconfirmed)
        if news.dropped and self.on_dropped is not None:
            self.on_dropped(news.dropped)

    def _hear(self, event: Event) -> None:
        if isinstance(event, LinkChanged):
            self.receive_queue.hopeless = event.after is State.FAILED
            if event.after is State.CLOSED:
                self._end()
            elif self.receive_queue.hopeless:
                self.receive_queue.wake()
                self.send_queue.wake()

    async def _sent(self) -> None:
        """Returns when all is handed over, and the other side has ended its stream; or when there is no hope."""
        queue = self.send_queue
        while True:
            waiter = current_backend().waiter()  # other threads may close the client
            if self.manager.state in (State.FAILED, State.CLOSED) or queue.sent(waiter.wake):
                connection = self.connection
                if connection is None or not queue.drained:
                    return
                self._parting = True
                connection.part()
                with current_backend().cutoff(CLOSE_TIMEOUT, self._clock):
                    await asyncio.wait([connection.over])
                if queue.drained:
                    return
                continue
            self._stir()
            try:
                await waiter.wait()
            finally:
                queue.forget(waiter.wake)

    def _refuse_more(self) -> None:
        """The client is about to be closed."""
        self._closing = True
        self.send_queue.refuse("is closed")

    def _end(self) -> None:
        """The client is closed."""
        self.send_queue.end()
        self.receive_queue.end()
        self._tell_news()
