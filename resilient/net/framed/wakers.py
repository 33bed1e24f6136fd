"""Those who wait at a queue, each as a function that wakes it."""

from __future__ import annotations

from asyncio import InvalidStateError
from collections import deque
from collections.abc import Callable

__all__ = ["wake_all"]


def wake_all(waiting: deque[Callable[[], object]]) -> None:
    """Wakes all that wait now; they look again, and wait again if need be."""
    for _ in range(len(waiting)):
        try:
            waiting.popleft()()
        except IndexError:  # another thread woke them
            return
        except InvalidStateError:  # a task that was cancelled
            continue
