"""The throttle's gate: every call is counted once, and only what says so was not accepted."""

import asyncio
from contextlib import suppress

import pytest
from adaptive_gates import EXITS, JUDGES, guard, throttle
from loops import LOOPS, run
from threads import together

from resilient.core.events import CallRejected, Event
from resilient.drivers.gates.adaptive_throttle import AdaptiveThrottleGate, SharedThrottle
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import Throttled
from resilient.testing import FakeClock


def test_rejects_what_would_be_rejected_there() -> None:
    """The more, the fewer are accepted; said in words, and told."""
    heard: list[Event] = []
    with FakeClock(rng=type("Low", (), {"random": lambda self: 0.4})()):
        gate = throttle(2, 120, 1, heard.append)
        gate.on_failure(gate.enter(), TimeoutError())
        with pytest.raises(Throttled, match=r"rejecting 67% of calls, as the other side accepts so few"):
            gate.enter()
        assert (2, 0, 1) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)
    (event,) = heard
    assert isinstance(event, CallRejected)
    assert ("db", "AdaptiveThrottle") == (event.name, event.policy)


@pytest.mark.parametrize("error", [*EXITS, KeyError, ValueError, TypeError])
def test_only_what_says_so_was_not_accepted(error: type[BaseException]) -> None:
    """A cancelled call must not look like a rejection, nor one on which the judge breaks."""

    def fails() -> None:
        raise error

    gate = throttle()
    with pytest.raises(RuntimeError if error is TypeError else error):
        guard(gate, fails)()
    assert (1, 1) == (gate.metrics().calls, gate.metrics().accepts)


def test_a_returned_value_may_be_a_rejection() -> None:
    """It is not accepted; one on which the judge breaks is."""
    gate = AdaptiveThrottleGate(SharedThrottle(2, 120, 10), JUDGES, "db", ())
    guarded = guard(gate, lambda value: value)
    assert [-1, 5, None] == [guarded(value) for value in (-1, 5, None)]
    with pytest.raises(RuntimeError, match="the judge is broken"):
        guarded("text")
    assert (4, 3) == (gate.metrics().calls, gate.metrics().accepts)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("error", "accepts"), [(None, 1), (TimeoutError, 0), (KeyError, 1), (KeyboardInterrupt, 1)])
def test_a_coroutine_is_decided_on_once(loop: str, error: type[BaseException] | None, accepts: int) -> None:
    """When its call is made, not again when it is awaited."""
    gate = throttle()

    async def call() -> None:
        if error is not None:
            raise error

    async def main() -> None:
        with suppress(TimeoutError, KeyError, KeyboardInterrupt):
            await guard(gate, lambda: call(), Kind.EITHER)()

    run(loop, main)
    assert (1, accepts) == (gate.metrics().calls, gate.metrics().accepts)
    with pytest.raises(AssertionError):
        asyncio.run(gate.adopted.join())  # type: ignore[arg-type]  # it is a coroutine
    assert gate.adopted.ready()


def test_threads_lose_no_call_and_no_accept() -> None:
    """8 threads x 10,000, a tenth of them not accepted."""
    gate = throttle(min_calls=100)

    def work(n: int) -> None:
        for turn in range(10_000):
            ticket = gate.enter()
            if turn % 10:
                gate.on_success(ticket, 1)
            else:
                gate.on_failure(ticket, TimeoutError())

    assert [] == together(8, work)
    assert (80_000, 72_000, 0) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)


def test_a_throttle_begins_again() -> None:
    """With nothing counted, passes included."""
    gate = throttle()
    for _ in range(9):
        gate.on_success(gate.enter(), 1)
    gate.restart()
    assert (0, 0, 0) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)
    gate.on_success(gate.enter(), 1)
    assert (1, 1) == (gate.metrics().calls, gate.metrics().accepts)


def test_nobody_waits_at_a_throttle() -> None:
    """It admits or rejects."""
    with pytest.raises(AssertionError, match="nobody waits"):
        asyncio.run(throttle().join())  # type: ignore[arg-type]  # it is a coroutine
