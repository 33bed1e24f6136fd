"""Runs the same work in many threads at once, switching between them as often as the interpreter can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

__all__ = ["together"]


def together(count: int, work: Callable[[int], object]) -> list[BaseException]:
    """Calls ``work(n)`` in a thread for each n below ``count``; what the threads raised."""
    raised: list[BaseException] = []

    def guarded(n: int) -> None:
        try:
            work(n)
        except BaseException as error:
            raised.append(error)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    return raised
