"""What a driver asks of an event loop, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

from resilient.drivers.clock import Clock

__all__ = ["Backend", "Cutoff", "Task", "TaskGroup", "Waiter", "Work"]


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


class Work(Protocol):
    """The async function that a task of a group runs."""

    def __call__(self) -> Coroutine[Any, Any, None]: ...


class Task(Protocol):
    """A task of a group, as whoever may cancel it sees it."""

    def cancel(self) -> object: ...


class TaskGroup(Protocol):
    """Tasks that no cancellation from outside reaches: they are cancelled one by one."""

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled task raises."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Waits until the last task has ended; raises the exit that a task raised, if any did."""
        ...

    def abandon(self) -> None:
        """Cancels all tasks at once, where nothing can be awaited any more."""
        ...

    def start(self, work: Work, name: str, ended: Callable[[], object]) -> Task:
        """Runs something in a task, in a copy of the context of ``open``; ``ended`` is called behind it."""
        ...

    def shelter(self) -> AbstractContextManager[object]:
        """A block that no cancellation from outside reaches again."""
        ...

    def cancellations(self) -> int:
        """How often the running task has been cancelled from outside so far, as far as that is counted."""
        ...

    def left(self, before: int) -> bool:
        """Whether the running task was cancelled from outside since ``cancellations`` gave this number.

        If it was not, something that it awaited was cancelled alone.
        """
        ...


class Backend(Protocol):
    """One kind of event loop, such as trio, as a driver uses it."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps, and lets others run even for 0 seconds."""
        ...

    def waiter(self) -> Waiter: ...

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff: ...

    def task_group(self) -> TaskGroup:
        """Makes a group of tasks, which is yet to be opened."""
        ...

    def when_idle(self, look: Callable[[], bool]) -> None:
        """Calls ``look`` whenever no task can run, until it says False."""
        ...
