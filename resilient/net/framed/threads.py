"""The framed client for threads: the same client, with its event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread, current_thread
from types import TracebackType
from typing import Any

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.clock import CLOCK
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.errors import DeadlineExceeded, ManagerClosed
from resilient.net.framed.base import BaseFramedClient
from resilient.observe.listeners import tell

__all__ = ["FramedClient"]

JOIN = 5.0  # seconds that hooks have to end when the client is closed; what is slower is left behind


class FramedClient(BaseFramedClient):
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost.

    The blocking twin of :class:`resilient.net.FramedClient`: ``with``. Any thread may use it; the connection is served
    by a thread of its own, and hooks run in another, so that one that hangs holds nothing else up.
    """

    _threads: tuple[Thread, ...] = ()
    _stop: asyncio.Event
    _errands: SimpleQueue[tuple[Callable[[Any], object], Any] | None]

    def _aside(self, hook: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda value: self._errands.put((hook, value))

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
        patience = _Patience(timeout)
        while True:
            waiter = ThreadWaiter()
            number = self._channel.send_or_wait(frame, waiter.wake)
            if number is not None:
                return number
            patience.wait(waiter, self._channel.send_queue.forget)

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
        self._check_receiver()
        self._channel.manager.check()
        return self._receive(_Patience(timeout))

    def __iter__(self) -> FramedClient:
        return self

    def __next__(self) -> bytes:
        try:
            return self.receive()
        except ManagerClosed:
            raise StopIteration from None

    def drain(self, timeout: Duration | None = None) -> bool:
        """Accepts no more, sends what waits, over a new connection if need be, lets the other side read it, and closes.

        Args:
            timeout: for all of this, seconds, >= 0; None: for as long as there is hope.

        Returns:
            whether everything was handed over. What of it arrived say the ``stats``.
        """
        limit = optional_seconds("timeout", timeout)
        self._channel.manager.check()
        try:
            return asyncio.run_coroutine_threadsafe(self._channel.drain(limit), self._channel.loop).result()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times.

        Called by one of the client's own hooks, it does not wait for that hook's end.
        """
        if not self._channel.thread:
            return
        self._channel.manager.check()
        self._channel.send_queue.refuse("is closed")
        with suppress(RuntimeError):  # the event loop is closed
            self._channel.loop.call_soon_threadsafe(self._stop.set)
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
        self._errands = SimpleQueue()
        begun: Future[None] = Future()
        server = self._thread("link", lambda: self._serve(begun))
        try:
            server.start()
            self._threads = (server,)
            begun.result()
            others = [self._thread("hooks", self._run_hooks)]
            if self._on_frame is not None:
                others.append(self._thread("frames", self._hand_out))
            for thread in others:
                thread.start()
                self._threads += (thread,)
        except BaseException:  # only what has begun can be ended
            if server.ident is not None:
                self._threads = self._threads or (server,)
                wait([begun])
                self.close()
                server.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._channel.origin.forked:  # else what is open belongs to the parent
            self.close()

    # Its threads.

    def _thread(self, what: str, work: Callable[[], None]) -> Thread:
        return Thread(target=copy_context().run, args=(work,), name=f"{self.name}: {what}", daemon=True)

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
        async with self._channel:
            begun.set_result(None)
            await self._stop.wait()

    def _run_hooks(self) -> None:
        while (errand := self._errands.get()) is not None:
            hook, value = errand
            tell(value, (hook,))  # what a listener raises is logged

    def _hand_out(self) -> None:
        try:
            while True:
                self._on_frame(self._receive(_Patience(None), patient=True))
        except ManagerClosed:
            return

    def _receive(self, patience: _Patience, *, patient: bool = False) -> bytes:
        queue = self._channel.receive_queue
        while (frame := queue.take()) is None:
            waiter = ThreadWaiter()
            if queue.await_frame(waiter.wake, patient=patient):
                patience.wait(waiter, queue.forget)
        return frame


class _Patience:
    """How long a thread waits, in all."""

    __slots__ = ("_clock", "_limit", "_until")

    def __init__(self, timeout: Duration | None) -> None:
        self._limit = optional_seconds("timeout", timeout)
        self._clock = CLOCK.get()
        self._until = None if self._limit is None else self._clock.now() + self._limit

    def wait(self, waiter: ThreadWaiter, forget: Callable[[Callable[[], object]], None]) -> None:
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
            forget(waiter.wake)
