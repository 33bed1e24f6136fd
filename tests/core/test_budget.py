"""Retry budgets: what fills them, what a retry costs, and that nobody can overdraw them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient.core.budget import Budget, Quota, Ratio, Tokens


@pytest.mark.parametrize("budget", [Quota(), Ratio(), Tokens()])
def test_a_budget_is_known_by_its_methods(budget: Budget) -> None:
    """The three are budgets; an object is not."""
    assert (True, False) == (isinstance(budget, Budget), isinstance(object(), Budget))


def test_each_starts_with_its_defaults() -> None:
    """500 of a quota, a reserve of 10 a second for 10 s, 10 tokens."""
    assert [500, 100, 10] == [budget.available for budget in (Quota(), Ratio(), Tokens())]


def test_a_quota_takes_and_gives_back() -> None:
    """A retry costs 5, or 10 after a timeout; the last price comes back with a success, 1 without a retry."""
    quota = Quota()
    quota.called(0.0)
    quota.failed(0.0)
    assert (5, 10) == (quota.acquire(0.0, False), quota.acquire(0.0, True))
    assert 485 == quota.available
    quota.succeeded(0.0, 10)
    quota.succeeded(0.0, None)
    assert 496 == quota.available


def test_a_quota_never_exceeds_its_capacity() -> None:
    """Neither from full nor by a large refund."""
    quota = Quota(10, retry_cost=3, first_try_refund=8)
    quota.succeeded(0.0, None)
    assert 10 == quota.available
    quota.acquire(0.0, False)
    quota.succeeded(0.0, None)
    assert 10 == quota.available


def test_an_empty_quota_refuses_and_takes_nothing() -> None:
    """What is short of the price stays."""
    quota = Quota(4)
    assert (None, 4) == (quota.acquire(0.0, False), quota.available)


class Crowd(RuleBasedStateMachine):
    """Calls that retry, succeed and give up, sharing a quota of 40."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = Quota(40)
        self.spent = 0.0

    @rule(timeouts=st.lists(st.booleans(), max_size=4), succeeds=st.booleans())
    def call(self, timeouts: list[bool], succeeds: bool) -> None:
        self.quota.called(0.0)
        price: float | None = None
        for timed_out in timeouts:
            self.quota.failed(0.0)
            before, asked = self.quota.available, 10.0 if timed_out else 5.0
            taken = self.quota.acquire(0.0, timed_out)
            assert (asked if asked <= before else None) == taken
            if taken is None:
                return
            price = taken
            self.spent += taken
        if succeeds:
            self.quota.succeeded(0.0, price)
            self.spent = max(0.0, self.spent - (1.0 if price is None else price))

    @invariant()
    def what_is_missing_was_spent(self) -> None:
        assert 40 - self.spent == self.quota.available
        assert 0 <= self.quota.available <= 40


TestCrowd = Crowd.TestCase


def test_a_ratio_grants_a_share_of_the_calls() -> None:
    """A retry in five calls, above the reserve."""
    ratio = Ratio(min_per_second=0)
    for _ in range(4):
        ratio.called(0.0)
    assert (None, 0) == (ratio.acquire(0.0, False), ratio.available)
    ratio.called(0.0)
    assert (1.0, None) == (ratio.acquire(0.0, False), ratio.acquire(0.0, True))


def test_a_ratio_hears_of_outcomes_and_ignores_them() -> None:
    """Only calls bring something in, and only retries cost."""
    ratio = Ratio()
    ratio.failed(0.0)
    ratio.succeeded(0.0, 1.0)
    assert 100 == ratio.available


def test_without_a_share_the_reserve_comes_back_with_time() -> None:
    """percent 0: what was taken is forgotten after a ttl."""
    ratio = Ratio(0, min_per_second=1, ttl=2)
    ratio.called(0.0)
    assert [1.0, 1.0, None] == [ratio.acquire(0.0, False) for _ in range(3)]
    assert [None, 1.0] == [ratio.acquire(now, False) for now in (1.9, 2.1)]


def test_debts_outlive_the_deposits_that_paid_them() -> None:
    """A retry of old savings counts for its own ttl; available is 0 meanwhile, never less."""
    ratio = Ratio(1.0, 0, ttl=10)
    ratio.called(0.0)
    assert 1.0 == ratio.acquire(9.0, False)
    ratio.called(12.0)
    assert (None, 0) == (ratio.acquire(12.0, False), ratio.available)
    assert 1.0 == ratio.acquire(19.0, False)


@given(
    start=st.floats(0, 1e6),
    ttl=st.floats(1, 60),
    offset=st.floats(0, 0.99),
    age=st.one_of(st.floats(0, 0.89), st.floats(1.01, 100)),
)
def test_a_deposit_counts_for_a_ttl(start: float, ttl: float, offset: float, age: float) -> None:
    """For at least 0.9 of it, and not longer than it."""
    ratio = Ratio(1.0, 0, ttl)
    assert ratio.acquire(start, False) is None
    deposited = start + offset * ttl / 10
    ratio.called(deposited)
    assert (age < 1) is (ratio.acquire(deposited + age * ttl, False) is not None)


@given(percent=st.floats(0, 1000), per_second=st.floats(0, 2**31), ttl=st.floats(1, 60))
def test_a_ratio_of_any_numbers_is_finite(percent: float, per_second: float, ttl: float) -> None:
    """The price of the tiniest percent, the largest reserve."""
    ratio = Ratio(percent, per_second, ttl)
    ratio.called(0.0)
    ratio.acquire(0.0, False)
    assert 0 <= ratio.available < float("inf")


def test_a_ratio_on_another_clock_starts_anew() -> None:
    """An instant more than a ttl back is another clock's; one a little late belongs to the present."""
    ratio = Ratio(1.0, 0)
    ratio.called(1000.0)
    assert 1.0 == ratio.acquire(999.0, False)
    ratio.called(1000.0)
    assert None is ratio.acquire(3.0, False)
    ratio.called(3.0)
    assert 1.0 == ratio.acquire(12.0, False)


class Window(RuleBasedStateMachine):
    """Calls and retries in whole seconds, slots of one second, against a list of dated entries."""

    def __init__(self) -> None:
        super().__init__()
        self.ratio = Ratio(0.5, min_per_second=0.2, ttl=10)
        self.now = 0
        self.entries: list[tuple[int, int]] = []
        self.ratio.acquire(0.0, False)
        self.entries.append((0, -2))

    def balance(self) -> int:
        return 4 + sum(amount for at, amount in self.entries if self.now - at < 10)

    @rule(seconds=st.integers(0, 15))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(late=st.integers(0, 1))
    def call(self, late: int) -> None:
        self.ratio.called(self.now)
        self.ratio.called(self.now - late)  # a thread that read the clock before it got the lock
        self.entries.append((self.now, 2))

    @rule(late=st.integers(0, 1), timed_out=st.booleans())
    def retry(self, late: int, timed_out: bool) -> None:
        self.ratio.called(self.now)
        self.entries.append((self.now, 1))
        affordable = self.balance() >= 2
        assert (1.0 if affordable else None) == self.ratio.acquire(self.now - late, timed_out)
        if affordable:
            self.entries.append((self.now, -2))
        assert max(0, self.balance()) // 2 == self.ratio.available


TestWindow = Window.TestCase


def test_tokens_stop_retries_at_half() -> None:
    """Each failure takes one; a retry takes nothing more."""
    tokens = Tokens()
    tokens.called(0.0)
    granted = []
    for _ in range(6):
        tokens.failed(0.0)
        granted.append(tokens.acquire(0.0, True))
    assert [0.0, 0.0, 0.0, 0.0, None, None] == granted
    assert 4 == tokens.available


def test_tokens_come_back_with_successes() -> None:
    """A tenth each, whatever the retry cost."""
    tokens = Tokens()
    for _ in range(5):
        tokens.failed(0.0)
    assert None is tokens.acquire(0.0, False)
    tokens.succeeded(0.0, 0.0)
    assert (5.1, 0.0) == (tokens.available, tokens.acquire(0.0, False))


@pytest.mark.parametrize(("ratio", "kept"), [(0.1, 0.1), (1.001, 1.001), (0.0019, 0.001), (0.29, 0.29)])
def test_tokens_keep_three_decimals(ratio: float, kept: float) -> None:
    """Cut off after the thousandths, and never a thousandth short."""
    tokens = Tokens(10, ratio)
    for _ in range(10):
        tokens.failed(0.0)
    tokens.succeeded(0.0, None)
    assert kept == tokens.available


@given(maximum=st.floats(0.001, 1000), ratio=st.floats(0.001, 1000), fates=st.lists(st.booleans()))
def test_tokens_stay_in_bounds(maximum: float, ratio: float, fates: list[bool]) -> None:
    """From 0 to the maximum; retries while above half of it."""
    tokens = Tokens(maximum, ratio)
    full = tokens.available
    for succeeds in fates:
        if succeeds:
            tokens.succeeded(0.0, None)
        else:
            tokens.failed(0.0)
        assert 0 <= tokens.available <= full
        assert (2 * tokens.available > full) is (tokens.acquire(0.0, False) is not None)


def test_failures_at_the_ratio_never_stop_retries() -> None:
    """One failure to ten successes leaves the tokens as they were."""
    tokens = Tokens()
    for _ in range(1000):
        tokens.failed(0.0)
        assert 0.0 == tokens.acquire(0.0, False)
        for _ in range(10):
            tokens.succeeded(0.0, None)
    assert 10 == tokens.available
