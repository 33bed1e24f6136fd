"""What a hedged async call asks of the event loop that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from resilient.drivers.clock import Clock

__all__ = ["Copy", "HedgeTasks"]


class Copy(Protocol):
    """Runs the copy of a number: reports how it ended, and lets no error through."""

    def __call__(self, number: int, /) -> Coroutine[Any, Any, None]: ...


class HedgeTasks(AbstractAsyncContextManager["HedgeTasks"], Protocol):
    """The tasks of one hedged call on one kind of event loop; leaving the block cancels and awaits those that run."""

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled task raises."""
        ...

    def first(self) -> AbstractContextManager[object]:
        """The block in which the caller's own task runs the call; :meth:`cut` ends it."""
        ...

    def cut(self) -> None: ...

    def leaving(self) -> bool:
        """Whether the caller is being cancelled from outside."""
        ...

    def start(self, copy: Copy, number: int) -> None:
        """Runs a copy in the background, in a copy of the caller's context."""
        ...

    def alarm(self, seconds: float, clock: Clock, ring: Callable[[int], None], copies: int) -> None:
        """Calls ``ring(copies)`` after that time; earlier alarms need not ring any more."""
        ...
