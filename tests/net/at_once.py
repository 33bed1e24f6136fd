"""Several tasks at the same time, on whichever event loop runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["at_once"]


async def at_once(*works: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What tasks came to, values and errors, when all have ended."""
    outcomes: list[Any] = [None] * len(works)

    async def one(index: int) -> None:
        try:
            outcomes[index] = await works[index]()
        except Exception as error:
            outcomes[index] = error

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        async with trio.open_nursery() as nursery:
            for index in range(len(works)):
                nursery.start_soon(one, index)
    else:
        async with asyncio.TaskGroup() as group:
            for index in range(len(works)):
                group.create_task(one(index))
    return outcomes
