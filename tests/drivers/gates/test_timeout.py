"""Limits of time: what blocking code can read, a real cancellation, and worker threads."""

import asyncio
import contextlib
import gc
import threading
import weakref
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import AttemptTimeout, DeadlineExceeded, Event, Retry, backoff, current_attempt, current_deadline
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.gate import gated
from resilient.drivers.gates.timeout import AsyncTimeLimit, TimeLimit, _Worker, call_in_worker
from resilient.drivers.wrapping.kind import Kind
from resilient.testing import FakeClock, Script


def make(
    seconds: float = 5.0, error: type[Any] = DeadlineExceeded, listeners: tuple[Any, ...] = ()
) -> tuple[TimeLimit, AsyncTimeLimit]:
    limit = TimeLimit(seconds, error, "each", listeners)
    return limit, AsyncTimeLimit(limit)


def test_a_ticket_is_the_deadline_and_comes_back_however_the_call_ends() -> None:
    """Returned, raised, or never made; soon or not."""
    limit, _ = make()
    with FakeClock():
        for end in (
            lambda ticket: limit.on_success(ticket, 7),
            lambda ticket: limit.on_failure(ticket, KeyError()),
            lambda ticket: limit.release(ticket),
        ):
            for enter in (limit.enter, limit.enter_soon):
                ticket = enter()
                assert 5.0 == current_deadline()
                end(ticket)
                assert current_deadline() is None


@pytest.mark.parametrize(("outer", "expected"), [(3.0, 3.0), (5.0, 5.0), (9.0, 5.0)])
def test_it_never_reaches_beyond_the_one_around_it(outer: float, expected: float) -> None:
    """The nearer counts."""
    limit, _ = make()
    with FakeClock():
        DEADLINE.set(outer)
        limit.enter()
        assert expected == current_deadline()


@pytest.mark.parametrize("is_async", [False, True])
def test_without_time_left_the_call_is_not_made(is_async: bool) -> None:
    """The time around it is up: that one's error, told to whoever listens."""
    heard: list[Event] = []
    limit, async_limit = make(error=AttemptTimeout, listeners=(heard.append,))
    with FakeClock(start=8):
        DEADLINE.set(8.0)
        with pytest.raises(DeadlineExceeded):
            async_limit.ready() if is_async else limit.enter()
    assert ["each: deadline exceeded after 0 s"] == [str(event) for event in heard]


@pytest.mark.parametrize(("error", "of_layer"), [(DeadlineExceeded, None), (AttemptTimeout, True)])
def test_the_error_says_the_limit_and_for_whom_it_is(error: type[Any], of_layer: bool | None) -> None:
    """That of an attempt is for the Retry around it."""
    heard: list[Event] = []
    limit, _ = make(error=error, listeners=(heard.append,))
    exceeded = limit.exceeded()
    assert (error, 5.0, of_layer) == (type(exceeded), exceeded.seconds, getattr(exceeded, "of_layer", None))
    assert [f"each: {exceeded}"] == [str(event) for event in heard]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("late", [False, True])
def test_async_code_is_really_cancelled(loop: str, late: bool) -> None:
    """Its cleanup runs before the caller gets the error."""
    story: list[str] = []
    limit, async_limit = make()

    async def call() -> int:
        try:
            await clock.asleep(99 if late else 2)
        finally:
            story.append("cleaned up")
        return 7

    with FakeClock() as clock:
        guarded = gated(call, limit, async_limit, Kind.ASYNC)
        if late:
            with pytest.raises(DeadlineExceeded, match="after 5 s") as caught:
                run(loop, guarded)
            assert caught.value.__suppress_context__
        else:
            assert 7 == run(loop, guarded)
        assert (5.0 if late else 2.0, ["cleaned up"]) == (clock.now(), story)


def test_a_ticket_may_also_be_joined_and_forgotten() -> None:
    """Nobody waits at a limit, and a call that is never made takes its cut off."""

    async def main() -> None:
        _, limit = make()
        limit.release(await limit.join())
        assert current_deadline() is None

    with FakeClock():
        asyncio.run(main())


def test_where_no_task_runs_the_deadline_is_taken_off() -> None:
    """asyncio can cancel tasks only."""

    async def main() -> None:
        raised: list[BaseException] = []

        def callback() -> None:
            try:
                make()[1].ready()
            except RuntimeError as error:
                raised.append(error)
            raised.append(ValueError(current_deadline()))

        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        assert ["a timeout needs a running asyncio task", "None"] == [str(error).split(":")[0] for error in raised]

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("k"), TimeoutError("mine"), asyncio.CancelledError()])
def test_what_the_call_raises_is_its_own(error: BaseException) -> None:
    """Its TimeoutError and its cancellation too."""
    limit, async_limit = make()
    with FakeClock(), pytest.raises(type(error)) as caught:
        asyncio.run(gated(Script(error).call_async, limit, async_limit, Kind.ASYNC)())
    assert caught.value is error or isinstance(error, asyncio.CancelledError)


class Halt(BaseException):
    """No Exception: as KeyboardInterrupt is none."""


class TestWorkers:
    """Blocking calls in threads of their own."""

    def test_the_result_comes_back(self) -> None:
        """With the arguments, from another thread, in a copy of the context."""
        limit, _ = make(60.0)

        def call(a: int, *, b: int) -> tuple[int, bool, Any, bool]:
            other = threading.current_thread() is not threading.main_thread()
            deadline = current_deadline()
            DEADLINE.set(1.0)
            return a + b, other, CLOCK.get(), deadline is not None

        assert (3, True, CLOCK.get(), True) == call_in_worker(limit, call, (1,), {"b": 2})
        assert current_deadline() is None

    @pytest.mark.parametrize("error", [KeyError("k"), TimeoutError("mine"), Halt(), KeyboardInterrupt()])
    def test_its_own_error_comes_back(self, error: BaseException) -> None:
        """Whatever it is, exits too."""
        with pytest.raises(type(error)) as caught:
            call_in_worker(make(60.0)[0], Script(error), (), {})
        assert error is caught.value
        assert current_deadline() is None

    def test_who_is_late_is_left_behind(self) -> None:
        """The caller gets the error, the call goes on by itself in a daemon thread."""
        heard: list[Event] = []
        finish, finished, threads = threading.Event(), threading.Event(), list[threading.Thread]()

        def call() -> None:
            threads.append(threading.current_thread())
            finish.wait()
            finished.set()

        with pytest.raises(DeadlineExceeded, match="after 0.01 s"):
            call_in_worker(make(0.01, listeners=(heard.append,))[0], call, (), {})
        assert not finished.is_set()
        assert current_deadline() is None
        finish.set()
        if threads:  # otherwise it has not even begun
            threads[0].join()
            assert (True, "resilient each") == (threads[0].daemon, threads[0].name)
        assert ["each: deadline exceeded after 0.01 s"] == [str(event) for event in heard]

    @pytest.mark.parametrize(("took", "late"), [(4.9, False), (5.0, True), (9.0, True)])
    def test_virtual_time_passes_in_the_call(self, took: float, late: bool) -> None:
        """The wait for it takes none."""
        with FakeClock() as clock:
            if late:
                with pytest.raises(DeadlineExceeded):
                    call_in_worker(make()[0], clock.advance, (took,), {})
            else:
                call_in_worker(make()[0], clock.advance, (took,), {})
            assert took == clock.now()

    def test_an_outer_limit_ends_the_wait_too(self) -> None:
        """And without any time left the call is not made."""
        with FakeClock() as clock:
            DEADLINE.set(3.0)
            with pytest.raises(DeadlineExceeded):
                call_in_worker(make()[0], clock.advance, (4,), {})
            script = Script(7)
            with pytest.raises(DeadlineExceeded):
                call_in_worker(make()[0], script, (), {})
        assert 0 == script.calls

    @pytest.mark.parametrize("error", [DeadlineExceeded, AttemptTimeout])
    @pytest.mark.parametrize(("outer", "seconds"), [(3.0, 2.0), (6.0, 5.0), (7.0, None)])
    def test_what_ended_it_is_what_the_error_says(self, error: type[Any], outer: float, seconds: float | None) -> None:
        """The limit around it: the time from the call's begin to that. It is then no matter of the attempt."""
        heard: list[Event] = []
        with FakeClock(start=1) as clock:
            DEADLINE.set(outer)
            with pytest.raises((DeadlineExceeded, AttemptTimeout)) as caught:
                call_in_worker(make(5.0, error, (heard.append,))[0], clock.advance, (9,), {})
        expected = (error, 5.0) if seconds is None else (DeadlineExceeded, seconds)
        assert expected == (type(caught.value), caught.value.seconds)
        assert [f"each: {caught.value}"] == [str(event) for event in heard]

    @pytest.mark.parametrize(
        ("settings", "error", "expected"),
        [
            ({"attempt_timeout": 3}, AttemptTimeout, (AttemptTimeout, 3.0, 2)),
            ({"attempt_timeout": 3}, DeadlineExceeded, (DeadlineExceeded, 3.0, 1)),
            ({"attempt_timeout": 4, "timeout": 3}, AttemptTimeout, (DeadlineExceeded, 3.0, 1)),
            ({"attempt_timeout": 9}, AttemptTimeout, (AttemptTimeout, 5.0, 2)),
        ],
    )
    def test_the_limit_of_a_retrys_attempts_is_one_of_attempts(
        self, settings: Any, error: type[Any], expected: tuple[Any, ...]
    ) -> None:
        """Inside that Retry it is tried again, as if this limit had ended it."""
        calls: list[int] = []

        def call() -> None:
            calls.append(1)
            call_in_worker(limit, clock.advance, (30,), {})

        limit, _ = make(5.0, error)
        with FakeClock() as clock, pytest.raises((DeadlineExceeded, AttemptTimeout)) as caught:
            Retry(on=KeyError, attempts=2, **settings).call(call)
        assert expected == (type(caught.value), caught.value.seconds, len(calls))

    def test_the_attempt_is_known_in_the_thread(self) -> None:
        """It is the one that runs where the call was made."""

        def number() -> int:
            attempt = current_attempt()
            assert attempt is not None
            if attempt.number == 1:
                raise KeyError
            return attempt.number

        assert 2 == Retry(on=KeyError, backoff=backoff.constant(0)).call(call_in_worker, make(60.0)[0], number, (), {})

    @pytest.mark.parametrize("late", [False, True])
    def test_nothing_is_left_for_the_cyclic_collector(self, late: bool) -> None:
        """Whether anybody asks for the error or not."""
        errors: list[weakref.ref[BaseException]] = []

        class Noted(KeyError):
            pass

        def call() -> None:
            if late:
                clock.advance(9)
            error = Noted()
            errors.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        with FakeClock() as clock:
            gc.collect()
            gc.disable()
            try:
                with contextlib.suppress(DeadlineExceeded if late else Noted):
                    call_in_worker(make()[0], call, (), {})
                for thread in threading.enumerate():
                    if thread.name == "resilient each":
                        thread.join()
                assert [None] == [error() for error in errors]
            finally:
                gc.enable()


def test_an_error_that_comes_after_its_caller_has_left_is_not_kept() -> None:
    """The thread that was left behind drops it."""
    worker = _Worker()
    worker.forget()
    worker.run(Script(KeyError("late")), (), {})
    assert (None, True) == (worker.error, worker.over.is_set())


def test_a_task_that_is_cut_off_leaves_no_garbage() -> None:
    """The error of the limit is freed with whoever caught it."""
    limit, async_limit = make()
    refs: list[weakref.ref[BaseException]] = []

    async def main() -> None:
        try:
            await gated(lambda: clock.asleep(99), limit, async_limit, Kind.ASYNC)()
        except DeadlineExceeded as error:
            refs.append(weakref.ref(error))

    with FakeClock() as clock:
        gc.collect()
        gc.disable()
        try:
            asyncio.run(main())
            assert [None] == [error() for error in refs]
        finally:
            gc.enable()
