"""The framed client for asyncio: opaque frames, in order, over a connection that is kept alive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from threading import get_ident
from types import TracebackType
from typing import Any

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.clock import CLOCK
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import ManagerClosed
from resilient.net.framed.base import BaseFramedClient
from resilient.net.framed.settings import refuse_trio

__all__ = ["FramedClient"]


class FramedClient(BaseFramedClient):
    """Sends and receives opaque frames over one connection, which is made anew whenever it is lost.

    Entering it (``async with``) begins to connect, and waits for nothing. ``send`` accepts a frame at once, connected
    or not; frames go out in order, each whole on one connection. Nobody acknowledges them: what was in the pipe when a
    connection was cut is told to ``on_unconfirmed``. It runs on asyncio and uvloop; under trio, use the client of
    :mod:`resilient.net.sync`.
    """

    _frame_kinds = (Kind.SYNC, Kind.ASYNC, Kind.EITHER)
    _reader: asyncio.Task[None] | None = None

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
        return self._channel.send(frame)

    async def send_when_room(self, frame: bytes | bytearray | memoryview) -> int:
        """Accepts a frame as ``send`` does, but waits for room if the rule is "block"; in the client's event loop.

        Raises:
            FrameTooLarge, OutboxFull, ManagerClosed, RuntimeError: as ``send``, but "block" is never full.
        """
        loop = self._channel.check_loop()
        while True:
            woken = loop.create_future()
            wake = partial(woken.set_result, None)
            number = self._channel.send_or_wait(frame, wake)
            if number is not None:
                return number
            try:
                await woken
            finally:
                self._channel.send_queue.forget(wake)

    async def receive(self) -> bytes:
        """The oldest frame that nobody has taken; waits for one, also while there is no connection.

        Raises:
            ManagerClosed: the client is closed, and every frame taken.
            NotConnected: it gave up, until it is resumed; its cause is the last error.
            RuntimeError: the frames go to ``on_frame``; or the client is not entered, or in another event loop.
        """
        channel = self._channel
        if self._on_frame is not None:
            self._check_receiver()
        if channel.thread != get_ident():
            channel.check_loop()
        queue = channel.receive_queue
        while True:
            if not queue.frames:
                woken = channel.loop.create_future()
                wake = partial(woken.set_result, None)
                if queue.await_frame(wake):
                    try:
                        await woken
                    except BaseException:  # whoever wakes it forgets it
                        queue.forget(wake)
                        raise
            frame = queue.take()
            if frame is not None:
                return frame

    def __aiter__(self) -> FramedClient:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except ManagerClosed:
            raise StopAsyncIteration from None

    async def drain(self, timeout: Duration | None = None) -> bool:
        """Accepts no more, sends what waits, over a new connection if need be, lets the other side read it, and closes.

        When all is handed over the client ends its stream, and waits for the other side to do the same, 10 s at most.

        Args:
            timeout: for all of this, seconds, >= 0; None: for as long as there is hope.

        Returns:
            whether everything was handed over. What of it arrived say the ``stats``.
        """
        limit, clock = optional_seconds("timeout", timeout), CLOCK.get()
        began = clock.now()
        try:
            drained = await self._channel.drain(limit)
            reader = self._reader
            if reader is not None and reader is not asyncio.current_task():  # what has come is given to on_frame
                left = None if limit is None else max(0.0, began + limit - clock.now())
                await asyncio.wait([reader], timeout=left)
            return drained
        finally:
            self._stop_reader()

    async def close(self) -> None:
        """Ends the connection and the client, without sending what waits; in any state, any number of times.

        What was handed over has a second to leave. Called by one of the client's own hooks, it does not wait.
        """
        try:
            await self._channel.close()
        finally:
            self._stop_reader()

    disconnect = close

    async def __aenter__(self) -> FramedClient:
        refuse_trio("FramedClient", "use resilient.net.sync.FramedClient, in a thread of its own")
        if self._on_frame is not None:
            self._channel.deliver = self._hand_out
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_reader()
        try:
            await self._channel.__aexit__(kind, error, traceback)
        finally:
            del error, traceback  # a frame that holds the error it raised is a cycle
            reader = self._stop_reader()
        if reader is not None and kind is not GeneratorExit:
            await asyncio.wait([reader])

    def _hand_out(self, frames: list[bytes]) -> bool:
        """Calls on_frame with what came; whether there is room for more."""
        queue = self._channel.receive_queue
        queue.fresh = True
        for place, frame in enumerate(frames):
            queue.received += 1
            result = self._on_frame(frame)
            if result is not None and isawaitable(result):  # from here on by a task
                self._channel.deliver = queue.keep
                reading = self._read(result)
                self._reader = asyncio.get_running_loop().create_task(reading, name=f"{self.name}: frames")
                return queue.keep(frames[place + 1 :])
        return True

    async def _read(self, begun: Any) -> None:
        """Hands frames to an async on_frame, one after the other."""
        channel, queue = self._channel, self._channel.receive_queue
        await begun
        with suppress(ManagerClosed):
            while True:
                while (frame := queue.take()) is None:
                    woken = channel.loop.create_future()
                    if queue.await_frame(partial(woken.set_result, None), patient=True):
                        await woken  # if this is cancelled, it is the end of the client
                result = self._on_frame(frame)
                if isawaitable(result):
                    await result

    def _stop_reader(self) -> asyncio.Task[None] | None:
        """Ends the task that hands frames to on_frame; the task, unless there is none, or it runs this."""
        reader = self._reader
        if reader is None or reader is asyncio.current_task():
            return None
        reader.cancel()
        return reader
