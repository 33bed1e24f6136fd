"""Signals to ``resilient run`` itself: passed on to the command, and the end of all retrying."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from resilient.cli.failures import Ended
from resilient.cli.family import Family

__all__ = ["Interrupted", "Signals"]

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(BaseException):
    """Somebody wants us to stop. Not an ``Exception``, so that no policy ever takes it for a failure.

    Attributes:
        status: what ``resilient run`` ends with.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Signals:
    """While open, nothing is tried again after a signal.

    Attributes:
        received: the last signal, or None.
        wake: a file descriptor that is readable once a signal came, the end of a child included.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.wake = -1
        self._wake_write = -1
        self._old_wake = -1
        self._old: dict[int, Any] = {}
        self._family: Family | None = None
        self._busy = False

    def __enter__(self) -> Signals:
        self.wake, self._wake_write = os.pipe()
        for end in (self.wake, self._wake_write):
            os.set_blocking(end, False)
        self._old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # Even where it would be ignored by default: only a handler makes the end of a child wake us.
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (getattr(signal, name) for name in PASSED_ON):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: the command ignores it too
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._old_wake)
        os.close(self.wake)
        os.close(self._wake_write)

    def drain(self) -> None:
        """Makes ``wake`` wait for the next signal."""
        with suppress(BlockingIOError):
            while os.read(self.wake, 4096):
                pass

    @contextmanager
    def busy(self) -> Iterator[Callable[[Family], None]]:
        """While a command starts, runs and is cleaned up after: signals wait for it to end.

        Yields:
            The function that is told of the command as soon as there is one.
        """
        self._busy = True
        try:
            yield self._adopt
        finally:
            self._family, self._busy = None, False

    def _adopt(self, family: Family) -> None:
        self._family = family
        if self.received is not None:  # it came while the command started
            family.pass_on(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self._family is not None:
            self._family.pass_on(number)
        elif not self._busy:
            raise Interrupted(Ended.BY_SIGNAL + number)
