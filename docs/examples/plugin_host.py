"""A plugin host that survives its control plane, its plugins and its own background loops.

It fetches its configuration over HTTP. Status 200: the configuration is applied, and the next fetch comes after the
interval. Any other status, or no answer: the failure is counted, and the next fetch comes after 0.1, 0.2, 0.4 s and
so on, at most 300 s. A configuration that blows up when it is applied is reported; the last good one stays
in force throughout.

Run as ``python plugin_host.py http://127.0.0.1:8080/configuration``; it needs httpx (``resilient-toolkit[http]``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import httpx

from resilient import catch, events, panic_hooks
from resilient.net import Poller, Supervisor

P = ParamSpec("P")
T = TypeVar("T")
Configuration = dict[str, Any]


class PluginHost:
    """Configuration, background loops and plugins of one process.

    Args:
        url: where the control plane has the configuration.
        apply: makes a configuration work, or raises.
        interval: between two fetches, seconds.
        listener: hears all events of the host.
    """

    def __init__(
        self,
        url: str,
        apply: Callable[[Configuration], object],
        *,
        interval: float = 30,
        listener: Callable[[events.Event], object] = lambda event: None,
    ) -> None:
        self._url = url
        self._client = httpx.AsyncClient(timeout=10)
        self._poller = Poller(self._fetch, apply, interval=interval, name="configuration", listeners=(listener,))
        self._supervisor = Supervisor(name="plugin host", listeners=(listener,))
        self._supervisor.add("configuration", self._poller.run, permanent=True)

    @property
    def configuration(self) -> Configuration | None:
        """The last good one."""
        return self._poller.value

    @property
    def panics(self) -> dict[str, int]:
        """How often each background loop blew up."""
        return dict(self._supervisor.stats().panics)

    def background(self, name: str, loop: Callable[[], Awaitable[object]]) -> None:
        """Adds a loop that is started again when it dies."""
        self._supervisor.add(name, loop)

    def safe_execute(self, name: str, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What the operation gives; None after a panic, which is logged by its name."""
        return catch.call(name, operation, *args, **kwargs)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        with panic_hooks():
            async with self._client:
                await self._supervisor.run()

    async def _fetch(self) -> Configuration:
        answer = await self._client.get(self._url)
        if answer.status_code != 200:
            raise httpx.HTTPStatusError(f"status {answer.status_code}", request=answer.request, response=answer)
        return dict(answer.json())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with suppress(KeyboardInterrupt):
        asyncio.run(PluginHost(sys.argv[1], lambda configuration: print("applied", configuration)).run())
