"""Retry budgets: how many retries many calls may make together.

Retries are paid for, so that a crowd of them cannot keep down what has failed. A run asks before each retry
whether it can afford it, and tells what came of its attempts; these machines differ in what brings money in::

              filled by                           a retry costs         source
    Quota     successes; starts full              5, or 10 on timeout   AWS SDKs, standard mode
    Ratio     calls, for ttl, above a reserve     1 / percent calls     Finagle, tower
    Tokens    successes; starts full              a token a failure     gRPC, proposal A6

All are plain numbers and not thread-safe: whoever shares one holds a lock around each step. An instant a little
before the last one does no harm.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Budget", "Quota", "Ratio", "Tokens"]


@runtime_checkable
class Budget(Protocol):
    """Shared by many calls and threads; limits how many retries they make together.

    A budget may say ``heeds_calls = False`` or ``heeds_successes = False``: then it is not told of calls that begin, or
    of first attempts that succeed, and no clock is read for its sake.
    """

    @property
    def available(self) -> float:
        """What is left, in the budget's own unit, as of the last step; >= 0."""
        ...

    def called(self, now: float) -> None:
        """A call begins: its first attempt, at this monotonic instant in seconds."""
        ...

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """Takes the price of one retry.

        Args:
            now: monotonic instant, seconds.
            timed_out: whether the failed attempt ran into a timeout, which may cost more.

        Returns:
            The price taken, or None if the budget is empty: the call must not be tried again.
        """
        ...

    def succeeded(self, now: float, price: float | None) -> None:
        """A call that the budget was told of succeeded.

        Args:
            now: monotonic instant, seconds.
            price: what its last retry cost; None if the first attempt succeeded.
        """
        ...

    def failed(self, now: float) -> None:
        """An attempt failed with something that would be tried again, attempts left or not; told before ``acquire``."""
        ...


class Quota:
    """Retries draw on a fixed quota, which successes fill up again.

    A success gives back what its last retry cost, or a little if it needed none; a call that fails for good gives
    nothing back.

    Args:
        capacity: what there is at most and at first, >= 0.
        retry_cost: price of a retry, > 0.
        timeout_cost: price of a retry after a timeout, > 0.
        first_try_refund: what a success without a retry brings in, >= 0.

    Attributes:
        available: what is left, in the unit of the costs.

    Source: botocore retries/quota.py and standard.py (500, 5, 10, 1); smithy-rs token_bucket.rs has the same four.
    """

    __slots__ = ("available", "capacity", "first_try_refund", "retry_cost", "timeout_cost")

    def __init__(
        self, capacity: float = 500, retry_cost: float = 5, timeout_cost: float = 10, first_try_refund: float = 1
    ) -> None:
        self.capacity = capacity
        self.retry_cost = retry_cost
        self.timeout_cost = timeout_cost
        self.first_try_refund = first_try_refund
        self.available = capacity

    def called(self, now: float) -> None:
        """Costs nothing: only retries do."""

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """Takes the price of one retry; None, and nothing taken, if there is less."""
        price = self.timeout_cost if timed_out else self.retry_cost
        if price > self.available:
            return None
        self.available -= price
        return price

    def succeeded(self, now: float, price: float | None) -> None:
        """Gives back the last price, or the refund of a first try, up to the capacity."""
        if self.available == self.capacity:  # the usual case: nothing was lost lately
            return
        available = self.available + (self.first_try_refund if price is None else price)
        self.available = available if available < self.capacity else self.capacity

    def failed(self, now: float) -> None:
        """Costs nothing: only retries do."""


# Finagle's TokenRetryBudget.ScaleFactor: whole numbers add up exactly, and leave room for a percent above 1.
DEPOSIT = 1000
# Slots of a ttl, in Finagle (util's WindowedAdder) and tower: deposits expire a tenth of it at a time.
SLOTS = 10
# Dearer than any deposits: keeps the price of the tiniest percent finite.
UNAFFORDABLE = 1e15


class Ratio:
    """Retries are a share of the calls, above a reserve for whoever calls rarely.

    Each call deposits, each retry withdraws 1 / percent deposits. Either is forgotten after 0.9 to 1 ttl, so
    that what was saved in quiet times cannot feed a storm.

    Args:
        percent: retries per call, 0 (the reserve only) to 1000; 0.2 is one retry in five calls.
        min_per_second: retries per second allowed on top of that, >= 0; the reserve is this times ttl.
        ttl: how long a deposit or withdrawal counts, seconds, 1 to 60.

    Source: Finagle RetryBudget.scala: numbers, limits, and prices cut to thousandths of a deposit, by which
    percentages are granted as asked (tower cuts 1 / 0.75 to 1, and grants all).
    """

    __slots__ = ("_balance", "_deposit", "_from", "_price", "_reserve", "_slot", "_slots", "_to", "_ttl")

    def __init__(self, percent: float = 0.2, min_per_second: float = 10, ttl: float = 10) -> None:
        self._deposit = DEPOSIT if percent else 0
        self._price = int(min(DEPOSIT / percent, UNAFFORDABLE)) if percent else 1
        self._reserve = int(min_per_second * ttl * self._price)
        self._ttl = ttl
        self._balance = self._reserve
        self._slots = [0] * SLOTS
        self._slot = 0
        # Instants for which the present slot is good: none before the first step. Its own width, and the ttl
        # before it, for threads that come late; further back is another clock.
        self._from = self._to = float("-inf")

    @property
    def available(self) -> float:
        """Whole retries that could be made, as of the last step."""
        return float(max(self._balance, 0) // self._price)

    def called(self, now: float) -> None:
        """A call began: a deposit is made."""
        if not self._from <= now < self._to:
            self._expire(now)
        self._slots[self._slot] += self._deposit
        self._balance += self._deposit

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """Withdraws one retry: 1.0, or None if the balance is short of it."""
        if not self._from <= now < self._to:
            self._expire(now)
        if self._balance < self._price:
            return None
        self._slots[self._slot] -= self._price
        self._balance -= self._price
        return 1.0

    def succeeded(self, now: float, price: float | None) -> None:
        """Brings nothing in: calls do."""

    def failed(self, now: float) -> None:
        """Costs nothing: only retries do."""

    def _expire(self, now: float) -> None:
        """Moves on to the slot of this instant, emptying every slot it enters."""
        width = self._ttl / SLOTS
        for _ in range(SLOTS):
            self._slot = (self._slot + 1) % SLOTS
            self._balance -= self._slots[self._slot]
            self._slots[self._slot] = 0
            self._to += width
            self._from = self._to - self._ttl
            if self._from <= now < self._to:
                return
        self._to = now + width  # all is forgotten: after a pause of a ttl, on another clock, or at first
        self._from = self._to - self._ttl


MILLI = 1000  # gRPC counts thousandths of a token: A6, "up to 3 decimal places are supported"


def _milli(tokens: float) -> int:
    """Thousandths, cut off like gRPC's from decimal digits: hence the grain that lifts 1000.9999999999999 to 1001."""
    return int(tokens * MILLI + 1e-6)


class Tokens:
    """Retries stop while failures outweigh successes: while half of the tokens are gone.

    Every failed attempt takes a token, every success brings ``token_ratio``. A retry itself costs nothing (its price
    is 0): the failure before it has been paid for, and it needs more than half of the tokens to be left. How long to
    wait before it, or a server's pushback (a delay it names, or "do not retry"), is the classifier's business: the
    first is waited out, the second is FAIL, which takes no token as other FAILs do not.

    Args:
        max_tokens: what there is at most and at first, above 0 and up to 1000, in thousandths.
        token_ratio: tokens that a success brings, >= 0.001, in thousandths; finer digits are cut off.

    Source: gRPC proposal A6, "Throttling Retry Attempts and Hedged RPCs"; grpc retry_throttle.cc.
    """

    __slots__ = ("_left", "_most", "_ratio", "_threshold")

    def __init__(self, max_tokens: float = 10, token_ratio: float = 0.1) -> None:
        self._most = self._left = _milli(max_tokens)
        self._ratio = _milli(token_ratio)
        self._threshold = self._most // 2

    @property
    def available(self) -> float:
        """Tokens left; retries are made while they are more than half of ``max_tokens``."""
        return self._left / MILLI

    def called(self, now: float) -> None:
        """Costs nothing: failures do."""

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """0.0 above the threshold, None at or below it."""
        return 0.0 if self._left > self._threshold else None

    def succeeded(self, now: float, price: float | None) -> None:
        """Brings ``token_ratio``, up to ``max_tokens``."""
        left = self._left + self._ratio
        self._left = left if left < self._most else self._most

    def failed(self, now: float) -> None:
        """Takes a token, if there is one."""
        left = self._left - MILLI
        self._left = left if left > 0 else 0
