"""What a connection costs: frames of a framed client against a raw asyncio protocol, and managers that idle.

Client and server echo 64 bytes over a Unix socket, each in a process of its own, one at a time and 64 in flight: raw
client and raw server, which do the same framing, against ``FramedClient`` and ``FramedServer``. Then: the memory of an
idle managed connection, and the CPU time of the heartbeats of 5,000 (see :mod:`benchmarks.idle_links`). Run as
``python -m benchmarks.links``; with ``--gate`` it exits 1 if a number is beyond 1.5 times its mark.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from struct import Struct
from typing import Any, cast

from benchmarks.harness import Figure, Mark, measure, report
from benchmarks.idle_links import cpu_share, memory
from resilient.net import FramedClient, FramedServer

FRAME = bytes(64)
IN_FLIGHT = 64
LENGTH = Struct("<I")
MARKS = [
    Mark("framed / raw, one at a time", "framed, one at a time", "raw, one at a time", at_most=1.5),
    Mark("framed / raw, 64 in flight", "framed, 64 in flight", "raw, 64 in flight", at_most=1.5),
]


class Raw(asyncio.Protocol):
    """Frames by hand, as short as it goes; nothing is kept, limited or reconnected."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.rest = b""
        self.frames: deque[bytes] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self.rest + data if self.rest else data
        start, end = 0, len(data)
        while end - start >= 4:
            (size,) = LENGTH.unpack_from(data, start)
            if start + 4 + size > end:
                break
            self.came(data[start + 4 : start + 4 + size])
            start += 4 + size
        self.rest = data[start:]

    def came(self, frame: bytes) -> None:
        if self.echo:
            self.send(frame)
            return
        self.frames.append(frame)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def send(self, frame: bytes) -> None:
        self.transport.write(LENGTH.pack(len(frame)) + frame)

    async def receive(self) -> bytes:
        while not self.frames:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.frames.popleft()


async def serve(kind: str, path: str) -> None:
    """A server process: says that it listens, and goes on until it is terminated."""
    if kind == "framed":
        async with FramedServer(f"unix:{path}", lambda frame: frame):
            print("listening", flush=True)
            await asyncio.Event().wait()
    else:
        server = await asyncio.get_running_loop().create_unix_server(lambda: Raw(echo=True), path)
        print("listening", flush=True)
        await server.serve_forever()


async def one_at_a_time(client: Any, count: int) -> None:
    for _ in range(count):
        client.send(FRAME)
        await client.receive()


async def in_flight(client: Any, count: int) -> None:
    ahead = min(IN_FLIGHT, count)
    for _ in range(ahead):
        client.send(FRAME)
    for _ in range(count - ahead):
        await client.receive()
        client.send(FRAME)
    for _ in range(ahead):
        await client.receive()


def server(stack: ExitStack, kind: str, folder: Path) -> str:
    """A server in a process of its own: the path of its socket."""
    path = str(folder / kind)
    command = [sys.executable, "-m", "benchmarks.links", "--serve", kind, path]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
    stack.callback(process.terminate)
    assert process.stdout is not None
    process.stdout.readline()
    return path


def echoes(rounds: int) -> dict[str, float]:
    """The least time of one frame there and back, seconds, by case."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        raw, framed = server(stack, "raw", folder), server(stack, "framed", folder)
        clients: dict[str, Any] = {}
        opened = AsyncExitStack()

        async def connect() -> None:
            _, clients["raw"] = await asyncio.get_running_loop().create_unix_connection(Raw, raw)
            clients["framed"] = await opened.enter_async_context(FramedClient(f"unix:{framed}"))

        runner.run(connect())
        works: dict[str, Callable[[Any, int], Coroutine[Any, Any, None]]]
        works = {"one at a time": one_at_a_time, "64 in flight": in_flight}
        cases = {
            f"{name}, {how}": lambda count, client=client, work=work: runner.run(work(client, count))
            for how, work in works.items()
            for name, client in clients.items()
        }
        seconds = measure(cases, rounds=rounds, budget=0.05)

        async def disconnect() -> None:
            clients["raw"].transport.close()
            await opened.aclose()

        runner.run(disconnect())
    return seconds


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gate", action="store_true", help="exit 1 if a number is beyond 1.5 times its mark")
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--serve", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    # glibc asks the system anew for each piece of more than 128 KiB, such as asyncio reads into, until one was freed
    # (mallopt(3), M_MMAP_THRESHOLD), and that costs more than the frame: let the raw protocol be at its best.
    bytearray(2**20)
    if chosen.serve:
        asyncio.run(serve(*chosen.serve))
    seconds = echoes(chosen.rounds)
    figures = [
        Figure("memory of an idle connection (tracemalloc)", asyncio.run(memory()) / 1024, "KiB", 20),
        Figure("5,000 heartbeats every 30 s, of one core", asyncio.run(cpu_share()) * 100, "%", 5),
    ]
    return 0 if report("links", seconds, MARKS, gate=chosen.gate, figures=figures) else 1


if __name__ == "__main__":
    sys.exit(main())
