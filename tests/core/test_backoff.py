"""Laws and vectors of the waits."""

import math
import pickle
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core import backoff
from resilient.core.backoff import Backoff

firsts = st.floats(min_value=1e-3, max_value=100)
caps = st.floats(min_value=100, max_value=1e6)
numbers = st.integers(min_value=1, max_value=10**6) | st.just(10**6) | st.integers(min_value=10**6, max_value=10**400)


class Fixed:
    """A source of jitter that always gives the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def jittered(made: Backoff, spread: str | float) -> Backoff:
    return made.jitter(spread)  # type: ignore[arg-type]


growing = st.one_of(
    st.builds(backoff.constant, firsts),
    st.builds(backoff.linear, firsts, firsts, caps),
    st.builds(backoff.linear, firsts),
    st.builds(backoff.exponential, firsts, st.floats(min_value=1, max_value=10), caps),
    st.builds(backoff.fibonacci, firsts, caps),
    st.builds(backoff.decorrelated, firsts, caps),
)
spreads = st.sampled_from(["full", "equal"]) | st.floats(min_value=0, max_value=1)
unjittered = growing.filter(lambda made: made.spread != "decorrelated")


@pytest.mark.parametrize(
    ("made", "waits"),
    [
        (backoff.constant(2), [2, 2, 2]),
        (backoff.linear(1), [1, 2, 3, 4]),
        (backoff.linear(1, 0.5, 2), [1, 1.5, 2, 2]),
        (backoff.linear(1, cap=2), [1, 2, 2, 2, 2]),  # system 1: base 1000 ms, at most 2000 ms
        (backoff.exponential(0.1), [0.1, 0.2, 0.4, 0.8]),  # system 2: min(100 ms x 2^failures, 300 s)
        (backoff.exponential(0.5, 1.5, 15), [0.5, 0.75, 1.125, 1.6875]),  # system 3
        (backoff.exponential(1), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),  # system 5
        (backoff.exponential(2, 1, 2), [2, 2, 2]),
        (backoff.fibonacci(), [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 300]),
        (backoff.fibonacci(0.5, 2), [0.5, 0.5, 1, 1.5, 2, 2]),
        (backoff.decorrelated(1, 20), [3, 9, 20, 20]),
        (backoff.sequence(1, 0, 3), [1, 0, 3, 3]),
    ],
    ids=repr,
)
def test_waits_are_the_published_ones(made: Backoff, waits: list[float]) -> None:
    """Each curve gives its series."""
    assert waits == pytest.approx([made.delay(n) for n in range(1, len(waits) + 1)])


@given(made=growing, n=numbers)
def test_every_wait_is_finite(made: Backoff, n: int) -> None:
    """Any retry has a finite wait within the cap, however late it comes."""
    delay = made.delay(n)
    assert 0 <= delay < math.inf
    assert made.cap is None or delay <= made.cap


@given(made=growing, n=st.integers(min_value=1, max_value=3000))
def test_waits_never_shrink_before_jitter(made: Backoff, n: int) -> None:
    """Before jitter, waits are monotone."""
    assert made.delay(n) <= made.delay(n + 1)


@given(made=unjittered, spread=spreads, seed=st.integers(), n=numbers)
def test_jitter_only_shortens(made: Backoff, spread: str | float, seed: int, n: int) -> None:
    """Jitter stays within 0 and the wait, and so within the cap."""
    assert 0 <= jittered(made, spread).wait(n, None, Random(seed)) <= made.delay(n)


@given(first=firsts, cap=caps, seed=st.integers())
def test_decorrelated_waits_stay_within_bounds(first: float, cap: float, seed: int) -> None:
    """Decorrelated jitter stays between the first wait and the cap, and below its upper edge."""
    made = backoff.decorrelated(first, cap)
    for n, wait in enumerate(islice(made.delays(Random(seed)), 50), start=1):
        assert first <= wait <= made.delay(n)


@given(made=unjittered, spread=spreads, floor=st.floats(min_value=0, max_value=1e-3), seed=st.integers())
def test_floor_holds_after_jitter(made: Backoff, spread: str | float, floor: float, seed: int) -> None:
    """No jitter goes below the floor, in whichever order they were given."""
    one, other = jittered(made, spread).floor(floor), jittered(made.floor(floor), spread)
    assert one == other
    assert one.wait(1, None, Random(seed)) >= floor


@pytest.mark.parametrize(
    ("spread", "number", "wait"),
    [("full", 0, 0), ("full", 0.5, 5), ("equal", 0, 5), ("equal", 0.5, 7.5), (0.2, 0, 10), (0.2, 0.5, 9), (0, 0.5, 10)],
)
def test_jitter_is_uniform_downwards(spread: str | float, number: float, wait: float) -> None:
    """Each jitter maps the random number onto its published range."""
    assert wait == pytest.approx(jittered(backoff.constant(10), spread).wait(1, None, Fixed(number)))


def test_decorrelated_draws_from_the_previous_wait() -> None:
    """The n-th wait is uniform between the first and thrice the previous one, capped."""
    made = backoff.decorrelated(1, 10)
    waits = [made.wait(1, None, Fixed(0.5)), made.wait(2, 2.0, Fixed(0.5)), made.wait(3, 9.0, Fixed(0.5))]
    assert [2.0, 3.5, 10.0] == waits
    assert [1.0, 1.0] == list(islice(made.delays(Fixed(0)), 2))


def test_delays_are_fresh_and_seedable() -> None:
    """Each iterator starts anew, and a seed repeats it."""
    made = backoff.exponential(1).jitter("full")
    assert list(islice(made.delays(Random(7)), 5)) == list(islice(made.delays(Random(7)), 5))
    assert next(made.delays()) <= 1


def test_a_backoff_is_a_value() -> None:
    """Backoffs compare, hash and pickle by their settings."""
    made = backoff.exponential(0.1, cap=3).jitter("full").floor(0.01)
    assert made == pickle.loads(pickle.dumps(made)) == backoff.exponential(0.1, cap=3).floor(0.01).jitter("full")
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
    assert made != backoff.exponential(0.1, cap=3)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (backoff.exponential(0.1).jitter("full"), "exponential(0.1, factor=2, cap=300).jitter('full')"),
        (backoff.linear(1).floor(0.5), "linear(1, step=1).floor(0.5)"),
        (backoff.sequence(1, 2).jitter(0.25), "sequence(1, 2).jitter(0.25)"),
        (backoff.decorrelated(1, 5), "decorrelated(1, cap=5)"),
        (backoff.constant(0), "constant(0)"),
    ],
)
def test_repr_is_how_it_was_made(made: Backoff, text: str) -> None:
    """A backoff shows itself as one would type it."""
    assert text == repr(made)
    assert made == eval(text, vars(backoff))


@pytest.mark.parametrize(
    ("made", "never"),
    [
        (backoff.constant(0), True),
        (backoff.sequence(0, 0), True),
        (backoff.constant(0).floor(1), False),
        (backoff.sequence(0, 1), False),
        (backoff.linear(0, 1), False),
    ],
    ids=repr,
)
def test_never_waits(made: Backoff, never: bool) -> None:
    """Only a backoff whose every wait is zero never waits."""
    assert never is made.never_waits


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: backoff.constant(-1), ValueError, "delay must be >= 0 s, got -1"),
        (lambda: backoff.constant("1"), TypeError, "delay must be seconds"),
        (lambda: backoff.linear(-1), ValueError, "first must be >= 0 s"),
        (lambda: backoff.linear(1, -1), ValueError, "step must be >= 0 s"),
        (lambda: backoff.linear(5, cap=1), ValueError, r"cap must be >= first \(5 s\), got 1"),
        (lambda: backoff.exponential(0), ValueError, "first must be > 0 s, got 0"),
        (lambda: backoff.exponential(1, 0.5), ValueError, "factor must be finite and >= 1, got 0.5"),
        (lambda: backoff.exponential(1, math.nan), ValueError, "factor must be finite and >= 1, got nan"),
        (lambda: backoff.exponential(1, "2"), TypeError, "factor must be a number >= 1, got '2'"),
        (lambda: backoff.exponential(1, cap=0.5), ValueError, "cap must be >= first"),
        (lambda: backoff.fibonacci(0), ValueError, "first must be > 0 s"),
        (lambda: backoff.fibonacci(1, 0), ValueError, "cap must be >= first"),
        (lambda: backoff.decorrelated(0, 1), ValueError, "first must be > 0 s"),
        (lambda: backoff.decorrelated(2, 1), ValueError, "cap must be >= first"),
        (lambda: backoff.sequence(), ValueError, "delays must be at least one wait"),
        (lambda: backoff.sequence(1, -1), ValueError, "delays must be >= 0 s, got -1"),
        (lambda: backoff.constant(1).jitter("some"), ValueError, 'jitter must be "full", "equal" or a fraction'),
        (lambda: backoff.constant(1).jitter(1.5), ValueError, "a fraction from 0 to 1, got 1.5"),
        (lambda: backoff.constant(1).jitter(True), ValueError, "a fraction from 0 to 1, got True"),
        (lambda: backoff.decorrelated(1, 2).jitter("full"), ValueError, "jittered already"),
        (lambda: backoff.exponential(1, cap=2).floor(3), ValueError, r"floor must be <= cap \(2 s\), got 3"),
        (lambda: backoff.constant(1).floor(-1), ValueError, "floor must be >= 0 s"),
        (lambda: backoff.constant(1).delay(0), ValueError, "n must be >= 1, got 0"),
        (lambda: backoff.constant(1).delay(1.5), TypeError, "n must be a whole number >= 1, got 1.5"),
    ],
)
def test_bad_settings_say_which(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    """Every argument out of range is named, with its value and its limit."""
    with pytest.raises(error, match=message):
        make()
