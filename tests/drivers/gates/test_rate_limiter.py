"""The gate of a rate limiter: in order, on time, and nobody waits in vain."""

import asyncio
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from crowds import Crowd, join, until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from loops import LOOPS, abandon, run
from threads import together

from resilient import RateLimiter
from resilient.core.rate import RateMetrics
from resilient.drivers.clock import CLOCK, SYSTEM
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.rate_limiter import AsyncRateLimiterGate, Place, RateLimiterGate, SharedRate
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.errors import RateLimited
from resilient.testing import FakeClock


def make(
    rate: float, max_wait: float = 60.0, burst: int = 1, per: float = 1.0
) -> tuple[RateLimiterGate, AsyncRateLimiterGate]:
    schedule = SharedRate(rate, per, burst)
    gate = RateLimiterGate(schedule, max_wait, "api", ())
    return gate, AsyncRateLimiterGate(gate, schedule)


def numbers(gate: RateLimiterGate) -> RateMetrics:
    return gate._rate.metrics(CLOCK.get().now())


async def crowd(loop: str, count: int, task: Callable[[int], Any]) -> None:
    """Runs ``task(n)`` for each n at once, begun in this order."""
    if loop != "trio":
        await asyncio.gather(*(task(n) for n in range(count)))
        return
    import trio

    async def begin(n: int, task_status: Any) -> None:
        task_status.started()
        await task(n)

    async with trio.open_nursery() as nursery:
        for n in range(count):
            await nursery.start(begin, n)


def line_up_elsewhere(gate: RateLimiterGate) -> Place:
    """A place in the queue that another thread took."""
    places: list[Place] = []
    thread = threading.Thread(target=lambda: places.append(gate.line_up(SYSTEM, ThreadWaiter())))
    thread.start()
    thread.join()
    return places[0]


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_calls_follow_each_other_by_the_interval(loop: str) -> None:
    """After the burst, each waits for its own slot and no more."""
    gate, async_gate = make(10, burst=2)
    started: list[float] = []

    async def main() -> None:
        for _ in range(4):
            await join(async_gate)
            started.append(round(clock.now(), 6))

    with FakeClock() as clock:
        if loop == "threads":
            for _ in range(4):
                gate.enter()
                started.append(round(clock.now(), 6))
        else:
            run(loop, main)
    assert [0.0, 0.0, 0.1, 0.2] == started
    assert [0.1, 0.1] == [round(wait, 6) for wait in clock.sleeps]


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_are_served_in_the_order_of_arrival(loop: str) -> None:
    """Only the head sleeps, each for one interval."""
    _, async_gate = make(10)
    started: list[tuple[int, float]] = []

    async def task(n: int) -> None:
        await join(async_gate)
        started.append((n, round(clock.now(), 6)))

    async def main() -> None:
        await crowd(loop, 4, task)

    with FakeClock() as clock:
        run(loop, main)
    assert [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)] == started
    assert [0.1, 0.1, 0.1] == [round(wait, 6) for wait in clock.sleeps]


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_who_would_wait_too_long_is_rejected_at_once(loop: str) -> None:
    """And told when its slot would come."""
    gate, async_gate = make(1, 0.5)

    async def main() -> None:
        await join(async_gate)

    with FakeClock() as clock:
        gate.enter()
        with pytest.raises(RateLimited) as caught:
            gate.enter() if loop == "threads" else run(loop, main)
        assert ("api", 1.0) == (caught.value.name, caught.value.retry_after)
        assert "no slot comes within max_wait=0.5 s" == caught.value.why
        assert (0.0, []) == (clock.now(), clock.sleeps)
        assert (1, 1, 0) == (numbers(gate).granted, numbers(gate).rejected, numbers(gate).queued)


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_without_max_wait_nobody_waits(loop: str) -> None:
    """A slot that is not due is a rejection."""
    gate, async_gate = make(1, 0.0)

    async def main() -> None:
        await join(async_gate)

    with FakeClock():
        gate.enter()
        with pytest.raises(RateLimited) as caught:
            gate.enter() if loop == "threads" else run(loop, main)
        assert (1.0, "") == (caught.value.retry_after, caught.value.why)
        assert 1 == numbers(gate).rejected


def test_a_wait_of_exactly_max_wait_is_allowed() -> None:
    """Whatever its sum of intervals rounds to."""
    _, async_gate = make(10, 0.3)

    async def main() -> int:
        async def task(_: int) -> int:
            return await join(async_gate)

        return len(await asyncio.gather(*(task(n) for n in range(4))))

    with FakeClock():
        assert 4 == asyncio.run(main())


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
@pytest.mark.parametrize("left", [0.5, 1.0])
def test_nobody_waits_beyond_the_deadline(loop: str, left: float) -> None:
    """Nor up to it, as no time for the call would be left."""
    gate, async_gate = make(1)

    async def main() -> None:
        await join(async_gate)

    with FakeClock() as clock:
        gate.enter()
        DEADLINE.set(left)
        with pytest.raises(RateLimited, match="no slot comes before the deadline"):
            gate.enter() if loop == "threads" else run(loop, main)
        assert 0.0 == clock.now()


@pytest.mark.parametrize(("left", "max_wait"), [(1.5, 60.0), (1.5, 1.0), (9.0, 1.0)])
def test_a_slot_before_the_deadline_is_waited_for(left: float, max_wait: float) -> None:
    """The deadline is later."""
    gate, _ = make(1, max_wait)
    with FakeClock() as clock:
        gate.enter()
        DEADLINE.set(left)
        assert 2 == gate.enter()
        assert 1.0 == clock.now()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_waiter_costs_no_slot(loop: str) -> None:
    """Head or not: those behind move up."""
    gate, async_gate = make(1)
    started: list[tuple[int, float]] = []

    async def task(n: int) -> None:
        await join(async_gate)
        started.append((n, clock.now()))

    async def on_asyncio() -> None:
        tasks = [asyncio.ensure_future(task(n)) for n in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def on_trio() -> None:
        import trio

        async def cancellable(n: int, scope: trio.CancelScope) -> None:
            with scope:
                await task(n)

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(5)]
            for n in range(5):
                nursery.start_soon(cancellable, n, scopes[n])
                for _ in range(3):
                    await trio.sleep(0)
            scopes[1].cancel()
            scopes[3].cancel()

    if loop == "trio":
        pytest.importorskip("trio")
    with FakeClock() as clock:
        run(loop, on_trio if loop == "trio" else on_asyncio)
        assert [(0, 0.0), (2, 1.0), (4, 2.0)] == started
        assert (3, 0) == (numbers(gate).granted, numbers(gate).queued)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_that_never_happened_gives_its_slot_back(loop: str) -> None:
    """The head of the queue wakes, as its own slot is earlier now."""
    gate, async_gate = make(1)

    async def main() -> float:
        ticket = gate.enter()
        clock.call_later(0.25, lambda: gate.release(ticket))
        await join(async_gate)
        return clock.now()

    with FakeClock() as clock:
        assert 0.25 == run(loop, main)
        assert 1 == numbers(gate).granted


def test_what_became_of_a_call_is_nothing_to_it() -> None:
    """A call that was made has used its slot."""
    gate, _ = make(1)
    with FakeClock():
        ticket = gate.enter()
        gate.on_success(ticket, 7)
        gate.on_failure(ticket, KeyError())
        assert 1 == numbers(gate).granted


def test_an_event_loop_is_never_blocked() -> None:
    """What may turn out to be async is told so, where it would have to wait; elsewhere it waits."""
    gate, _ = make(1)

    async def main() -> None:
        assert gate.enter_soon()
        with pytest.raises(RateLimited, match="would block the event loop") as caught:
            gate.enter_soon()
        assert 0.0 < (caught.value.retry_after or 0.0) <= 1.0

    asyncio.run(main())
    with FakeClock(start=1e9) as clock:
        assert [2, 3] == [gate.enter_soon(), gate.enter_soon()]
        assert 1e9 + 1 == clock.now()


@pytest.mark.parametrize("virtually", [False, True])
def test_a_thread_does_not_wait_for_its_own_tasks(virtually: bool) -> None:
    """Blocked behind a task of its own event loop, it would block that task as well."""
    gate, async_gate = make(0.001, 1e9)

    async def main() -> None:
        gate.enter()
        tasks = [asyncio.ensure_future(join(async_gate)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            with pytest.raises(RateLimited, match="runs in this very thread"):
                gate.enter()
            task.cancel()
            await asyncio.sleep(0)

    if virtually:
        with FakeClock():
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert (2, 0) == (numbers(gate).rejected, numbers(gate).queued)


def test_an_exit_during_a_blocking_wait_gives_the_place_up() -> None:
    """Ctrl-C while a thread waits costs no slot."""
    gate, _ = make(1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with FakeClock() as clock:
        gate.enter()
        clock.call_later(0.5, interrupt)
        with pytest.raises(KeyboardInterrupt):
            gate.enter()
        assert (1, 0) == (numbers(gate).granted, numbers(gate).queued)
        gate.enter()
        assert 1.0 == clock.now()


def test_a_queue_that_stalls_is_left_in_the_end() -> None:
    """A head in a loop that blocks, or clocks that disagree, hold nobody for ever."""
    gate, _ = make(1000, 0.01)
    head = line_up_elsewhere(gate)  # and never asks for its slot
    with pytest.raises(RateLimited, match="more slowly than it should"):
        gate.enter()
    assert (1, 1) == (numbers(gate).queued, numbers(gate).rejected)
    gate._rate.leave(head)
    gate._rate.leave(head)
    assert gate.enter()


def test_who_was_let_in_is_not_turned_away_because_others_wake_late() -> None:
    """With a burst of one, a late start puts off all that follow: up to an interval of that is forgiven."""
    gate, _ = make(1, 2.0)
    with FakeClock() as clock:
        gate.enter()
        first, second = (gate.line_up(clock, ThreadWaiter()) for _ in range(2))
        clock.advance(1.25)
        assert (2, 0.0) == gate.turn(first, clock)
        assert (0, 1.0) == gate.turn(second, clock)


def test_a_clock_that_went_back_is_not_waited_for() -> None:
    """The wait would be longer than the caller was told."""
    gate, _ = make(1, 1.0)
    gate.enter()
    place = gate.line_up(SYSTEM, ThreadWaiter())
    place.until = SYSTEM.now() + 0.1
    with pytest.raises(RateLimited, match="more slowly than it should"):
        gate.turn(place, SYSTEM)


def test_eight_threads_of_ten_thousand_calls() -> None:
    """Exactly the burst and what the time allows go through, the others are rejected; nothing is lost."""
    gate, _ = make(1e-6, 0.0, burst=1000)
    granted, rejected = itertools.count(), itertools.count()

    def work(_: int) -> None:
        for _ in range(10_000):
            try:
                gate.enter()
                next(granted)
            except RateLimited:
                next(rejected)

    assert [] == together(8, work)
    assert (1000, 79_000) == (next(granted), next(rejected))
    assert (1000, 79_000, 0) == (numbers(gate).granted, numbers(gate).rejected, numbers(gate).queued)


def test_eighty_thousand_calls_that_wait_are_all_served() -> None:
    """Threads that queue up for a fast rate: every call gets its slot, and none is given twice."""
    gate, _ = make(1e6, burst=100)
    tickets: list[list[int]] = [[] for _ in range(8)]

    def work(n: int) -> None:
        for _ in range(10_000):
            tickets[n].append(gate.enter())

    began = time.monotonic()
    assert [] == together(8, work)
    took = time.monotonic() - began
    assert list(range(1, 80_001)) == sorted(itertools.chain(*tickets))
    assert 80_000 <= 100 + took * 1e6 + 1
    assert (80_000, 0, 0) == (numbers(gate).granted, numbers(gate).rejected, numbers(gate).queued)


def test_first_come_first_served_across_threads_and_loops() -> None:
    """One queue for a thread, an asyncio task, a trio task, and another thread."""
    trio = pytest.importorskip("trio")
    gate, async_gate = make(1, 1e9, per=1000)
    order: list[int] = []

    async def task(n: int) -> None:
        await join(async_gate)
        order.append(n)

    def thread(n: int) -> None:
        gate.enter()
        order.append(n)

    ways: list[Callable[[int], object]] = [thread, lambda n: asyncio.run(task(n)), lambda n: trio.run(task, n), thread]
    ticket = gate.enter()
    threads = [threading.Thread(target=way, args=(n,)) for n, way in enumerate(ways)]
    for count, each in enumerate(threads, 1):
        each.start()
        until(lambda count=count: numbers(gate).queued == count)  # type: ignore[misc]
    gate.release(ticket)
    for count, each in enumerate(threads, 1):
        until(lambda count=count: len(order) == count)  # type: ignore[misc]
        each.join()
        gate._rate.reset()  # the next slot is due at once
    assert [0, 1, 2, 3] == order


def test_threads_behind_the_head_let_no_virtual_time_pass() -> None:
    """Under one fake clock, threads in the queue are served in order, each by its own slot."""
    gate, _ = make(1)
    started: list[float] = []
    with FakeClock() as clock:
        head = gate.line_up(clock, ThreadWaiter())

        def work() -> None:
            CLOCK.set(clock)
            gate.enter()
            started.append(clock.now())

        threads = [threading.Thread(target=work) for _ in range(3)]
        for each in threads:
            each.start()
        until(lambda: numbers(gate).queued == 4)
        assert 0.0 == clock.now()
        assert (1, 0.0) == gate.turn(head, clock)
        for each in threads:
            each.join()
    assert [1.0, 2.0, 3.0] == sorted(started)


def test_a_reset_wakes_the_head() -> None:
    """Its slot is due at once."""
    gate, _ = make(1)
    with FakeClock() as clock:
        gate.enter()
        clock.call_later(0.25, gate._rate.reset)
        gate.enter()
        assert 0.25 == clock.now()
        gate._rate.reset()
        assert 0 == numbers(gate).granted


def test_rejections_leave_no_cycles() -> None:
    """Neither blocking nor async: the error goes with its last name."""
    gate, async_gate = make(1, 0.5)

    def caught(enter: Callable[[], object]) -> weakref.ref[BaseException]:
        try:
            enter()
        except RateLimited as error:
            return weakref.ref(error)
        raise AssertionError("not rejected")

    async def main() -> weakref.ref[BaseException]:
        try:
            await join(async_gate)
        except RateLimited as error:
            return weakref.ref(error)
        raise AssertionError("not rejected")

    gc.collect()
    gc.disable()
    try:
        with FakeClock():
            gate.enter()
            assert caught(gate.enter)() is None
            with asyncio.Runner() as runner:
                assert runner.run(main())() is None
    finally:
        gc.enable()


class Callers(Crowd):
    """They come and are cancelled at any moment, and some give their slots back; the rest keep to the rate."""

    rejection = RateLimited

    @initialize(burst=st.integers(1, 3), max_wait=st.sampled_from([0.0, 1.0, 3.0, 60.0]))
    def opens(self, burst: int, max_wait: float) -> None:
        self.gate, self.async_gate = make(1, max_wait, burst)
        self.burst, self.max_wait = burst, max_wait
        self.started: list[tuple[int, float]] = []
        self.forgotten = 0

    async def work(self, n: int, made: bool) -> None:
        arrived = self.clock.now()
        ticket = await join(self.async_gate)
        assert self.clock.now() - arrived <= self.max_wait + 1e-6
        if made:
            self.started.append((n, self.clock.now()))
        else:
            before = numbers(self.gate).granted
            self.async_gate.release(ticket)
            kept = numbers(self.gate).granted == before
            if kept:  # later slots were granted on top: it counts as used
                self.forgotten += 1

    @rule(made=st.booleans())
    def comes(self, made: bool) -> None:
        self.begin(lambda n: self.work(n, made))

    @invariant()
    def every_grant_is_a_call(self) -> None:
        assert len(self.started) + self.forgotten == numbers(self.gate).granted

    @invariant()
    def the_rate_is_kept_in_order(self) -> None:
        instants = [at for _, at in self.started]
        for first, begin in enumerate(instants):
            for last, end in enumerate(instants[first:], 1):
                assert last <= self.burst + (end - begin) + 0.01
        assert sorted(self.started) == self.started

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "gate"):
            assert 0 == numbers(self.gate).queued
            assert not self.gate._rate._threads


Callers.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCallers = Callers.TestCase


def test_threads_never_get_more_than_the_schedule_allows() -> None:
    """However late a thread's look at the clock reaches the schedule."""
    limiter = RateLimiter(10_000, burst=100)
    call = limiter(lambda: 0)
    began = time.monotonic()

    granted: list[int] = []

    def hammer(_: int) -> None:
        for _ in range(3000):
            with suppress(RateLimited):
                granted.append(call())

    assert [] == together(8, hammer)
    assert 100 <= len(granted) <= 101 + 10_000 * (time.monotonic() - began)


def test_a_loop_that_is_gone_makes_way() -> None:
    """Its tasks were at the head of the queue, and will never take their slots."""
    limiter = RateLimiter(1, max_wait=60)
    limiter.call(int)
    loop = asyncio.new_event_loop()
    waiting = [loop.create_task(limiter.call(asyncio.sleep, 0)) for _ in range(2)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert 2 == limiter.metrics().queued
    limiter.reset()  # wakes the head
    assert 0 == limiter.metrics().queued
    abandon(waiting)


class Interrupting(float):
    """An instant that raises where it is looked at, as a signal would."""

    def __rsub__(self, other: object) -> float:
        raise KeyboardInterrupt


def test_an_interrupt_in_a_step_leaves_the_lock_free() -> None:
    """Whoever comes next gets its slot."""

    class Clock(FakeClock):
        def now(self) -> float:
            return Interrupting(0)

    schedule = SharedRate(1, 1, 1)
    enter = schedule.entry(lambda: 0)
    with Clock(), pytest.raises(KeyboardInterrupt):
        enter()
    granted: list[int] = []
    together(1, lambda _: granted.append(enter()))
    assert [1] == granted
