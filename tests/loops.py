"""Runs a coroutine under each event loop that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

__all__ = ["LOOPS", "abandon", "run"]

LOOPS = ["asyncio", "uvloop", "trio"]


def run(loop: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs ``main()`` under a loop; skips the test if that loop is not installed."""
    if loop == "trio":
        return pytest.importorskip("trio").run(main)
    if loop == "uvloop":
        with asyncio.Runner(loop_factory=pytest.importorskip("uvloop").new_event_loop) as runner:
            return runner.run(main())  # type: ignore[arg-type]
    return asyncio.run(main())  # type: ignore[arg-type]


def abandon(tasks: list[Any]) -> None:
    """Lets go of tasks whose loop was closed while they waited, without asyncio's complaint about that."""
    for task in tasks:
        task._log_destroy_pending = False
        task.get_coro().close()
