"""What the gates have in common that learn from results how much the other side can take."""

from __future__ import annotations

from threading import RLock

from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.observe.listeners import Listener

__all__ = ["AdaptiveGate"]


class AdaptiveGate:
    """A lock, a name, and somebody to tell.

    A failure, in the judges, is that the other side could not take the call.
    """

    __slots__ = ("_listeners", "_lock", "_name", "_of_error", "_of_result")

    def __init__(self, lock: RLock, judges: FailureJudges, name: str, listeners: tuple[Listener, ...]) -> None:
        self._of_error, self._of_result = judges.of_error, judges.of_result
        self._name = name
        self._listeners = listeners
        self._lock = lock

    def _said(self, error: BaseException) -> bool | None:
        return self._of_error(error) if isinstance(error, Exception) else None
