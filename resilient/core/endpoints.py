"""Several endpoints of one service: which to dial next.

Those that have not failed since they last worked come first, in the user's order; then the failed ones, the oldest
failure first, so that each gets its turn and none is asked twice while another has waited longer. Counting failures
instead would let an old streak keep an endpoint from ever being tried again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from resilient.core.setting_errors import SettingValueError

__all__ = ["EndpointMark", "Endpoints"]

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class EndpointMark:
    """What is known of an endpoint.

    Attributes:
        failures: in a row, up to now.
        latest: number of its latest failure among those of all endpoints; 0 if it works, or nobody knows.
        at: when that was, monotonic seconds.
    """

    failures: int = 0
    latest: int = 0
    at: float = -math.inf


UNMARKED = EndpointMark()


class Endpoints(Generic[T]):
    """The endpoints of one service. Not thread-safe: the driver holds its lock around each step.

    Args:
        addresses: at least one, in order of preference, none twice; whatever the dial understands.

    Raises:
        ValueError: there is none, or one is named twice.
    """

    __slots__ = ("_failed", "_marks")

    def __init__(self, addresses: Iterable[T]) -> None:
        given = list(addresses)
        self._marks = dict.fromkeys(given, UNMARKED)
        self._failed = 0
        if not given:
            raise SettingValueError("addresses", "must be at least one endpoint, got none")
        if len(self._marks) < len(given):
            raise SettingValueError("addresses", f"must each be named once, got {given!r}")

    @property
    def marks(self) -> dict[T, EndpointMark]:
        """What is known of each, in the user's order."""
        return dict(self._marks)

    def ordered(self) -> list[T]:
        """All of them, the one to dial next first."""
        return sorted(self._marks, key=lambda address: self._marks[address].latest)

    def best(self, since: float = -math.inf) -> T:
        """The one to dial next; failures before this monotonic instant, seconds, are forgiven."""
        marks = self._marks
        return min(marks, key=lambda address: marks[address].latest if marks[address].at >= since else 0)

    def __len__(self) -> int:
        return len(self._marks)

    def forget(self) -> None:
        """Nothing is held against any of them any more."""
        self._marks = dict.fromkeys(self._marks, UNMARKED)

    def failed(self, address: T, at: float = math.inf) -> None:
        """A dial of it failed, its connection was lost, or it was told to be the wrong way; of a stranger: nothing."""
        if address in self._marks:
            self._failed += 1
            self._marks[address] = EndpointMark(self._marks[address].failures + 1, self._failed, at)

    def worked(self, address: T) -> None:
        """An endpoint served well, for as long as its user calls stable; of a stranger: nothing."""
        if address in self._marks:
            self._marks[address] = UNMARKED
