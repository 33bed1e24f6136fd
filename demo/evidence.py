"""What the events of a policy, and the server's own counters, say about a recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from demo.faults import RECONNECT, RELOGIN, RETRY, WAIT
from resilient import Action, Event, events

__all__ = ["Evidence", "error_line", "times"]

ORDER = (WAIT, RETRY, RECONNECT, RELOGIN)
COUNTED_BY_SERVER = {RECONNECT: "connections", RELOGIN: "logins"}


class Evidence:
    """Events, counted.

    Attributes:
        seen: how often each action worked (RECONNECT, RELOGIN) or was called for (WAIT, RETRY).
        failures: attempts that failed.
        refused: recoveries that failed.
        waited: what all calls were told to wait together, seconds.
    """

    def __init__(self, heard: Iterable[Event]) -> None:
        self.seen: Counter[Action] = Counter()
        self.failures = self.refused = 0
        self.waited = 0.0
        for event in heard:
            self._count(event)

    def recovered_by(self) -> str:
        """The actions in one line."""
        return times({action.name: self.seen[action] for action in ORDER})

    def missing(self, takes: Mapping[Action, int], served: Mapping[str, int]) -> list[str]:
        """What is not as it should be; empty if all is.

        Args:
            takes: how often each action must be seen, as in a ``Fault``.
            served: what the server counted.
        """
        return [
            *_differences(
                "the events say", {action.name: (takes.get(action, 0), self.seen[action]) for action in ORDER[2:]}
            ),
            *_shortfalls({action.name: (takes.get(action, 0), self.seen[action]) for action in ORDER[:2]}),
            *_differences(
                "the server says",
                {name: (takes.get(action, 0), served[name]) for action, name in COUNTED_BY_SERVER.items()},
            ),
        ]

    def _count(self, event: Event) -> None:
        match event:
            case events.AttemptFailed(verdict=verdict):
                self.failures += 1
                self.seen[verdict.action] += verdict.action in (WAIT, RETRY)
            case events.Waiting(seconds=seconds):
                self.waited += seconds
            case events.Recovered(action=action):
                self.seen[action] += 1
            case events.RecoveryFailed():
                self.refused += 1
            case _:
                pass


def times(counts: Mapping[str, int]) -> str:
    """Names and how often each: ``RECONNECT x1, RETRY x2``."""
    return ", ".join(f"{name} x{count}" for name, count in counts.items() if count)


def error_line(error: BaseException) -> str:
    """An error in one line; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    notes: list[str] = getattr(error, "__notes__", [])
    return " / ".join((events.described(error), *notes))


def _differences(witness: str, counts: Mapping[str, tuple[int, int]]) -> list[str]:
    return [
        f"{name} x{wanted} expected, {witness} x{seen}" for name, (wanted, seen) in counts.items() if wanted != seen
    ]


def _shortfalls(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    return [f"{name} x{wanted} expected, seen x{seen}" for name, (wanted, seen) in counts.items() if seen < wanted]
