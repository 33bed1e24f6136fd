"""What befalls a client of a real server, and what must come of it: the same for each client, for tasks and threads."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from servers.daemons import PATIENCE, Daemon

from resilient import backoff
from resilient.core.events import Event, LinkChanged
from resilient.core.link import State
from resilient.errors import OutcomeUnknown

__all__ = ["OUTAGES", "Client", "eventually", "example", "program"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CROWD = 50  # callers at once
KILLS, WORKERS = 5, 5
# Short waits, and no heartbeat that would tell of an outage before a call does.
QUICK: dict[str, Any] = {"backoff": backoff.constant(0.02), "heartbeat": None}


def example(name: str) -> Any:
    """A module of docs/examples."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def program(name: str, *arguments: str) -> Iterator[Iterator[str]]:
    """A module of docs/examples as a program: the lines it prints. Interrupted, it ends well."""
    command = [sys.executable, "-u", str(EXAMPLES / f"{name}.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(PATIENCE)


async def eventually(holds: Callable[[], object]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


@dataclass
class Client:
    """A manager of some library's connections, and what may be asked of them.

    Attributes:
        server: which one.
        make: the manager, given its settings.
        read: does no harm when done twice.
        write: may be done once only.
        lost: the library's error for a connection that is gone, or cannot be made.
        total: how many writes were done, if that can be asked.
        events: what the manager told.
    """

    server: Daemon
    make: Callable[..., Any]
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    lost: type[Exception]
    total: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        self.events: list[Event] = []
        self.manager: Any = None
        self.threads: ThreadPoolExecutor | None = None

    def run(self, outage: Callable[[Client], Awaitable[object]], *, up: bool = True, **settings: Any) -> None:
        """Lets an outage befall the manager, when its connection is up or at once; in the end no task is left."""

        async def main() -> None:
            made = self.make(**QUICK | settings, listeners=self.events.append)
            async with AsyncExitStack() as stack:
                if hasattr(made, "__aenter__"):
                    self.manager = await stack.enter_async_context(made)
                else:
                    self.threads = stack.enter_context(ThreadPoolExecutor(CROWD))
                    self.manager = stack.enter_context(made)
                if up:
                    await self.call(self.read)
                async with asyncio.timeout(PATIENCE):
                    await outage(self)
            assert {asyncio.current_task()} == asyncio.all_tasks()

        asyncio.run(main())

    async def call(self, fn: Callable[[Any], Any], *, idempotent: bool = False) -> Any:
        """Calls a function of the connection, in a thread if the manager is for threads."""
        if self.threads is None:
            return await self.manager.call(fn, idempotent=idempotent)
        calling = asyncio.get_running_loop().run_in_executor(
            self.threads, lambda: self.manager.call(fn, idempotent=idempotent)
        )
        return await calling

    async def sent(self, fn: Callable[[Any], Any], *, idempotent: bool = False) -> asyncio.Task[Any]:
        """A call that the server, which stands still, has got and does not answer."""
        call = asyncio.create_task(self.call(fn, idempotent=idempotent))
        await eventually(lambda: self.server.unread)
        return call


async def goes_on(client: Client) -> None:
    """Killed and started again between two calls: the second does not mind."""
    client.server.restart()
    await client.call(client.read, idempotent=True)
    await client.call(client.write)


async def is_unknown(client: Client) -> None:
    """Killed under a call that may be done once only: it is told so, and the next one works."""
    client.server.freeze()
    call = await client.sent(client.write)
    client.server.restart()
    with pytest.raises(OutcomeUnknown) as raised:
        await call
    assert isinstance(raised.value.__cause__, client.lost)
    await client.call(client.write)


async def is_done_again(client: Client) -> None:
    """Killed under many calls that may be done twice: all are done, on one new connection."""
    client.server.freeze()
    calls = [asyncio.create_task(client.call(client.read, idempotent=True)) for _ in range(CROWD)]
    await eventually(lambda: client.manager.stats().operations == CROWD and client.server.unread)
    client.server.restart()
    await asyncio.gather(*calls)
    stats = client.manager.stats()
    assert (2, 1) == (stats.connects, stats.losses)


async def is_given_up(client: Client) -> None:
    """Killed, and not started in time: callers get the library's own error until the manager is told to resume."""
    client.server.kill()
    for _ in range(2):
        with pytest.raises(client.lost) as raised:
            await client.call(client.read, idempotent=True)
        assert "gave up after 3 attempts" in "".join(raised.value.__notes__)
    assert State.FAILED is client.manager.state
    client.server.start()
    client.manager.resume()
    await client.call(client.read)
    assert State.READY is client.manager.state


async def is_noticed(client: Client) -> None:
    """Stands still: the heartbeat finds out, and what hung goes on once it is back."""
    client.server.freeze()
    call = await client.sent(client.read, idempotent=True)
    await eventually(lambda: any(isinstance(each, LinkChanged) and "PeerSilent" in each.why for each in client.events))
    assert not call.done()
    client.server.thaw()
    await call


async def adds_up(client: Client) -> None:
    """Killed again and again under calls that may be done once only: as many are done as the callers were told."""
    assert client.total is not None
    done = unknown = 0
    over = asyncio.Event()

    async def work() -> None:
        nonlocal done, unknown
        while not over.is_set():
            try:
                await client.call(client.write)
                done += 1
            except OutcomeUnknown:
                unknown += 1

    works = [asyncio.create_task(work()) for _ in range(WORKERS)]
    for kills in range(1, KILLS + 1):
        await eventually(lambda: done >= 50 * kills)  # noqa: B023  # awaited at once
        client.server.restart()
    await client.call(client.read, idempotent=True)
    over.set()
    await asyncio.gather(*works)
    assert done <= await client.call(client.total) <= done + unknown


OUTAGES = [
    pytest.param(goes_on, {}, id="goes on"),
    pytest.param(is_unknown, {}, id="is unknown"),
    pytest.param(is_done_again, {}, id="is done again"),
    pytest.param(is_given_up, {"attempts": 3}, id="is given up"),
    pytest.param(adds_up, {}, id="adds up"),
    pytest.param(is_noticed, {"heartbeat": 0.1, "connect_timeout": 0.5}, id="is noticed"),
]
