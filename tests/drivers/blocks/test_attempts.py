"""The block form: one loop over all layers, entered once a turn, and left in any way."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from books import Book, part
from loops import LOOPS, run
from threads import together

from resilient import (
    Action,
    AdaptiveLimiter,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    DeadlineExceeded,
    Pipeline,
    Recovery,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_attempt,
    current_deadline,
)
from resilient.drivers.blocks.attempts import AsyncAttempts, Attempts
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
policy = Retry(on=OSError, attempts=3, backoff=AT_ONCE)


def test_a_block_may_end_in_another_context() -> None:
    """An async generator that is closed by another task ends its block there."""

    async def items() -> AsyncIterator[int]:
        async for attempt in policy:
            with attempt:
                yield attempt.number

    async def main() -> int:
        stream = items()
        number = await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await stream.aclose()  # type: ignore[attr-defined]
        return number

    assert 1 == asyncio.run(main())


def test_remaining_in_a_block() -> None:
    """The same in the block form."""
    with FakeClock() as clock:
        for attempt in Retry(on=OSError, attempt_timeout=9):
            with attempt:
                clock.advance(4)
                assert 5 == attempt.remaining


def test_a_block_ends_with_its_first_success() -> None:
    """The loop is over, and the last error was visible on the way."""
    met: list[tuple[int, str]] = []
    for attempt in policy:
        with attempt:
            met.append((attempt.number, type(attempt.last_error).__name__))
            if attempt.number < 3:
                raise ConnectionError
    assert [(1, "NoneType"), (2, "ConnectionError"), (3, "ConnectionError")] == met


def test_a_block_may_return_and_break() -> None:
    """Leaving the block counts as success."""

    def returns() -> int:
        for attempt in policy:
            with attempt:
                return 7
        raise AssertionError

    for attempt in policy:
        with attempt:
            break
    assert 7 == returns()


def test_a_block_lets_exits_pass() -> None:
    """KeyboardInterrupt leaves the block at its first attempt."""
    with pytest.raises(KeyboardInterrupt):
        for attempt in Retry(on=Exception):
            with attempt:
                raise KeyboardInterrupt
    assert current_attempt() is None


def test_forgetting_the_with_is_noticed() -> None:
    """A loop that never enters its attempts would go on for ever."""
    with pytest.raises(RuntimeError, match="write `with attempt:` inside the loop"):
        for _ in policy:
            pass


def test_an_iterator_is_its_own() -> None:
    """``iter`` of the attempts gives them back, as iterators must."""
    attempts = iter(policy)
    assert attempts is iter(attempts)
    later = policy.__aiter__()
    assert later is later.__aiter__()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_block_in_a_coroutine_is_cut_off(loop: str) -> None:
    """attempt_timeout ends the block and tries again."""
    met: list[int] = []

    async def main() -> None:
        async for attempt in Retry(on=OSError, attempts=3, attempt_timeout=5, backoff=AT_ONCE):
            with attempt:
                met.append(attempt.number)
                if attempt.number < 3:
                    await clock.asleep(99)

    with FakeClock() as clock:
        run(loop, main)
        assert ([1, 2, 3], 10.0) == (met, clock.now())


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_block_cut_off_for_good_raises_the_policys_error(loop: str) -> None:
    """AttemptTimeout after the last attempt, DeadlineExceeded at the deadline, with the cause."""

    async def main(settings: dict[str, Any]) -> None:
        async for attempt in Retry(on=OSError, backoff=AT_ONCE, **settings):
            with attempt:
                if attempt.number == 1:
                    raise OSError("first")
                await clock.asleep(99)

    with FakeClock() as clock:
        with pytest.raises(AttemptTimeout):
            run(loop, lambda: main({"attempts": 2, "attempt_timeout": 5}))
        with pytest.raises(DeadlineExceeded) as caught:
            run(loop, lambda: main({"timeout": 7}))
    assert "first" == str(caught.value.__cause__)


def test_a_block_that_recovered_too_long_gives_its_error_back() -> None:
    """If recovery outlasts the timeout, the loop raises what the block raised, sync and async."""
    on = Classifier(Rule(OSError, Action.RECONNECT))

    async def main() -> None:
        async for attempt in slow:
            with attempt:
                raise ConnectionResetError("mine")

    with FakeClock() as clock:
        slow = Retry(on=on, timeout=5, backoff=AT_ONCE, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        with pytest.raises(ConnectionResetError, match="mine"):
            for attempt in slow:
                with attempt:
                    raise ConnectionResetError("mine")
        with pytest.raises(ConnectionResetError, match="mine"):
            asyncio.run(main())


def test_a_rejected_result_that_recovered_too_long_ends_the_block() -> None:
    """Without an error there is none to give back: the loop ends."""
    on = Classifier(Rule.result(lambda value: value is None, Action.RECONNECT))
    with FakeClock() as clock:
        slow = Retry(on=on, timeout=5, backoff=AT_ONCE, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        with pytest.raises(StopIteration):
            attempts: Iterator[Any] = iter(slow)
            with next(attempts) as attempt:
                attempt.set_result(None)
            next(attempts)

        async def main() -> int:
            turns = 0
            async for attempt in slow:
                with attempt:
                    turns += 1
                    attempt.set_result(None)
            return turns

        assert 1 == asyncio.run(main())


def test_set_result_is_judged() -> None:
    """A rejected result means another turn."""
    script = Script(None, None, 7)
    for attempt in Retry(on=Classifier(Rule.result(lambda value: value is None)), backoff=AT_ONCE):
        with attempt:
            value = script()
            attempt.set_result(value)
    assert (7, 3) == (value, script.calls)


def test_a_block_shows_its_number() -> None:
    """In a debugger it reads well, and knows its policy's name."""
    attempt = next(iter(Retry(on=OSError, name="send")))
    assert ("<AttemptBlock 1>", "send", None) == (repr(attempt), attempt.name, attempt.remaining)


def test_an_attempt_is_entered_once() -> None:
    """One that is over cannot be begun again."""
    attempt = next(iter(policy))
    with attempt:
        pass
    with pytest.raises(RuntimeError, match="this attempt is over"):
        attempt.__enter__()


def test_a_gate_may_have_to_be_waited_for() -> None:
    """In coroutines; blocking, it waits in the thread itself."""
    book = Book(joins=True)

    async def main() -> None:
        async for attempt in AsyncAttempts((part(book),)):
            with attempt:
                assert {1} == book.open

    asyncio.run(main())
    for attempt in Attempts((part(book),)):
        with attempt:
            assert {2} == book.open
    assert ["join", "passed no value", "enter", "passed no value"] == book.story


def test_a_turn_that_a_gate_does_not_let_through_is_skipped() -> None:
    """It counts as an attempt, but the loop gives the next one."""
    met: list[int] = []

    async def main() -> None:
        async for attempt in AsyncAttempts((*policy.parts(), part(Book(CircuitOpen())))):
            with attempt:
                met.append(attempt.number)

    for attempt in Attempts((*policy.parts(), part(Book(CircuitOpen())))):
        with attempt:
            met.append(attempt.number)
    asyncio.run(main())
    assert [2, 2] == met


def test_what_is_left_of_a_group_is_classified() -> None:
    """Under trio, errors that came together with the cancellation are the block's own."""
    trio = pytest.importorskip("trio")
    met: list[int] = []

    async def main(layers: Pipeline) -> None:
        async for attempt in layers:
            with attempt:
                met.append(attempt.number)
                if attempt.number == 1:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(fails_when_cancelled)
                        await trio.sleep_forever()

    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was cancelled")

    with FakeClock():
        trio.run(main, Retry(on=ValueError, backoff=AT_ONCE) >> Timeout(5))
        assert [1, 2] == met
        with pytest.raises(ExceptionGroup):
            trio.run(main, Retry(on=KeyError, backoff=AT_ONCE) >> Timeout(5))
    assert [1, 2, 1] == met


@pytest.mark.parametrize("outcomes", [("fail", "fail", 7), ("fail",)], ids=["rescued", "abandoned"])
@pytest.mark.parametrize("form", ["blocking", "async", "cut off"])
def test_no_garbage_is_left_by_any_layer(form: str, outcomes: tuple[object, ...]) -> None:
    """Reference counting frees every error, of breakers and limits too."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(ConnectionError):
        pass

    def call(script: Script) -> object:
        try:
            return script()
        except ConnectionError:
            error = Noted()
            errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main(layers: Pipeline, script: Script) -> None:
        with contextlib.suppress(ConnectionError, AttemptTimeout):  # a task that keeps its error is a cycle of its own
            async for attempt in layers:
                with attempt:
                    if form == "cut off":
                        await clock.asleep(99)
                    call(script)

    def guarded() -> None:
        layers = Pipeline(
            Timeout(60), CircuitBreaker(), Retry(on=OSError, attempts=3, backoff=AT_ONCE), CircuitBreaker(), Timeout(5)
        )
        script = Script(*outcomes)
        with contextlib.suppress(ConnectionError, AttemptTimeout):
            if form != "blocking":
                asyncio.run(main(layers, script))
            else:
                for attempt in layers:
                    with attempt:
                        call(script)

    with FakeClock() as clock:
        guarded()
        errors.clear()
        gc.collect()
        gc.disable()
        try:
            guarded()
            assert [] == [error() for error in errors if error() is not None]
        finally:
            gc.enable()


@pytest.mark.parametrize("crowd", ["threads", *LOOPS])
def test_a_crowd_shares_one_pipeline(crowd: str) -> None:
    """Each loop has its own counts; every ticket comes back."""
    limiter, calls = AdaptiveLimiter("aimd", initial=100), [0] * 50
    layers = Pipeline(limiter, Retry(on=OSError, attempts=4, backoff=AT_ONCE), CircuitBreaker(failure_rate=1.0))

    def count(n: int) -> None:
        calls[n] += 1
        if calls[n] <= n % 4:
            raise OSError

    def work(n: int) -> None:
        for attempt in layers:
            with attempt:
                count(n)

    async def work_async(n: int) -> None:
        async for attempt in layers:
            with attempt:
                await (trio_turn() if crowd == "trio" else asyncio.sleep(0))
                count(n)

    async def trio_turn() -> None:
        import trio

        await trio.sleep(0)

    async def main() -> None:
        if crowd == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for n in range(50):
                    nursery.start_soon(work_async, n)
        else:
            await asyncio.gather(*(work_async(n) for n in range(50)))

    assert [] == (together(50, work) if crowd == "threads" else run(crowd, main) or [])
    assert [n % 4 + 1 for n in range(50)] == calls
    assert 0 == limiter.metrics().inflight


def test_blocks_of_one_pipeline_nest() -> None:
    """Recursion: each loop has its own state, and the innermost attempt is the running one."""
    depths: list[tuple[int, int]] = []
    layers = Retry(on=OSError, attempts=2, backoff=AT_ONCE) >> CircuitBreaker()

    def descend(depth: int) -> None:
        for attempt in layers:
            with attempt:
                running = current_attempt()
                assert running is not None
                depths.append((depth, running.number))
                if attempt.number == 1:
                    raise OSError
                if depth:
                    descend(depth - 1)

    descend(2)
    assert [(2, 1), (2, 2), (1, 1), (1, 2), (0, 1), (0, 2)] == depths


def test_a_thread_may_end_a_block_that_another_began() -> None:
    """A generator handed over between threads: its ticket comes back."""
    gate = Book()

    def items() -> Iterator[int]:
        for attempt in Attempts((part(gate),)):
            with attempt:
                yield 1

    stream = items()
    for step in (stream.__next__, stream.close):  # type: ignore[attr-defined]
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert (1, set()) == (gate.given, gate.open)


def test_a_bare_loop_over_an_async_block_ends() -> None:
    """The iterator of an async block is one too."""

    async def main() -> list[int]:
        return [attempt.number async for attempt in entered(AsyncAttempts(()))]

    async def entered(attempts: AsyncAttempts) -> AsyncIterator[Any]:
        async for attempt in attempts:
            with attempt:
                pass
            yield attempt

    assert [1] == asyncio.run(main())


def test_a_running_attempt_is_not_entered_again() -> None:
    """The second time is told, and the first goes on."""
    for attempt in Retry(on=OSError):
        with attempt:
            with pytest.raises(RuntimeError, match="entered already"):
                attempt.__enter__()
    assert current_deadline() is None
