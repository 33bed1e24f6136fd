"""What the framed clients for tasks and for threads share: all but how their callers wait.

Frames are accepted from any thread; the event loop is told once for all that come meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from threading import get_ident
from types import TracebackType
from typing import Any

from resilient.core.duration import Duration, optional_seconds
from resilient.core.link import State
from resilient.drivers import forks
from resilient.drivers.clock import CLOCK, SYSTEM, Clock
from resilient.drivers.loops.current import current_backend
from resilient.net.connection.settings import CLOSE_TIMEOUT
from resilient.net.framed.settings import Addresses, FramedStats
from resilient.net.framed.wires import Wires

__all__ = ["FramedLink"]


class FramedLink(Wires):
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost.

    Args:
        address: where to, or a list of addresses.
        settings: as of the clients.
    """

    def __init__(self, address: Addresses, **settings: Any) -> None:
        super().__init__(address, **settings)
        self._clock: Clock = SYSTEM
        self._forks = -1

    @property
    def state(self) -> State:
        """What the connection is doing."""
        return self.manager.state

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one where it was entered."""
        return self._forks not in (-1, forks.count)

    def stats(self) -> FramedStats:
        """The present numbers; from any thread."""
        link, inbox = self.manager.stats(), self.inbox
        if self.wire is not None and get_ident() == self.thread:
            self.wire.measure()
        return FramedStats(**asdict(self.post.counts()), received=inbox.received, unread=len(inbox.frames), link=link)

    def send(self, frame: bytes | bytearray | memoryview) -> int:
        """Accepts a frame, from any thread: its number.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as of the clients.
        """
        inbox, wire = self.inbox, self.wire
        if forks.count != self._forks:
            self.manager.check()
        if inbox.fresh and not inbox.frames and get_ident() == self.thread:
            inbox.fresh = False
            # What answers a frame goes at once: it may be the only one.
            if wire is not None and wire.open and not wire.full:
                number = self.post.pass_on(frame, wire.write)
                if number is not None:
                    return number
        number = self.post.offer(frame)
        assert number is not None  # nobody waits
        if not self._due:
            self.stir()
        return number

    def send_or_wait(self, frame: bytes | bytearray | memoryview, wake: Callable[[], object]) -> int | None:
        """The same, but None if the rule is to wait for room; then ``wake`` is called when there may be some.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as of the clients.
        """
        self.manager.check()
        number = self.post.offer(frame, wake)
        self.stir()
        return number

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle; from any thread.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        wire = self.wire if self.state is State.READY else None
        self.manager.reconnect_now()
        if wire is None or not self.thread:
            return
        if get_ident() == self.thread:
            self.retire(wire)
        else:
            with suppress(RuntimeError):  # the event loop is closed
                self.loop.call_soon_threadsafe(self.retire, wire)

    async def drain(self, timeout: Duration | None) -> bool:
        """Accepts no more, sends what waits, and closes; whether everything was handed over."""
        limit = optional_seconds("timeout", timeout)
        self.check_loop()
        self.post.refuse("drains")
        try:
            if limit is None:
                await self._sent()
            else:
                with current_backend().cutoff(limit, self._clock):
                    await self._sent()
            return self.post.drained
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times."""
        self.closing = True
        self.post.refuse("is closed")
        try:
            await self.manager.close()
        finally:
            self.over()

    async def __aenter__(self) -> FramedLink:
        loop, clock = asyncio.get_running_loop(), CLOCK.get()
        await self.manager.__aenter__()
        self.loop, self._clock, self.thread, self._forks = loop, clock, get_ident(), forks.count
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing = True
        self.post.refuse("is closed")
        try:
            await self.manager.__aexit__(kind, error, traceback)
        finally:
            del error, traceback  # a frame that holds the error it raised is a cycle
            self.over()

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs here, which is that of the link.

        Raises:
            RuntimeError: it is not, or the client was not entered, or before a fork.
        """
        loop = asyncio.get_running_loop()
        if not self.thread or loop is not self.loop:
            self.manager.check()
            if self.thread:
                raise RuntimeError(f"{self.name!r} was entered in another event loop: only send works from there")
        return loop

    async def _sent(self) -> None:
        """Returns when all is handed over, and the other side has ended its stream; or when there is no hope."""
        post = self.post
        while True:
            waiter = current_backend().waiter()  # other threads may close the client
            if self.state in (State.FAILED, State.CLOSED) or post.sent(waiter.wake):
                wire = self.wire
                if wire is None or not post.drained:
                    return
                self.parting = True
                wire.part()
                with current_backend().cutoff(CLOSE_TIMEOUT, self._clock):
                    await asyncio.wait([wire.over])
                if post.drained:
                    return
                continue
            self.stir()
            try:
                await waiter.wait()
            finally:
                post.forget(waiter.wake)
