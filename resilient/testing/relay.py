"""The part of a fault proxy that lives in its event loop: its connections, and the faults at work on them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, TypeAlias

from resilient.core.addresses import AddressLike, read_address
from resilient.core.backoff import Rng
from resilient.testing.connection import DIRECTIONS, Connection, dial
from resilient.testing.door import Door
from resilient.testing.faults import Down, Fault
from resilient.testing.proxy_stats import ProxyStats, bytes_of

__all__ = ["Direction", "Injection", "Relay", "Upstream"]

Direction: TypeAlias = Literal["up", "down", "both"]
"""``"up"``: client to upstream. ``"down"``: upstream to client."""

Upstream: TypeAlias = AddressLike | Callable[[], AddressLike] | None
"""An address, or a function that gives one and is asked for each connection; None: there is none yet."""

logger = logging.getLogger("resilient.proxy")
logger.addHandler(logging.NullHandler())  # silent unless the program configures logging


@dataclass(frozen=True, slots=True, eq=False)
class Injection:
    """A fault at work in a proxy; as a context manager, until the block ends.

    Attributes:
        number: counted from 1.
        fault: what it does.
        direction: "up", "down" or "both".
        toxicity: the share of connections that it meets.
    """

    number: int
    fault: Fault
    direction: Direction
    toxicity: float
    _remove: Callable[[Injection], None] = field(repr=False)

    @property
    def directions(self) -> tuple[str, ...]:
        """The single directions of a fault."""
        return DIRECTIONS if self.direction == "both" else (self.direction,)

    def remove(self) -> None:
        """Takes it away; again does nothing."""
        self._remove(self)

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


class Relay:
    """Passes connections on, with faults. Everything in it happens in one event loop, or before and after that runs.

    Args:
        rng: what connections draw their seeds from.

    Attributes:
        upstream: where new connections are passed on to.
        door: where they come in, while the loop runs.
        injections: the faults at work, by their numbers.
        connections: those that are open, by their numbers.
        failures: errors that nobody expected.
    """

    def __init__(self, rng: Rng) -> None:
        self.upstream: Upstream = None
        self.door: Door | None = None
        self.injections: dict[int, Injection] = {}
        self.connections: dict[int, Connection] = {}
        self.failures: list[BaseException] = []
        self._rng = rng
        self._numbers = itertools.count(1)
        self._acted: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()

    @property
    def faults(self) -> tuple[Injection, ...]:
        """The faults at work, in the order in which they came."""
        return tuple(self.injections.values())

    def add(
        self, fault: Fault, direction: Direction, toxicity: float, remove: Callable[[Injection], None]
    ) -> Injection:
        """Injects a fault; ``remove`` is how its holder takes it away."""
        made = Injection(next(self._numbers), fault, direction, toxicity, remove)
        self.injections[made.number] = made
        logger.info("%r works%s", fault, "" if direction == "both" else f" {direction}")
        self.mind_the_door()
        if self.connections and not fault.spares_old:
            now = asyncio.get_running_loop().time()
            for connection in self.connections.values():
                connection.meet(made, now)
        return made

    def remove(self, injection: Injection) -> None:
        """Takes a fault away; again does nothing."""
        if self.injections.pop(injection.number, None) is not None:
            logger.info("%r is gone", injection.fault)
            self.mind_the_door()
            for connection in self.connections.values():
                connection.lift(injection.number)

    def clear(self) -> None:
        """Takes all faults away."""
        for injection in self.faults:
            self.remove(injection)

    def cut(self, wanted: int | None, *, reset: bool) -> int:
        """Ends one connection, or all; how many."""
        cut = [each for each in self.connections.values() if wanted in (None, each.number) and each.ending is None]
        for connection in cut:
            connection.end(DIRECTIONS if reset else ())
        return len(cut)

    def mind_the_door(self) -> None:
        """Shuts it while the service is down, and opens it again."""
        if self.door is None:
            return
        if any(isinstance(each.fault, Down) and not each.fault.accept for each in self.faults):
            self.door.shut()
        else:
            self.door.open()

    def stats(self) -> ProxyStats:
        """What has happened so far."""
        counted = Counter(self._totals)
        for connection in self.connections.values():
            counted.update(bytes_of(connection))
        names = ("connections", "unreachable", "resets", "received_up", "passed_up", "received_down", "passed_down")
        told = {name: counted[name] for name in names}
        return ProxyStats(**told, open=len(self.connections), injected=dict(self._acted))

    def accept(self, client: socket.socket) -> None:
        """Takes a new connection on."""
        self._totals["connections"] += 1
        made = Connection(
            self._totals["connections"], client, str(self._rng.random()), self._call_upstream, self._acted
        )
        self.connections[made.number] = made
        logger.info("connection %d is opened", made.number)
        now = asyncio.get_running_loop().time()
        for injection in self.faults:
            made.meet(injection, now)
        made.start(self._over)

    async def _call_upstream(self) -> socket.socket:
        upstream = self.upstream() if callable(self.upstream) else self.upstream
        if upstream is None:
            raise ConnectionRefusedError("the proxy has no upstream yet")
        return await dial(read_address("upstream", upstream))

    def _over(self, connection: Connection) -> None:
        del self.connections[connection.number]
        told = bytes_of(connection)
        self._totals.update(told)
        self._totals["resets"] += bool(connection.ending)
        if connection.unreachable is not None:
            self._totals["unreachable"] += 1
            logger.warning("connection %d: upstream cannot be reached: %s", connection.number, connection.unreachable)
        assert connection.task is not None
        if not connection.task.cancelled() and (error := connection.task.exception()) is not None:
            self.failures.append(error)
        logger.info(
            "connection %d is %s: %d bytes passed up, %d down",
            connection.number,
            "reset" if connection.ending else "closed",
            told["passed_up"],
            told["passed_down"],
        )
