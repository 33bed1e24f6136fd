"""The circuit breaker: its diagram, its thresholds, its probes, and any interleaving of calls."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core import backoff
from resilient.core.backoff import Backoff
from resilient.core.breaker import MOVES, MOVES_KEPT, Breaker, BreakerMetrics, BreakerPlan, Event, Move, State

RNG = Random(7)
PLAN = BreakerPlan(
    failure_rate=0.5,
    window=4,
    timed=False,
    min_calls=4,
    consecutive=None,
    slow_call=None,
    slow_rate=1.0,
    open_for=backoff.constant(30),
    probes=1,
)


class Top:
    """Chance that always draws the highest."""

    def random(self) -> float:
        return 0.999999


# Two failures in a row and nothing else.
STREAK = replace(PLAN, failure_rate=None, consecutive=2)


def begun(breaker: Breaker, now: float = 0.0) -> int:
    """A call that is admitted; its ticket."""
    ticket = breaker.admit(now)
    assert ticket is not None
    return ticket


def play(breaker: Breaker, results: str, now: float = 0.0) -> None:
    """Calls one after the other: F failed, S succeeded, f and s the same but taking 9 s."""
    for result in results:
        breaker.recorded(begun(breaker, now), now, result in "Ff", 9.0 if result.islower() else 1.0)


def opened(plan: BreakerPlan = STREAK, now: float = 0.0) -> Breaker:
    """A breaker that two failures opened."""
    breaker = Breaker(plan, RNG)
    play(breaker, "FF", now)
    assert State.OPEN is breaker.state
    return breaker


def probing(**changes: object) -> Breaker:
    """An open breaker whose wait is over, for the settings of probes."""
    breaker = Breaker(replace(PLAN, **changes), RNG)  # type: ignore[arg-type]
    while breaker.state is State.CLOSED:
        play(breaker, "F")
    assert State.HALF_OPEN is breaker.state_at(30.0)
    return breaker


# Tripping


@pytest.mark.parametrize(
    ("plan", "results", "state"),
    [
        pytest.param(PLAN, "FFF", State.CLOSED, id="below min_calls"),
        pytest.param(PLAN, "FFSS", State.OPEN, id="at the rate, by a success"),
        pytest.param(PLAN, "FSSS", State.CLOSED, id="below the rate"),
        pytest.param(PLAN, "SSSSFF", State.OPEN, id="old successes leave the window"),
        pytest.param(PLAN, "FSSSFSSSF", State.CLOSED, id="old failures leave the window"),
        pytest.param(replace(PLAN, min_calls=9), "FFFF", State.OPEN, id="min_calls beyond the window is the window"),
        pytest.param(replace(PLAN, min_calls=0), "F", State.OPEN, id="one call is the least that is rated"),
        pytest.param(replace(PLAN, failure_rate=0.1, window=30, min_calls=30), "FFF" + "S" * 27, State.OPEN, id="0.1"),
        pytest.param(replace(PLAN, failure_rate=1.0), "FFFS", State.CLOSED, id="all must fail"),
        pytest.param(replace(PLAN, failure_rate=1.0), "SFFFF", State.OPEN, id="all did fail"),
        pytest.param(STREAK, "FSFSF", State.CLOSED, id="a success breaks the streak"),
        pytest.param(STREAK, "SFF", State.OPEN, id="in a row, without min_calls"),
        pytest.param(replace(STREAK, failure_rate=0.5), "FSFS", State.OPEN, id="a rate beside the streak"),
        pytest.param(replace(PLAN, slow_call=5.0), "ssss", State.OPEN, id="all slow"),
        pytest.param(replace(PLAN, slow_call=5.0), "sssS", State.CLOSED, id="not all slow"),
        pytest.param(replace(PLAN, slow_call=5.0, slow_rate=0.5), "ssSS", State.OPEN, id="at the slow rate"),
        pytest.param(replace(PLAN, slow_call=9.0), "ssss", State.CLOSED, id="as long as slow_call is not slow"),
        pytest.param(PLAN, "ssss", State.CLOSED, id="nothing is slow without slow_call"),
        pytest.param(replace(STREAK, slow_call=5.0), "ssss", State.OPEN, id="slow calls beside the streak"),
    ],
)
def test_trips_at_or_above_its_thresholds(plan: BreakerPlan, results: str, state: State) -> None:
    """Evaluated after each result, successes too."""
    breaker = Breaker(plan, RNG)
    play(breaker, results)
    assert state is breaker.state


def test_a_timed_window_forgets() -> None:
    """Failures of long ago do not trip, and no call is too few."""
    breaker = Breaker(replace(PLAN, window=10.0, timed=True, min_calls=2), RNG)
    play(breaker, "F", 0.0)
    play(breaker, "F", 10.0)
    assert (State.CLOSED, 1) == (breaker.state, breaker.metrics(10.0).calls)
    play(breaker, "F", 19.0)
    assert (State.OPEN, 2) == (breaker.state, breaker.metrics(19.0).calls)


def test_durations_may_be_unknown() -> None:
    """Without a duration no call is slow."""
    breaker = Breaker(replace(PLAN, slow_call=5.0), RNG)
    for _ in range(4):
        breaker.recorded(begun(breaker), 0.0, False, None)
    assert 0 == breaker.metrics(0.0).slow


# Open


def test_open_rejects_until_its_wait_is_over() -> None:
    """And says how long that is."""
    breaker = opened()
    assert (None, 30.0) == (breaker.admit(0.0), breaker.retry_after(0.0))
    assert (None, 0.5) == (breaker.admit(29.5), breaker.retry_after(29.5))
    assert 2 == breaker.rejected
    assert (0.0, State.HALF_OPEN) == (breaker.retry_after(99.0), breaker.state_at(99.0))
    assert State.OPEN is breaker.state
    begun(breaker, 30.0)
    assert [(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN)] == breaker.take_moves()


@given(now=st.floats(0, 1e7), wait=st.floats(0, 1e5), share=st.floats(0, 1))
@example(now=4095.591589970439, wait=56222.60639779777, share=0.3467505052197317)  # rounded down
def test_after_its_retry_after_a_call_is_admitted(now: float, wait: float, share: float) -> None:
    """On a clock that just adds the seconds, as a fake one does; asked at once or in between."""
    breaker = opened(replace(STREAK, open_for=backoff.constant(wait)), now)
    assert State.HALF_OPEN is breaker.state_at(now + wait)
    now += wait * share
    left = breaker.retry_after(now)
    assert left is not None
    begun(breaker, now + left)


def test_its_wait_grows_while_it_keeps_reopening() -> None:
    """The n-th opening in a row waits as its backoff says; once closed it begins anew."""
    breaker, now, waits = opened(replace(STREAK, open_for=backoff.exponential(10, cap=30))), 0.0, []
    for result in "FFFSFFF":
        waits.append(breaker.retry_after(now))
        now += waits[-1] or 0.0
        play(breaker, result, now)
    assert [10.0, 20.0, 30.0, 30.0, 0.0, 0.0, 10.0] == waits


def test_a_decorrelated_wait_grows_from_the_one_before() -> None:
    """Drawn once an opening, from the rng of the calls."""
    breaker, now, waits = Breaker(replace(STREAK, open_for=backoff.decorrelated(1, 100)), Top()), 0.0, []
    for _ in range(2):
        ticket = breaker.admit(now)
        assert ticket is not None
        breaker.recorded(ticket, now, True, None)
    for _ in range(3):
        wait = breaker.retry_after(now)
        assert wait == breaker.retry_after(now)
        assert wait is not None
        waits.append(round(wait))
        now += wait
        ticket = breaker.admit(now)
        assert ticket is not None
        breaker.recorded(ticket, now, True, None)
    assert [3, 9, 27] == waits


def test_a_clock_behind_the_opening_never_waits_longer() -> None:
    """A little behind it waits no more than its wait; on another clock the wait begins with that."""
    breaker = opened(now=1e9)
    assert 30.0 == breaker.retry_after(1e9 - 1)
    assert breaker.admit(5.0) is None
    assert (20.0, State.OPEN) == (breaker.retry_after(15.0), breaker.state_at(15.0))
    begun(breaker, 35.0)


# Half-open


@pytest.mark.parametrize("probes", [1, 3])
def test_exactly_its_probes_are_admitted(probes: int) -> None:
    """No more, whoever asks; while all are out nobody knows when the next may come."""
    breaker = probing(probes=probes)
    tickets = [breaker.admit(30.0) for _ in range(probes + 5)]
    assert [breaker.generation] * probes + [None] * 5 == tickets
    assert (None, 5) == (breaker.retry_after(30.0), breaker.rejected)


@pytest.mark.parametrize(
    ("changes", "results", "states"),
    [
        pytest.param({}, "F", "o", id="one fails"),
        pytest.param({}, "S", "c", id="one passes"),
        pytest.param({"probes": 4}, "FFSS", "hhho", id="at the rate, when all are in"),
        pytest.param({"probes": 4}, "FSSS", "hhhc", id="below the rate"),
        pytest.param({"probes": 2, "min_calls": 1}, "SS", "hc", id="min_calls does not shorten the trial"),
        pytest.param({"probes": 2, "slow_call": 5.0}, "ss", "ho", id="slow"),
        pytest.param({"probes": 2, "slow_call": 5.0}, "sS", "hc", id="not slow enough"),
        pytest.param({"probes": 3, "failure_rate": None, "consecutive": 2}, "SSF", "hho", id="any failure"),
        pytest.param({"probes": 3, "failure_rate": None, "consecutive": 2}, "SSS", "hhc", id="no failure"),
        pytest.param({"probes": 3, "consecutive": 2}, "FSS", "hhc", id="rates decide beside a streak"),
    ],
)
def test_the_results_of_its_probes_decide(changes: dict[str, object], results: str, states: str) -> None:
    """By the same thresholds, on the probes alone: reopen or close."""
    breaker, names = probing(**changes), {State.HALF_OPEN: "h", State.OPEN: "o", State.CLOSED: "c"}
    seen = ""
    for result in results:
        play(breaker, result, 30.0)
        seen += names[breaker.state]
    assert states == seen


def test_a_certain_reopening_does_not_wait_for_probes_that_hang() -> None:
    """When no further probe can be admitted; what the others bring later is history."""
    breaker = probing(probes=3)
    tickets = [begun(breaker, 30.0) for _ in range(3)]
    breaker.recorded(tickets[0], 31.0, True, None)
    assert (State.HALF_OPEN, None) == (breaker.state, breaker.retry_after(31.0))
    breaker.recorded(tickets[1], 32.0, True, None)
    assert (State.OPEN, 30.0) == (breaker.state, breaker.retry_after(32.0))
    breaker.recorded(tickets[2], 33.0, True, None)
    assert 2 == breaker.metrics(33.0).calls


def test_a_forgotten_probe_is_free_again() -> None:
    """A cancelled call, or an ignored error, counts as nothing."""
    breaker = probing()
    breaker.forgotten(begun(breaker, 30.0))
    assert (0.0, State.HALF_OPEN) == (breaker.retry_after(30.0), breaker.state)
    play(breaker, "S", 30.0)
    assert State.CLOSED is breaker.state


def test_forgetting_elsewhere_changes_nothing() -> None:
    """Closed, or with an old ticket, there is no probe to free."""
    breaker = Breaker(PLAN, RNG)
    old = begun(breaker)
    breaker.forgotten(old)
    play(breaker, "FFFF")
    begun(breaker, 30.0)
    breaker.forgotten(old)
    assert breaker.admit(30.0) is None


# Orders


@pytest.mark.parametrize("before", ["FF", ""])
def test_orders_begin_a_new_generation(before: str) -> None:
    """Whatever the state; results of earlier calls are history, and what was counted is gone."""
    for order in (Breaker.force_open, Breaker.disable, Breaker.metrics_only, Breaker.reset):
        breaker = Breaker(STREAK, RNG)
        ticket = begun(breaker)
        play(breaker, before)
        generation = breaker.generation
        order(breaker, 0.0)
        assert generation + 1 == breaker.generation
        breaker.recorded(ticket, 0.0, True, 1.0)
        assert 0 == breaker.metrics(0.0).calls


def test_forced_open_stays_open() -> None:
    """Nobody knows when that ends, until it is reset."""
    breaker = Breaker(PLAN, RNG)
    breaker.force_open(0.0)
    assert (None, None, State.FORCED_OPEN) == (breaker.admit(1e9), breaker.retry_after(1e9), breaker.state_at(1e9))
    assert 1 == breaker.rejected
    breaker.reset(1e9)
    assert (0.0, State.CLOSED, 0) == (breaker.retry_after(1e9), breaker.state_at(1e9), breaker.rejected)


def test_disabled_admits_all_and_counts_none() -> None:
    """Whatever fails."""
    breaker = Breaker(STREAK, RNG)
    breaker.disable(0.0)
    play(breaker, "FFFF")
    assert (State.DISABLED, 0, 0.0) == (breaker.state, breaker.metrics(0.0).calls, breaker.retry_after(0.0))


def test_metrics_only_counts_and_never_trips() -> None:
    """What would have tripped is there to be read."""
    breaker = Breaker(replace(PLAN, consecutive=2), RNG)
    breaker.metrics_only(0.0)
    play(breaker, "FFFFS")
    assert BreakerMetrics(State.METRICS_ONLY, 4, 3, 0.75, 0, 0.0, 0) == breaker.metrics(0.0)
    breaker.reset(0.0)
    play(breaker, "F")
    assert State.CLOSED is breaker.state


# Metrics and moves


def test_rates_are_unknown_below_the_smallest_number_rated() -> None:
    """Counts are always there."""
    breaker = Breaker(replace(PLAN, slow_call=5.0), RNG)
    play(breaker, "FsS")
    assert BreakerMetrics(State.CLOSED, 3, 1, None, 1, None, 0) == breaker.metrics(0.0)
    play(breaker, "S")
    assert BreakerMetrics(State.CLOSED, 4, 1, 0.25, 1, 0.25, 0) == breaker.metrics(0.0)


def test_what_opened_it_stays_to_be_seen() -> None:
    """An open breaker shows the calls that tripped it, a half-open one its probes."""
    breaker = probing(probes=2)
    assert breaker.admit(1.0) is None
    assert BreakerMetrics(State.OPEN, 4, 4, 1.0, 0, 0.0, 1) == breaker.metrics(1.0)
    play(breaker, "S", 30.0)
    assert BreakerMetrics(State.HALF_OPEN, 1, 0, None, 0, None, 1) == breaker.metrics(30.0)


def test_moves_are_taken_once() -> None:
    """In order; an order that changes no state is no move."""
    breaker = opened()
    play(breaker, "S", 30.0)
    breaker.reset(30.0)
    expected = [(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN), (State.HALF_OPEN, State.CLOSED)]
    assert (expected, []) == (breaker.take_moves(), breaker.take_moves())


def test_moves_that_nobody_takes_do_not_pile_up() -> None:
    """The latest are kept."""
    breaker = Breaker(PLAN, RNG)
    for _ in range(MOVES_KEPT):
        breaker.disable(0.0)
        breaker.reset(0.0)
    assert MOVES_KEPT == len(breaker.take_moves())


def test_orders_are_obeyed_in_every_state() -> None:
    """The rest of the diagram is four arrows."""
    orders = {Event.FORCED_OPEN, Event.DISABLED, Event.METRICS_ONLY, Event.RESET}
    assert {(state, order) for state in State for order in orders} == {move for move in MOVES if move[1] in orders}
    assert 4 == sum(event not in orders for _, event in MOVES)


@given(
    results=st.lists(st.booleans(), max_size=50),
    size=st.integers(1, 8),
    least=st.integers(1, 8),
    rate=st.floats(0.01, 1),
)
def test_trips_with_the_first_window_that_deserves_it(results: list[bool], size: int, least: int, rate: float) -> None:
    """Not before, not after, whatever the settings."""
    breaker = Breaker(replace(PLAN, window=size, min_calls=least, failure_rate=rate), RNG)
    for n, failed in enumerate(results, 1):
        breaker.recorded(begun(breaker), 0.0, failed, None)
        window = results[max(0, n - size) : n]
        trips = n >= min(least, size) and sum(window) / len(window) >= rate
        assert trips is (breaker.state is State.OPEN)
        if trips:
            break


# Successes that are only ticked off


def ticked(breaker: Breaker, count: int) -> None:
    """So many quick successes, without a step."""
    for _ in range(count):
        assert breaker.quiet
        next(breaker.successes)


def test_ticked_successes_are_counted_at_the_next_step() -> None:
    """Whatever that is: a look, or a failure."""
    breaker = Breaker(replace(PLAN, window=10, min_calls=4), RNG)
    ticked(breaker, 3)
    assert (3, 0) == (breaker.metrics(0.0).calls, breaker.metrics(0.0).failures)
    ticked(breaker, 2)
    play(breaker, "F")
    assert BreakerMetrics(State.CLOSED, 6, 1, 1 / 6, 0, 0.0, 0) == breaker.metrics(0.0)


def test_it_is_quiet_while_nothing_but_successes_is_counted() -> None:
    """Until a failure, or a slow call, has left the window again."""
    breaker, quiet = Breaker(replace(PLAN, slow_call=5.0, failure_rate=1.0), RNG), []
    for result in "SFSSSSsSSSS":
        play(breaker, result)
        quiet.append(breaker.quiet)
    assert [True, False, False, False, False, True, False, False, False, False, True] == quiet


def test_a_streak_is_not_quiet() -> None:
    """Its next success has to break it, even if the window is too small to remember the failure."""
    breaker = Breaker(replace(STREAK, window=1), RNG)
    play(breaker, "F")
    assert not breaker.quiet
    play(breaker, "S")
    assert breaker.quiet


def test_a_timed_window_is_never_quiet() -> None:
    """A success needs its instant."""
    breaker = Breaker(replace(PLAN, timed=True), RNG)
    play(breaker, "S")
    assert not breaker.quiet
    next(breaker.successes)
    assert 1 == breaker.metrics(0.0).calls


def test_other_states_are_quiet_only_if_they_count() -> None:
    """Nothing ticked in one state is counted in the next."""
    breaker = Breaker(STREAK, RNG)
    for order, quiet in [(Breaker.disable, False), (Breaker.metrics_only, True), (Breaker.reset, True)]:
        ticked(breaker, 2)
        order(breaker, 0.0)
        assert (quiet, 0) == (breaker.quiet, breaker.metrics(0.0).calls)
        breaker.reset(0.0)
    play(breaker, "FF")
    assert (False, 2) == (breaker.quiet, breaker.metrics(0.0).calls)
    next(breaker.successes)
    assert 2 == breaker.metrics(0.0).calls
    begun(breaker, 30.0)
    assert not breaker.quiet


@pytest.mark.parametrize(("slow_call", "slow"), [(None, [False, False]), (5.0, [False, True])])
def test_it_knows_what_is_slow(slow_call: float | None, slow: list[bool]) -> None:
    """Longer than ``slow_call``; nothing without one."""
    breaker = Breaker(replace(PLAN, slow_call=slow_call), RNG)
    assert slow == [breaker.is_slow(seconds) for seconds in (5.0, 5.1)]


def test_who_reads_without_a_lock_never_has_a_ticket_of_a_state_that_rejects() -> None:
    """While it moves, nobody is admitted by a look at ``admits_all``."""
    seen: list[bool] = []

    class Watched(Breaker):
        __slots__ = ("watched",)

        def _enter(self, state: State, now: float) -> None:
            seen.append(getattr(self, "admits_all", False))
            super()._enter(state, now)

    breaker = Watched(STREAK, RNG)
    play(breaker, "FF")
    assert [False, False] == seen


class Crowd(RuleBasedStateMachine):
    """Any interleaving of calls that begin, end, are cancelled and come late, of orders, and of an unsteady clock."""

    @initialize(
        probes=st.integers(1, 3),
        consecutive=st.none() | st.integers(1, 3),
        failure_rate=st.sampled_from([None, 0.3, 0.5, 1.0]),
        timed=st.booleans(),
        waits=st.sampled_from([backoff.constant(5), backoff.exponential(1, cap=9), backoff.decorrelated(1, 9)]),
    )
    def begin(
        self, probes: int, consecutive: int | None, failure_rate: float | None, timed: bool, waits: Backoff
    ) -> None:
        self.breaker = Breaker(
            replace(
                PLAN, probes=probes, consecutive=consecutive, failure_rate=failure_rate, timed=timed, open_for=waits,
                slow_call=5.0, min_calls=2,
            ),
            RNG,
        )  # fmt: skip
        self.now = 100.0
        self.out: list[int] = []
        self.given_back: Counter[int] = Counter()
        self.given: Counter[int] = Counter()
        self.rejected = 0
        self.state = State.CLOSED
        # What it should have counted since its last move: of each call, whether it failed and whether it was slow.
        self.counted: list[tuple[bool, bool]] = []
        self.of_generation = self.breaker.generation

    @rule(step=st.floats(-0.5, 12))
    def passes(self, step: float) -> None:
        self.now += step

    @rule()
    def calls(self) -> None:
        before, wait = self.breaker.state_at(self.now), self.breaker.retry_after(self.now)
        ticket = self.breaker.admit(self.now)
        assert (wait == 0.0) is (ticket is not None)
        if ticket is None:
            self.rejected += 1
            assert before in (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN)
            return
        assert ticket == self.breaker.generation
        assert before is self.breaker.state
        self.out.append(ticket)
        self.given[ticket] += 1

    @precondition(lambda self: self.out)
    @rule(data=st.data(), failed=st.booleans(), seconds=st.sampled_from([None, 1.0, 9.0]))
    def ends(self, data: st.DataObject, failed: bool, seconds: float | None) -> None:
        ticket = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        stale = ticket != self.breaker.generation
        before, state = self.seen(), self.breaker.state
        slow = seconds is not None and seconds > 5.0
        if self.breaker.quiet and not (stale or failed or slow):
            next(self.breaker.successes)
        else:
            self.breaker.recorded(ticket, self.now, failed, seconds)
        assert not stale or before == self.seen()
        if not stale and state is not State.DISABLED:
            self.counted.append((failed, slow))

    @rule(count=st.integers(2, 9))
    def many_succeed(self, count: int) -> None:
        for _ in range(count if self.breaker.admits_all else 0):
            ticket = begun(self.breaker, self.now)
            if self.breaker.quiet:
                next(self.breaker.successes)
            else:
                state = self.breaker.state
                self.breaker.recorded(ticket, self.now, False, 1.0)
                if self.breaker.state is not state:
                    return
            if self.breaker.state is not State.DISABLED:
                self.counted.append((False, False))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        ticket = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before, current = self.breaker.metrics(self.now), ticket == self.breaker.generation
        self.breaker.forgotten(ticket)
        self.given_back[ticket] += 1
        assert before == self.breaker.metrics(self.now)
        assert not (current and self.breaker.state is State.HALF_OPEN) or self.breaker.retry_after(self.now) == 0.0

    @rule(order=st.sampled_from([Breaker.force_open, Breaker.disable, Breaker.metrics_only]))
    def is_ordered(self, order: Callable[[Breaker, float], None]) -> None:
        order(self.breaker, self.now)

    @rule()
    def is_reset(self) -> None:
        self.breaker.reset(self.now)
        self.rejected = 0

    def seen(self) -> tuple[object, ...]:
        breaker = self.breaker
        return breaker.metrics(self.now), breaker.retry_after(self.now), breaker.generation, breaker.state

    @invariant()
    def half_open_has_no_more_than_its_probes(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            used = self.given[self.breaker.generation] - self.given_back[self.breaker.generation]
            assert used <= self.breaker.plan.probes

    @invariant()
    def moves_follow_the_diagram(self) -> None:
        arrows: set[Move] = {(before, after) for (before, _), after in MOVES.items()}
        for before, after in self.breaker.take_moves():
            assert self.state is before
            assert (before, after) in arrows
            self.state = after
        assert self.state is self.breaker.state

    @invariant()
    def counts_are_those_of_a_list(self) -> None:
        breaker, state = self.breaker, self.breaker.state
        if state is State.OPEN:  # it shows what opened it
            return
        if breaker.generation != self.of_generation:
            self.counted, self.of_generation = [], breaker.generation
        if state is State.HALF_OPEN or not breaker.plan.timed:
            last = self.counted[-breaker.plan.probes if state is State.HALF_OPEN else -4 :]
            metrics = breaker.metrics(self.now)
            failed, slow = (sum(marks[n] for marks in last) for n in (0, 1))
            assert (len(last), failed, slow) == (metrics.calls, metrics.failures, metrics.slow)

    @invariant()
    def numbers_make_sense(self) -> None:
        metrics, wait = self.breaker.metrics(self.now), self.breaker.retry_after(self.now)
        assert wait is None or 0.0 <= wait <= 9.0
        assert 0 <= metrics.failures <= metrics.calls
        assert 0 <= metrics.slow <= metrics.calls
        assert self.rejected == metrics.rejected


TestCrowd = Crowd.TestCase
