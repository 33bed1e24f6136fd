"""What the drivers need of a policy that tries again, and of its recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from resilient.core.action import Action
from resilient.core.run import Plan
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.observe.listeners import Listener

__all__ = ["Guard", "Recoverer"]


class Recoverer(Protocol):
    """What a driver needs of a ``Recovery``."""

    @property
    def flight(self) -> SingleFlight: ...

    def handler(self, action: Action) -> Callable[[], object] | None: ...


class Guard(Protocol):
    """What a driver needs of a ``Retry``."""

    @property
    def name(self) -> str: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def recovery(self) -> Recoverer | None: ...
    @property
    def listeners(self) -> tuple[Listener, ...]: ...
    @property
    def nested(self) -> bool: ...
