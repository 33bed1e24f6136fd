"""The decisions of one call: laws over whatever fails, and one test a rule."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core import backoff
from resilient.core.action import Action, Verdict
from resilient.core.backoff import Backoff
from resilient.core.classify import Classifier
from resilient.core.rule import Rule
from resilient.core.run import Limit, Plan, Run, Stop, gave_up_text, remaining
from resilient.errors import AttemptTimeout, CircuitOpen, DeadlineExceeded, Rejected

RNG = Random(7)


@dataclass
class Purse:
    """A budget of so many retries, by the protocol."""

    tokens: int
    released: list[float | None] = field(default_factory=list)
    timed_out: list[bool] = field(default_factory=list)
    failures: int = 0

    @property
    def available(self) -> float:
        return self.tokens

    def called(self, now: float) -> None: ...

    def failed(self, now: float) -> None:
        self.failures += 1

    def acquire(self, now: float, timed_out: bool) -> float | None:
        self.timed_out.append(timed_out)
        if self.tokens == 0:
            return None
        self.tokens -= 1
        return 1.0

    def succeeded(self, now: float, price: float | None) -> None:
        self.released.append(price)


def plan(
    *rules: Rule,
    attempts: int | None = 5,
    timeout: float | None = None,
    attempt_timeout: float | None = None,
    waits: Backoff | None = None,
    max_wait: float = 300,
    budget: Any = None,
    otherwise: Verdict | None = None,
) -> Plan:
    on = Classifier(*(rules or (Rule(OSError),)), otherwise=otherwise or Verdict(Action.FAIL))
    return Plan(on, attempts, timeout, attempt_timeout, waits or backoff.exponential(1), max_wait, budget)


def begun(made: Plan, started: float = 0.0) -> Run:
    return Run(made, started, made.attempts)


def play(run: Run, errors: list[Exception], now: float = 0.0) -> tuple[list[float], Stop | None]:
    """Tells a run its failures, letting each wait pass; the waits, and how it stopped."""
    waits: list[float] = []
    for error in errors:
        stop = run.failed(error, now, RNG)
        if stop is not None:
            return waits, stop
        waits.append(run.wait)
        now += run.wait
    return waits, None


errors = st.lists(
    st.sampled_from([OSError(), ConnectionError(), ValueError(), TimeoutError()]), min_size=1, max_size=30
)


@given(errors=errors, limit=st.integers(1, 9))
def test_never_more_than_limit_attempts(errors: list[Exception], limit: int) -> None:
    """A run stops at or before its limit, whatever fails."""
    run = begun(plan(Rule(Exception), attempts=limit))
    _, stop = play(run, errors)
    assert run.failures <= limit
    assert (stop is not None) is (len(errors) >= limit)


@given(errors=errors, timeout=st.floats(0.1, 100), took=st.floats(0, 10))
def test_never_past_the_deadline(errors: list[Exception], timeout: float, took: float) -> None:
    """No attempt is granted that would begin at or after the deadline."""
    run, now = begun(plan(Rule(Exception), attempts=None, timeout=timeout)), 0.0
    for error in errors:
        now += took
        stop = run.failed(error, now, RNG)
        if stop is not None:
            assert "timeout" == stop.by
            break
        now += run.wait
        assert now < timeout


@given(errors=errors, tokens=st.integers(0, 10))
def test_budget_is_conserved(errors: list[Exception], tokens: int) -> None:
    """Each granted retry takes one price, an ended run none, and a success gives the last one back."""
    purse = Purse(tokens)
    run = begun(plan(Rule(Exception), attempts=6, budget=purse, waits=backoff.constant(0)))
    waits, stop = play(run, errors)
    run.succeeded(0.0)
    assert tokens == purse.tokens + len(waits)
    if stop is not None and stop.by == "budget":
        assert 0 == purse.tokens
    assert [1.0 if waits and (stop is None or stop.by != "budget") else None] == purse.released


@given(st.lists(st.sampled_from(["a", "b", "none"]), min_size=1, max_size=30))
def test_categories_are_counted_apart(kinds: list[str]) -> None:
    """A category stops at its own attempts, whatever other categories do in between."""
    rules = (Rule(KeyError, category="a", attempts=3), Rule(OSError, category="b", attempts=2), Rule(ValueError))
    made = {"a": KeyError(), "b": OSError(), "none": ValueError()}
    run = begun(plan(*rules, attempts=None))
    _, stop = play(run, [made[kind] for kind in kinds])
    seen = kinds[: run.failures]
    assert seen.count("a") <= 3
    assert seen.count("b") <= 2
    assert (stop is not None) is (seen.count("a") == 3 or seen.count("b") == 2)


def test_waits_follow_the_policy() -> None:
    """The n-th failure waits as the backoff says."""
    assert ([1, 2, 4, 8], None) == play(begun(plan()), [OSError()] * 4)


def test_a_verdicts_delay_replaces_the_backoff() -> None:
    """A named wait is waited, zero too."""
    rules = (Rule(ConnectionError, delay=7), Rule(OSError, delay=0))
    assert [7, 0] == play(begun(plan(*rules)), [ConnectionError(), OSError()])[0]


def test_a_categorys_backoff_counts_its_own_failures() -> None:
    """Waits of a category begin with its own first failure; the policy's count all."""
    rules = (Rule(ConnectionError, category="link", backoff=backoff.linear(10)), Rule(OSError))
    errors: list[Exception] = [OSError(), ConnectionError(), OSError(), ConnectionError()]
    assert [1, 10, 4, 20] == play(begun(plan(*rules)), errors)[0]


def test_rules_without_category_are_counted_apart() -> None:
    """Two rules that grant attempts but name no category do not use up each other's."""
    rules = (Rule(ConnectionError, attempts=2), Rule(OSError, attempts=3))
    waits, stop = play(begun(plan(*rules)), [OSError(), OSError(), ConnectionError()])
    assert (3, None) == (len(waits), stop)


def test_rules_of_one_category_share_its_count() -> None:
    """The category is what is counted, not the rule."""
    rules = (Rule(ConnectionError, category="link", attempts=2), Rule(OSError, category="link", attempts=2))
    _, stop = play(begun(plan(*rules)), [OSError(), ConnectionError()])
    assert stop is not None
    assert ("attempts", "attempts of link exhausted") == (stop.by, stop.why)


def test_every_rule_of_a_category_counts_for_it() -> None:
    """Also one that grants no attempts itself."""
    rules = (Rule(ConnectionError, category="net", attempts=3), Rule(OSError, category="net"))
    _, stop = play(begun(plan(*rules)), [OSError(), OSError(), ConnectionError()])
    assert stop is not None
    assert "attempts of net exhausted" == stop.why


def test_decorrelated_waits_remember_their_own() -> None:
    """Each category's decorrelated waits grow from its own previous wait."""
    rules = (Rule(ConnectionError, category="link", backoff=backoff.decorrelated(1, 100)), Rule(OSError))
    run = begun(plan(*rules, attempts=None, waits=backoff.decorrelated(10, 1000)))
    top = type("Top", (), {"random": lambda self: 0.999999})()
    waits = []
    for error in (OSError(), ConnectionError(), OSError(), ConnectionError()):
        assert run.failed(error, 0.0, top) is None
        waits.append(round(run.wait))
    assert [30, 3, 90, 9] == waits


@pytest.mark.parametrize(
    ("made", "error", "now", "by", "why", "hint"),
    [
        (plan(), ValueError(), 0, "fail", "classified as FAIL", None),
        (plan(attempts=1), OSError(), 0, "attempts", "attempts exhausted", None),
        (plan(Rule(OSError, attempts=1)), OSError(), 0, "attempts", "attempts of its rule exhausted", None),
        (plan(timeout=10), OSError(), 9, "timeout", "after the timeout of 10 s", None),
        (plan(timeout=10), OSError(), 12, "timeout", "after the timeout of 10 s", None),
        (plan(Rule(OSError, delay=20), timeout=10), OSError(), 0, "timeout", "timeout of 10 s", 20),
        (plan(Rule(OSError, delay=301)), OSError(), 0, "max_wait", "told to wait 301 s, more than max_wait", 301),
        (plan(Rule(OSError, delay=9), attempts=1), OSError(), 0, "attempts", "exhausted", 9),
        (plan(budget=Purse(0)), OSError(), 0, "budget", "the retry budget is empty", None),
    ],
)
def test_a_stop_says_why(made: Plan, error: Exception, now: float, by: str, why: str, hint: float | None) -> None:
    """Every way to end is named, with the server's hint if there was one."""
    stop = begun(made).failed(error, now, RNG)
    assert stop is not None
    assert (by, hint) == (stop.by, stop.hint)
    assert why in stop.why


def test_a_hint_of_max_wait_is_honoured() -> None:
    """The limit itself is waited; the backoff's own waits are not limited by it."""
    assert [300] == play(begun(plan(Rule(OSError, delay=300))), [OSError()])[0]
    assert [400] == play(begun(plan(waits=backoff.constant(400), max_wait=1)), [OSError()])[0]


def test_nothing_is_spent_after_the_last_attempt() -> None:
    """The attempt that ends a run asks no budget."""
    purse = Purse(5)
    play(begun(plan(attempts=2, budget=purse)), [OSError(), OSError()])
    assert 4 == purse.tokens


def test_the_budget_hears_of_timeouts() -> None:
    """A failure by timeout may cost more, so the budget is told."""
    purse = Purse(9)
    run = begun(plan(Rule(Exception), budget=purse))
    run.failed(OSError(), 0, RNG)
    run.failed(TimeoutError(), 0, RNG)
    run.failed(AttemptTimeout(1), 0, RNG, cut_off=True)
    assert [False, True, True] == purse.timed_out


@pytest.mark.parametrize(
    ("made", "action"),
    [
        (plan(), Action.RETRY),
        (plan(Rule(TimeoutError, Action.RECONNECT)), Action.RECONNECT),
        (plan(Rule(AttemptTimeout, Action.FAIL)), Action.FAIL),
        (plan(Rule(ValueError), otherwise=Verdict(Action.RELOGIN)), Action.RELOGIN),
        (plan(Rule(ValueError)), Action.RETRY),
    ],
)
def test_an_attempt_cut_off_is_tried_again_unless_a_rule_speaks_of_it(made: Plan, action: Action) -> None:
    """That is what an attempt timeout is set for."""
    run = begun(made)
    run.failed(AttemptTimeout(1), 0, RNG, cut_off=True)
    assert action is run.verdict.action


def test_a_timeout_of_the_call_itself_is_classified_like_any_error() -> None:
    """Only the policy's own timeout has that privilege."""
    stop = begun(plan(Rule(ValueError))).failed(TimeoutError(), 0, RNG)
    assert stop is not None
    assert "fail" == stop.by


@pytest.mark.parametrize(
    ("made", "now", "seconds", "kind"),
    [
        (plan(attempt_timeout=3), 5, 3, AttemptTimeout),
        (plan(timeout=10), 4, 6, DeadlineExceeded),
        (plan(timeout=10, attempt_timeout=3), 4, 3, AttemptTimeout),
        (plan(timeout=10, attempt_timeout=3), 8, 2, DeadlineExceeded),
        (plan(timeout=10), 11, 0, DeadlineExceeded),
    ],
)
def test_the_nearer_limit_bounds_an_attempt(made: Plan, now: float, seconds: float, kind: type[Exception]) -> None:
    """An attempt ends at its own timeout or at the whole call's, whichever comes first."""
    limit = begun(made).limit(now)
    assert limit is not None
    assert (seconds, kind) == (limit.seconds, limit.kind)


def test_without_timeouts_nothing_bounds_an_attempt() -> None:
    """No limit, no remaining time."""
    made = plan()
    assert begun(made).limit(0) is None
    assert remaining(made, 0, 0, 5) is None


@pytest.mark.parametrize(
    ("made", "left"),
    [
        (plan(timeout=10), 6),
        (plan(attempt_timeout=3), 2),
        (plan(timeout=10, attempt_timeout=9), 6),
        (plan(timeout=1), 0),
    ],
)
def test_remaining_is_the_nearer_end(made: Plan, left: float) -> None:
    """Seconds left for an attempt of a call begun at 0 that itself began at 3, seen at 4."""
    assert left == remaining(made, 0, 3, 4)


def test_a_limit_knows_its_own_error() -> None:
    """The error of a limit is recognised by identity."""
    limit = Limit(0.5, 3.0, AttemptTimeout)
    error = limit.passed()
    assert limit.error is error
    assert "attempt timed out after 3 s" == str(error)


def test_expired_and_late_stop_by_timeout() -> None:
    """Cut off while it ran, or too late after a recovery: either way the time ran out."""
    run = begun(plan(timeout=3))
    stops = [run.expired(), run.late()]
    assert ["timeout", "timeout"] == [stop.by for stop in stops]
    assert 1 == run.failures


def test_short_answer_counts_like_the_long_one() -> None:
    """``repeats`` grants just what ``failed`` would, and never the last attempt."""
    made = plan(waits=backoff.constant(0), attempts=3)
    made.on.plain.learn(OSError)
    run = begun(made)
    assert [True, True, False] == [run.repeats(OSError()), run.repeats(OSError()), run.repeats(OSError())]
    assert (2, False) == (run.failures, run.repeats(ValueError()))
    endless = begun(plan(waits=backoff.constant(0), attempts=None))
    assert all(endless.repeats(OSError()) is (OSError in endless.plan.on.plain) for _ in range(3))
    made.on.plain.learn(OSError)
    unlimited = Run(made, 0.0, None)
    assert all(unlimited.repeats(OSError()) for _ in range(10))


@pytest.mark.parametrize(
    ("made", "facts"),
    [
        (plan(waits=backoff.constant(0)), (True, False, False)),
        (plan(), (False, False, False)),
        (plan(waits=backoff.constant(0), timeout=1), (False, True, False)),
        (plan(waits=backoff.constant(0), attempt_timeout=1), (False, True, False)),
        (plan(waits=backoff.constant(0), budget=Purse(1)), (False, False, True)),
        (plan(Rule.result(bool), waits=backoff.constant(0)), (False, False, True)),
    ],
)
def test_a_plan_knows_what_it_needs(made: Plan, facts: tuple[bool, bool, bool]) -> None:
    """At once, timed, watched."""
    assert facts == (made.at_once, made.timed, made.watched)


def test_a_success_without_a_budget_tells_nobody() -> None:
    """There is nothing to give back."""
    run = begun(plan())
    run.succeeded(0.0)
    assert run.price is None


@pytest.mark.parametrize(("attempts", "text"), [(1, "1 attempt in"), (3, "3 attempts in")])
def test_the_note_reads_well(attempts: int, text: str) -> None:
    """Attempts, elapsed, why."""
    assert f"gave up after {text} 0.42 s: attempts exhausted" == gave_up_text(attempts, 0.42, "attempts exhausted")


def rejected(
    made: Plan, *errors: Exception, now: float = 0.0, outer: float | None = None
) -> tuple[Run, Any, list[float]]:
    """A run that was told these errors, how it stopped, and its waits."""
    run = begun(made)
    run.outer = outer
    waits, stop = play(run, list(errors), now)
    return run, stop, waits


@pytest.mark.parametrize(
    ("made", "action", "wait"),
    [
        (plan(waits=backoff.constant(2)), Action.WAIT, 7),
        (plan(Rule(Rejected), waits=backoff.constant(2)), Action.WAIT, 7),
        (plan(Rule(CircuitOpen, Action.RECONNECT)), Action.RECONNECT, 7),
        (plan(Rule(Rejected, delay=3)), Action.RETRY, 3),
        (plan(otherwise=Verdict(Action.RETRY)), Action.WAIT, 7),
    ],
)
def test_a_rejection_is_waited_out(made: Plan, action: Action, wait: float) -> None:
    """Until another call makes sense, unless a rule says another delay; to ask earlier would be hammering."""
    run, stop, waits = rejected(made, CircuitOpen("db", 7.0))
    assert (None, action, [wait]) == (stop, run.verdict.action, waits)


def test_a_rejection_of_which_nobody_knows_the_end_waits_as_the_backoff_says() -> None:
    """It is worth another try all the same."""
    run, stop, waits = rejected(plan(waits=backoff.constant(2)), CircuitOpen("db"))
    assert (None, Action.WAIT, "rejected", [2]) == (stop, run.verdict.action, run.verdict.category, waits)


@pytest.mark.parametrize(
    ("made", "by", "hint"),
    [
        (plan(Rule(Rejected, Action.FAIL)), "fail", None),
        (plan(otherwise=Verdict(Action.FAIL, "mine")), "fail", None),
        (plan(max_wait=5), "max_wait", 7),
        (plan(timeout=6), "timeout", 7),
        (plan(attempts=1), "attempts", 7),
    ],
)
def test_a_rejection_may_end_the_call(made: Plan, by: str, hint: float | None) -> None:
    """A rule that says FAIL, and every limit."""
    _, stop, _ = rejected(made, CircuitOpen("db", 7.0))
    assert (by, hint) == (stop.by, stop.hint)


def test_an_attempt_cut_off_by_a_layer_inside_is_tried_again() -> None:
    """As the policy's own is; one that was decided already is an error like any other."""
    inside = AttemptTimeout(3)
    inside.of_layer = True
    run, stop, _ = rejected(plan(Rule(ValueError)), inside)
    assert (None, "attempt timeout") == (stop, run.verdict.category)
    _, stop, _ = rejected(plan(Rule(ValueError)), AttemptTimeout(3))
    assert "fail" == stop.by
    _, stop, _ = rejected(plan(Rule(AttemptTimeout, Action.FAIL)), inside)
    assert "fail" == stop.by


@pytest.mark.parametrize(
    ("timeout", "outer", "deadline", "text"),
    [
        (None, None, None, "the deadline of a policy around this one"),
        (9, None, 19, "the timeout of 9 s"),
        (None, 15, 15, "the deadline of a policy around this one"),
        (9, 15, 15, "the deadline of a policy around this one"),
        (9, 19, 19, "the timeout of 9 s"),
        (9, 30, 19, "the timeout of 9 s"),
    ],
)
def test_a_run_never_outlives_those_around_it(
    timeout: float | None, outer: float | None, deadline: float | None, text: str
) -> None:
    """The nearer end counts, and is named."""
    run = begun(plan(timeout=timeout), 10.0)
    run.outer = outer
    assert deadline == run.deadline
    assert text in run.late().why
    if deadline is not None:
        assert (False, True) == (run.overdue(deadline - 1), run.overdue(deadline))
        stop = run.failed(OSError(), deadline - 0.5, RNG)
        assert stop is not None
        assert ("timeout", f"the next attempt would come after {text}") == (stop.by, stop.why)


@given(errors=errors, outer=st.floats(0.1, 100), timeout=st.none() | st.floats(0.1, 100), took=st.floats(0, 10))
def test_never_past_an_outer_deadline(
    errors: list[Exception], outer: float, timeout: float | None, took: float
) -> None:
    """No attempt is granted that would begin at or after it."""
    run, now = begun(plan(Rule(Exception), attempts=None, timeout=timeout)), 0.0
    run.outer = outer
    for error in errors:
        now += took
        stop = run.failed(error, now, RNG)
        if stop is not None:
            assert "timeout" == stop.by
            break
        now += run.wait
        assert now < outer


def rejected_group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


@pytest.mark.parametrize(
    ("rules", "error", "action", "wait"),
    [
        ((), rejected_group(CircuitOpen("a", 7.0), CircuitOpen("b", 9.0)), Action.WAIT, 9.0),
        ((), rejected_group(rejected_group(CircuitOpen("a", 7.0)), CircuitOpen("b", None)), Action.WAIT, 7.0),
        ((Rule(OSError),), rejected_group(CircuitOpen("a", 7.0), OSError()), Action.WAIT, 7.0),
        ((Rule(OSError),), rejected_group(CircuitOpen("a", 7.0), ValueError()), Action.FAIL, None),
        ((Rule(CircuitOpen, Action.FAIL),), rejected_group(CircuitOpen("a", 7.0)), Action.FAIL, None),
        ((Rule(Exception),), rejected_group(CircuitOpen("a", 7.0)), Action.WAIT, 7.0),
    ],
    ids=["the longest", "nested", "with something to try again", "with something to fail", "named", "everything"],
)
def test_rejections_in_a_group_are_waited_out_like_any(
    rules: tuple[Rule, ...], error: Exception, action: Action, wait: float | None
) -> None:
    """Task groups and nurseries wrap what is raised in them."""
    run = Run(plan(*rules), 0.0, 5)
    run.failed(error, 0.0, RNG)
    assert (action, wait) == (run.verdict.action, run.verdict.seconds)
