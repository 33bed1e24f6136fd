"""Hedging of async calls, on every event loop."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import LOOPS, run

from resilient import Retry, backoff, current_attempt
from resilient.core import events
from resilient.core.hedging import hedge_plan
from resilient.drivers.hedging.asyncio import AsyncioHedgeTasks
from resilient.drivers.hedging.race import Hedges, Terms
from resilient.drivers.hedging.tasks import adopt, call_in_tasks
from resilient.drivers.loops.current import current_backend
from resilient.errors import DeadlineExceeded
from resilient.testing import FakeClock

Told = list[events.Event]
Play = Callable[[], Awaitable[Any]]

every_loop = pytest.mark.parametrize("loop", LOOPS)


def terms(after: object, extra: int = 1, *, told: Told | None = None, **settings: Any) -> Terms:
    """A policy's terms with a state of their own."""
    listeners = () if told is None else (told.append,)
    timed = isinstance(after, str)
    return Terms(Hedges(hedge_plan(after, extra, **settings)), extra, timed, "hedge", listeners)


class Copies:
    """A coroutine function whose copies do one thing each, and of which all is known.

    Attributes:
        ends: how each copy ended, in that order: its number and what came out of it.
    """

    def __init__(self, clock: FakeClock | None, *plays: object) -> None:
        self.clock = clock
        self.plays = plays
        self.calls = 0
        self.ends: list[tuple[int, str]] = []

    async def __call__(self) -> Any:
        self.calls += 1
        number, play = self.calls, self.plays[self.calls - 1]
        try:
            value = await self._play(play)
        except BaseException as error:
            self.ends.append((number, type(error).__name__))
            raise
        self.ends.append((number, "returned"))
        return value

    async def _play(self, play: Any) -> Any:
        if callable(play):
            return await play()
        seconds, then = play
        if seconds:
            assert self.clock is not None
            await self.clock.asleep(seconds)
        if isinstance(then, BaseException):
            raise then
        return then


def played(loop: str, of: Terms, *plays: object) -> tuple[Any, Copies]:
    """The result of a hedged call under a fake clock, or its error."""

    async def main() -> Any:
        try:
            return await call_in_tasks(of, copies, (), {})
        except Exception as error:
            return error

    with FakeClock() as clock:
        copies = Copies(clock, *plays)
        return run(loop, main), copies


@every_loop
def test_a_quick_call_is_not_hedged(loop: str) -> None:
    """It runs in its caller's task, and nothing else does."""
    told: Told = []
    result, copies = played(loop, terms(1, told=told), (0.5, "quick"))
    assert ("quick", 1, []) == (result, copies.calls, told)


@every_loop
def test_the_copy_of_a_slow_call_wins_and_the_call_is_cancelled(loop: str) -> None:
    """It is over before the result is returned."""
    told: Told = []
    result, copies = played(loop, terms(1, told=told), (10, "slow"), (1, "copy"))
    assert "copy" == result
    assert [(2, "returned"), (1, "CancelledError" if loop != "trio" else "Cancelled")] == copies.ends
    assert [events.Hedged("hedge", 0.0, 2, 1.0)] == told
    assert copies.clock is not None
    assert 2.0 == copies.clock.now()


@every_loop
def test_the_call_wins_and_its_copies_are_cancelled(loop: str) -> None:
    """Each of them, before the result is returned."""
    result, copies = played(loop, terms(1, 2), (5, "call"), (10, "copy"), (10, "copy"))
    assert ("call", 3, (1, "returned")) == (result, len(copies.ends), copies.ends[0])


@every_loop
def test_a_failed_call_is_copied_at_once(loop: str) -> None:
    """Nobody waits for the delay; the next copy goes out a delay after this one."""
    told: Told = []
    result, copies = played(loop, terms(5, 2, told=told), (1, OSError()), (9, "copy"), (1, "third"))
    assert copies.clock is not None
    assert ("third", 7.0) == (result, copies.clock.now())
    assert [(2, 0.0), (3, 5.0)] == [(event.copy, event.after) for event in told if isinstance(event, events.Hedged)]


@every_loop
def test_the_first_error_is_raised_if_all_fail(loop: str) -> None:
    """The call's own, its cause untouched."""
    cause, first = KeyError("cause"), OSError("first")
    first.__cause__ = cause
    result, copies = played(loop, terms(1, 2), (5, first), (0, ValueError()), (9, TypeError()))
    assert (first, cause, 3) == (result, result.__cause__, copies.calls)


@every_loop
def test_a_copy_that_fails_leaves_the_call_alone(loop: str) -> None:
    """Its result is the result, later."""
    result, copies = played(loop, terms(1), (5, "slow"), (1, ValueError()))
    assert ("slow", [(2, "ValueError"), (1, "returned")]) == (result, copies.ends)


@every_loop
def test_without_budget_no_copy_goes_out(loop: str) -> None:
    """Neither after silence nor after a failure."""
    none = terms(1, 5, load=0)
    assert "slow" == played(loop, none, (9, "slow"))[0]
    assert isinstance(played(loop, none, (0, OSError()))[0], OSError)
    assert (0, 2) == (none.hedges.metrics().hedges, none.hedges.metrics().refused)


@every_loop
def test_durations_give_the_delay(loop: str) -> None:
    """Of successes and limits of time; a call that loses took at least as long as it ran."""
    of = terms("p50", min_samples=2)
    for play in ((2, "ok"), (9, OSError()), (4, DeadlineExceeded(4))):
        played(loop, of, play)
    assert 2.0 == of.hedges.metrics().delay
    result, copies = played(loop, of, (30, "slow"), (1, "copy"))
    assert ("copy", 2.0) == (result, of.hedges.metrics().delay)  # of 1, 2, 3 and 4
    result, copies = played(loop, of, (30, DeadlineExceeded(30)), (1, "copy"))
    assert ("copy", 2.0) == (result, of.hedges.metrics().delay)
    for _ in range(2):
        played(loop, of, (1.5, DeadlineExceeded(1)), (1, OSError()))
    assert 1.5 == of.hedges.metrics().delay  # of 1, 1, 1.5, 1.5, 2, 3, 3 and 4


@every_loop
def test_real_time_hedges_too(loop: str) -> None:
    """The call itself never ends: without its copy the test would hang."""

    async def main() -> Any:
        return await call_in_tasks(terms(0.001), Copies(None, current_forever, (0, "copy")), (), {})

    assert "copy" == run(loop, main)


async def current_forever() -> None:
    await current_backend().waiter().wait()


SEEN: ContextVar[str] = ContextVar("seen", default="outside")


@every_loop
def test_copies_have_contexts_of_their_own(loop: str) -> None:
    """Copied from the caller's as it was when the call began."""

    async def look() -> str:
        seen = SEEN.get()
        SEEN.set("changed by a copy")
        return seen

    async def fail() -> None:
        await look()
        raise OSError

    async def main() -> Any:
        SEEN.set("caller")
        return await call_in_tasks(terms(60, 2), Copies(None, fail, fail, look), (), {})

    assert "caller" == run(loop, main)


async def cancelled_after(seconds: float, clock: FakeClock, call: Play) -> str:
    """What became of a call whose caller is cancelled after that long."""
    ends: list[str] = []

    async def caller() -> None:
        try:
            await call()
        except BaseException as error:
            ends.append(type(error).__name__)
            if not isinstance(error, Exception):
                raise
        else:
            ends.append("returned")

    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await clock.asleep(seconds)
            nursery.cancel_scope.cancel()
    else:
        task = asyncio.create_task(caller())
        await clock.asleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert 1 == len(asyncio.all_tasks())
    return ends[0].removesuffix("Error")


@pytest.mark.parametrize(
    ("phase", "plays"),
    [
        ("before a copy", [(60, "call")]),
        ("beside a copy", [(60, "call"), (60, "copy"), (60, "copy")]),
        ("after a failure", [(1, OSError()), (60, "copy"), (60, "copy")]),
    ],
)
@every_loop
def test_cancellation_passes_and_leaves_no_task(loop: str, phase: str, plays: list[Any]) -> None:
    """In every phase: all copies are cancelled and awaited."""

    async def main() -> str:
        return await cancelled_after(
            8, clock, lambda: call_in_tasks(terms(5 if phase != "before a copy" else 9, 2), copies, (), {})
        )

    with FakeClock() as clock:
        copies = Copies(clock, *plays)
        assert "Cancelled" == run(loop, main)
    assert copies.calls == len(copies.ends)
    assert not clock.jump()


@every_loop
def test_no_copy_goes_out_once_the_caller_is_cancelled(loop: str) -> None:
    """Not even for one that fails because of it."""

    async def fail_when_cancelled() -> None:
        try:
            await clock.asleep(60)
        finally:
            raise OSError

    async def main() -> str:
        return await cancelled_after(8, clock, lambda: call_in_tasks(terms(5, 5), copies, (), {}))

    with FakeClock() as clock:
        copies = Copies(clock, (60, 0), fail_when_cancelled, fail_when_cancelled)
        assert "Cancelled" == run(loop, main)
    assert [1, 2] == sorted(number for number, _ in copies.ends)


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "trio"])
def test_a_call_that_fails_because_it_is_cancelled_is_not_copied(loop: str) -> None:
    """It made an error of its own of the cancellation: that is raised, as without a hedge."""

    async def fail_when_cancelled() -> None:
        try:
            await clock.asleep(60)
        finally:
            raise OSError

    async def main() -> str:
        return await cancelled_after(8, clock, lambda: call_in_tasks(terms(9), copies, (), {}))

    with FakeClock() as clock:
        copies = Copies(clock, fail_when_cancelled)
        assert "OS" == run(loop, main)
    assert 1 == copies.calls


@every_loop
def test_losers_that_clean_up_are_awaited(loop: str) -> None:
    """However long it takes them, before the result is returned."""
    cleaned: list[float] = []

    async def tidy() -> None:
        try:
            await clock.asleep(60)
        finally:
            await shielded(loop, 3)
            cleaned.append(clock.now())

    async def main() -> Any:
        return await call_in_tasks(terms(1), Copies(clock, (5, "call"), tidy), (), {}), clock.now()

    async def shielded(loop: str, seconds: float) -> None:
        if loop == "trio":
            import trio

            with trio.CancelScope(shield=True):
                await clock.asleep(seconds)
        else:
            await clock.asleep(seconds)

    with FakeClock() as clock:
        assert ("call", 8.0) == run(loop, main)
    assert [8.0] == cleaned


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "trio"])
def test_a_cancellation_while_losers_clean_up_is_handed_on(loop: str) -> None:
    """They are awaited all the same, then it passes."""
    ends: list[str] = []

    async def slow_to_go() -> None:
        try:
            await clock.asleep(60)
        finally:
            try:
                await clock.asleep(60)
            except asyncio.CancelledError:
                ends.append("cleanup cancelled")
                raise

    async def main() -> str:
        return await cancelled_after(
            8, clock, lambda: call_in_tasks(terms(1), Copies(clock, (5, 0), slow_to_go), (), {})
        )

    with FakeClock() as clock:
        assert "Cancelled" == run(loop, main)
    assert ["cleanup cancelled"] == ends


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "trio"])
def test_a_cancelled_caller_whose_losers_are_slow_is_cancelled_once_more(loop: str) -> None:
    """The first cancellation is what passes."""

    async def slow_to_go() -> None:
        try:
            await clock.asleep(60)
        finally:
            await clock.asleep(60)

    async def main() -> bool:
        task = asyncio.create_task(call_in_tasks(terms(1), Copies(clock, (50, 0), slow_to_go), (), {}))
        for _ in range(2):
            await clock.asleep(5)
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    with FakeClock() as clock:
        assert run(loop, main) is True
        assert 10.0 == clock.now()


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "trio"])
def test_a_cancellation_together_with_the_cut_passes(loop: str) -> None:
    """The winner's result does not hide it, and nothing is left to strike behind it."""

    async def main() -> bool:
        async def win() -> str:
            task.cancel()
            return "copy"

        task = asyncio.create_task(call_in_tasks(terms(1), Copies(clock, (50, 0), win), (), {}))
        await asyncio.wait([task])
        return task.cancelled()

    with FakeClock() as clock:
        assert run(loop, main) is True


@every_loop
def test_a_call_that_will_not_be_cut_has_lost_all_the_same(loop: str) -> None:
    """It swallows its cancellation and returns, or raises something else."""

    async def stubborn() -> str:
        try:
            await clock.asleep(60)
        finally:
            return "stubborn"  # noqa: B012

    async def raising() -> None:
        try:
            await clock.asleep(60)
        finally:
            raise OSError

    async def main() -> Any:
        return [
            await call_in_tasks(terms(1), Copies(clock, call, (1, "copy")), (), {}) for call in (stubborn, raising)
        ], getattr(asyncio.current_task(), "cancelling", int)() if loop != "trio" else 0

    with FakeClock() as clock:
        assert (["copy", "copy"], 0) == run(loop, main)


class Leave(BaseException):
    """An exit that no event loop treats on its own account."""


@pytest.mark.parametrize("where", ["call", "copy", "copy after a failure"])
@every_loop
def test_exits_end_everything(loop: str, where: str) -> None:
    """They come out where the call was made, by themselves, and all copies are over."""
    plays: dict[str, list[Any]] = {
        "call": [(5, Leave()), (60, 0)],
        "copy": [(60, 0), (5, Leave())],
        "copy after a failure": [(1, OSError()), (5, Leave())],
    }

    async def main() -> Any:
        with pytest.raises(Leave):
            await call_in_tasks(terms(1), copies, (), {})

    with FakeClock() as clock:
        copies = Copies(clock, *plays[where])
        run(loop, main)
    assert 2 == len(copies.ends)


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "trio"])
def test_a_copy_that_somebody_else_cancels_is_out(loop: str) -> None:
    """The call goes on; if it has failed, its error is raised."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    result, _ = played(loop, terms(1), (5, "call"), give_up)
    assert "call" == result
    result, _ = played(loop, terms(1), (5, OSError()), give_up)
    assert isinstance(result, OSError)
    result, _ = played(loop, terms(9), (5, OSError()), give_up)
    assert isinstance(result, OSError)


def test_a_hedge_needs_a_task() -> None:
    """Outside one the error says what is missing."""
    caught: list[BaseException] = []

    async def main() -> None:
        def outside() -> None:
            try:
                AsyncioHedgeTasks()
            except RuntimeError as error:
                caught.append(error)

        asyncio.get_running_loop().call_soon(outside)
        await asyncio.sleep(0.001)

    asyncio.run(main())
    assert "a hedge needs a running asyncio task" in str(caught[0])


def test_a_coroutine_that_is_closed_cancels_its_copies() -> None:
    """Closing cannot wait for them; the event loop does the rest."""

    async def main() -> int:
        coroutine = call_in_tasks(terms(60), Copies(None, (0, OSError()), current_forever), (), {})
        coroutine.send(None)
        await asyncio.sleep(0)
        coroutine.close()
        for _ in range(3):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert 1 == asyncio.run(main())


def test_a_call_may_be_over_before_any_alarm() -> None:
    """The tasks of a hedge without one, and without copies, have nothing to take back."""

    async def main() -> str:
        async with AsyncioHedgeTasks() as tasks:
            with tasks.first():
                return "over"

    assert "over" == asyncio.run(main())


def test_ctrl_c_before_trio_awaits_the_losers_is_no_group() -> None:
    """It comes out by itself."""
    trio = pytest.importorskip("trio")

    @trio.lowlevel.enable_ki_protection
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    async def call() -> str:
        await trio.sleep(0.002)
        interrupt()  # protected: it strikes where the task waits next
        return "call"

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            await call_in_tasks(terms(0), Copies(None, call, current_forever), (), {})

    trio.run(main)


@every_loop
def test_a_coroutine_that_was_made_already(loop: str) -> None:
    """It is the first copy; with or without a delay; and closed if it never runs."""

    async def answer(value: object) -> object:
        return value

    async def main() -> Any:
        never = answer(0)
        unstarted = adopt(terms(1), 1.0, Copies(None), (), {}, never)
        unstarted.close()
        never.close()
        of = terms("p50", min_samples=1)
        return [await adopt(of, delay, Copies(None), (), {}, answer(delay)) for delay in (None, 5.0)]

    assert [None, 5.0] == run(loop, main)


@every_loop
def test_a_hundred_tasks_share_one_budget(loop: str) -> None:
    """Each gets its own result, and the hedges are what the budget allows."""
    of = terms(1, load=0.01)
    results: list[int] = []

    async def one(n: int) -> None:
        results.append(await call_in_tasks(of, Copies(clock, (10 + n, n), (2, -n)), (), {}))

    async def main() -> None:
        if loop == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for n in range(1, 151):
                    nursery.start_soon(one, n)
        else:
            await asyncio.gather(*(one(n) for n in range(1, 151)))

    with FakeClock() as clock:
        run(loop, main)
    assert list(range(1, 151)) == sorted(map(abs, results))
    assert of.hedges.metrics().hedges == sum(n < 0 for n in results) == 100


@every_loop
def test_virtual_time_that_another_thread_lets_pass_hedges(loop: str) -> None:
    """The copy is launched by the event loop, not by that thread."""
    clock = FakeClock()

    async def here() -> int:
        return threading.get_ident()

    async def call() -> None:
        thread = threading.Thread(target=clock.advance, args=(60,))
        thread.start()
        await current_forever()

    async def main() -> bool:
        with clock:
            return await call_in_tasks(terms(50), Copies(clock, call, here), (), {}) == threading.get_ident()

    assert run(loop, main) is True


@every_loop
def test_errors_leave_no_garbage(loop: str) -> None:
    """Neither the one that is raised nor those that are dropped."""

    class Failed(Exception):
        alive = 0

        def __init__(self) -> None:
            Failed.alive += 1

        def __del__(self) -> None:
            Failed.alive -= 1

    async def fail() -> None:
        raise Failed

    async def main() -> int:
        gc.collect()
        gc.disable()
        try:
            try:
                await call_in_tasks(terms(60, 2), fail, (), {})
            except Failed:
                pass
            for _ in range(3):
                await current_backend().sleep(0)
            return Failed.alive
        finally:
            gc.enable()

    assert 0 == run(loop, main)


ENDINGS = st.tuples(st.integers(0, 6), st.sampled_from(["value", OSError()]))


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "uvloop"])
@settings(max_examples=60, deadline=None)
@given(plays=st.lists(ENDINGS, min_size=4, max_size=4), after=st.integers(0, 4), cancelled_at=st.integers(0, 12))
def test_nothing_outlives_a_call(loop: str, plays: list[tuple[int, object]], after: int, cancelled_at: int) -> None:
    """Whatever the copies do, and whenever the caller is cancelled: each copy that began has ended, and is paid for."""
    of = terms(after, 3)

    async def main() -> tuple[str, int]:
        ending = await cancelled_after(cancelled_at, clock, lambda: call_in_tasks(of, copies, (), {}))
        return ending, len(copies.ends)

    with FakeClock() as clock:
        copies = Copies(clock, *plays)
        ending, ended = run(loop, main)
    assert copies.calls == ended
    assert copies.calls <= 1 + of.hedges.metrics().hedges <= 4
    assert ending in ("returned", "Cancelled", "OS")


@every_loop
def test_the_attempt_is_known_in_every_copy(loop: str) -> None:
    """It is the one that runs where the call was made."""
    numbers: list[int | None] = []

    async def look() -> None:
        attempt = current_attempt()
        numbers.append(None if attempt is None else attempt.number)
        raise OSError

    async def main() -> None:
        retry = Retry(on=OSError, attempts=2, backoff=backoff.constant(0))
        with pytest.raises(OSError):
            await retry.call(call_in_tasks, terms(60), look, (), {})

    run(loop, main)
    assert [1, 1, 2, 2] == numbers
