"""Where the demo plays: one server, and each client against it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from demo.aio_lines import AioLine
from demo.clients import AsyncClient, Client
from demo.commands import flaky_command
from demo.faults import CROWD, FAULTS, Fault
from demo.loopback import loopback
from demo.panics import PANICS
from demo.plugins import plugins
from demo.process import ServerProcess
from demo.report import Report
from demo.trial import Trial
from resilient import Retry

__all__ = ["PARTS", "WITHOUT", "Stage", "play"]

WITHOUT = ("reconnect", "relogin", "heartbeat", "restart")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a client needs to meet its faults.

    Attributes:
        server: which misbehaves.
        report: what is told of it.
        without: the one of :data:`WITHOUT` that is left out.
    """

    server: ServerProcess
    report: Report
    without: str | None = None

    def trials(self, where: str, faults: Iterable[Fault]) -> Iterator[Trial]:
        """One trial for each fault."""
        return (Trial(where, fault, self.server, self.report) for fault in faults)

    def hobble(self, policy: Retry) -> Retry:
        """The policy, without the handler that it shall not have."""
        recovery = policy.recovery
        if recovery is not None and self.without == "reconnect":
            recovery = replace(recovery, reconnect=None)
        if recovery is not None and self.without == "relogin":
            recovery = replace(recovery, relogin=None)
        return policy.with_(recovery=recovery)


def blocking(stage: Stage) -> None:
    """Every fault, met by the blocking client."""
    with Client(stage.server.address) as client:
        client.policy = stage.hobble(client.policy)
        for trial in stage.trials("blocking", FAULTS):
            with trial:
                trial.squares = [client.square(number) for number in trial.numbers]


async def on_asyncio(stage: Stage) -> None:
    """Every fault, met by tasks of asyncio."""
    async with AsyncClient(stage.server.address, AioLine.dial) as client:
        client.policy = stage.hobble(client.policy)
        for trial in stage.trials("asyncio", FAULTS + CROWD):
            with trial:
                trial.squares = await squares_on_asyncio(client, trial.numbers)


async def on_trio(stage: Stage) -> None:
    """Every fault, met by tasks of trio."""
    import trio

    from demo.trio_lines import TrioLine

    async with trio.open_nursery() as listeners:
        async with AsyncClient(stage.server.address, partial(TrioLine.dial, listeners)) as client:
            client.policy = stage.hobble(client.policy)
            for trial in stage.trials("trio", FAULTS + CROWD):
                with trial:
                    trial.squares = await squares_on_trio(client, trial.numbers)


async def squares_on_asyncio(client: AsyncClient, numbers: Iterable[int]) -> list[int]:
    """The squares of numbers, each asked for by a task of its own."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.square(number)) for number in numbers]
    return [task.result() for task in tasks]


async def squares_on_trio(client: AsyncClient, numbers: Iterable[int]) -> list[int]:
    """The same."""
    import trio

    squares = dict.fromkeys(numbers, 0)

    async def ask(number: int) -> None:
        squares[number] = await client.square(number)

    async with trio.open_nursery() as tasks:
        for number in squares:
            tasks.start_soon(ask, number)
    return list(squares.values())


def with_asyncio(stage: Stage) -> None:
    """The part of asyncio."""
    asyncio.run(on_asyncio(stage))


def with_trio(stage: Stage) -> None:
    """The part of trio, if it is installed."""
    if find_spec("trio") is None:
        stage.report.say("trio is not installed: its part is left out")
        return
    import trio

    trio.run(on_trio, stage)


def with_a_command(stage: Stage) -> None:
    """A flaky command under ``resilient run``."""
    flaky_command(stage.report)


def with_panics(stage: Stage) -> None:
    """Code that blows up."""
    for panic in PANICS:
        panic(stage.report)


def with_frames(stage: Stage) -> None:
    """The loopback message client."""
    loopback(stage.report, stage.without)


def with_plugins(stage: Stage) -> None:
    """The plugin host."""
    asyncio.run(plugins(stage.report, stage.without))


PARTS: dict[str, Callable[[Stage], None]] = {
    "blocking": blocking,
    "asyncio": with_asyncio,
    "trio": with_trio,
    "command": with_a_command,
    "panics": with_panics,
    "loopback": with_frames,
    "plugins": with_plugins,
}


def play(report: Report, parts: Iterable[str] = PARTS, without: str | None = None) -> bool:
    """Runs the demo, or some parts of it; whether everything injected was recovered.

    Args:
        report: what is told of it.
        parts: which of :data:`PARTS`, in order.
        without: the one of :data:`WITHOUT` that is left out, to see it fail.
    """
    started = time.monotonic()
    with ServerProcess() as server:
        stage = Stage(server, report, without)
        for part in parts:
            PARTS[part](stage)
    report.summary(time.monotonic() - started)
    return report.ok
