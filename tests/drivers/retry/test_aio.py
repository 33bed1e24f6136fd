"""The async driver beyond the scenario table: crowds, cancellation, time limits, memory."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import (
    Action,
    AttemptTimeout,
    Classifier,
    DeadlineExceeded,
    Recovery,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_deadline,
    events,
)
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
RECONNECT = Classifier(Rule(Exception, Action.RECONNECT))


async def crowd(loop: str, calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Runs many calls side by side; their results in order."""
    results: list[Any] = [None] * len(calls)

    async def one(n: int) -> None:
        results[n] = await calls[n]()

    if loop == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for n in range(len(calls)):
                nursery.start_soon(one, n)
    else:
        async with asyncio.TaskGroup() as group:
            for n in range(len(calls)):
                group.create_task(one(n))
    return results


async def turn() -> None:
    """Lets every other task run."""
    import sys

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        from trio.testing import wait_all_tasks_blocked

        await wait_all_tasks_blocked()
    else:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_hundred_tasks_share_one_policy_and_keep_their_own_counts(loop: str) -> None:
    """Nothing per call is stored on a policy: each task makes exactly its own attempts."""
    policy = Retry(on=OSError, attempts=4, backoff=AT_ONCE)
    scripts = [Script(*["fail"] * (n % 4), n) for n in range(100)]
    calls = [lambda script=script: policy.call(script.call_async) for script in scripts]
    assert list(range(100)) == run(loop, lambda: crowd(loop, calls))
    assert [n % 4 + 1 for n in range(100)] == [script.calls for script in scripts]


@pytest.mark.parametrize("fails", [False, True], ids=["handler works", "handler raises"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_hundred_tasks_that_lose_one_connection_reconnect_once(loop: str, fails: bool) -> None:
    """Recovery is single-flight over tasks, also if the handler raises."""
    reconnects, failed = 0, 0

    async def reconnect() -> None:
        nonlocal reconnects
        await turn()
        reconnects += 1
        if fails:
            raise OSError("still down")

    async def use() -> str:
        nonlocal failed
        if not reconnects:
            failed += 1
            await turn()
            raise ConnectionResetError
        return "used"

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
    assert ["used"] * 100 == run(loop, lambda: crowd(loop, [lambda: policy.call(use)] * 100))
    assert (100, 1) == (failed, reconnects)


@pytest.mark.parametrize("where", ["call", "wait", "recovery", "joined recovery", "bounded call", "bounded recovery"])
def test_cancellation_passes_at_once(where: str) -> None:
    """Under "everything", a cancelled call makes one attempt, ends with CancelledError and frees the flight."""
    waiting = asyncio.Event

    async def main() -> None:
        never, calls, handled = waiting(), 0, 0

        async def call() -> None:
            nonlocal calls
            calls += 1
            if "call" in where:
                await never.wait()
            raise ConnectionResetError

        async def reconnect() -> None:
            nonlocal handled
            handled += 1
            await never.wait()

        recovery = Recovery(reconnect=reconnect)
        policy = Retry(
            on=RECONNECT,
            attempts=None,
            backoff=backoff.constant(1000) if where == "wait" else AT_ONCE,
            recovery=recovery,
            timeout=3600 if "bounded" in where else None,
        )
        tasks = [asyncio.create_task(policy.call(call)) for _ in range(2 if "joined" in where else 1)]
        await turn()
        tasks[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[-1]
        assert len(tasks) == calls
        never.set()
        if len(tasks) == 2:
            tasks[0].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[0]
        healed = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=recovery)
        assert 7 == await healed.call(Script("fail", 7).call_async)  # the single flight was released

    asyncio.run(main())


@pytest.mark.parametrize("where", ["call", "wait", "recovery"])
def test_cancellation_passes_under_trio(where: str) -> None:
    """The same for trio's cancel scopes."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        calls = 0

        async def call() -> None:
            nonlocal calls
            calls += 1
            if where == "call":
                await trio.sleep_forever()
            raise ConnectionResetError

        recovery = Recovery(reconnect=trio.sleep_forever)
        waits = backoff.constant(1000) if where == "wait" else AT_ONCE
        policy = Retry(on=RECONNECT, attempts=None, backoff=waits, recovery=recovery)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(policy.call, call)
                await turn()
                scope.cancel()
        assert (True, 1) == (scope.cancelled_caught, calls)
        assert 0 == recovery.flight.generation
        policy = policy.with_(backoff=AT_ONCE, recovery=recovery)
        with trio.move_on_after(0):
            await policy.call(Script("fail").call_async)

    trio.run(main)


def test_if_the_leader_is_cancelled_another_leads() -> None:
    """Those that joined are woken, and one of them recovers."""

    async def main() -> None:
        never, reconnects = asyncio.Event(), list[asyncio.Task[Any] | None]()

        async def reconnect() -> None:
            reconnects.append(asyncio.current_task())
            if len(reconnects) == 1:
                await never.wait()

        policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
        tasks = [asyncio.create_task(policy.call(Script("fail", n).call_async)) for n in range(5)]
        await turn()
        assert [tasks[0]] == reconnects
        tasks[0].cancel()
        assert [1, 2, 3, 4] == await asyncio.gather(*tasks[1:])
        assert 2 == len(reconnects)

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_thread_and_a_task_share_one_recovery(loop: str) -> None:
    """A task joins the recovery that a thread leads, and is woken across."""
    running, finish = threading.Event(), threading.Event()
    performed: list[str] = []

    def reconnect() -> None:
        performed.append("reconnect")
        running.set()
        finish.wait()

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
    leader = threading.Thread(target=policy.call, args=(Script("fail", 1),))
    leader.start()
    running.wait()

    async def main() -> Any:
        waiting = policy.with_(listeners=(lambda event: finish.set(),))
        return await waiting.call(Script("fail", 2).call_async)

    assert 2 == run(loop, main)
    leader.join()
    assert ["reconnect"] == performed


def test_a_blocking_call_inside_a_loop_does_not_wait_for_a_task_of_that_loop() -> None:
    """A blocking call that fails while a task of its own thread recovers just tries again."""

    async def main() -> list[Any]:
        async def reconnect() -> None:
            await turn()

        policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
        leading = asyncio.create_task(policy.call(Script("fail", 1).call_async))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [policy.call(Script("fail", 2)), await leading]

    assert [2, 1] == asyncio.run(main())


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
class TestTimeLimits:
    """Limits of async calls cut them off, by virtual time."""

    def test_an_attempt_is_cut_off_and_tried_again(self, loop: str) -> None:
        """The attempt ends at its timeout; the next one may succeed."""
        with FakeClock() as clock:
            durations = [50.0, 50.0, 1.0]

            async def call() -> str:
                await clock.asleep(durations.pop(0))
                return "done"

            policy = Retry(on=ConnectionError, attempt_timeout=10, backoff=backoff.constant(3))
            assert "done" == run(loop, lambda: policy.call(call))
            assert (27.0, [3, 3]) == (clock.now(), clock.sleeps)

    def test_attempts_cut_off_to_the_end_raise_attempt_timeout(self, loop: str) -> None:
        """The error is the policy's, a TimeoutError, and says the limit."""
        with FakeClock() as clock:
            policy = Retry(on=ConnectionError, attempts=2, attempt_timeout=10, backoff=AT_ONCE)
            with pytest.raises(AttemptTimeout, match="attempt timed out after 10 s") as caught:
                run(loop, lambda: policy.call(lambda: clock.asleep(99)))
        assert (10, True) == (caught.value.seconds, isinstance(caught.value, TimeoutError))
        assert "gave up after 2 attempts in 20.00 s: attempts exhausted" in caught.value.__notes__

    def test_a_rule_may_say_otherwise(self, loop: str) -> None:
        """A rule on AttemptTimeout decides about it."""
        with FakeClock() as clock:
            on = Classifier(Rule(AttemptTimeout, Action.FAIL), Rule(Exception))
            outcome = run(loop, lambda: Retry(on=on, attempt_timeout=10).execute(lambda: clock.asleep(99)))
        assert ("fail", 1, 10.0) == (outcome.stopped_by, outcome.attempts, clock.now())

    def test_the_timeout_cuts_off_the_attempt_under_way(self, loop: str) -> None:
        """DeadlineExceeded at the very deadline, caused by the last error of the call itself."""
        with FakeClock() as clock:
            errors: list[Exception] = [OSError("first")]

            async def call() -> None:
                if errors:
                    raise errors.pop()
                await clock.asleep(99)

            policy = Retry(on=OSError, timeout=10, attempt_timeout=60, backoff=backoff.constant(4))
            with pytest.raises(DeadlineExceeded, match="deadline exceeded after 10 s") as caught:
                run(loop, lambda: policy.call(call))
            assert 10.0 == clock.now()
        assert "first" == str(caught.value.__cause__)
        assert "gave up after 2 attempts in 10.00 s: cut off by the timeout of 10 s" in caught.value.__notes__

    def test_the_calls_own_timeout_is_not_the_policys(self, loop: str) -> None:
        """A TimeoutError that the call raises itself is classified like any error and comes back as it is."""
        with FakeClock():
            own = TimeoutError("mine")
            policy = Retry(on=ConnectionError, timeout=10, attempt_timeout=5)
            with pytest.raises(TimeoutError) as caught:
                run(loop, lambda: policy.call(Script(own).call_async))
        assert own is caught.value

    def test_a_nested_policys_timeout_is_not_this_ones(self, loop: str) -> None:
        """DeadlineExceeded of a guarded call inside is just an error to the policy outside."""
        with FakeClock() as clock:
            inner = Retry(on=OSError, timeout=1)
            outer = Retry(on=DeadlineExceeded, timeout=100, attempts=3, backoff=AT_ONCE)
            outcome = run(loop, lambda: outer.execute(lambda: inner.call(lambda: clock.asleep(99))))
        assert ("attempts", 3, 3.0) == (outcome.stopped_by, outcome.attempts, clock.now())

    def test_a_recovery_is_cut_off_at_the_timeout(self, loop: str) -> None:
        """A handler that hangs holds a call no longer than its timeout; the call's own error comes back."""
        with FakeClock() as clock:
            recovery = Recovery(reconnect=lambda: clock.asleep(99))
            policy = Retry(on=RECONNECT, timeout=10, backoff=backoff.constant(2), recovery=recovery)
            with pytest.raises(ConnectionError) as caught:
                run(loop, lambda: policy.call(Script("fail").call_async))
            assert 10.0 == clock.now()
        assert "gave up after 1 attempt in 10.00 s: recovery outlasted the timeout of 10 s" in caught.value.__notes__
        assert 0 == recovery.flight.generation

    def test_a_cancellation_from_outside_wins_over_the_limit(self, loop: str) -> None:
        """A limit never turns somebody else's cancellation into a timeout."""
        with FakeClock() as clock:
            policy = Retry(on=Exception, attempts=9, attempt_timeout=10)
            calls = 0

            async def call() -> None:
                nonlocal calls
                calls += 1
                await clock.asleep(99)

            async def under_asyncio() -> None:
                task = asyncio.create_task(policy.call(call))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            async def under_trio() -> None:
                import trio

                with trio.CancelScope() as scope:
                    scope.cancel()
                    await policy.call(call)
                assert scope.cancelled_caught

            run(loop, under_trio if loop == "trio" else under_asyncio)
        assert 1 == calls

    def test_a_real_limit_works_too(self, loop: str) -> None:
        """The same without a fake clock."""
        policy = Retry(on=ConnectionError, attempts=2, attempt_timeout=0.01, backoff=AT_ONCE)

        async def stall() -> None:
            if loop == "trio":
                import trio

                await trio.sleep_forever()
            await asyncio.Event().wait()

        outcome = run(loop, lambda: policy.execute(stall))
        assert ("attempts", AttemptTimeout) == (outcome.stopped_by, type(outcome.error))


def test_a_coroutine_on_the_second_attempt_is_guarded_too() -> None:
    """A plain function that fails first and returns a coroutine later goes on under the async driver."""
    script = Script("fail", "fail", 7)
    calls = 0

    def sometimes_async() -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return script.call_async()

    policy = Retry(on=OSError, backoff=AT_ONCE)
    assert 7 == asyncio.run(policy.call(sometimes_async))
    assert (4, 3) == (calls, script.calls)


def test_the_first_attempt_of_a_disguised_coroutine_is_cut_off_too() -> None:
    """A lambda's coroutine stands under the limits from the beginning."""
    with FakeClock() as clock:
        policy = Retry(on=OSError, attempts=1, attempt_timeout=5)
        outcome = asyncio.run(policy.execute(lambda: clock.asleep(99)))
        assert (AttemptTimeout, 5.0) == (type(outcome.error), clock.now())


@pytest.mark.parametrize("outcomes", [("fail", "fail", 7), ("fail",)], ids=["rescued", "abandoned"])
@pytest.mark.parametrize("form", ["function", "call", "execute", "block", "bounded"])
def test_nothing_is_left_for_the_cyclic_collector(form: str, outcomes: tuple[object, ...]) -> None:
    """After a rescued or an abandoned call, reference counting has freed every error."""
    errors: list[weakref.ref[BaseException]] = []
    left: list[int] = []

    class Noted(ConnectionError):
        pass

    async def call(script: Script) -> object:
        try:
            return script()
        except ConnectionError:
            error = Noted()
            errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def guarded(script: Script) -> object:
        policy = Retry(on=OSError, attempts=3, backoff=AT_ONCE, timeout=60 if form == "bounded" else None)
        if form == "function":
            return await policy(call)(script)
        if form == "execute":
            return (await policy.execute(call, script)).unwrap()
        if form == "block":
            async for attempt in policy:
                with attempt:
                    return await call(script)
        return await policy.call(call, script)

    async def main() -> None:
        with contextlib.suppress(ConnectionError):  # whatever the first call of all sets up for good
            await guarded(Script(*outcomes))
        errors.clear()
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(ConnectionError):
                await guarded(Script(*outcomes))
            left.extend(1 for error in errors if error() is not None)
        finally:
            gc.enable()

    asyncio.run(main())
    assert [] == left


def test_a_cut_off_attempt_leaves_nothing_behind() -> None:
    """The policy's own timeout errors are freed at once too."""

    async def main() -> list[weakref.ref[BaseException]]:
        heard: list[weakref.ref[BaseException]] = []

        def note(event: events.Event) -> None:
            if isinstance(event, events.AttemptFailed) and event.error is not None:
                heard.append(weakref.ref(event.error))

        policy = Retry(on=OSError, attempts=2, attempt_timeout=5, backoff=AT_ONCE, listeners=(note,))
        with contextlib.suppress(AttemptTimeout):
            await policy.call(lambda: clock.asleep(99))
        return heard

    with FakeClock() as clock:
        gc.collect()
        gc.disable()
        try:
            assert [None, None] == [error() for error in asyncio.run(main())]
        finally:
            gc.enable()


def test_a_stream_that_was_cut_off_leaves_nothing_behind() -> None:
    """The limit that made the error is let go with it."""

    @Retry(on=OSError, attempts=2, attempt_timeout=5, backoff=AT_ONCE, streaming=True)
    async def hangs() -> AsyncIterator[int]:
        await clock.asleep(99)
        yield 1

    async def main() -> int:
        for collected in (False, True):
            with contextlib.suppress(AttemptTimeout):
                async for _ in hangs():
                    pass
            if not collected:
                gc.collect()
        return gc.collect()

    with FakeClock() as clock:
        gc.disable()
        try:
            assert 0 == asyncio.run(main())
        finally:
            gc.enable()


@pytest.mark.parametrize("timeout", [0.03, 0.05, 0.1])
def test_the_error_names_the_limit_that_was_set(timeout: float) -> None:
    """To the last digit, whatever the clock shows."""
    with FakeClock(start=12345.678):
        outcome = asyncio.run(Retry(on=OSError, timeout=timeout).execute(asyncio.Event().wait))
    assert isinstance(outcome.error, DeadlineExceeded)
    assert timeout == outcome.error.seconds


def test_a_recovery_that_was_cut_off_early_is_too_late_all_the_same() -> None:
    """Loops round their timers: a cut a little before the deadline ends the call, and no attempt follows."""

    class Early(FakeClock):
        def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
            return super().call_later(seconds * 0.9, callback)

    script = Script("fail")
    with Early() as clock:
        recovery = Recovery(reconnect=lambda: clock.asleep(99))
        policy = Retry(on=RECONNECT, timeout=10, backoff=AT_ONCE, recovery=recovery)
        outcome = asyncio.run(policy.execute(script.call_async))
    assert ("timeout", 1) == (outcome.stopped_by, script.calls)


def test_a_blocking_handler_serves_an_async_call() -> None:
    """Handlers may be blocking where the call is async."""
    handler = Script(None)
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=handler))
    assert 7 == asyncio.run(policy.call(Script("fail", 7).call_async))
    assert 1 == handler.calls


def test_no_wait_still_lets_others_run() -> None:
    """A call that fails without ever awaiting does not starve the loop."""

    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())
        with contextlib.suppress(ConnectionError):
            await Retry(on=OSError, attempts=10, backoff=AT_ONCE).call(Script("fail").call_async)
        counter.cancel()
        return turns

    assert asyncio.run(main()) >= 9


ASYNC_FORMS: dict[str, Callable[[Retry, Callable[..., Any]], Any]] = {
    "function": lambda policy, call: policy(call)(),
    "lambda": lambda policy, call: policy(lambda: call())(),
    "call": lambda policy, call: policy.call(call),
    "execute": lambda policy, call: _unwrapped(policy.execute(call)),
}


async def _unwrapped(outcome: Any) -> Any:
    return (await outcome).unwrap()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("form", ASYNC_FORMS)
def test_attempts_read_when_they_must_be_over(form: str, loop: str) -> None:
    """The nearest of its own limits and those around."""
    seen: list[float | None] = []

    async def call() -> None:
        seen.append(current_deadline())
        if len(seen) % 3:
            raise OSError

    async def main(outer: float) -> None:
        async with Timeout(outer):
            await ASYNC_FORMS[form](policy, call)
            assert outer == current_deadline()

    policy = Retry(on=OSError, timeout=10, attempt_timeout=5, backoff=backoff.constant(3))
    for outer, expected in ((99, [5, 8, 10]), (7, [5, 7, 7])):
        seen.clear()
        with FakeClock():
            run(loop, lambda: main(outer))  # noqa: B023
            assert current_deadline() is None
        assert expected == seen


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("form", ASYNC_FORMS)
def test_an_outer_deadline_ends_the_retries(form: str, loop: str) -> None:
    """No wait goes past it."""

    async def main() -> None:
        async with Timeout(10):
            await ASYNC_FORMS[form](Retry(on=OSError, attempts=None, backoff=backoff.constant(4)), script.call_async)

    script = Script("fail")
    with FakeClock() as clock, pytest.raises(ConnectionError) as caught:
        run(loop, main)
    assert ([4, 4], 3) == (clock.sleeps, script.calls)
    assert "the deadline of a policy around this one" in caught.value.__notes__[0]


@pytest.mark.parametrize("inner", ASYNC_FORMS)
@pytest.mark.parametrize("outer", ASYNC_FORMS)
@pytest.mark.parametrize("nested", [True, False])
def test_a_nested_retry_is_noticed(outer: str, inner: str, nested: bool) -> None:
    """In whatever form either is used: noted on the error, and one attempt if it should leave it to the outer one."""
    script = Script("fail")
    within = Retry(on=OSError, attempts=3, backoff=AT_ONCE, nested=nested)
    around = Retry(on=OSError, attempts=2, backoff=AT_ONCE, name="outer")

    async def call() -> Any:
        return await ASYNC_FORMS[inner](within, script.call_async)

    async def main() -> Any:
        return await ASYNC_FORMS[outer](around, call)

    with pytest.raises(ConnectionError) as caught:
        asyncio.run(main())
    assert (6 if nested else 2) == script.calls
    text = "within attempt 2 of outer" if nested else "nested=False, within attempt 2 of outer"
    assert caught.value.__notes__[0].endswith(f"attempts exhausted ({text})")
    assert caught.value.__notes__[-1].endswith("attempts exhausted")


@pytest.mark.parametrize("form", ASYNC_FORMS)
def test_a_retry_in_a_task_of_its_own_is_within_nothing(form: str) -> None:
    """Its stack begins with the task."""
    script = Script("fail", 7)
    within = Retry(on=OSError, backoff=AT_ONCE, nested=False)

    async def call() -> Any:
        async def inner() -> Any:
            return await ASYNC_FORMS[form](within, script.call_async)

        return await asyncio.create_task(inner())

    async def main() -> Any:
        return await Retry(on=OSError).call(call)

    assert (7, 2) == (asyncio.run(main()), script.calls)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_recovery_is_throttled(loop: str) -> None:
    """The leader waits, or gives up where that takes too long."""
    with FakeClock() as clock:
        policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=Script(None), throttle=20))

        async def main() -> str | None:
            for _ in range(2):
                assert 7 == await policy.call(Script("fail", 7).call_async)
            assert [0, 0, 20] == clock.sleeps
            outcome = await policy.with_(timeout=9).execute(Script("fail", 7).call_async)
            return outcome.stopped_by

        assert "timeout" == run(loop, main)


def test_a_failure_older_than_the_last_recovery_does_not_recover_again() -> None:
    """Generation-checked: who failed on the old connection just tries again."""
    recovery = Recovery(reconnect=Script(None))
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=recovery)

    async def fails_after_somebody_recovered() -> str:
        if recovery.flight.generation == 0:
            await policy.call(Script("fail", "other").call_async)
            raise ConnectionResetError
        return "fine"

    assert "fine" == asyncio.run(policy(fails_after_somebody_recovered)())
    assert 1 == recovery.reconnect.calls  # type: ignore[union-attr]
