"""A plugin host: its configuration comes from a control plane, its loops are started again, its plugins may panic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TypeAlias

from demo.process import Address
from resilient import Event, backoff, events
from resilient.net import Poller, Supervisor

__all__ = ["PATIENCE", "Configuration", "PluginHost"]

PATIENCE = 5.0  # seconds after which what does not happen is given up
INTERVAL = 0.05  # seconds between fetches
FETCH = 2.0  # seconds until a fetch counts as failed
BACKOFF = backoff.exponential(0.05, cap=1)  # usually 100 ms, doubling, at most 5 min

Configuration: TypeAlias = dict[str, int]


class PluginHost:
    """Fetches its configuration, applies it, and runs loops in the background.

    Args:
        address: the control plane's.

    Attributes:
        supervisor: of the loops; to be entered.
        poller: fetches the configuration.
        heard: the events of all of them.
        applied: the versions that were applied, in order.
        in_force: those that were in force when a fetch failed.
    """

    def __init__(self, address: Address) -> None:
        self.heard: list[Event] = []
        self.applied: list[int] = []
        self.in_force: set[int] = set()
        self.supervisor = Supervisor(name="plugin host", listeners=(self.hear,))
        self.poller: Poller[Configuration] = Poller(
            self._fetch,
            self._apply,
            interval=INTERVAL,
            backoff=BACKOFF,
            name="configuration",
            listeners=(self.hear,),
        )
        self.supervisor.add("configuration", self.poller.run, permanent=True)
        self._address = address
        self._changed = asyncio.Event()

    @property
    def version(self) -> int:
        """That of the configuration in force; 0 before there is one."""
        return 0 if self.poller.value is None else self.poller.value["version"]

    def hear(self, event: Event) -> None:
        """Takes note of an event."""
        self.heard.append(event)
        if isinstance(event, events.AttemptFailed):
            self.in_force.add(self.version)
        self.changed()

    def changed(self) -> None:
        """Something else has happened."""
        self._changed.set()

    def forget(self) -> None:
        """Begins a new page."""
        self.heard.clear()
        self.in_force.clear()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds.

        Raises:
            TimeoutError: it never did.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {PATIENCE:g} s: {what}") from None

    async def until_version(self, version: int) -> None:
        """Waits until this configuration is in force."""
        await self.until(lambda: self.version == version, f"version {version} in force")

    def _apply(self, configuration: Configuration) -> None:
        self.pace = 1 / configuration["beats"]
        self.applied.append(configuration["version"])
        self.changed()

    async def _fetch(self) -> Configuration:
        return await asyncio.to_thread(fetch, self._address)


def fetch(address: Address) -> Configuration:
    """What the control plane has.

    Raises:
        OSError, HTTPException: it does not answer, or not by 200.
        ValueError: that is no JSON.
    """
    with closing(HTTPConnection(*address, timeout=FETCH)) as connection:
        connection.request("GET", "/configuration")
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            return dict(json.loads(answer.read()))
