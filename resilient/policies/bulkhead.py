"""Bulkhead: how many calls run at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from resilient.core.duration import Duration, optional_seconds, whole
from resilient.core.permits import PermitsMetrics
from resilient.core.setting_errors import checked_name
from resilient.drivers.gates.bulkhead import AsyncBulkheadGate, BulkheadGate, SharedPermits
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.gate import GatePolicy
from resilient.policies.shared import Home, Stateful

__all__ = ["Bulkhead"]


class BulkheadSettings(TypedDict, total=False):
    """The settings of a Bulkhead, as ``with_`` takes them."""

    limit: int
    max_wait: Duration | None
    queue: int | None
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@dataclass(frozen=True, slots=True, repr=False)
class Bulkhead(GatePolicy, Stateful):
    """At most so many calls at once, so that one slow dependency cannot take every thread, task and connection.

    Calls above the limit wait in one fair queue, threads and tasks of all event loops together, or are rejected with
    :class:`~resilient.BulkheadFull`. A permit that comes back goes straight to the first in the queue. A call never
    waits longer than the deadline around it leaves. A call that needs a second permit of the same bulkhead, from
    inside the first, may wait for itself: give each level its own.

    Args:
        limit: calls at once, >= 1.
        max_wait: longest wait for a permit; 0: none, so that nobody waits; None: no limit.
        queue: most calls that may wait, >= 0; None: no limit.
        name: for errors and events; with a ``home``, the name of the permits.
        listeners: functions that are told every event of this policy.
        home: where the permits are shared by name; None: they are this object's own.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.
    """

    limit: int
    max_wait: Duration | None = field(default=0, kw_only=True)
    queue: int | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    home: Home | None = field(default=None, kw_only=True, compare=False, repr=False)
    permits: SharedPermits = field(init=False, compare=False, repr=False)
    gate: BulkheadGate = field(init=False, compare=False, repr=False)
    async_gate: AsyncBulkheadGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        limit = whole("limit", self.limit, least=1)
        queue = None if self.queue is None else whole("queue", self.queue, least=0)
        fix(self, "max_wait", max_wait := optional_seconds("max_wait", self.max_wait))
        fix(self, "listeners", checked_listeners(self.listeners))
        checked_name(self.name)
        permits = self.found_state(self.kind, self.name, lambda: SharedPermits(limit, queue))
        fix(self, "permits", permits)
        fix(
            self,
            "gate",
            gate := BulkheadGate(permits, max_wait, limit=limit, queue=queue, name=self.name, listeners=self.listeners),
        )
        fix(self, "async_gate", AsyncBulkheadGate(gate, permits))

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.async_gate

    def metrics(self) -> PermitsMetrics:
        """How full it is, and how often it was too full."""
        return self.permits.metrics()

    def reset(self) -> None:
        """Counts from zero again; calls that run keep their permits, and those that wait their places."""
        self.permits.reset()

    def with_(self, **changes: Unpack[BulkheadSettings]) -> Bulkhead:
        """A copy with some settings changed, and permits of its own unless it has a ``home``."""
        changes.setdefault("home", None)
        return replace(self, **changes)
