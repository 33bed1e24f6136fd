"""The connections of a framed client, one after the other, and the frames that go over them.

They live in one event loop: that of the program, or one in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import get_ident
from typing import Any, TypeAlias

from resilient.core.addresses import Address, UnixAddress
from resilient.core.duration import Duration
from resilient.core.events import Event, LinkChanged
from resilient.core.frames import checked_limit
from resilient.core.link import State
from resilient.core.outbox_plan import OutboxPlan
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.wrapping.kind import Kind
from resilient.net.connection.tasks import ConnectionManager
from resilient.net.framed.protocol import Wire
from resilient.net.framed.receive_queue import Inbox
from resilient.net.framed.send_queue import Post
from resilient.net.framed.settings import Addresses, panics_only, read_addresses
from resilient.net.poller.base import checked_kind
from resilient.observe.listeners import Listener
from resilient.policies.catch import Catch
from resilient.policies.gate import checked_listeners

__all__ = ["Wires"]

NumbersHook: TypeAlias = Callable[[tuple[int, ...]], object]

LINGER = 1.0  # seconds that close leaves to what was handed over: as long as a lost segment takes to be sent again


class _Manager(ConnectionManager[Wire]):
    """The manager of a link's connections, as the link needs it."""

    def check(self) -> None:
        """Whether it may be used in this process.

        Raises:
            RuntimeError: it does not run, or was entered before a fork.
        """
        self._state.check()


class Wires:
    """The connections of one framed client, and what is handed over to the one that is up.

    Args:
        address: where to, or a list of addresses.
        outbox, heartbeat, max_frame, name, listeners: as of the clients.
        settings: of the :class:`ConnectionManager`.

    Attributes:
        name: of the client.
        manager: of the connections.
        post: the frames that are to be sent.
        inbox: those that came.
        deliver: called with frames that came; says whether there is room for more.
        on_unconfirmed, on_dropped: called in the event loop with the numbers of frames.
        hears: those who hear of events.
        loop: the event loop, from when the client is entered on.
        thread: the one of that; 0 before.
        closing: whether the client is being closed, or was.
        parting: whether the other side was told that nothing more will be sent.
        wire: the connection that is up.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        address: Addresses,
        *,
        outbox: OutboxPlan,
        heartbeat: Duration | None,
        max_frame: int,
        name: str,
        listeners: Iterable[Listener] | Listener,
        **settings: Any,
    ) -> None:
        addresses = read_addresses(address)
        if not isinstance(outbox, OutboxPlan):
            raise TypeError(f'outbox must be an OutboxPlan, such as OutboxPlan("drop_oldest"), got {outbox!r}')
        self._max_frame = checked_limit(max_frame)
        self.hears = checked_listeners(listeners)
        self.manager = _Manager(
            self._connect,
            close=self._hang_up,
            probe=None if heartbeat is None else self._probe,
            heartbeat=heartbeat,
            endpoints=addresses,
            name=name or addresses[0].url,
            listeners=(self._hear, *self.hears),
            **settings,
        )
        self.name = self.manager.name
        self._beats = heartbeat is not None
        self.post = Post(outbox, self._max_frame, self.name, beats=self._beats)
        self.inbox = Inbox(self.name, self.manager.stats, self._room_made)
        self.deliver: Callable[[list[bytes]], bool] = self.inbox.keep
        self.on_unconfirmed: NumbersHook | None = None
        self.on_dropped: NumbersHook | None = None
        self.thread = 0
        self.closing = self.parting = False
        self.wire: Wire | None = None
        self._due = False

    def guarded(self, what: str, hook: Any, *kinds: Kind) -> Any:
        """A hook that harms nothing: what it raises is told as a Panic. None stays None."""
        if hook is None:
            return None
        kind = checked_kind(what, hook, kinds)
        return Catch(f"{self.name}: {what}").guard(hook, kind, panics_only(self.hears))

    # What the manager asks for.

    async def _connect(self, address: Address) -> Wire:
        DEADLINE.set(None)  # that of this attempt is not the one of hooks that what comes will call
        loop = asyncio.get_running_loop()
        wire = Wire(self, self.post, self._max_frame, beats=self._beats)
        try:
            if isinstance(address, UnixAddress):
                await loop.create_unix_connection(lambda: wire, address)
            else:
                await loop.create_connection(lambda: wire, *address)
        except BaseException:
            wire.abort()
            raise
        if not self._beats:
            self._attach(wire)
        return wire

    async def _probe(self, wire: Wire) -> None:
        await wire.prove()
        if wire is not self.wire:
            self._attach(wire)

    async def _hang_up(self, wire: Wire) -> None:
        if self.closing:
            wire.close()
            await asyncio.wait([wire.over], timeout=LINGER)
        wire.abort()
        if not wire.over.done():
            await asyncio.wait([wire.over])

    # What the wire tells.

    def heard(self) -> None:
        """For the connection: the other side gave a sign of life."""
        self.manager.heard()

    def ended(self, wire: Wire, error: Exception | None) -> None:
        """For the connection: it is over."""
        try:
            self.retire(wire)
            if not (self.closing or (self.parting and self.post.drained)):
                self.manager.lost(error, wire)
        finally:
            del error  # a frame that holds the error is a cycle

    # Inside.

    def _attach(self, wire: Wire) -> None:
        """From now on frames go out by this connection."""
        if self.wire is not None:
            self.retire(self.wire)
        if not wire.over.done():
            self.wire = wire
            wire.pump()
            self._read_on()

    def retire(self, wire: Wire) -> None:
        """No frame goes out by this connection any more."""
        if wire is self.wire:
            self.wire = None
            self.post.cut()
            self._tell_news()
        wire.abort()

    def _room_made(self) -> None:
        """Frames were taken, by any thread: reading goes on."""
        if self.thread:
            with suppress(RuntimeError):  # the event loop is closed
                self.loop.call_soon_threadsafe(self._read_on)

    def _read_on(self) -> None:
        if self.wire is not None and not self.inbox.full:
            self.wire.resume_reading()

    def stir(self) -> None:
        """Something waits to be sent, or told: the event loop looks soon, once for all that comes meanwhile."""
        if self._due or not self.thread:
            return
        self._due, loop = True, self.loop
        if get_ident() == self.thread:
            loop.call_soon(self._turn)
        else:
            with suppress(RuntimeError):  # the event loop is closed: nobody is left to send
                loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self.wire is not None and not self.post.drained:
            self.wire.pump()
        self._tell_news()

    def _tell_news(self) -> None:
        news = self.post.news()
        if news is None:
            return
        if news.unconfirmed and self.on_unconfirmed is not None:
            self.on_unconfirmed(news.unconfirmed)
        if news.dropped and self.on_dropped is not None:
            self.on_dropped(news.dropped)

    def _hear(self, event: Event) -> None:
        if isinstance(event, LinkChanged):
            self.inbox.hopeless = event.after is State.FAILED
            if event.after is State.CLOSED:
                self.over()
            elif self.inbox.hopeless:
                self.inbox.wake()
                self.post.wake()

    def over(self) -> None:
        """The client is closed."""
        self.post.end()
        self.inbox.end()
        self._tell_news()
