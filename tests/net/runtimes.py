"""Managers by runtime: tasks on each event loop, and threads. A test is written once, as a coroutine.

For threads there is no event loop: what it awaits blocks the thread, and never suspends the coroutine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any

import loops
import pytest
from net import at_once as tasks
from net.manager_scenarios import ON

from resilient import backoff
from resilient.core.link import State
from resilient.drivers.loops.current import current_backend
from resilient.net import ConnectionManager
from resilient.net.sync import ConnectionManager as ThreadManager
from resilient.testing import FakeClock

__all__ = ["RUNTIMES", "Conn", "Lines", "Runtime", "every_runtime"]

RUNTIMES = ["asyncio", "uvloop", "trio", "threads"]
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
PATIENCE = 20.0  # real seconds: nothing takes so long unless it is broken


def driven(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine comes to that awaits nothing but what blocks."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it awaits an event loop, and there is none")


def blocking(function: Any) -> Any:
    """A function for threads: an async one is driven."""
    return (lambda *args: driven(function(*args))) if iscoroutinefunction(function) else function


class Blocking:
    """A manager for threads, with the methods of that for tasks."""

    def __init__(self, connect: Any, **settings: Any) -> None:
        hooks = {name: blocking(settings[name]) for name in ("close", "on_connect", "probe") if name in settings}
        self.manager: ThreadManager[Any] = ThreadManager(blocking(connect), **settings | hooks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.manager, name)

    async def call(self, fn: Any, **settings: Any) -> Any:
        return self.manager.call(blocking(fn), **settings)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        with self.manager.use() as conn:
            yield conn

    async def ready(self, timeout: float | None = None) -> None:
        self.manager.ready(timeout)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for conn in self.manager:
            yield conn

    async def drain(self, timeout: float | None = None) -> bool:
        return self.manager.drain(timeout)

    async def close(self) -> None:
        self.manager.close()

    async def __aenter__(self) -> Any:
        self.manager.__enter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.manager.__exit__(*exc_info)


class Runtime:
    """One way to run a manager and whoever uses it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.threads = name == "threads"

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a test."""
        return driven(main()) if self.threads else loops.run(self.name, main)  # type: ignore[arg-type]

    def manager(self, connect: Any, **settings: Any) -> Any:
        """A manager of this kind, whose functions may be async."""
        return (Blocking if self.threads else ConnectionManager)(connect, **settings)

    def managed(self, lines: Lines, **settings: Any) -> Any:
        """A manager of these connections."""
        return self.manager(lines.connect, close=Conn.close, **{"on": ON, "backoff": backoff.constant(1)} | settings)

    def hook(self, function: Any) -> Any:
        """A recovery handler."""
        return blocking(function) if self.threads else function

    async def sleep(self, clock: FakeClock, seconds: float) -> None:
        """Lets virtual time pass."""
        if self.threads:
            clock.sleep(seconds)
        else:
            await clock.asleep(seconds)

    async def at_once(self, *works: Callable[[], Awaitable[Any]]) -> list[Any]:
        """What works come to at the same time: values, and the errors of those that raise."""
        if not self.threads:
            return await tasks.at_once(*works)
        outcomes: list[Any] = [None] * len(works)

        def one(place: int) -> None:
            try:
                outcomes[place] = driven(works[place]())  # type: ignore[arg-type]
            except Exception as error:
                outcomes[place] = error

        threads = [threading.Thread(target=one, args=(place,), daemon=True) for place in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return outcomes

    async def until(self, done: Callable[[], Any]) -> None:
        """Lets others run until this holds."""
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, "it never came to it"
            if self.threads:
                time.sleep(0.0005)
            else:
                await current_backend().sleep(0)

    async def comes_to(self, manager: Any, state: State) -> None:
        """Lets others run until the manager is in this state."""
        await self.until(lambda: manager.state is state)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """The runtime of a test."""
    return Runtime(request.param)


class Conn:
    """A connection, and how often it was closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Lines:
    """Makes connections by a script: errors are raised, an async function is awaited, the rest is a connection."""

    def __init__(self, clock: FakeClock, *script: object) -> None:
        self.clock = clock
        self.script = script or ("up",)
        self.dialled: list[float] = []
        self.conns: list[Conn] = []

    async def connect(self) -> Conn:
        outcome = self.script[min(len(self.dialled), len(self.script) - 1)]
        self.dialled.append(self.clock.now())
        if isinstance(outcome, Exception):
            raise outcome
        if callable(outcome):
            await outcome()
        conn = Conn(len(self.conns) + 1)
        self.conns.append(conn)
        return conn

    @property
    def open(self) -> list[int]:
        """The numbers of those that are not closed."""
        return [conn.number for conn in self.conns if not conn.closed]
