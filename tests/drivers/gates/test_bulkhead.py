"""The gate of a bulkhead: nothing leaks, nobody jumps the queue, nobody is left asleep."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from crowds import Crowd, join, until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from loops import LOOPS, abandon, run
from threads import together

from resilient import Bulkhead
from resilient.core.permits import PermitsMetrics
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.bulkhead import AsyncBulkheadGate, BulkheadGate, SharedPermits
from resilient.errors import BulkheadFull
from resilient.testing import FakeClock


def make(limit: int, max_wait: float | None = None, queue: int | None = None) -> tuple[BulkheadGate, AsyncBulkheadGate]:
    permits = SharedPermits(limit, queue)
    gate = BulkheadGate(permits, max_wait, limit=limit, queue=queue, name="db")
    return gate, AsyncBulkheadGate(gate, permits)


def numbers(gate: BulkheadGate) -> PermitsMetrics:
    return gate._permits.metrics()


def test_a_permit_comes_back_however_the_call_ends() -> None:
    """Returned, raised, or never made."""
    gate, _ = make(1, 0.0)
    for end in (
        lambda ticket: gate.on_success(ticket, 7),
        lambda ticket: gate.on_failure(ticket, KeyError()),
        lambda ticket: gate.release(ticket),
    ):
        end(gate.enter())
    assert 1 == numbers(gate).available


@pytest.mark.parametrize(
    ("max_wait", "queue", "why"),
    [(0.0, None, "limit=1 is reached"), (5.0, 0, "limit=1 and queue=0 are reached")],
)
@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_who_may_not_wait_is_rejected_at_once(loop: str, max_wait: float, queue: int | None, why: str) -> None:
    """Without a wait, and counted."""
    gate, async_gate = make(1, max_wait, queue)

    async def main() -> None:
        await join(async_gate)

    gate.enter()
    with FakeClock() as clock, pytest.raises(BulkheadFull) as caught:
        gate.enter() if loop == "threads" else run(loop, main)
    assert ("db", None, why) == (caught.value.name, caught.value.retry_after, caught.value.why)
    assert (0.0, 1, 0) == (clock.now(), numbers(gate).rejected, numbers(gate).left)


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
@pytest.mark.parametrize(
    ("max_wait", "left", "waited"), [(5.0, None, 5.0), (5.0, 2.0, 2.0), (5.0, 9.0, 5.0), (None, 3.0, 3.0)]
)
def test_nobody_waits_longer_than_he_may(loop: str, max_wait: float | None, left: float | None, waited: float) -> None:
    """Neither than ``max_wait`` nor than the deadline leaves."""
    gate, async_gate = make(1, max_wait)

    async def main() -> None:
        await join(async_gate)

    gate.enter()
    with FakeClock() as clock:
        DEADLINE.set(left)
        with pytest.raises(BulkheadFull, match=f"limit=1 is reached, and no call ended within {waited:g} s"):
            gate.enter() if loop == "threads" else run(loop, main)
    assert waited == clock.now()
    assert (1, 0, 1) == (numbers(gate).inflight, numbers(gate).queued, numbers(gate).left)


@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_without_time_left_there_is_no_wait(loop: str) -> None:
    """The deadline has passed already."""
    gate, async_gate = make(1)

    async def main() -> None:
        await join(async_gate)

    gate.enter()
    with FakeClock(start=8):
        DEADLINE.set(8.0)
        with pytest.raises(BulkheadFull, match="limit=1 is reached, and no time is left to wait"):
            gate.enter() if loop == "threads" else run(loop, main)
    assert (0, 1) == (numbers(gate).queued, numbers(gate).rejected)


@pytest.mark.parametrize("max_wait", [5.0, None])
@pytest.mark.parametrize("loop", ["threads", *LOOPS])
def test_a_permit_that_comes_in_time_is_taken(loop: str, max_wait: float | None) -> None:
    """A virtual wait ends when a timer gives the permit back."""
    gate, async_gate = make(1, max_wait)

    async def main() -> object:
        asleep = asyncio.ensure_future(clock.asleep(3)) if loop != "trio" else None  # somebody lets time pass
        if loop == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.asleep, 3)
                return await join(async_gate)
        ticket = await join(async_gate)
        await asleep  # type: ignore[misc]
        return ticket

    ticket = gate.enter()
    with FakeClock() as clock:
        clock.call_later(3, lambda: gate.on_success(ticket, None))
        assert gate.enter() if loop == "threads" else run(loop, main)
    assert (3.0, 1, 0) == (clock.now(), numbers(gate).inflight, numbers(gate).left)


def test_a_permit_freed_in_between_needs_no_wait() -> None:
    """Between the first look and joining the queue, in either form."""
    gate, async_gate = make(1)
    gate.enter()
    assert async_gate.ready() is None
    gate.on_success(True, None)
    assert asyncio.run(async_gate.join())  # type: ignore[arg-type]
    gate.on_success(True, None)
    assert gate._wait()
    assert (1, 0) == (numbers(gate).inflight, numbers(gate).queued)


def test_an_event_loop_is_never_blocked() -> None:
    """What may turn out to be async is told so, where it would have to wait; elsewhere it waits."""
    gate, async_gate = make(1, 5.0)

    async def main() -> None:
        assert gate.enter_soon()
        with pytest.raises(BulkheadFull, match="would block the event loop"):
            gate.enter_soon()
        gate.on_success(True, None)

    asyncio.run(main())
    assert (0, 1) == (numbers(gate).inflight, numbers(gate).rejected)
    gate.enter()
    with FakeClock(), pytest.raises(BulkheadFull, match="no call ended"):
        gate.enter_soon()


def test_eight_threads_of_ten_thousand_calls() -> None:
    """Never above the limit, and no call is lost."""
    gate, _ = make(3)
    running, most, calls = 0, 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most, calls
        for _ in range(10_000):
            ticket = gate.enter()
            with lock:
                running += 1
                most = max(most, running)
            with lock:
                running -= 1
                calls += 1
            gate.on_success(ticket, None)

    assert [] == together(8, work)
    assert 80_000 == calls
    assert most <= 3
    assert PermitsMetrics(limit=3, inflight=0, available=3, queued=0, rejected=0, left=0) == numbers(gate)


def test_first_come_first_served_across_threads_and_loops() -> None:
    """One queue for a thread, an asyncio task, a trio task, and another thread."""
    trio = pytest.importorskip("trio")
    gate, async_gate = make(1, 60.0)
    order: list[int] = []

    def thread(n: int) -> None:
        ticket = gate.enter()
        order.append(n)
        gate.on_success(ticket, None)

    async def task(n: int) -> None:
        ticket = await join(async_gate)
        order.append(n)
        async_gate.on_success(ticket, None)

    ways: list[Callable[[int], object]] = [thread, lambda n: asyncio.run(task(n)), lambda n: trio.run(task, n), thread]
    ticket = gate.enter()
    threads = [threading.Thread(target=way, args=(n,)) for n, way in enumerate(ways)]
    for count, each in enumerate(threads, 1):
        each.start()
        until(lambda count=count: numbers(gate).queued == count)  # type: ignore[misc]
    gate.on_success(ticket, None)
    for each in threads:
        each.join()
    assert [0, 1, 2, 3] == order
    assert 1 == numbers(gate).available


def test_loops_in_several_threads_share_one_bulkhead() -> None:
    """Two asyncio loops, two trio loops and two threads: never above the limit, nobody left asleep."""
    trio = pytest.importorskip("trio")
    gate, async_gate = make(2)
    running, most, calls = 0, 0, 0
    lock = threading.Lock()

    def count(step: int) -> None:
        nonlocal running, most, calls
        with lock:
            running += step
            most = max(most, running)
            calls += step > 0

    async def task(sleep: Callable[[float], Any]) -> None:
        for _ in range(20):
            ticket = await join(async_gate)
            count(1)
            await sleep(0)
            count(-1)
            async_gate.on_success(ticket, None)

    async def on_asyncio() -> None:
        await asyncio.gather(*(task(asyncio.sleep) for _ in range(10)))

    async def on_trio() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(task, trio.sleep)

    def work(n: int) -> None:
        if n < 2:
            asyncio.run(on_asyncio())
        elif n < 4:
            trio.run(on_trio)
        else:
            for _ in range(200):
                ticket = gate.enter()
                count(1)
                count(-1)
                gate.on_success(ticket, None)

    assert [] == together(6, work)
    assert 1200 == calls
    assert most <= 2
    assert (0, 0) == (numbers(gate).inflight, numbers(gate).queued)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("given_before", [False, True])
def test_cancelled_while_waiting_nothing_leaks(loop: str, given_before: bool) -> None:
    """Also if the permit came in the same moment as the cancellation: it goes on to the next."""
    gate, async_gate = make(1)

    async def on_asyncio() -> None:
        ticket = await join(async_gate)
        first, second = (asyncio.ensure_future(join(async_gate)) for _ in range(2))
        await asyncio.sleep(0)
        assert 2 == numbers(gate).queued
        if given_before:
            gate.on_success(ticket, None)
            first.cancel()
        else:
            first.cancel()
            await asyncio.sleep(0)
            gate.on_success(ticket, None)
        assert await second
        assert first.cancelled()

    async def on_trio() -> None:
        import trio

        ticket = await join(async_gate)
        got: list[object] = []

        async def first(scope: trio.CancelScope) -> None:
            with scope:
                gate.on_success(await join(async_gate), None)

        async def second() -> None:
            got.append(await join(async_gate))

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(first, scope)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            assert 2 == numbers(gate).queued
            if given_before:
                gate.on_success(ticket, None)
                scope.cancel()
            else:
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                gate.on_success(ticket, None)
        assert [True] == got

    if loop == "trio":
        pytest.importorskip("trio.testing")
    run(loop, on_trio if loop == "trio" else on_asyncio)
    assert (1, 0) == (numbers(gate).inflight, numbers(gate).queued)


def test_an_exit_during_a_blocking_wait_leaks_nothing() -> None:
    """Ctrl-C while a thread waits, also in the moment in which it was given the permit."""
    gate, _ = make(1, 9.0)

    def interrupt() -> None:
        gate.on_success(True, None)
        raise KeyboardInterrupt

    gate.enter()
    with FakeClock() as clock:
        clock.call_later(1, interrupt)
        with pytest.raises(KeyboardInterrupt):
            gate.enter()
    assert (0, 0) == (numbers(gate).inflight, numbers(gate).queued)


def test_a_trio_crowd_with_random_cancellations_leaks_nothing() -> None:
    """Sixty tasks, most of which give up while they wait or run."""
    trio = pytest.importorskip("trio")
    gate, async_gate = make(2)
    running = most = 0

    async def task(n: int) -> None:
        nonlocal running, most
        for turn in range(10):
            with trio.move_on_after((n * 7 + turn * 3) % 5 / 5000):
                ticket = await join(async_gate)
                running += 1
                most = max(most, running)
                try:
                    await trio.sleep(0.0003)
                finally:
                    running -= 1
                    async_gate.on_success(ticket, None)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(60):
                nursery.start_soon(task, n)

    trio.run(main)
    assert most <= 2
    assert (0, 2, 0) == (numbers(gate).inflight, numbers(gate).available, numbers(gate).queued)


def test_rejections_leave_no_cycles() -> None:
    """Neither blocking nor async: the error goes with its last name."""
    gate, async_gate = make(1, 1.0)
    gate.enter()

    def caught(enter: Callable[[], object]) -> weakref.ref[BaseException]:
        try:
            enter()
        except BulkheadFull as error:
            return weakref.ref(error)
        raise AssertionError("not rejected")

    async def main() -> weakref.ref[BaseException]:
        try:
            await join(async_gate)
        except BulkheadFull as error:
            return weakref.ref(error)
        raise AssertionError("not rejected")

    gc.collect()
    gc.disable()
    try:
        with FakeClock():
            assert caught(gate.enter)() is None
        with FakeClock():
            with asyncio.Runner() as runner:
                assert runner.run(main())() is None
    finally:
        gc.enable()


def test_a_reset_counts_from_zero() -> None:
    """Calls that run keep their permits."""
    gate, _ = make(1, 0.0)
    gate.enter()
    with contextlib.suppress(BulkheadFull):
        gate.enter()
    gate._permits.reset()
    assert (1, 0) == (numbers(gate).inflight, numbers(gate).rejected)


class Callers(Crowd):
    """They come, finish and are cancelled at any moment; permits out and in are the limit at all times."""

    rejection = BulkheadFull

    @initialize(
        limit=st.integers(1, 3), queue=st.none() | st.integers(0, 3), max_wait=st.sampled_from([None, 1.0, 3.0])
    )
    def opens(self, limit: int, queue: int | None, max_wait: float | None) -> None:
        self.gate, self.async_gate = make(limit, max_wait, queue)
        self.limit = limit
        self.running: dict[int, asyncio.Event] = {}

    async def work(self, n: int) -> None:
        ticket = await join(self.async_gate)
        self.running[n] = asyncio.Event()
        try:
            await self.running[n].wait()
        finally:
            del self.running[n]
            self.async_gate.on_success(ticket, None)

    @rule()
    def comes(self) -> None:
        self.begin(self.work)

    @precondition(lambda self: self.running)
    @rule(place=st.integers(0, 9))
    def finishes(self, place: int) -> None:
        list(self.running.values())[place % len(self.running)].set()

    @invariant()
    def permits_out_and_in_are_the_limit(self) -> None:
        seen = numbers(self.gate)
        assert self.limit == seen.inflight + seen.available
        assert len(self.running) <= seen.inflight <= self.limit
        assert not (seen.queued and seen.available)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "gate"):
            seen = numbers(self.gate)
            assert (0, self.limit, 0) == (seen.inflight, seen.available, seen.queued)


Callers.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCallers = Callers.TestCase


def test_a_permit_is_not_left_with_a_loop_that_is_gone() -> None:
    """Its tasks wait for it, and will never use it."""
    bulkhead = Bulkhead(1, max_wait=None)
    loop = asyncio.new_event_loop()
    with bulkhead:
        waiting = [loop.create_task(bulkhead.call(asyncio.sleep, 0)) for _ in range(2)]
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert 2 == bulkhead.metrics().queued
    assert (0, 0) == (bulkhead.metrics().queued, bulkhead.metrics().inflight)
    abandon(waiting)


class Interrupting(int):
    """A limit that raises where it is looked at, as a signal would."""

    def __gt__(self, other: object) -> bool:
        raise KeyboardInterrupt

    __ge__ = __lt__ = __le__ = __gt__


def test_an_interrupt_in_a_step_leaves_the_lock_free() -> None:
    """Whether a permit is taken or given back."""
    permits = SharedPermits(Interrupting(3), None)
    enter = permits.entry(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        enter()
    with pytest.raises(RuntimeError, match="nobody holds"):
        permits.on_success(True, None)
    assert [RuntimeError] == [type(error) for error in together(1, lambda _: permits.on_success(True, None))]
