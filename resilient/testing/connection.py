"""One connection through a fault proxy: two pipes, and the instants at which something happens to them."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from random import Random
from typing import Protocol

from resilient.core.addresses import Address, UnixAddress
from resilient.testing.effects import Effect
from resilient.testing.faults import Fault
from resilient.testing.pipe import Pipe, Traffic, until

__all__ = ["DIRECTIONS", "Connection", "Injected", "dial"]

DIRECTIONS = ("up", "down")
FROM = {"up": "down", "down": "up"}  # whose bytes go in a direction: who is served by the opposite one

FULL = 0.01  # seconds until the queue of a Unix socket is tried again: the system does not tell when it has room
READS = 16  # 1 MiB: as much as is likely to be there; a peer that goes on sending must not keep us
LINGER_0 = struct.pack(
    "hh" if os.name == "nt" else "ii", 1, 0
)  # close() sends RST instead of FIN, and forgets what was not sent


class Injected(Protocol):
    """A fault that a proxy has at work."""

    @property
    def number(self) -> int: ...
    @property
    def fault(self) -> Fault: ...
    @property
    def directions(self) -> tuple[str, ...]: ...
    @property
    def toxicity(self) -> float: ...


class Connection:
    """A client's connection, with the one to the upstream.

    Args:
        number: counted from 1.
        client: the accepted socket.
        seed: its chance; the same seed meets the same faults at the same bytes.
        call_upstream: connects.
        acted: where faults count what they did.

    Attributes:
        traffic: bytes of each direction.
        unreachable: why the upstream could not be reached, or None.
        ending: once it is to end, who is to see a reset; None before.
    """

    def __init__(
        self,
        number: int,
        client: socket.socket,
        seed: str,
        call_upstream: Callable[[], Awaitable[socket.socket]],
        acted: Counter[str],
    ) -> None:
        self.number = number
        self.traffic = {direction: Traffic() for direction in DIRECTIONS}
        self.unreachable: Exception | None = None
        self.ending: set[str] | None = None
        self.task: asyncio.Task[None] | None = None
        self._seed = seed
        self._call_upstream = call_upstream
        self._acted = acted
        self._sockets = {"down": client}  # by the direction that leads to them
        self._effects: dict[str, dict[int, Effect]] = {direction: {} for direction in DIRECTIONS}
        self._pipes = {each: Pipe(self._effects[each], self.traffic[each], self.end, each) for each in DIRECTIONS}
        self._pipes["up"].opposite, self._pipes["down"].opposite = self._pipes["down"], self._pipes["up"]
        self._bell = asyncio.Event()

    def start(self, over: Callable[[Connection], None]) -> None:
        """Runs; ``over`` is told when it has ended and its sockets are closed."""
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(lambda task: self._close())
        self.task.add_done_callback(lambda task: over(self))
        if self.ending is not None:
            self.task.cancel()

    def meet(self, injected: Injected, now: float) -> None:
        """A fault comes to work on it, if chance wants it so."""
        chance = f"{self._seed} {injected.number}"
        if Random(chance).random() >= injected.toxicity:
            return
        for each in injected.directions:
            chance_there = Random(f"{chance} {each}")
            self._effects[each][injected.number] = injected.fault.effect(now, chance_there, each, self._acted)
        self.look(now)

    def lift(self, number: int) -> None:
        """A fault is taken away."""
        for each in DIRECTIONS:
            gone = self._effects[each].pop(number, None)
            if gone is not None and gone.lifted():
                self.end(())
        self._ring()

    def look(self, now: float) -> None:
        """Does what is due."""
        due = [effect for effect in self._all() if effect.cut_at <= now]
        if due and self.ending is None:
            for effect in {effect.name: effect for effect in due}.values():
                effect.act()
            self.end({who for effect in due for who in effect.resets})
        for each in DIRECTIONS:
            for effect in self._effects[each].values():
                if effect.quiet_at <= now and FROM[each] in self._sockets:
                    effect.quiet_at = math.inf
                    effect.act()
                    with suppress(OSError):  # closed already
                        self._sockets[FROM[each]].shutdown(socket.SHUT_RDWR)
        self._ring()

    def end(self, resets: Collection[str]) -> None:
        """Ends it, once, with a reset for some: "up" (the upstream), "down" (the client)."""
        if self.ending is None:
            self.ending = set(resets)
            if self.task is not None:
                self.task.cancel()

    def _all(self) -> list[Effect]:
        return [effect for each in DIRECTIONS for effect in self._effects[each].values()]

    def _ring(self) -> None:
        self._bell.set()
        for pipe in self._pipes.values():
            pipe.ring()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            await until(self._bell, lambda now: math.inf if any(effect.undialled for effect in self._all()) else 0)
            while "up" not in self._sockets:
                try:
                    self._sockets["up"] = await self._call_upstream()
                except Exception as error:  # of the system, of the resolver, or of the user's own function
                    if not self._mute():
                        self.unreachable = error.with_traceback(None)
                        self.end(("down",))
                        return
                    # Nobody is needed who answers; when the fault is taken away, somebody is.
                    await until(self._bell, lambda now: math.inf if self._mute() else 0)
            self._ring()
            for each in DIRECTIONS:
                group.create_task(self._pipes[each].fill(self._sockets[FROM[each]]))
                group.create_task(self._pipes[each].drain(self._sockets[each]))

    def _mute(self) -> bool:
        """Whether the client gets no answer anyway."""
        return any(effect.drops or effect.holds for effect in self._all())

    async def _watch(self) -> None:
        while True:
            await until(self._bell, lambda now: self._next() - now)
            self.look(asyncio.get_running_loop().time())

    def _next(self) -> float:
        cut = min((effect.cut_at for effect in self._all()), default=math.inf)
        quiet = (e.quiet_at for each in DIRECTIONS if FROM[each] in self._sockets for e in self._effects[each].values())
        return math.inf if self.ending is not None else min(cut, *quiet, math.inf)

    def _close(self) -> None:
        for towards, connected in self._sockets.items():
            if self.ending and towards in self.ending:
                with suppress(OSError):  # a Unix socket
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            else:
                _part(connected)
            connected.close()


def _part(connected: socket.socket) -> None:
    """Says that nothing more comes. What was received and never read would turn the close into a reset."""
    with suppress(OSError):
        connected.shutdown(socket.SHUT_WR)
        for _ in range(READS):
            connected.recv(65536)


async def dial(address: Address) -> socket.socket:
    """A connection to an address; a host name is looked up anew, and each of its addresses is tried.

    Raises:
        OSError: none of them can be reached.
    """
    if isinstance(address, UnixAddress):
        return await _connected(socket.AF_UNIX, str(address))
    failures: list[OSError] = []
    for family, _, _, _, where in await _look_up(*address):
        try:
            return await _connected(family, where)
        except OSError as error:
            failures.append(error.with_traceback(None))
    raise failures[0]


async def _look_up(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    try:  # a number needs no thread
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(found)


async def _connected(family: int, where: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if family == socket.AF_UNIX:
            await _queued(made, str(where))
        else:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # slices are to be packets of their own
            await asyncio.get_running_loop().sock_connect(made, where)  # type: ignore[arg-type]  # as it was looked up
    except BaseException:
        made.close()
        raise
    return made


async def _queued(made: socket.socket, path: str) -> None:
    # Waits where a blocking client would. asyncio takes a full queue for a connect under way, and then for success.
    while True:
        try:
            made.connect(path)
        except BlockingIOError:
            await asyncio.sleep(FULL)
        else:
            return
