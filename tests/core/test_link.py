"""The life of a connection: its diagram, its waits, its generations, and any order of facts."""

import pickle
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core import backoff
from resilient.core.action import Action, Verdict
from resilient.core.backoff import Backoff
from resilient.core.link import (
    MOVES,
    MOVES_KEPT,
    Dial,
    Discard,
    Event,
    ImpossibleEvent,
    Link,
    Move,
    Recover,
    State,
    Step,
    Wait,
)
from resilient.core.link_plan import BACKOFF, link_plan
from resilient.core.run import Stop

RNG = Random(7)
RETRY = Verdict(Action.RETRY)
FAIL = Verdict(Action.FAIL)


class Edge:
    """Chance that always draws the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def link(**settings: Any) -> Link:
    """A link with a wait of 1 s, unless these settings say otherwise."""
    usual: dict[str, Any] = {"backoff": backoff.constant(1)}
    return Link(link_plan(OSError, **usual | settings))


def ready(now: float = 0.0, **settings: Any) -> Link:
    """One whose first connection came at once."""
    made = link(**settings)
    made.started(now)
    made.opened(1, now)
    assert State.READY is made.state
    return made


def failed(**settings: Any) -> Link:
    """One that gave up."""
    made = link(**settings)
    made.started(0.0)
    assert isinstance(made.dial_failed(1, FAIL, 0.0, RNG), Stop)
    return made


def backing_off(verdict: Verdict = RETRY, **settings: Any) -> Link:
    """One whose first dial failed at 0 s."""
    made = link(**settings)
    made.started(0.0)
    assert isinstance(made.dial_failed(1, verdict, 0.0, RNG), Wait)
    return made


def draining() -> Link:
    """One that finishes what is under way."""
    made = ready()
    made.draining(0.0)
    return made


def closed() -> Link:
    """One that is over."""
    made = link()
    made.closed(0.0)
    return made


def dialled(step: Step | None) -> bool:
    """Whether a step is a dial."""
    return isinstance(step, Dial)


def refused(made: Link, now: float = 0.0, dials: int = 50, rng: Random = RNG) -> list[float]:
    """The waits while every dial is refused, until it gives up or after so many."""
    waits: list[float] = []
    step = made.started(now) if made.state is State.IDLE else made.woke(now)
    for _ in range(dials):
        if isinstance(step, Wait):
            waits.append(step.seconds)
            now += step.seconds
            step = made.woke(now)
        assert isinstance(step, Dial)
        step = made.dial_failed(step.generation, RETRY, now, rng)
        if isinstance(step, Stop):
            break
    return waits


# The diagram


def test_the_first_dial_is_at_once() -> None:
    """And makes it READY."""
    made = link()
    assert (Dial(1), State.CONNECTING) == (made.started(0.0), made.state)
    assert (None, State.READY) == (made.opened(1, 0.0), made.state)
    assert [(State.IDLE, State.CONNECTING), (State.CONNECTING, State.READY)] == made.take_moves()


def test_a_refused_dial_is_waited_out() -> None:
    """Then dialled again, under a new number."""
    made = backing_off()
    assert (State.BACKING_OFF, 1, 2) == (made.state, made.failures, made.generation)
    assert (Wait(0.25), Dial(2), State.CONNECTING) == (made.woke(0.75), made.woke(1.0), made.state)


def test_a_lost_connection_is_made_again() -> None:
    """After the first wait."""
    made = ready()
    assert (Wait(1.0), State.BACKING_OFF) == (made.lost(1, RETRY, 60.0, RNG), made.state)
    assert Dial(2) == made.woke(61.0)


def test_a_loss_without_an_error_reconnects() -> None:
    """The other side hung up in order."""
    assert Wait(1.0) == ready().lost(1, None, 60.0, RNG)


def test_a_connection_that_breaks_before_it_was_told_has_failed() -> None:
    """The news of its success comes too late."""
    made = link()
    made.started(0.0)
    assert (Wait(1.0), Discard(1)) == (made.lost(1, None, 0.0, RNG), made.opened(1, 0.0))
    assert [(State.IDLE, State.CONNECTING), (State.CONNECTING, State.BACKING_OFF)] == made.take_moves()


def test_without_a_wait_it_dials_at_once() -> None:
    """Nobody sleeps for nothing."""
    assert Dial(2) == ready(backoff=backoff.constant(0)).lost(1, RETRY, 60.0, RNG)


def test_waking_elsewhere_changes_nothing() -> None:
    """Only a link that backs off has anything to do."""
    for made in (link(), ready(), failed(), draining(), closed()):
        before = made.state
        assert (None, before) == (made.woke(99.0), made.state)


# What is asked for


def test_connecting_is_single_flight() -> None:
    """Started again while a connection is up or on its way, it stays as it is."""
    connecting = link()
    connecting.started(0.0)
    for made in (connecting, ready(), backing_off()):
        before = made.state, made.generation
        assert (None, before) == (made.started(0.0), (made.state, made.generation))


def test_drain_finishes_what_is_under_way() -> None:
    """Then it is closed; asked twice it drains once."""
    made = draining()
    made.draining(1.0)
    assert State.DRAINING is made.state
    made.drained(2.0)
    made.drained(2.0)
    made.draining(2.0)
    assert State.CLOSED is made.state


def test_a_draining_connection_that_is_lost_is_not_made_again() -> None:
    """There is nothing left to finish."""
    made = draining()
    assert (None, State.CLOSED) == (made.lost(1, RETRY, 1.0, RNG), made.state)


def test_without_a_connection_there_is_nothing_to_drain() -> None:
    """It is closed at once."""
    connecting = link()
    connecting.started(0.0)
    for made in (link(), connecting, backing_off(), failed()):
        made.draining(0.0)
        assert State.CLOSED is made.state


def test_closed_from_any_state_and_twice() -> None:
    """Whatever was under way is history."""
    for made in (link(), ready(), backing_off(), failed(), draining(), closed()):
        made.closed(0.0)
        made.closed(0.0)
        assert (State.CLOSED, None) == (made.state, made.woke(99.0))
        assert None is made.lost(1, RETRY, 0.0, RNG)


def test_a_dial_that_ends_after_the_close_is_discarded() -> None:
    """Success or failure, nobody wants it any more."""
    made = link()
    made.started(0.0)
    made.closed(0.0)
    assert (Discard(1), None) == (made.opened(1, 1.0), made.dial_failed(1, RETRY, 1.0, RNG))


def test_resume_begins_anew() -> None:
    """After giving up, with all attempts and from the first wait on."""
    made = link(backoff=backoff.linear(1), attempts=3)
    assert [1.0, 2.0] == refused(made)
    assert (State.FAILED, "attempts") == (made.state, made.stopped and made.stopped.by)
    step = made.resumed(100.0)
    assert (Dial(4), None, 0) == (step, made.stopped, made.failures)
    assert Wait(1.0) == made.dial_failed(4, RETRY, 100.0, RNG)
    assert [1.0, 2.0] == refused(made, 100.0)


def test_resume_elsewhere_changes_nothing() -> None:
    """Two that resume at once dial once."""
    made = failed()
    assert (True, None) == (dialled(made.resumed(0.0)), made.resumed(0.0))
    assert (None, None) == (ready().resumed(0.0), backing_off().resumed(0.0))


def test_reconnect_now_replaces_a_good_connection() -> None:
    """Nothing is held against it, and what it reports from now on is history."""
    made = ready()
    assert (Dial(2), 0) == (made.asked_to_reconnect(5.0), made.failures)
    assert None is made.lost(1, RETRY, 5.0, RNG)
    assert [State.READY, State.BACKING_OFF] == [before for before, _ in made.take_moves()[2:]]


def test_reconnect_now_cuts_a_wait_short() -> None:
    """But failures stay counted."""
    made = backing_off(backoff=backoff.linear(1))
    assert Dial(2) == made.asked_to_reconnect(0.25)
    assert Wait(2.0) == made.dial_failed(2, RETRY, 0.5, RNG)


def test_reconnect_now_starts_and_resumes() -> None:
    """Whatever kept it from connecting."""
    made = failed()
    assert (Dial(1), Dial(2)) == (link().asked_to_reconnect(0.0), made.asked_to_reconnect(0.0))
    assert (None, 0) == (made.stopped, made.failures)


def test_reconnect_now_leaves_a_dial_alone() -> None:
    """It is what was asked for."""
    made = link()
    made.started(0.0)
    assert (None, State.CONNECTING) == (made.asked_to_reconnect(0.0), made.state)


# Verdicts


def test_the_other_side_may_name_a_time() -> None:
    """It replaces the backoff's."""
    assert Wait(42.0) == ready().lost(1, Verdict(Action.WAIT, delay=42), 0.0, RNG)


def test_too_long_a_time_is_not_waited_for() -> None:
    """It says when to come back."""
    made = ready(max_wait=30)
    stop = made.lost(1, Verdict(Action.WAIT, delay=42), 0.0, RNG)
    assert isinstance(stop, Stop)
    assert ("max_wait", 42.0, State.FAILED, stop) == (stop.by, stop.hint, made.state, made.stopped)


@pytest.mark.parametrize("action", [Action.ROTATE_PROXY, Action.RELOGIN])
def test_recovery_comes_after_the_wait_and_before_the_dial(action: Action) -> None:
    """Once, whoever wakes meanwhile."""
    made = ready()
    assert Wait(1.0) == made.lost(1, Verdict(action), 0.0, RNG)
    assert Recover(action, 2) == made.woke(1.0)
    assert (None, None) == (made.woke(1.5), made.asked_to_reconnect(1.5))
    assert (Dial(2), State.CONNECTING) == (made.recovered(2, 2.0), made.state)
    assert Wait(1.0) == made.dial_failed(2, RETRY, 2.0, RNG)
    assert Dial(3) == made.woke(3.0)  # nothing to recover this time


@pytest.mark.parametrize("action", [Action.WAIT, Action.RETRY, Action.RECONNECT])
def test_the_other_actions_need_no_more_than_a_dial(action: Action) -> None:
    """A new connection is the recovery."""
    made = ready()
    made.lost(1, Verdict(action), 0.0, RNG)
    assert Dial(2) == made.woke(1.0)


def test_reconnect_now_still_recovers_first() -> None:
    """Without it the dial would be in vain."""
    made = backing_off(Verdict(Action.RELOGIN))
    assert Recover(Action.RELOGIN, 2) == made.asked_to_reconnect(0.5)


def test_nobody_is_kept_waiting_for_a_recovery_under_way() -> None:
    """The throttle is its own matter, and once it is over it stands in nobody's way."""
    made = backing_off(Verdict(Action.RELOGIN), throttle=5)
    assert Recover(Action.RELOGIN, 2) == made.woke(5.0)
    assert None is made.asked_to_reconnect(0.0)
    made.recovered(2, 6.0)
    made.opened(2, 6.0)
    assert Wait(4.0) == made.asked_to_reconnect(7.0)


def test_a_recovery_that_outlives_its_link_is_history() -> None:
    """Closed meanwhile, it stays closed."""
    made = backing_off(Verdict(Action.RELOGIN))
    made.woke(1.0)
    made.closed(2.0)
    assert (None, State.CLOSED) == (made.recovered(2, 3.0), made.state)


def test_fail_gives_up() -> None:
    """From a dial or from a connection."""
    made = ready()
    stop = made.lost(1, FAIL, 60.0, RNG)
    assert isinstance(stop, Stop)
    assert ("fail", State.FAILED) == (stop.by, made.state)
    assert State.FAILED is failed().state


def test_a_category_has_attempts_and_waits_of_its_own() -> None:
    """As in a call."""
    made = ready()
    proxy = Verdict(Action.RETRY, "proxy", attempts=3, backoff=backoff.constant(5))
    assert Wait(5.0) == made.lost(1, proxy, 0.0, RNG)
    made.woke(5.0)
    assert Wait(5.0) == made.dial_failed(2, proxy, 5.0, RNG)
    made.woke(10.0)
    stop = made.dial_failed(3, proxy, 10.0, RNG)
    assert isinstance(stop, Stop)
    assert "attempts of proxy exhausted" == stop.why


# Uptime


@pytest.mark.parametrize(("uptime", "wait"), [(9.5, 2.0), (10.0, 1.0)])
def test_stable_uptime_ends_an_outage_and_nothing_else(uptime: float, wait: float) -> None:
    """A mere connect proves nothing."""
    made = backing_off(backoff=backoff.linear(1), stable_after=10)
    made.woke(1.0)
    made.opened(2, 1.0)
    assert 1 == made.failures
    assert Wait(wait) == made.lost(2, RETRY, 1.0 + uptime, RNG)


def test_a_lost_connection_counts_as_one_that_failed() -> None:
    """With one attempt what is lost stays lost."""
    assert isinstance(ready(attempts=1).lost(1, RETRY, 60.0, RNG), Stop)


def test_reconnect_now_ends_an_outage_if_it_was_stable() -> None:
    """Else it goes on where it was."""
    for uptime, failures in ((10.0, 0), (1.0, 1)):
        made = backing_off()
        made.woke(1.0)
        made.opened(2, 1.0)
        made.asked_to_reconnect(1.0 + uptime)
        assert failures == made.failures


# Waits


def accepts_and_closes(made: Link, seconds: float, rng: Edge | Random) -> int:
    """How often it connects within so many seconds to what accepts and closes at once."""
    now, connects, step = 0.0, 0, made.started(0.0)
    while now <= seconds:
        if isinstance(step, Wait):
            now += step.seconds
            step = made.woke(now)
            continue
        assert isinstance(step, Dial)
        connects += 1
        made.opened(step.generation, now)
        step = made.lost(step.generation, None, now, rng)
    return connects


@given(seed=st.integers())
def test_what_accepts_and_closes_is_connected_to_six_times_in_half_a_minute(seed: int) -> None:
    """At most, with the defaults."""
    assert 5 <= accepts_and_closes(Link(link_plan(OSError)), 30.0, Random(seed)) <= 6


def test_six_times_even_at_the_shortest_waits() -> None:
    """Dials at 0, 0.5, 1.5, 3.5, 7.5 and 15.5 s."""
    assert 6 == accepts_and_closes(Link(link_plan(OSError)), 30.0, Edge(0.0))


@given(
    first=st.floats(0.001, 10),
    factor=st.floats(1, 5),
    cap=st.floats(10, 300),
    spread=st.sampled_from(["full", "equal", 0.3]),
)
def test_refused_for_ever_waits_stay_below_their_curve(first: float, factor: float, cap: float, spread: Any) -> None:
    """Each within [0, min(cap, first * factor ** n)]."""
    waits = refused(link(backoff=backoff.exponential(first, factor, cap).jitter(spread)))
    assert 49 == len(waits)
    for n, wait in enumerate(waits):
        assert 0.0 <= wait <= min(cap, first * factor**n) * (1 + 1e-12)


def test_two_clients_are_never_in_step() -> None:
    """They lose the same server at the same instant, and no dial of the one is at that of the other."""
    waits = [refused(Link(link_plan(OSError)), rng=Random(seed)) for seed in (1, 2)]
    instants = [set(accumulate(each)) for each in waits]
    assert (49, 49, set()) == (len(instants[0]), len(instants[1]), instants[0] & instants[1])


def test_decorrelated_waits_follow_from_the_one_before() -> None:
    """Within one outage."""
    made = link(backoff=backoff.decorrelated(1, 100))
    made.started(0.0)
    waits, now = [], 0.0
    for generation in (1, 2, 3):
        step = made.dial_failed(generation, RETRY, now, Edge(0.999999))
        assert isinstance(step, Wait)
        waits.append(round(step.seconds))
        now += step.seconds
        made.woke(now)
    assert [3, 9, 27] == waits


@pytest.mark.parametrize(
    ("waits", "schedule"),
    [
        pytest.param(backoff.linear(1, cap=2), [1.0, 2.0, 2.0, 2.0, 2.0], id="backoff on"),
        pytest.param(backoff.constant(1), [1.0, 1.0, 1.0, 1.0, 1.0], id="backoff off"),
    ],
)
def test_the_schedules_of_the_loopback_client(waits: Backoff, schedule: list[float]) -> None:
    """Five retries, then it stops; a success gives the next outage five again; resumed it begins anew."""
    made = link(backoff=waits, attempts=6, stable_after=0)
    assert (schedule, State.FAILED) == (refused(made), made.state)
    step = made.resumed(100.0)
    assert isinstance(step, Dial)
    made.opened(step.generation, 100.0)
    made.lost(step.generation, None, 100.0, RNG)
    assert (schedule, State.FAILED) == (refused(made, 100.0), made.state)


def test_throttle_keeps_dials_apart() -> None:
    """Whoever asks for them."""
    made = ready(throttle=5, backoff=backoff.constant(0))
    assert Wait(4.0) == made.lost(1, RETRY, 1.0, RNG)
    assert Wait(3.0) == made.asked_to_reconnect(2.0)
    assert Dial(2) == made.woke(5.0)
    assert isinstance(made.dial_failed(2, FAIL, 6.0, RNG), Stop)
    assert (Wait(4.0), State.BACKING_OFF) == (made.resumed(6.0), made.state)
    assert Dial(3) == made.woke(10.0)
    assert Dial(4) == (made.dial_failed(3, RETRY, 20.0, RNG))


def test_the_longer_of_wait_and_throttle_counts() -> None:
    """Not their sum."""
    assert Wait(5.0) == backing_off_step(throttle=5)
    assert Wait(7.0) == backing_off_step(throttle=5, backoff=backoff.constant(7))


def backing_off_step(**settings: Any) -> Step | None:
    """What a dial that fails at once is answered with."""
    made = link(**settings)
    made.started(0.0)
    return made.dial_failed(1, RETRY, 0.0, RNG)


@given(now=st.floats(0, 1e7), wait=st.floats(0.001, 1e5), share=st.floats(0, 1))
@example(now=4095.591589970439, wait=56222.60639779777, share=0.3467505052197317)  # rounded down
def test_whoever_waits_for_the_rest_may_dial(now: float, wait: float, share: float) -> None:
    """On a clock that just adds the seconds; woken in between or not."""
    made = link(backoff=backoff.constant(wait))
    made.started(now)
    assert Wait(wait) == made.dial_failed(1, RETRY, now, RNG)
    now += wait * share
    step = made.woke(now)
    if isinstance(step, Wait):
        assert step.seconds <= wait
        step = made.woke(now + step.seconds)
    assert Dial(2) == step


def test_another_clock_waits_no_longer() -> None:
    """Neither for the throttle nor for the rest of a wait begun on it."""
    made = ready(1e9, throttle=5)
    made.lost(1, RETRY, 1e9, RNG)
    assert Wait(5.0) == made.woke(0.0)
    assert Dial(2) == made.asked_to_reconnect(0.0)


def test_a_wait_begun_on_another_clock_ends() -> None:
    """It begins anew on this one, and is over after that."""
    made = ready(1e9)
    made.lost(1, RETRY, 1e9, RNG)
    assert (Wait(1.0), Wait(0.25), Dial(2)) == (made.woke(0.0), made.woke(0.75), made.woke(1.0))


# Generations


def test_the_first_report_of_a_loss_moves() -> None:
    """Reader, writer and heartbeat fail together: one reconnect."""
    made = ready()
    steps = [made.lost(1, verdict, 60.0, RNG) for verdict in (RETRY, None, FAIL)]
    assert ([Wait(1.0), None, None], 1, State.BACKING_OFF) == (steps, made.failures, made.state)


def test_an_old_connection_never_harms_the_new() -> None:
    """Whatever is told of it, however late."""
    made = ready()
    made.lost(1, RETRY, 60.0, RNG)
    made.woke(61.0)
    made.opened(2, 61.0)
    assert [None] * 2 == [made.lost(1, FAIL, 62.0, RNG), made.dial_failed(1, FAIL, 62.0, RNG)]
    assert (Discard(1), State.READY, 2) == (made.opened(1, 62.0), made.state, made.generation)


# The impossible


def test_an_impossible_event_names_itself_and_the_state() -> None:
    """And changes nothing."""
    made = ready()
    with pytest.raises(ImpossibleEvent, match="^DIAL_FAILED cannot happen while the link is READY$") as caught:
        made.dial_failed(1, RETRY, 0.0, RNG)
    assert (Event.DIAL_FAILED, State.READY) == (caught.value.event, caught.value.state)
    assert (State.READY, 1, 0) == (made.state, made.generation, made.failures)
    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))


def test_facts_that_cannot_be() -> None:
    """Of today's generation, in the wrong state."""
    for made, fact in (
        (ready(), lambda made: made.opened(1, 0.0)),
        (ready(), lambda made: made.recovered(1, 0.0)),
        (backing_off(), lambda made: made.recovered(2, 0.0)),
        (backing_off(), lambda made: made.lost(2, RETRY, 0.0, RNG)),
        (link(), lambda made: made.resumed(0.0)),
        (ready(), lambda made: made.drained(0.0)),
        (failed(), lambda made: made.started(0.0)),
        (draining(), lambda made: made.asked_to_reconnect(0.0)),
        (closed(), lambda made: made.started(0.0)),
        (closed(), lambda made: made.resumed(0.0)),
        (closed(), lambda made: made.asked_to_reconnect(0.0)),
    ):
        before = made.state, made.generation
        with pytest.raises(ImpossibleEvent):
            fact(made)
        assert before == (made.state, made.generation)


def test_closed_is_the_end() -> None:
    """Nothing leads out of it, and it is reached from everywhere."""
    assert {State.CLOSED} == {after for (before, _), after in MOVES.items() if before is State.CLOSED}
    assert set(State) == {before for (before, event) in MOVES if event is Event.CLOSED}


def test_moves_that_nobody_takes_do_not_pile_up() -> None:
    """The latest are kept."""
    made = link()
    refused(made)
    assert (MOVES_KEPT, 0) == (len(made.take_moves()), len(made.take_moves()))


class Life(RuleBasedStateMachine):
    """Any order of facts, from drivers that do what they are told, others that come late, and an impatient user."""

    @initialize(
        attempts=st.none() | st.integers(1, 4),
        stable_after=st.sampled_from([0, 10]),
        throttle=st.sampled_from([0, 3]),
        waits=st.sampled_from([backoff.constant(0), backoff.exponential(1, cap=9).jitter("full"), BACKOFF]),
    )
    def begin(self, attempts: int | None, stable_after: float, throttle: float, waits: Backoff) -> None:
        plan = link_plan(
            OSError, attempts=attempts, stable_after=stable_after, throttle=throttle, backoff=waits, max_wait=20
        )
        self.link = Link(plan)
        self.rng = Random(7)
        self.now = 100.0
        self.step: Step | None = None
        self.dials: list[float] = []
        self.old: list[int] = []
        self.state = State.IDLE

    def told(self, step: Step | None) -> None:
        if isinstance(step, Dial):
            if self.dials:
                assert self.now >= self.dials[-1] + self.link.plan.throttle
            self.dials.append(self.now)
            assert State.CONNECTING is self.link.state
            self.old.append(step.generation - 1)
        if isinstance(step, Wait):
            assert 0.0 < step.seconds <= 30.0
            assert State.BACKING_OFF is self.link.state
        if isinstance(step, Stop):
            assert State.FAILED is self.link.state
        self.step = step if step is not None else self.step

    @rule(seconds=st.floats(0.01, 15))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wakes(self) -> None:
        if isinstance(self.step, Wait) and self.link.state is State.BACKING_OFF:
            self.now += self.step.seconds
        self.told(self.link.woke(self.now))

    @precondition(lambda self: self.link.state is State.CONNECTING)
    @rule(opens=st.booleans(), action=st.sampled_from(Action), delay=st.none() | st.integers(0, 30))
    def dial_ends(self, opens: bool, action: Action, delay: int | None) -> None:
        generation = self.link.generation
        if opens:
            assert self.link.opened(generation, self.now) is None
            assert State.READY is self.link.state
            return
        self.told(self.link.dial_failed(generation, Verdict(action, delay=delay), self.now, self.rng))

    @precondition(lambda self: self.link.state in (State.READY, State.DRAINING))
    @rule(verdict=st.none() | st.builds(Verdict, st.sampled_from(Action)), reporters=st.integers(1, 3))
    def is_lost(self, verdict: Verdict | None, reporters: int) -> None:
        generation, failures = self.link.generation, self.link.failures
        self.told(self.link.lost(generation, verdict, self.now, self.rng))
        after = self.seen()
        assert self.link.failures <= failures + 1
        for _ in range(reporters):
            assert self.link.lost(generation, FAIL, self.now, self.rng) is None
        assert after == self.seen()

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def comes_late(self, data: st.DataObject) -> None:
        generation, before = data.draw(st.sampled_from(self.old)), self.seen()
        assert isinstance(self.link.opened(generation, self.now), Discard)
        assert self.link.dial_failed(generation, FAIL, self.now, self.rng) is None
        assert self.link.lost(generation, FAIL, self.now, self.rng) is None
        assert self.link.recovered(generation, self.now) is None
        assert before == self.seen()

    @precondition(lambda self: isinstance(self.step, Recover))
    @rule()
    def recovers(self) -> None:
        assert isinstance(self.step, Recover)
        generation, self.step = self.step.generation, None
        self.told(self.link.recovered(generation, self.now))

    @rule(fact=st.sampled_from([Link.started, Link.resumed, Link.asked_to_reconnect]))
    def user_asks(self, fact: Any) -> None:
        before = self.seen()
        try:
            self.told(fact(self.link, self.now))
        except ImpossibleEvent:
            assert before == self.seen()

    @rule(fact=st.sampled_from([Link.draining, Link.drained, Link.closed]), sure=st.integers(0, 9))
    def user_ends(self, fact: Any, sure: int) -> None:
        if sure:
            return
        before = self.seen()
        try:
            fact(self.link, self.now)
        except ImpossibleEvent:
            assert before == self.seen()

    def seen(self) -> tuple[object, ...]:
        link = self.link
        return link.state, link.generation, link.failures, link.stopped, list(link.moved)

    @invariant()
    def moves_follow_the_diagram(self) -> None:
        arrows: set[Move] = {(before, after) for (before, _), after in MOVES.items()}
        for before, after in self.link.take_moves():
            assert self.state is before
            assert (before, after) in arrows
            self.state = after
        assert self.state is self.link.state

    @invariant()
    def failed_says_why(self) -> None:
        assert (self.link.state is State.FAILED) <= (self.link.stopped is not None)

    @invariant()
    def attempts_are_never_exceeded(self) -> None:
        attempts = self.link.plan.attempts
        assert attempts is None or self.link.failures <= attempts


TestLife = Life.TestCase
