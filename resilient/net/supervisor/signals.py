"""SIGTERM and SIGINT: a process that is asked to end ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ending_by_signals"]

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_by_signals(who: str, end: Callable[[], object]) -> Iterator[None]:
    """Within it the first SIGTERM or SIGINT calls a function; the next ones do what they did before.

    Args:
        who: for the error.
        end: called in the main thread, between any two instructions of it: it may wake, but take no lock.

    Raises:
        RuntimeError: this is not the main thread, the only one that hears of signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{who}: signals=True works in the main thread only; elsewhere call stop() from a handler")

    before = {number: signal.getsignal(number) for number in ENDING}

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:  # else somebody has put another in its place
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        end()

    try:
        for number in ENDING:
            signal.signal(number, handle)
        yield
    finally:
        restore()
