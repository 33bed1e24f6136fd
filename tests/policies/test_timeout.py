"""Timeout: a limit that async code is cancelled at, that blocking code can read, and a worker thread for the rest."""

import asyncio
import contextlib
import contextvars
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import AttemptTimeout, DeadlineExceeded, Event, Pipeline, Retry, Timeout, backoff, current_deadline
from resilient.testing import FakeClock, Script


def blocks(limit: Timeout) -> Iterator[Any]:
    """The turns of a block."""
    with FakeClock():
        for attempt in limit:
            with attempt:
                yield attempt


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", ["function", "lambda", "call", "execute", "with", "block"])
def test_async_code_is_cancelled_for_real(loop: str, form: str) -> None:
    """Its cleanup runs, in every form, and the caller gets the error at the limit."""
    story: list[object] = []
    limit = Timeout(5, name="each", listeners=(lambda event: story.append(str(event)),))

    async def hang() -> None:
        try:
            story.append(current_deadline())
            await clock.asleep(99)
        finally:
            story.append("cleaned up")

    async def main() -> None:
        if form == "function":
            await limit(hang)()
        elif form == "lambda":
            await limit(lambda: hang())()
        elif form == "call":
            await limit.call(hang)
        elif form == "execute":
            outcome = await limit.execute(hang)
            assert ("timeout", 1) == (outcome.stopped_by, outcome.attempts)
            outcome.unwrap()
        elif form == "with":
            async with limit:
                await hang()
        else:
            async for attempt in limit:
                with attempt:
                    await hang()

    with FakeClock() as clock:
        with pytest.raises(DeadlineExceeded, match="deadline exceeded after 5 s"):
            run(loop, main)
        assert (5.0, None) == (clock.now(), current_deadline())
    assert [5.0, "cleaned up", "each: deadline exceeded after 5 s"] == story


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_real_clock_works_too(loop: str) -> None:
    """Without a fake one."""

    async def forever() -> None:
        if loop == "trio":
            import trio

            await trio.sleep_forever()
        await asyncio.Event().wait()

    outcome = run(loop, lambda: Timeout(0.01).execute(forever))
    assert isinstance(outcome.error, DeadlineExceeded)


@pytest.mark.parametrize("form", ["function", "lambda", "method", "call", "execute", "with", "block"])
def test_blocking_code_can_read_its_deadline(form: str) -> None:
    """In every form; a late result still counts, as nothing can stop it from outside."""
    limit = Timeout(5)

    def read() -> Any:
        clock.advance(2)
        deadline = current_deadline()
        assert deadline is not None
        left = deadline.remaining
        clock.advance(9)
        return float(deadline), left

    class Client:
        method = limit(lambda self: read())

    def blocks() -> Any:
        if form == "with":
            with limit:
                return read()
        for attempt in limit:
            with attempt:
                return read()
        raise AssertionError

    forms: dict[str, Any] = {
        "function": lambda: limit(read)(),
        "lambda": lambda: limit(lambda: read())(),
        "method": lambda: Client().method(),
        "call": lambda: limit.call(read),
        "execute": lambda: limit.execute(read).unwrap(),
    }
    with FakeClock() as clock:
        assert (5.0, 3.0) == forms.get(form, blocks)()
        assert current_deadline() is None


def test_a_limit_never_outlives_the_one_around_it() -> None:
    """Whichever is nearer; and where no time is left, the call is not made."""
    script = Script(7)
    with FakeClock() as clock:
        assert (3.0, 3.0) == (
            Timeout(3).call(Timeout(9).call, current_deadline),
            Timeout(9).call(Timeout(3).call, current_deadline),
        )
        with Timeout(5):
            clock.advance(5)
            outcome = Timeout(3).execute(script)
    assert ("timeout", 0) == (outcome.stopped_by, script.calls)
    assert isinstance(outcome.error, DeadlineExceeded)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_inner_limit_is_cut_by_the_outer_one(loop: str) -> None:
    """The error is the outer one's."""
    with FakeClock() as clock:
        with pytest.raises(DeadlineExceeded, match="after 3 s"):
            run(loop, lambda: Pipeline(Timeout(3), Timeout(9)).call(lambda: clock.asleep(99)))
        assert 3.0 == clock.now()


@pytest.mark.parametrize("own", [TimeoutError("mine"), DeadlineExceeded(1.0), KeyError("k")])
def test_what_the_call_raises_stays_its_own(own: Exception) -> None:
    """A TimeoutError is nothing special."""
    with FakeClock():
        for outcome in (Timeout(5).execute(Script(own)), asyncio.run(Timeout(5).execute(Script(own).call_async))):
            assert (own, "fail") == (outcome.error, outcome.stopped_by)


def test_a_cancellation_from_outside_wins() -> None:
    """It is never turned into a timeout."""

    async def main() -> None:
        task = asyncio.create_task(Timeout(5).call(lambda: clock.asleep(99)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeClock() as clock:
        asyncio.run(main())


class TestWorker:
    """Blocking calls in a thread of their own."""

    @pytest.mark.parametrize("form", ["function", "lambda", "call", "execute"])
    def test_a_result_and_an_error_come_back(self, form: str) -> None:
        """In every form."""
        limit = Timeout(60, worker=True)
        script = Script(7, KeyError("k"))
        threads: list[threading.Thread] = []

        def call(a: int, *, b: int) -> Any:
            threads.append(threading.current_thread())
            return script(), a, b

        forms: dict[str, Any] = {
            "function": lambda: limit(call)(1, b=2),
            "lambda": lambda: limit(lambda a, b: call(a, b=b))(1, 2),
            "call": lambda: limit.call(call, 1, b=2),
            "execute": lambda: limit.execute(call, 1, b=2).unwrap(),
        }
        assert (7, 1, 2) == forms[form]()
        with pytest.raises(KeyError):
            forms[form]()
        assert threading.current_thread() not in threads
        assert 2 == len(set(threads))

    def test_the_caller_gets_its_error_at_the_limit(self) -> None:
        """While the call goes on, in a daemon thread."""
        heard: list[Event] = []
        finish, threads = threading.Event(), list[threading.Thread]()

        def hang() -> None:
            threads.append(threading.current_thread())
            finish.wait()

        limit = Timeout(0.01, worker=True, name="each", listeners=(heard.append,))
        outcome = limit.execute(hang)
        finish.set()
        for thread in threads:
            thread.join()
        assert ("timeout", DeadlineExceeded) == (outcome.stopped_by, type(outcome.error))
        assert ["each: deadline exceeded after 0.01 s"] == [str(event) for event in heard]

    def test_it_runs_in_a_copy_of_the_context(self) -> None:
        """With this one's variables and the deadline; what it sets stays there."""

        def call() -> tuple[str, float | None]:
            before = NAME.get()
            NAME.set("worker")
            return before, current_deadline()

        with FakeClock():
            token = NAME.set("caller")
            assert ("caller", 5.0) == Timeout(5, worker=True).call(call)
            assert "caller" == NAME.get()
            NAME.reset(token)

    @pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_exits_come_back(self, leaving: type[BaseException]) -> None:
        """They are raised in the caller's thread."""
        with pytest.raises(leaving):
            Timeout(60, worker=True).call(Script(leaving))
        assert current_deadline() is None

    def test_late_in_virtual_time(self) -> None:
        """The call's own time counts, the wait for it none."""
        with FakeClock() as clock, pytest.raises(DeadlineExceeded):
            Timeout(5, worker=True).call(clock.advance, 9)

    @pytest.mark.parametrize("retrying", [False, True])
    def test_a_nearer_limit_around_it_is_the_one_that_ended_it(self, retrying: bool) -> None:
        """It says so, and no attempt is made once that is over."""
        inner = Timeout(5, worker=True)
        layers = Pipeline(Timeout(3), Retry(on=KeyError), inner) if retrying else Timeout(3) >> inner
        with FakeClock() as clock, pytest.raises(DeadlineExceeded, match="after 3 s"):
            layers.call(clock.advance, 9)
        assert 9.0 == clock.now()

    def test_an_attempt_limit_of_the_retry_around_it_is_tried_again(self) -> None:
        """Whichever of the two ended it."""
        times = [9, 1]
        with FakeClock() as clock:
            retry = Retry(on=KeyError, attempt_timeout=3, backoff=backoff.constant(1))
            Pipeline(retry, Timeout(5, worker=True)).call(lambda: clock.advance(times.pop(0)))
            assert ([], [1]) == (times, clock.sleeps)

    def test_a_blocking_block_cannot_move_to_a_thread(self) -> None:
        """It says so, and what to do instead, rather than to run it without the worker."""
        limit = Timeout(5, worker=True)

        def by_with() -> None:
            with limit:
                raise AssertionError

        for enter in (by_with, lambda: iter(limit), lambda: contextlib.ExitStack().enter_context(limit)):
            with pytest.raises(
                TypeError, match=r"Timeout\(5, worker=True\) cannot guard a blocking block.*policy.call"
            ):
                enter()
        assert current_deadline() is None
        assert [5.0] == [attempt.remaining for attempt in blocks(Timeout(5))]

    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize("form", ["with", "block"])
    def test_an_async_block_needs_no_thread(self, loop: str, form: str) -> None:
        """It is cancelled where it runs."""
        limit = Timeout(5, worker=True)

        async def main() -> None:
            if form == "with":
                async with limit:
                    await clock.asleep(99)
            async for attempt in limit:
                with attempt:
                    await clock.asleep(99)

        with FakeClock() as clock, pytest.raises(DeadlineExceeded, match="after 5 s"):
            run(loop, main)

    @pytest.mark.parametrize("is_lambda", [False, True])
    def test_async_code_needs_none(self, is_lambda: bool) -> None:
        """It is cancelled in its own task."""

        async def hang() -> threading.Thread:
            story.append(threading.current_thread())
            await clock.asleep(99)
            raise AssertionError

        story: list[object] = []
        with FakeClock() as clock, pytest.raises(DeadlineExceeded):
            asyncio.run(Timeout(5, worker=True)((lambda: hang()) if is_lambda else hang)())  # type: ignore[arg-type]
        assert [threading.current_thread()] == story

    def test_an_attempt_that_is_late_is_tried_again(self) -> None:
        """Inside a Retry, whatever its errors."""
        with FakeClock() as clock:
            times = [9, 9, 1]
            layers = Pipeline(Retry(on=KeyError, backoff=backoff.constant(1)), Timeout(5, worker=True))
            layers.call(lambda: clock.advance(times.pop(0)))
            assert ([], [1, 1]) == (times, clock.sleeps)


@pytest.mark.parametrize("worker", [False, True])
def test_nothing_is_left_for_the_cyclic_collector(worker: bool) -> None:
    """Errors are freed at once."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(KeyError):
        pass

    def fail() -> None:
        error = Noted()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def fail_async() -> None:
        fail()

    async def main() -> None:
        with contextlib.suppress(Noted):
            await guarded_async()

    limit = Timeout(60, worker=worker)
    guarded, guarded_async = limit(fail), limit(fail_async)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Noted):
            guarded()
        with contextlib.suppress(Noted):
            limit.call(fail)
        limit.execute(fail)
        asyncio.run(main())
        for thread in threading.enumerate():
            if thread.name == "resilient Timeout":
                thread.join()
        assert [None] * 4 == [error() for error in errors]
    finally:
        gc.enable()


def test_a_block_in_a_generator_ends_with_it() -> None:
    """Wherever that is."""

    def items() -> Iterator[float | None]:
        with Timeout(5):
            yield current_deadline()

    with FakeClock():
        stream = items()
        assert 5.0 == next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert current_deadline() is None


def test_a_timeout_is_a_value() -> None:
    """Compared, hashed, shown, pickled, copied with changes; inside a Retry it limits attempts."""
    one = Timeout(timedelta(seconds=5), name="each")
    assert one == pickle.loads(pickle.dumps(one)) == Timeout(5, name="each")
    assert hash(one) == hash(Timeout(5.0, name="each"))
    assert ("Timeout(seconds=5.0, name='each')", 7.0) == (repr(one), one.with_(seconds=7).seconds)
    inner = one.of_attempts()
    assert (AttemptTimeout, AttemptTimeout) == (inner.error, pickle.loads(pickle.dumps(inner)).gate.error)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Timeout(0), ValueError, "seconds must be > 0 s, got 0"),
        (lambda: Timeout(float("inf")), ValueError, "seconds must be finite"),
        (lambda: Timeout("5"), TypeError, "seconds must be seconds"),
        (lambda: Timeout(5, worker=1), TypeError, "worker must be True or False, got 1"),
        (lambda: Timeout(5, name=3), TypeError, "name must be a str, got 3"),
        (lambda: Timeout(5, listeners=3), TypeError, "listeners must be functions of an event, got 3"),
        (lambda: Timeout(5)(iter_of), TypeError, "is a generator function"),
    ],
)
def test_bad_settings_say_which(make: Any, error: type[Exception], message: str) -> None:
    """Each is named."""
    with pytest.raises(error, match=message):
        make()


def iter_of() -> Iterator[int]:
    yield 1
