"""The framed client for threads: the same client, with its event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, TypeVar

from resilient.core.addresses import AddressLike
from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds
from resilient.core.frames import MAX_FRAME
from resilient.core.link import State
from resilient.core.link_plan import BACKOFF, STABLE_AFTER
from resilient.core.outbox import OutboxPlan
from resilient.drivers.clock import CLOCK
from resilient.drivers.kind import Kind
from resilient.drivers.waiters import ThreadWaiter
from resilient.errors import DeadlineExceeded, ManagerClosed
from resilient.net import framed_client
from resilient.net.framed import ON, FramedStats, Post, panics_only
from resilient.net.framed_client import PLAN
from resilient.net.manager_plan import CONNECT_TIMEOUT, MISSES, checked_hook
from resilient.net.polled import checked_kind
from resilient.observe.listeners import Listener
from resilient.policies.catch import Catch
from resilient.policies.gate import checked_listeners

__all__ = ["FramedClient"]

H = TypeVar("H", bound=Listener)
T = TypeVar("T")

JOIN = 5.0  # seconds that hooks have to end when the client is closed; what is slower is left behind


class _Inner(framed_client.FramedClient):
    """The client in the event loop, as threads need it."""

    @property
    def post(self) -> Post:
        """What any thread may touch."""
        return self._post

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one where it was entered."""
        return self._manager.forked

    def check(self) -> None:
        """Whether it may be used in this process."""
        self._manager.check()

    def stir(self) -> None:
        """Something waits to be sent."""
        self._stir()


class FramedClient:
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost.

    The blocking twin of :class:`resilient.net.FramedClient`: ``with``. Any thread may use it; the connection is served
    by a thread of its own, and hooks run in another, so that one that hangs holds nothing else up.

    Args:
        address: ``"tcp://host:port"``, ``"unix:/path"`` or ``(host, port)``; a name is looked up at each attempt.
        on_frame: called with each frame that comes, in order, in a thread for this; None: they are there for
            ``receive`` and ``for``. While too many wait, none are read.
        outbox, on_unconfirmed, on_dropped: as for the async client.
        heartbeat, misses: as for the async client.
        on, backoff, attempts, stable_after, throttle, connect_timeout: as for the async client.
        max_frame, name, listeners: as for the async client.

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
        hears = checked_listeners(listeners)
        for listener in hears:
            checked_hook(listener)
        self._errands: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._inner = _Inner(
            address,
            outbox=outbox,
            on_unconfirmed=self._later("on_unconfirmed", on_unconfirmed),
            on_dropped=self._later("on_dropped", on_dropped),
            heartbeat=heartbeat,
            misses=misses,
            on=on,
            backoff=backoff,
            attempts=attempts,
            stable_after=stable_after,
            throttle=throttle,
            connect_timeout=connect_timeout,
            max_frame=max_frame,
            name=name,
            listeners=tuple(self._told(listener) for listener in hears),
        )
        self._post = self._inner.post
        self._on_frame: Any = None
        if on_frame is not None:
            checked_kind("on_frame", on_frame, (Kind.SYNC, Kind.EITHER))
            self._on_frame = Catch(f"{self.name}: on_frame").guard(on_frame, Kind.SYNC, panics_only(hears))
        self._threads: list[Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def _later(self, what: str, hook: Callable[..., object] | None) -> Callable[..., object] | None:
        """A hook as an errand for the thread of the hooks."""
        if hook is None:
            return None
        checked_kind(what, hook, (Kind.SYNC, Kind.EITHER))
        guarded = Catch(what).guard(hook, Kind.SYNC, ())
        return lambda numbers: self._errands.put(lambda: guarded(numbers))

    def _told(self, listener: Listener) -> Listener:
        guarded = Catch("listener").guard(listener, Kind.SYNC, ())
        return lambda event: self._errands.put(lambda: guarded(event))

    @property
    def name(self) -> str:
        """As it was given, or the address."""
        return self._inner.name

    @property
    def state(self) -> State:
        """What the connection is doing: IDLE before the client is entered."""
        return self._inner.state

    def stats(self) -> FramedStats:
        """The present numbers."""
        return self._inner.stats()

    def on_event(self, listener: H) -> H:
        """Tells a function of every event from now on; a decorator, too. What it raises is logged, nothing more.

        Raises:
            TypeError: it cannot be called, or is async: nobody would await it.
        """
        checked_hook(listener)
        self._inner.on_event(self._told(listener))
        return listener

    def send(self, frame: bytes | bytearray | memoryview, *, timeout: Duration | None = None) -> int:
        """Accepts a frame, to be sent in its turn, connected or not. It waits for room if the rule is "block".

        Args:
            frame: its bytes.
            timeout: how long to wait for room, seconds, >= 0; None for no limit.

        Returns:
            its number, from 1 on.

        Raises:
            FrameTooLarge: it has more than ``max_frame`` bytes.
            OutboxFull: there is no room, by the rule "error"; or it is larger than the whole outbox.
            DeadlineExceeded: there was no room in time.
            ManagerClosed: the client drains, or is closed.
            RuntimeError: it is not entered, or in another process.
        """
        return self._await_number(frame, _Patience(timeout))

    def _await_number(self, frame: bytes | bytearray | memoryview, patience: _Patience) -> int:
        self._inner.check()
        while True:
            waiter = ThreadWaiter()
            number = self._post.offer(frame, waiter)
            if number is not None:
                self._inner.stir()
                return number
            patience.wait(waiter, self._post.forget)

    def receive(self, timeout: Duration | None = None) -> bytes:
        """The oldest frame that nobody has taken; waits for one, also while there is no connection.

        Args:
            timeout: how long to wait, seconds, >= 0; None for no limit.

        Raises:
            DeadlineExceeded: none came in time.
            ManagerClosed: the client is closed, and every frame taken.
            NotConnected: it gave up, until it is resumed; its cause is the last error.
            RuntimeError: the frames go to ``on_frame``; or the client is not entered, or in another process.
        """
        if self._on_frame is not None:
            raise RuntimeError(f"the frames of {self.name!r} go to its on_frame: leave that out to receive them")
        self._inner.check()
        return self._receive(_Patience(timeout))

    def __iter__(self) -> FramedClient:
        return self

    def __next__(self) -> bytes:
        try:
            return self.receive()
        except ManagerClosed:
            raise StopIteration from None

    def resume(self) -> None:
        """Lets a client that gave up begin anew. In any other state it does nothing.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        self._inner.resume()

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        self._inner.reconnect_now()

    def drain(self, timeout: Duration | None = None) -> bool:
        """Accepts no more, sends what waits, over a new connection if need be, lets the other side read it, and closes.

        Args:
            timeout: for all of this, seconds, >= 0; None: for as long as there is hope.

        Returns:
            whether everything was handed over. What of it arrived say the ``stats``.
        """
        limit = optional_seconds("timeout", timeout)
        self._inner.check()
        try:
            return bool(self._in_loop(lambda: self._inner.drain(limit)))
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times.

        Called by one of the client's own hooks, it does not wait for that hook's end.
        """
        if not self._threads:
            return
        self._inner.check()
        self._post.refuse("is closed")
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # closed just now
                loop.call_soon_threadsafe(stop.set)
        here = current_thread()
        server, *others = self._threads
        if server is not here:
            server.join()
        for thread in others:
            if thread is not here:
                thread.join(JOIN)

    disconnect = close

    def __enter__(self) -> FramedClient:
        if self._threads:
            raise RuntimeError(f"{self.name!r} runs already, or did: make another client")
        begun: Future[None] = Future()
        works: list[tuple[str, Callable[[], None]]] = [("link", lambda: self._serve(begun)), ("hooks", self._run_hooks)]
        if self._on_frame is not None:
            works.append(("frames", self._hand_out))
        for what, work in works:
            run = copy_context().run
            self._threads.append(Thread(target=run, args=(work,), name=f"{self.name}: {what}", daemon=True))
        self._threads[0].start()
        try:
            begun.result()
        except BaseException:
            self._threads[0].join()
            del self._threads[1:]
            raise
        for thread in self._threads[1:]:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._inner.forked:  # else what is open belongs to the parent
            self.close()

    # Its threads.

    def _serve(self, begun: Future[None]) -> None:
        try:
            asyncio.run(self._main(begun))
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)
        finally:
            self._errands.put(None)
            del begun  # the caller's frame holds its error

    async def _main(self, begun: Future[None]) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with self._inner:
            begun.set_result(None)
            await self._stop.wait()

    def _run_hooks(self) -> None:
        while True:
            errand = self._errands.get()
            if errand is None:
                return
            errand()

    def _hand_out(self) -> None:
        try:
            while True:
                self._on_frame(self._receive(_Patience(None), patient=True))
        except ManagerClosed:
            return

    def _receive(self, patience: _Patience, *, patient: bool = False) -> bytes:
        post = self._post
        while True:
            frame = post.take()
            if frame is not None:
                self._inner.made_room()
                return frame
            waiter = ThreadWaiter()
            if post.await_frame(waiter, patient=patient):
                patience.wait(waiter, post.forget)

    def _in_loop(self, work: Callable[[], Any]) -> Any:
        loop = self._loop
        assert loop is not None  # it was entered
        return asyncio.run_coroutine_threadsafe(work(), loop).result()

    def __repr__(self) -> str:
        return f"<FramedClient {self.name!r}: {self.state}>"


class _Patience:
    """How long a thread waits, in all."""

    __slots__ = ("_clock", "_limit", "_until")

    def __init__(self, timeout: Duration | None) -> None:
        self._limit = optional_seconds("timeout", timeout)
        self._clock = CLOCK.get()
        self._until = None if self._limit is None else self._clock.now() + self._limit

    def wait(self, waiter: ThreadWaiter, forget: Callable[[ThreadWaiter], None]) -> None:
        """Blocks until the waiter is woken.

        Raises:
            DeadlineExceeded: time is up.
        """
        left = None if self._until is None else self._until - self._clock.now()
        try:
            if left is not None and left <= 0:
                assert self._limit is not None  # there is an end
                raise DeadlineExceeded(self._limit)
            waiter.wait(self._clock, left)
        finally:
            forget(waiter)
