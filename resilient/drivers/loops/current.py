"""Which event loop runs here, and what it offers.

Neither asyncio nor trio is imported before a coroutine that runs under it gets into trouble.
"""

from __future__ import annotations

import sys
from typing import Literal

from resilient.drivers.clock import LONGEST_SLEEP, Clock, is_virtual
from resilient.drivers.loops.base import Backend, TaskGroup

__all__ = ["current_backend", "current_loop", "current_task", "loop_runs", "pause", "running", "task_group"]


def _trio_runs() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def running() -> Literal["asyncio", "trio"] | None:
    """Which kind of event loop runs in this thread; None if none does.

    trio is asked first: as a guest, it runs within another loop.
    """
    if _trio_runs():
        return "trio"
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None or asyncio._get_running_loop() is None else "asyncio"


def loop_runs() -> bool:
    """Whether any event loop runs in this thread."""
    # As running() would tell, but asyncio is asked first: trio takes three times as long to say that it does not run.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def current_loop() -> object:
    """What tells the event loop of this thread from others: the loop, or trio's token.

    Raises:
        RuntimeError: none runs.
    """
    if _trio_runs():
        return sys.modules["trio"].lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        raise RuntimeError("no running event loop")
    return asyncio.get_running_loop()


def current_task() -> object:
    """The task that runs in this thread; None outside any."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return asyncio.current_task()
    trio = sys.modules.get("trio")
    return trio.lowlevel.current_task() if trio is not None and trio.lowlevel.in_trio_task() else None


def current_backend() -> Backend:
    """The backend of the event loop that runs in this thread; asyncio's if none does."""
    trio = sys.modules.get("trio")  # as _trio_runs() does, whose call would make this half as slow again
    if trio is not None and trio.lowlevel.in_trio_run():
        return _backends.get("trio") or _loaded("trio")
    return _backends.get("asyncio") or _loaded("asyncio")


_backends: dict[str, Backend] = {}


def _loaded(name: str) -> Backend:
    if name == "trio":
        from resilient.drivers.loops.trio import TRIO

        _backends[name] = TRIO
    else:
        from resilient.drivers.loops.asyncio import ASYNCIO

        _backends[name] = ASYNCIO
    return _backends[name]


def task_group() -> TaskGroup:
    """Makes a group of tasks on the event loop that runs; the group is yet to be opened."""
    return current_backend().task_group()


async def pause(clock: Clock, seconds: float) -> None:
    """Sleeps by a clock; under a virtual one, until nothing else can run."""
    backend = current_backend()
    if not is_virtual(clock):
        await backend.sleep(min(seconds, LONGEST_SLEEP))
        return
    clock.record(seconds)
    waiter = backend.waiter()
    timer = clock.call_later(seconds, waiter.wake)
    backend.when_idle(clock.jump)
    try:
        await waiter.wait()
    finally:
        timer.cancel()
