"""What connection managers cost that have nothing to do: memory of one, and the CPU time of a crowd's heartbeats.

The connections are plain objects, without sockets: what is measured is the managers, on asyncio, in this process.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from contextlib import AsyncExitStack

from resilient.net import ConnectionManager

__all__ = ["cpu_share", "memory"]

HEARTBEAT = 30.0  # seconds
# Of the crowd one in so many beats, so many times as often: a whole round of beats is over in seconds.
HASTE = 5


async def probe(connection: object) -> None:
    """A peer that answers at once."""


async def enter(stack: AsyncExitStack, heartbeat: float) -> ConnectionManager[object]:
    """A manager that runs."""
    manager = ConnectionManager(object, probe=probe, on=OSError, heartbeat=heartbeat)
    await stack.enter_async_context(manager)
    return manager


async def all_ready(managers: list[ConnectionManager[object]]) -> None:
    for manager in managers:
        async with manager.use():
            pass


async def memory(count: int = 1000) -> float:
    """Bytes that one of so many managers takes when its connection is up, as ``tracemalloc`` counts."""
    async with AsyncExitStack() as stack:
        await all_ready([await enter(stack, HEARTBEAT)])  # what is made once is no part of it
        gc.collect()
        tracemalloc.start()
        try:
            managers = [await enter(stack, HEARTBEAT) for _ in range(count)]
            await all_ready(managers)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()


async def cpu_share(count: int = 5000) -> float:
    """The part of one core that the heartbeats of so many managers use, every 30 s each.

    In the time of this measurement few of them would beat. So one in five beats every 6 s, one after the other, and the
    others, whose first beats are yet to come, are just there: as many beats a second, each waking an event loop that
    slept, among as many managers and timers. The CPU time is that of the process, over 6 s. It flatters a little, as
    the state of one in five fits better into a cache: where this says 2.7 %, all of them over 30 s took 3.0 %. (All of
    them, twelve times as often, would flatter a lot: 1.3 %. A busy loop pays less for each beat.)
    """
    interval, beating = HEARTBEAT / HASTE, count // HASTE
    async with AsyncExitStack() as stack:
        managers = [await enter(stack, HEARTBEAT) for _ in range(count - beating)]
        begun = time.monotonic()
        for place in range(beating):
            managers.append(await enter(stack, interval))
            await asyncio.sleep(begun + interval * (place + 1) / beating - time.monotonic())
        await all_ready(managers)
        gc.collect()
        wall, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(interval)
        return (time.process_time() - cpu) / (time.monotonic() - wall)
