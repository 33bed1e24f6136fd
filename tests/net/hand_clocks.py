"""Virtual time that passes by hand only, for managers of tasks and of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from resilient.testing import FakeClock

__all__ = ["PATIENCE", "TaskClock", "ThreadClock", "answered", "until"]

PATIENCE = 20.0  # real seconds, for threads: nothing takes so long unless it is broken


def until(done: Callable[[], Any]) -> None:
    """Waits for other threads."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.0002)


def answered() -> bool:
    """Whether no probe is under way in a thread."""
    return not [thread for thread in threading.enumerate() if thread.name.endswith(": probe")]


class TaskClock(FakeClock):
    """Tasks that wait do not make it pass."""

    def jump(self) -> bool:
        return False

    def due(self) -> float | None:
        """When it next matters to somebody."""
        return self._next_due()


class ThreadClock(FakeClock):
    """Threads that wait, or sleep, do not make it pass.

    Attributes:
        asleep: how many sleep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asleep = 0

    def jump(self) -> bool:
        time.sleep(0.0005)  # whoever waits by this clock looks again
        return True

    def sleep(self, seconds: float) -> None:
        over = threading.Event()
        self.call_later(seconds, over.set)
        self.asleep += 1
        assert over.wait(PATIENCE)
        self.asleep -= 1

    def due(self) -> float | None:
        """When it next matters to somebody."""
        return self._next_due()

    def step(self) -> None:
        """Lets pass what one waiting thread waits for, once it has begun to."""
        until(lambda: self.due() is not None)
        due = self.due()
        assert due is not None
        self.advance(max(0.0, due - self.now()))
