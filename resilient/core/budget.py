"""The place where a run asks whether it can afford a retry.

The budgets themselves (quota, ratio, throttle) implement this protocol; a run knows nothing else of them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Budget"]


@runtime_checkable
class Budget(Protocol):
    """Shared by many calls and threads; limits how many retries they make together."""

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """Takes the price of one retry.

        Args:
            now: monotonic instant, seconds.
            timed_out: whether the failed attempt ran into a timeout, which may cost more.

        Returns:
            The price taken, or None if the budget is empty: the call must not be tried again.
        """
        ...

    def release(self, now: float, price: float | None) -> None:
        """Hears of a call that succeeded.

        Args:
            now: monotonic instant, seconds.
            price: what its last retry cost; None if the first attempt succeeded.
        """
        ...
