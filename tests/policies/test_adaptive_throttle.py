"""AdaptiveThrottle as users hold it: settings, what counts, forms, totals."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import Action, AdaptiveThrottle, CircuitOpen, Classifier, Rule, Throttled
from resilient.core.classify import classifier_of
from resilient.core.throttle import ThrottleMetrics
from resilient.policies.shared import ProcessHome
from resilient.testing import FakeClock


class Low:
    """Chance that rejects whatever may be rejected."""

    def random(self) -> float:
        return 0.0


def fail(error: BaseException) -> None:
    raise error


def test_defaults_are_the_books() -> None:
    """Two minutes, twice the accepts; below ten calls nothing is rejected."""
    made = AdaptiveThrottle()
    assert (2.0, 120.0, 10, classifier_of(Exception), "") == (made.k, made.window, made.min_calls, made.on, made.name)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"k": 0.5}, ValueError, "k must be >= 1, got 0.5"),
    ({"k": "2"}, TypeError, "k must be a number"),
    ({"window": 0}, ValueError, "window must be > 0 s, got 0"),
    ({"min_calls": -1}, ValueError, "min_calls must be >= 0, got -1"),
    ({"min_calls": 1.5}, TypeError, "min_calls must be a whole number"),
    ({"on": None}, TypeError, "on must say which errors"),
    ({"name": 5}, TypeError, "name must be a str, got 5"),
    ({"listeners": 5}, TypeError, "listeners must be functions of an event, got 5"),
]


@pytest.mark.parametrize(("settings", "error", "text"), BAD)
def test_bad_settings_are_told_at_once(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """The argument, the value, the limit."""
    with pytest.raises(error, match=text):
        AdaptiveThrottle(**settings)


def test_it_compares_copies_and_pickles_by_its_settings() -> None:
    """The state is its own each time."""
    made = AdaptiveThrottle(k=3)
    made.call(int)
    copy, again = made.with_(k=4), pickle.loads(pickle.dumps(made))
    assert (made, hash(made)) == (again, hash(again))
    assert made != copy
    assert [1, 0, 0] == [throttle.metrics().calls for throttle in (made, copy, again)]
    assert repr(made).startswith("AdaptiveThrottle(k=3")


def test_it_rejects_with_the_books_probability() -> None:
    """max(0, (calls - k * accepts) / (calls + 1))."""
    with FakeClock(rng=Low()):
        throttle = AdaptiveThrottle(name="db")
        for _ in range(10):
            with pytest.raises(OSError):
                throttle.call(fail, OSError())
        assert ThrottleMetrics(10, 0, 0, 10 / 11) == throttle.metrics()
        with pytest.raises(Throttled, match="throttled: call rejected by 'db'"):
            throttle.call(int)
        assert ThrottleMetrics(11, 0, 1, 11 / 12) == throttle.metrics()


def test_a_healthy_other_side_is_never_spared() -> None:
    """Half of what is sent may even fail."""
    with FakeClock(rng=Low()):
        throttle = AdaptiveThrottle()
        for turn in range(500):
            with suppress(OSError):
                throttle.call(fail, OSError()) if turn % 2 else throttle.call(int)
        assert ThrottleMetrics(500, 250, 0, 0.0) == throttle.metrics()


def test_it_recovers_with_the_other_side() -> None:
    """The window forgets; what gets through in the meantime counts."""
    with FakeClock(rng=Random(7)) as clock:
        throttle, sent = AdaptiveThrottle(), 0
        for second in range(600):
            clock.advance(1)
            with suppress(Throttled, OSError):
                throttle.call(fail, OSError()) if second < 120 else throttle.call(int)
                sent += second >= 500
        assert (100, 0.0) == (sent, throttle.metrics().probability)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), CircuitOpen(), ValueError()])
def test_what_was_not_rejected_was_accepted(error: BaseException) -> None:
    """Exits, what inner policies reject, and errors that are none of ``on``."""
    throttle = AdaptiveThrottle(on=OSError)
    with pytest.raises(type(error)):
        throttle.call(fail, error)
    assert (1, 1) == (throttle.metrics().calls, throttle.metrics().accepts)


def test_it_is_reset() -> None:
    """With nothing counted."""
    throttle = AdaptiveThrottle(window=60, min_calls=0, k=1)
    with suppress(OSError):
        throttle.call(fail, OSError())
    throttle.reset()
    assert ThrottleMetrics(0, 0, 0, 0.0) == throttle.metrics()
    assert 0 == throttle.call(int)


@pytest.mark.parametrize("loop", LOOPS)
def test_forms(loop: str) -> None:
    """Decorator and blocks: one state behind them."""
    throttle = AdaptiveThrottle()

    @throttle
    async def double(n: int) -> int:
        return 2 * n

    async def main() -> int:
        async with throttle:
            return await double(1)

    assert 2 == run(loop, main)
    with throttle:
        assert 3 == throttle(len)("abc")
    assert (4, 4) == (throttle.metrics().calls, throttle.metrics().accepts)


def test_threads_lose_no_call() -> None:
    """8 x 10,000 calls, half of them rejected there: all are counted, here or there."""
    throttle = AdaptiveThrottle(k=1)
    sent, rejected = [0] * 8, [0] * 8

    @throttle
    def call(n: int, turn: int) -> None:
        sent[n] += 1
        if turn % 2:
            raise OSError

    def work(n: int) -> None:
        for turn in range(10_000):
            try:
                call(n, turn)
            except Throttled:
                rejected[n] += 1
            except OSError:
                pass

    assert [] == together(8, work)
    seen = throttle.metrics()
    assert (80_000, sum(rejected), 80_000 - sum(sent)) == (seen.calls, seen.rejected, seen.rejected)


def test_settings_agree_however_they_are_written() -> None:
    """By name they are one."""
    home = ProcessHome()
    made = AdaptiveThrottle.named("x", home=home, on=[OSError], window=timedelta(minutes=1))
    assert made is AdaptiveThrottle.named("x", home=home, on=OSError, window=60)
    assert isinstance(made.on, Classifier)
    assert hash(made) == hash(AdaptiveThrottle(on=OSError, window=60, name="x"))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("error", [None, OSError, TimeoutError, KeyError])
def test_a_lambda_in_between_changes_no_number(loop: str, error: type[Exception] | None) -> None:
    """What the call gives only its result tells: it is one call all the same."""

    async def call() -> None:
        if error is not None:
            raise error

    async def main(policy: AdaptiveThrottle, asked: Callable[[], Awaitable[None]]) -> object:
        for _ in range(100):
            with suppress(OSError, Throttled, KeyError):
                await policy.call(asked)
        return policy.metrics()

    def seen(asked: Callable[[], Awaitable[None]]) -> object:
        with FakeClock(rng=Random(7)):
            policy = AdaptiveThrottle(on=OSError)
            return run(loop, lambda: main(policy, asked))

    assert seen(call) == seen(lambda: call())


def test_returned_values_may_be_rejections() -> None:
    """By a rule for results; another one may say that a value is fine."""
    fine = Rule.result(lambda status: status == 500, Action.FAIL)
    throttle = AdaptiveThrottle(on=Classifier(fine, Rule.result(lambda status: status >= 500)))
    assert [200, 500, 503] == [throttle.call(int, status) for status in (200, 500, 503)]
    assert (3, 2) == (throttle.metrics().calls, throttle.metrics().accepts)
