"""Hedge: another copy of a call that is slow to answer."""

import asyncio
import inspect
import pickle
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import Retry, backoff, current_deadline
from resilient.core import events
from resilient.core.hedging import HedgeMetrics
from resilient.drivers.clock import CLOCK
from resilient.errors import AttemptTimeout
from resilient.policies.hedge import Hedge
from resilient.policies.policy import Pipeline
from resilient.policies.shared import ProcessHome, snapshot
from resilient.policies.timeout import Timeout
from resilient.testing import FakeClock

every_loop = pytest.mark.parametrize("loop", LOOPS)


class Server:
    """Takes so long for each request, in their order, and answers with its number."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.requests = 0

    def _next(self) -> tuple[int, float]:
        self.requests += 1
        return self.requests, self.seconds[self.requests - 1]

    def ask(self) -> int:
        number, seconds = self._next()
        CLOCK.get().sleep(seconds)
        return number

    async def ask_async(self) -> int:
        number, seconds = self._next()
        await CLOCK.get().asleep(seconds)  # type: ignore[attr-defined]  # a fake clock's
        return number


def test_a_slow_call_is_hedged_in_threads() -> None:
    """Decorated, called, in a pipeline."""
    with FakeClock():
        assert 2 == Hedge(1)(Server(10, 0).ask)()
        assert 2 == Hedge(timedelta(seconds=1)).call(Server(10, 0).ask)
        assert 3 == Pipeline(Timeout(60), Hedge(1, 2)).call(Server(10, 10, 0).ask)


@every_loop
def test_a_slow_call_is_hedged_in_tasks(loop: str) -> None:
    """Coroutine functions, and what turns out to give a coroutine."""

    async def main() -> list[Any]:
        server = Server(10, 1)
        return [
            await Hedge(1)(Server(10, 1).ask_async)(),
            await Hedge(1).call(Server(10, 1).ask_async),
            await Hedge(1).call(lambda: server.ask_async()),
        ]

    with FakeClock():
        assert [2, 2, 2] == run(loop, main)


def test_plain_functions_are_known_to_block() -> None:
    """They keep their signature."""

    @Hedge(1)
    def add(a: int, b: int = 2, *, c: int = 3) -> int:
        return a + b + c

    assert (6, ["a", "b", "c"]) == (add(1), list(inspect.signature(add).parameters))


@every_loop
def test_execute_keeps_a_timeline(loop: str) -> None:
    """That the call entered, and each copy; blocking and async."""

    async def main() -> Any:
        return await Hedge(1, name="ask").execute(Server(10, 1).ask_async)

    with FakeClock():
        for outcome in (Hedge(1, name="ask").execute(Server(10, 0).ask), run(loop, main)):
            entered, hedged = outcome.timeline
            assert (2, "ask", "Hedge") == (outcome.value, entered.name, entered.policy)
            assert ("ask", 2, 1.0) == (hedged.name, hedged.copy, hedged.after)


def test_every_copy_is_told() -> None:
    """To the policy's listeners, under its kind if it has no name."""
    told: list[events.Event] = []
    with FakeClock():
        Hedge(1, 2, listeners=(told.append,)).call(Server(9, 9, 0).ask)
    assert [events.Hedged("Hedge", 0.0, 2, 1.0), events.Hedged("Hedge", 0.0, 3, 1.0)] == told


def test_a_percentile_is_learnt() -> None:
    """Nothing is hedged before enough durations are known."""
    hedge = Hedge("p50", min_samples=2)
    with FakeClock():
        for seconds in (1.0, 3.0):
            assert 1 == hedge.call(Server(seconds).ask)
        assert HedgeMetrics(calls=2, hedges=0, refused=0, delay=1.0) == hedge.metrics()
        assert 2 == hedge.call(Server(30, 0).ask)
    hedge.reset()
    assert HedgeMetrics(calls=0, hedges=0, refused=0, delay=None) == hedge.metrics()


@every_loop
def test_deadlines_are_passed_inward(loop: str) -> None:
    """Copies read the one around the hedge."""

    def blocking() -> Any:
        return current_deadline()

    async def main() -> Any:
        async def look() -> Any:
            if not seen:
                seen.append(current_deadline())
                raise OSError
            return current_deadline()

        seen: list[Any] = []
        return await Pipeline(Timeout(60), Hedge(1)).call(look), seen[0]

    with FakeClock():
        assert 60.0 == Pipeline(Timeout(60), Hedge(1)).call(blocking)
        assert (60.0, 60.0) == run(loop, main)


@every_loop
def test_a_limit_inside_is_that_of_each_copy(loop: str) -> None:
    """What it cuts off is a failed copy, and the next goes out."""

    async def main() -> Any:
        return await Pipeline(Hedge(60), Timeout(5)).call(Server(9, 1).ask_async), clock.now()

    async def both() -> Any:
        with pytest.raises(AttemptTimeout):
            await Pipeline(Hedge(60), Timeout(5)).call(Server(9, 9).ask_async)

    with FakeClock() as clock:
        assert (2, 6.0) == run(loop, main)
        run(loop, both)


def test_a_retry_around_it_tries_all_copies_again() -> None:
    """Each of its attempts is hedged."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError

    with pytest.raises(OSError):
        Pipeline(Retry(on=OSError, attempts=2, backoff=backoff.constant(0)), Hedge(60, 2)).call(fail)
    assert 6 == len(calls)
    assert Hedge(1).tries_again


@every_loop
def test_cancellation_passes(loop: str) -> None:
    """A limit of time around the hedge ends all its copies."""

    async def main() -> Any:
        server = Server(60, 60, 60)
        with pytest.raises(TimeoutError):
            await Pipeline(Timeout(8), Hedge(1, 2)).call(server.ask_async)
        return server.requests, clock.now(), len(asyncio.all_tasks()) if loop != "trio" else 1

    with FakeClock() as clock:
        assert (3, 8.0, 1) == run(loop, main)


def test_it_is_a_value() -> None:
    """Compared, hashed, shown, pickled, changed; the state is each one's own."""
    one = Hedge("p95.0", 2, name="x")
    assert one == Hedge("p95", 2, name="x") == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(Hedge("p95", 2, name="x"))
    assert "Hedge(after='p95', extra=2, name='x')" == repr(one)
    changed = one.with_(after=timedelta(minutes=1), load=0)
    assert (60.0, 2, 0) == (changed.after, changed.extra, changed.load)
    assert changed.hedges is not one.hedges


def test_one_name_is_one_policy() -> None:
    """Found by name, seen in the snapshot, its state in the home it is given."""
    home = ProcessHome()
    named = Hedge.named("search", home=home, after=1)
    with FakeClock():
        named.call(Server(0).ask)
    assert named is Hedge.named("search", home=home)
    assert Hedge(1, name="search", home=home).hedges is named.hedges
    assert [1] == [
        live.metrics.calls
        for live in snapshot()
        if live.name == "search" and live.kind == "Hedge" and isinstance(live.metrics, HedgeMetrics)
    ][:1]


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Hedge(-1), ValueError, "after must be >= 0 s, got -1"),
        (lambda: Hedge("95"), ValueError, "after must be a duration or a percentile"),
        (lambda: Hedge(1, 0), ValueError, "extra must be >= 1, got 0"),
        (lambda: Hedge(1, load=2), ValueError, "load must be from 0 to extra"),
        (lambda: Hedge(1, min_samples=0), ValueError, "min_samples must be >= 1, got 0"),
        (lambda: Hedge(1, name=3), TypeError, "name must be a str, got 3"),  # type: ignore[arg-type]
        (lambda: Hedge(1, listeners=3), TypeError, "listeners must be functions of an event"),  # type: ignore[arg-type]
        (lambda: iter(Hedge(1)), TypeError, "Hedge cannot guard a block"),
    ],
)
def test_bad_settings_say_which(make: Any, kind: type[Exception], message: str) -> None:
    """Each names the argument, the value and the limit."""
    with pytest.raises(kind, match=message):
        make()
