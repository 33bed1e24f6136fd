"""One direction of a connection through a fault proxy: reads, does what the faults say, writes."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from resilient.testing.effects import ROOM, Effect

__all__ = ["Chunk", "Pipe", "Traffic", "until"]

READ = 65536  # bytes asked for at once
FRAME = 512  # bytes of memory that a chunk takes beside its data: a crowd of small ones is to find no more room


class Traffic:
    """Bytes of one direction, of all connections."""

    __slots__ = ("passed", "received")

    def __init__(self) -> None:
        self.received = self.passed = 0


class Chunk:
    """Bytes as they were read, or the end of the stream.

    Args:
        arrival: the instant at which they were read.
        data: empty at the end.
        broken: the end was a reset.

    Attributes:
        ready: the instant from which it might have gone.
    """

    __slots__ = ("arrival", "broken", "data", "delays", "held", "ready")

    def __init__(self, arrival: float, data: bytes, *, broken: bool = False) -> None:
        self.arrival = self.ready = arrival
        self.data = data
        self.broken = broken
        self.delays: dict[Effect, float] = {}
        self.held: set[Effect] = set()

    def due(self, effects: Collection[Effect]) -> float:
        """The instant at which it may go; every effect draws its delay once, and counts only while it is there."""
        for effect in effects:
            if effect not in self.delays:
                self.delays[effect] = effect.delay() if self.data else effect.delay_of_end()
        return self.arrival + sum(self.delays[effect] for effect in effects)

    def hold(self, effect: Effect) -> None:
        """Counts that it was held, once for each effect."""
        if effect not in self.held:
            self.held.add(effect)
            effect.act()


class Pipe:
    """One direction of one connection.

    Args:
        effects: what its faults do, read anew at every step.
        traffic: where its bytes are counted.
        cut: ends the connection, with those who see a reset: "up", "down".
        towards: its own direction.

    Attributes:
        opposite: the pipe of the other direction.
        dry: the source has ended.
        ended: the sink was told the end of the stream.
    """

    def __init__(
        self,
        effects: dict[int, Effect],
        traffic: Traffic,
        cut: Callable[[Collection[str]], None],
        towards: str,
    ) -> None:
        self.opposite = self
        self.dry = self.ended = False
        self._effects = effects
        self._traffic = traffic
        self._cut = cut
        self._towards = towards
        self._bell = asyncio.Event()
        self._chunks: deque[Chunk] = deque()
        self._size = 0
        self._broken = False
        self._lost = False

    def ring(self) -> None:
        """Something has changed: whoever waits looks again."""
        self._bell.set()

    async def fill(self, source: socket.socket) -> None:
        """Reads until the end of the stream."""
        loop = asyncio.get_running_loop()
        data = b"more"
        while data:
            await self._wait(lambda now: math.inf if self._size >= self._room() else 0)
            try:
                data = await loop.sock_recv(source, READ)
            except OSError:
                self._broken, data = True, b""
            self._traffic.received += len(data)
            self._size += len(data) + FRAME
            self._chunks.append(Chunk(loop.time(), data, broken=self._broken))
            self.ring()
        self.dry = True
        self.opposite.ring()

    async def drain(self, sink: socket.socket) -> None:
        """Writes what was read, as the faults say, and ends as the source did."""
        while True:
            await self._wait(lambda now: 0 if self._chunks else math.inf)
            chunk = self._chunks[0]
            await self._wait(partial(self._kept, chunk))
            if not chunk.data:
                self._finish(chunk, sink)
                return
            await self._pass_on(chunk, sink)
            self._chunks.popleft()
            self._size -= len(chunk.data) + FRAME
            self.ring()

    async def _wait(self, left: Callable[[float], float]) -> None:
        await until(self._bell, left)

    def _kept(self, chunk: Chunk, now: float) -> float:
        """How long a chunk has still to wait, seconds."""
        effects = self._effects.values()
        if self._lost or (chunk.data and any(effect.drops for effect in effects)):
            return 0.0
        holding = [effect for effect in effects if self._holds(effect, chunk)]
        for effect in holding:
            chunk.hold(effect)
        if holding:
            return math.inf
        chunk.ready = chunk.due(effects)
        return chunk.ready - now

    def _holds(self, effect: Effect, chunk: Chunk) -> bool:
        if effect.holds:
            return True
        # Once both sources have ended there is nobody left to keep in the dark.
        return not chunk.data and (effect.drops or (effect.silent and not self.opposite.dry))

    async def _pass_on(self, chunk: Chunk, sink: socket.socket) -> None:
        left = chunk.data
        while not self._lost:
            effects = self._effects.values()
            for effect in effects:
                if effect.spent:  # also with nothing left: a limit cuts at its byte, not at the next one
                    effect.act()
                    self._cut(effect.resets)
                    await asyncio.get_running_loop().create_future()  # until we are cancelled
            if not left:
                return
            dropping = [effect for effect in effects if effect.drops]
            for effect in dropping:
                effect.dropped(len(left))
            if dropping:
                return
            left = left[await self._send(chunk, left, sink) :]

    async def _send(self, chunk: Chunk, data: bytes, sink: socket.socket) -> int:
        """Sends one piece; how many bytes it had."""
        now, size = asyncio.get_running_loop().time(), self._most(len(data))
        for effect in self._effects.values():
            effect.reserve(now, size, now - chunk.ready)
        await self._wait(partial(self._not_ready, chunk))
        size = self._most(size)  # the faults may have changed meanwhile
        piece = data[:size]
        for effect in self._effects.values():
            piece = effect.bent(piece)
        try:
            await asyncio.get_running_loop().sock_sendall(sink, piece)
        except OSError:
            self._lose()
            return size
        self._traffic.passed += size
        for effect in self._effects.values():
            effect.sent(size)
        return size

    def _room(self) -> int:
        return max((effect.room for effect in self._effects.values()), default=ROOM)

    def _most(self, size: int) -> int:
        return min((effect.most(size) for effect in self._effects.values()), default=size)

    def _not_ready(self, chunk: Chunk, now: float) -> float:
        holding = [effect for effect in self._effects.values() if effect.holds]
        for effect in holding:
            chunk.hold(effect)
        return math.inf if holding else max((e.ready_at for e in self._effects.values()), default=now) - now

    def _lose(self) -> None:
        """Nobody reads what we write: it vanishes, while the other direction still has to say what happened."""
        self._lost = True
        self.opposite._broken = True
        if self.opposite.ended:  # it has said all it could
            self._cut(("down",) if self._towards == "up" else ("up",))

    def _finish(self, end: Chunk, sink: socket.socket) -> None:
        if end.broken:
            self._cut((self._towards,))
            return
        with suppress(OSError):  # it is gone itself
            sink.shutdown(socket.SHUT_WR)
        self.ended = True
        self.opposite.ring()
        if self.opposite.ended:
            self._cut(())


async def until(bell: asyncio.Event, left: Callable[[float], float]) -> None:
    """Waits as long as a function of the time says, which is asked again whenever the bell rings."""
    loop = asyncio.get_running_loop()
    while (seconds := left(loop.time())) > 0:
        bell.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await bell.wait()
