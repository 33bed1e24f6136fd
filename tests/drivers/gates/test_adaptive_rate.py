"""The gate of a rate: each caller waits for its turn, and no turn is lost."""

import asyncio
from contextlib import suppress

import pytest
from adaptive_gates import EXITS, JUDGES, guard, paced, slow
from loops import LOOPS, run

from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.adaptive_rate import AdaptiveRateGate, SharedClientRate
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import RateLimited
from resilient.testing import FakeClock


def test_nothing_is_paced_before_the_first_throttle() -> None:
    """However much is sent."""
    with FakeClock() as clock:
        gate = paced()
        for _ in range(100):
            gate.on_success(gate.enter(), 1)
        assert ([], False) == (clock.sleeps, gate.metrics().enabled)


def test_callers_wait_for_their_turn() -> None:
    """In the thread, by the clock."""
    with FakeClock() as clock:
        gate = slow()
        gate.enter()
        gate.enter()
        clock.advance(10)
        gate.enter()
        assert [2.0, 2.0] == clock.sleeps


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_wait_for_their_turn(loop: str) -> None:
    """Without blocking their loop."""

    async def call() -> float:
        return clock.now()

    async def main() -> list[float]:
        guarded = guard(gate, call, Kind.ASYNC)
        return [await guarded() for _ in range(2)]

    with FakeClock() as clock:
        gate = paced()
        assert [0.0, 0.0] == run(loop, main)
        gate = slow()
        clock.advance(100)
        gate.enter()
        assert [102.0, 104.0] == run(loop, main)


def test_who_would_wait_too_long_is_rejected() -> None:
    """By ``max_wait`` or by the deadline around it; the token stays for others."""
    with FakeClock() as clock:
        gate = slow(3)
        gate.enter()
        token = DEADLINE.set(clock.now() + 1)
        with pytest.raises(RateLimited, match=r"its turn comes in 2 s, and it may wait 1 s") as caught:
            gate.enter()
        DEADLINE.reset(token)
        token = DEADLINE.set(clock.now() - 1)
        with pytest.raises(RateLimited, match=r"may wait 0 s"):
            gate.enter()
        DEADLINE.reset(token)
        assert (2.0, 0.0) == (caught.value.retry_after, gate.metrics().available)
        gate.machine.acquire(clock.now())
        with pytest.raises(RateLimited, match=r"its turn comes in 4 s, and it may wait 3 s"):
            gate.enter()


def test_a_deadline_limits_who_has_no_limit() -> None:
    """A later one does not."""
    with FakeClock() as clock:
        gate = slow()
        token = DEADLINE.set(clock.now() + 3)
        gate.enter()
        with pytest.raises(RateLimited):
            gate.machine.acquire(clock.now())
            gate.enter()
        DEADLINE.reset(token)
        gate = slow(1)
        token = DEADLINE.set(clock.now() + 60)
        with pytest.raises(RateLimited, match=r"may wait 1 s"):
            gate.enter()
        DEADLINE.reset(token)


def test_an_exit_while_waiting_gives_the_token_back() -> None:
    """Ctrl-C during the sleep."""

    class Interrupting(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    with Interrupting():
        gate = slow()
        before = gate.metrics().available
        with pytest.raises(KeyboardInterrupt):
            gate.enter()
    assert before == gate.metrics().available


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_while_waiting_gives_the_token_back(loop: str) -> None:
    """Also of a task."""

    async def on_asyncio() -> None:
        task = asyncio.ensure_future(gate.join())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def on_trio() -> None:
        import trio

        with trio.CancelScope() as scope:
            scope.cancel()
            await gate.join()

    with FakeClock():
        gate = slow()
        before = gate.metrics().available
        run(loop, on_trio if loop == "trio" else on_asyncio)
        assert before == gate.metrics().available


def test_a_call_that_may_be_async_never_blocks_its_loop() -> None:
    """It is rejected where it would have to wait, and waits anywhere else."""

    async def main() -> None:
        gate = paced()
        assert gate.enter_soon() is False
        gate.on_failure(gate.enter_soon(), TimeoutError())
        with pytest.raises(RateLimited, match=r"may wait 0 s"):
            gate.enter_soon()
        gate.machine.returned(99)
        assert gate.enter_soon() is True

    asyncio.run(main())
    with FakeClock() as clock:
        gate = slow()
        assert gate.enter_soon() is True
        assert [2.0] == clock.sleeps


def test_a_turn_that_has_come_costs_no_wait() -> None:
    """Blocking or not."""
    with FakeClock() as clock:
        gate = slow()
        clock.advance(100)
        gate.enter()
        clock.advance(100)
        assert gate.ready() is None
        assert asyncio.run(gate.join())
        assert [] == clock.sleeps


@pytest.mark.parametrize("error", [*EXITS, KeyError])
def test_what_says_nothing_is_no_response(error: type[BaseException]) -> None:
    """Nothing is measured, and the token is not given back: the request was sent."""
    with FakeClock() as clock:
        gate = slow()
        clock.advance(100)
        ticket = gate.enter()
        before = gate.metrics()
        gate.on_failure(ticket, error())
        assert before == gate.metrics()
        gate.release(True)
        gate.release(False)
        assert before.available + 1 == gate.metrics().available


def test_responses_move_the_rate() -> None:
    """A throttle cuts it, an answer lets it grow, a restart lifts it."""
    with FakeClock() as clock:
        gate = slow()
        for _ in range(50):
            clock.advance(0.1)
            gate.on_success(True, 1)
        grown = gate.metrics().fill_rate
        gate.on_failure(True, TimeoutError())
        assert gate.metrics().fill_rate < grown
        gate.on_failure(True, ValueError())
        gate.restart()
        assert (False, 0.0, 0.0) == (
            gate.metrics().enabled,
            gate.metrics().measured_rate,
            gate.metrics().fill_rate,
        )
        assert (0.7, 0.4) == (gate.machine.cubic.beta, gate.machine.cubic.scale)


def test_a_returned_value_may_be_a_throttle() -> None:
    """The rate falls; one on which the judge breaks teaches nothing."""
    with FakeClock():
        gate = AdaptiveRateGate(SharedClientRate(0.7, 0.4), JUDGES, None, "db", ())
        guarded = guard(gate, lambda value: value)
        assert (5, False) == (guarded(5), gate.metrics().enabled)
        before = gate.metrics()
        with pytest.raises(RuntimeError, match="the judge is broken"):
            guarded("text")
        assert before == gate.metrics()
        assert (-1, True) == (guarded(-1), gate.metrics().enabled)
