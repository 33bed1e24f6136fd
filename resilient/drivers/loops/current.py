"""The event loops: what a driver asks of one, and which one runs.

Neither asyncio nor trio is imported before a coroutine that runs under it gets into trouble.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from resilient.drivers.clock import LONGEST_SLEEP, Clock, is_virtual

__all__ = ["Backend", "Cutoff", "Waiter", "current_backend", "pause"]


class Waiter(Protocol):
    """Something a task waits for; any thread may wake it, more than once.

    ``wake`` says whether anybody is left to wake: a loop may be closed while its tasks wait.
    """

    def wake(self) -> bool: ...

    async def wait(self) -> None: ...


class Cutoff(Protocol):
    """A block that is cancelled when its time is up; ``expired`` says that this is why it ended."""

    @property
    def expired(self) -> bool: ...

    def __enter__(self) -> Cutoff: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Backend(Protocol):
    """One kind of event loop."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps, and lets others run even for 0 seconds."""
        ...

    def waiter(self) -> Waiter: ...

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff: ...

    def when_idle(self, look: Callable[[], bool]) -> None:
        """Calls ``look`` whenever no task can run, until it says False."""
        ...


def current_backend() -> Backend:
    """The backend of the event loop that runs in this thread."""
    trio = sys.modules.get("trio")
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
