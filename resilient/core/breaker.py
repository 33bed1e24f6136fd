"""The circuit breaker: stop calling what keeps failing, and try it again with a few probes.

Closed, it counts results in a window and trips when a rate reaches its threshold. Open, it rejects until its wait
is over; half-open, it admits so many probes, and their results close it or open it again. Every change of state,
and every order of the operator, begins a new generation. A call carries the generation in which it began as its
ticket; if that is not today's, its result is history and changes nothing. :data:`MOVES` is the whole diagram.

A rate trips at or above its threshold; a call is slow if it took longer than ``slow_call``; both as in
resilience4j (CircuitBreakerMetrics).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import count
from typing import TypeAlias

from resilient.core.backoff import Backoff, Rng
from resilient.core.window import CountWindow, TimeWindow, Window

__all__ = ["MOVES", "Breaker", "BreakerMetrics", "BreakerPlan", "Event", "Move", "State"]


class State(StrEnum):
    """Which calls a breaker admits."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


class Event(Enum):
    """What moves a breaker: what it saw, and below that what its operator ordered."""

    TRIPPED = auto()
    WAITED = auto()
    PROBES_FAILED = auto()
    PROBES_PASSED = auto()

    FORCED_OPEN = auto()
    DISABLED = auto()
    METRICS_ONLY = auto()
    RESET = auto()


# The operator's orders are obeyed in every state.
ORDERS = {
    Event.FORCED_OPEN: State.FORCED_OPEN,
    Event.DISABLED: State.DISABLED,
    Event.METRICS_ONLY: State.METRICS_ONLY,
    Event.RESET: State.CLOSED,
}
MOVES = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.WAITED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBES_FAILED): State.OPEN,
    (State.HALF_OPEN, Event.PROBES_PASSED): State.CLOSED,
    **{(state, order): after for state in State for order, after in ORDERS.items()},
}

Move: TypeAlias = tuple[State, State]
"""The state before and the state after."""

# A driver takes the moves after each step, which makes one at most; the bound is for one that never asks.
MOVES_KEPT = 16


@dataclass(frozen=True, slots=True)
class BreakerPlan:
    """The settings of a breaker.

    Attributes:
        failure_rate: share of failures that trips it, above 0 to 1; None: failures are not rated.
        window: what is counted: the last so many calls, or seconds if ``timed``.
        timed: whether ``window`` is in seconds.
        min_calls: calls in the window before any rate is looked at; at most the window, if that is a count.
        consecutive: failures in a row that trip it, whatever the rates; None: they are not counted.
        slow_call: a call that takes longer is slow, seconds; None: none is.
        slow_rate: share of slow calls that trips it, above 0 to 1.
        open_for: waits before probing; the n-th while it keeps reopening, from the first each time it closed.
        probes: calls admitted half-open, >= 1.
    """

    failure_rate: float | None
    window: float
    timed: bool
    min_calls: int
    consecutive: int | None
    slow_call: float | None
    slow_rate: float
    open_for: Backoff
    probes: int


@dataclass(frozen=True, slots=True)
class BreakerMetrics:
    """What a breaker has counted: in the window, or of its probes once it was half-open.

    Attributes:
        state: what a call would meet now.
        calls: results counted.
        failures: failed ones among them.
        failure_rate: their share, 0 to 1; None below the smallest number of calls that is rated.
        slow: slow ones among them.
        slow_rate: likewise.
        rejected: calls turned away since the breaker was made or reset.
    """

    state: State
    calls: int
    failures: int
    failure_rate: float | None
    slow: int
    slow_rate: float | None
    rejected: int


class Breaker:
    """The state that all calls on one resource share. Not thread-safe: the driver holds its lock around each step.

    Args:
        plan: the settings.
        rng: source of jitter for the waits.

    Attributes:
        admits_all: whether every call may begin, with today's generation for its ticket.
        state: the last one entered; :meth:`state_at` knows whether an open breaker's wait is over.
        generation: today's; the ticket of calls that begin now.
        rejected: calls turned away since the breaker was made or reset.
        quiet: whether nothing but successes is counted, of calls in a window of calls. A success then only needs to
            be ticked off, ``next(breaker.successes)``, without a lock: it is counted at the next step.
        successes: ticks of successes.
        moved: changes of state that nobody has taken yet, oldest first.
    """

    __slots__ = (
        "_calls", "_counts", "_openings", "_probes", "_probes_out", "_rated_from", "_reopen_rate",
        "_rng", "_slow_call", "_streak", "_ticked", "_ticked_window", "_ticks_count", "_trip_rate", "_trip_streak",
        "_until", "_wait", "_window", "admits_all", "generation", "moved", "plan", "quiet", "rejected", "state",
        "successes",
    )  # fmt: skip

    quiet: bool
    _ticks_count: bool
    _wait: float
    _until: float
    _window: Window
    _streak: int
    _openings: int

    def __init__(self, plan: BreakerPlan, rng: Rng) -> None:
        self.plan = plan
        self._rng = rng
        self.moved: deque[Move] = deque(maxlen=MOVES_KEPT)
        self.rejected = 0
        self.generation = 0
        # Thresholds that nothing reaches stand for settings not made.
        self._slow_call = math.inf if plan.slow_call is None else plan.slow_call
        self._trip_rate = math.inf if plan.failure_rate is None else plan.failure_rate
        self._trip_streak = math.inf if plan.consecutive is None else plan.consecutive
        # Where failures are only counted in a row, a single failed probe reopens.
        any_failure = plan.failure_rate is None and plan.consecutive is not None
        self._reopen_rate = 1 / plan.probes if any_failure else self._trip_rate
        self._calls: Window = TimeWindow(plan.window) if plan.timed else CountWindow(int(plan.window))
        self._ticked_window = self._calls if isinstance(self._calls, CountWindow) else None
        self._probes = CountWindow(plan.probes)
        self.successes = count()
        self._ticked = 0
        self._enter(State.CLOSED, 0.0)

    def admit(self, now: float) -> int | None:
        """A call wants to begin at ``now``, monotonic seconds: its ticket, or None if it is rejected."""
        if self.admits_all:
            return self.generation
        return self._admit_probe(now)

    def recorded(self, ticket: int, now: float, failed: bool, seconds: float | None) -> None:
        """A call that was admitted has ended.

        Args:
            ticket: what :meth:`admit` gave it.
            now: monotonic instant, seconds.
            failed: whether it counts as a failure.
            seconds: how long it took; None if nobody asked (there is no ``slow_call``).
        """
        if ticket != self.generation or not self._counts:
            return
        self._count_ticks()
        window = self._window
        window.add(now, failed, seconds is not None and seconds > self._slow_call)
        self._streak = self._streak + 1 if failed else 0
        self.quiet = self._ticks_count and not (window.failures or window.slow or self._streak)
        if window.failures or window.slow or window is self._probes:
            self._judge(now)

    def is_slow(self, seconds: float) -> bool:
        """Whether a call that took so long is slow."""
        return seconds > self._slow_call

    def forgotten(self, ticket: int) -> None:
        """A call ended that counts as nothing: cancelled, or with an ignored error. Its probe is free again."""
        if ticket == self.generation and self.state is State.HALF_OPEN:
            self._probes_out -= 1

    def state_at(self, now: float) -> State:
        """What a call would meet now; changes nothing."""
        if self.state is State.OPEN and now >= self._until:
            return State.HALF_OPEN
        return self.state

    def retry_after(self, now: float) -> float | None:
        """Seconds until a call may be admitted, >= 0; None if nobody knows: forced open, or all probes are out."""
        if self.state is State.OPEN:
            return self._remaining(now)
        if self.admits_all or (self.state is State.HALF_OPEN and self._probes_out < self.plan.probes):
            return 0.0
        return None

    def force_open(self, now: float) -> None:
        """Rejects every call until another order."""
        self._move(Event.FORCED_OPEN, now)

    def disable(self, now: float) -> None:
        """Admits every call and counts none, until another order."""
        self._move(Event.DISABLED, now)

    def metrics_only(self, now: float) -> None:
        """Admits every call and counts it, but never trips, until another order."""
        self._move(Event.METRICS_ONLY, now)

    def reset(self, now: float) -> None:
        """Closes, with nothing counted."""
        self.rejected = 0
        self._move(Event.RESET, now)

    def take_moves(self) -> list[Move]:
        """The changes of state since the last time, oldest first."""
        taken = list(self.moved)
        self.moved.clear()
        return taken

    def metrics(self, now: float) -> BreakerMetrics:
        """The numbers that the breaker has counted, as of now."""
        self._count_ticks()
        window = self._window
        window.expire(now)
        calls, failures, slow = window.calls, window.failures, window.slow
        rated = calls >= self._rated_from
        failure_rate = failures / calls if rated else None
        slow_rate = slow / calls if rated else None
        return BreakerMetrics(self.state_at(now), calls, failures, failure_rate, slow, slow_rate, self.rejected)

    def _count_ticks(self) -> None:
        """Counts the successes that were only ticked off; a tick of its own tells how many there were."""
        ticks = next(self.successes)
        fresh, self._ticked = ticks - self._ticked, ticks + 1
        if fresh and self._ticks_count and self._ticked_window is not None:
            self._ticked_window.add_successes(fresh)

    def _remaining(self, now: float) -> float:
        left = self._until - now
        if now + left < self._until:  # rounded down: whoever waits for just that long is not to meet it still open
            left = math.nextafter(left, math.inf)
        # Never more than the wait, even before the opening: that is on another clock (a fake one, or after one).
        return min(self._wait, max(0.0, left))

    def _admit_probe(self, now: float) -> int | None:
        if self.state is State.OPEN:
            self._until = min(self._until, now + self._wait)  # the wait begins with another clock's first call
            if now >= self._until:
                self._move(Event.WAITED, now)
        if self.state is State.HALF_OPEN and self._probes_out < self.plan.probes:
            self._probes_out += 1
            return self.generation
        self.rejected += 1
        return None

    def _trips(self) -> bool:
        if self._streak >= self._trip_streak:
            return True
        window = self._window
        # Divided, not multiplied: 3 of 10 is 0.3 exactly as the user wrote it.
        return window.calls >= self._rated_from and (
            window.failures / window.calls >= self._trip_rate or window.slow / window.calls >= self.plan.slow_rate
        )

    def _judge(self, now: float) -> None:
        if self.state is State.HALF_OPEN:
            self._judge_probes(now)
        elif self.state is State.CLOSED and self._trips():
            self._move(Event.TRIPPED, now)

    def _judge_probes(self, now: float) -> None:
        # All results decide, as in resilience4j; but once no further probe can be admitted, a reopening that is
        # already certain does not wait for those that hang.
        window, probes = self._probes, self.plan.probes
        if window.failures / probes >= self._reopen_rate or window.slow / probes >= self.plan.slow_rate:
            if self._probes_out == probes:
                self._move(Event.PROBES_FAILED, now)
        elif window.calls == probes:
            self._move(Event.PROBES_PASSED, now)

    def _move(self, event: Event, now: float) -> None:
        before = self.state
        after = MOVES[before, event]
        if after is not before:
            self.moved.append((before, after))
        # In this order: who reads the generation first, and that all are admitted after it, has a ticket of a state
        # in which they are, without a lock.
        self.admits_all = False
        self.generation += 1
        self._enter(after, now)

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self.admits_all = state in (State.CLOSED, State.DISABLED, State.METRICS_ONLY)
        self._counts = state is not State.DISABLED
        if state is State.OPEN:  # what opened it stays to be seen
            self.quiet = self._ticks_count = False
            self._open(now)
        else:
            self._count_anew(state)

    def _open(self, now: float) -> None:
        self._openings += 1
        previous = self._wait if self._openings > 1 else None
        self._wait = self.plan.open_for.wait(self._openings, previous, self._rng)
        self._until = now + self._wait

    def _count_anew(self, state: State) -> None:
        plan = self.plan
        self._streak = self._probes_out = 0
        self._ticks_count = False
        self._count_ticks()  # those of an earlier state, which are history
        if state is State.HALF_OPEN:
            self._window = self._probes
            self._rated_from = plan.probes
        else:
            self._window = self._calls
            self._rated_from = max(1, plan.min_calls if plan.timed else min(plan.min_calls, int(plan.window)))
            self._openings = 0
        self._window.clear()
        self.quiet = self._ticks_count = self._window is self._ticked_window and self._counts
