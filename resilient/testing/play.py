"""Scripts that change something step by step, while a test goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable
from inspect import iscoroutine
from typing import TypeAlias, TypeVar

from resilient.core.duration import Duration, seconds
from resilient.testing.faults import Fault

__all__ = ["Change", "Play", "Script", "Steps", "in_steps", "read_steps"]

T = TypeVar("T")

Change: TypeAlias = Fault | Callable[[T], object]
"""A fault that is added, or a function that is given the proxy."""

Script: TypeAlias = (
    Iterable[tuple[Duration, Change[T]]] | Callable[[T], Coroutine[object, object, object]] | Callable[[T], object]
)

Steps: TypeAlias = list[tuple[float, Callable[[T], object]]]

GRACE = 5.0  # seconds that a script in a thread has to end, once the proxy closes


class Play:
    """A script that is being played.

    Args:
        future: its end.
        thread: where a blocking one runs.
    """

    def __init__(self, future: concurrent.futures.Future[None], thread: threading.Thread | None = None) -> None:
        self._future = future
        self._thread = thread
        self._heard = False

    @classmethod
    def in_thread(cls, drive: Callable[[], object]) -> Play:
        """Plays a blocking function."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            try:
                made = drive()
                if iscoroutine(made):
                    made.close()
                    raise TypeError("the script gave a coroutine: give play() the async function itself")
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)

        thread = threading.Thread(target=run, name="resilient fault proxy's script", daemon=True)
        thread.start()
        return cls(future, thread)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def wait(self, timeout: Duration | None = None) -> None:
        """Waits for its end, and raises what it raised.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it goes on.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        longest = None if limit is None else min(limit, threading.TIMEOUT_MAX)
        if concurrent.futures.wait([self._future], longest).not_done:
            raise TimeoutError(f"the script still goes on after {limit:g} s")
        self._heard = True
        if not self._future.cancelled():
            self._future.result()

    def stop(self) -> None:
        """Cancels an async one, and waits for a blocking one, whose ``proxy.wait`` gives False by now."""
        if self._thread is None:
            self._future.cancel()
            return
        self._thread.join(GRACE)
        if self._thread.is_alive():
            late = f"the script did not end within {GRACE:g} s: wait by proxy.wait(seconds), which says when"
            self._future = concurrent.futures.Future()
            self._future.set_exception(RuntimeError(late))

    def unheard(self) -> BaseException | None:
        """The error of the play, if nobody has waited for it."""
        if self._heard or not self._future.done() or self._future.cancelled():
            return None
        self._heard = True
        return self._future.exception()


def read_steps(script: object, add: Callable[[T, Fault], object]) -> Steps[T]:
    """The steps of a script, checked.

    Args:
        script: pairs of (after, change).
        add: what to do with a change that is a fault.

    Raises:
        TypeError: it is no list of such pairs.
        ValueError: an instant lies before the one above it.
    """
    if not isinstance(script, Iterable) or isinstance(script, str):
        raise TypeError(f"script must be a list of (after, change), or a function of the proxy, got {script!r}")
    steps: Steps[T] = []
    for step in script:
        match step:
            case (after, change) if isinstance(change, Fault) or callable(change):
                least = steps[-1][0] if steps else 0.0
                steps.append((seconds("after", after, least=least), _done_by(change, add)))
            case _:
                raise TypeError(f"each step must be (after, a fault or a function of the proxy), got {step!r}")
    return steps


def _done_by(change: Change[T], add: Callable[[T, Fault], object]) -> Callable[[T], object]:
    if isinstance(change, Fault):
        return lambda proxy: add(proxy, change)
    return change


async def in_steps(steps: Steps[T], proxy: T) -> None:
    """Plays steps in the running event loop, each at its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for after, change in steps:
        await asyncio.sleep(began + after - loop.time())
        change(proxy)
