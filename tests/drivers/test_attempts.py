"""The block form, and the attempt that runs now."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from loops import run

from resilient import (
    Action,
    AttemptTimeout,
    Classifier,
    DeadlineExceeded,
    Recovery,
    Retry,
    Rule,
    backoff,
    current_attempt,
)
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
policy = Retry(on=OSError, attempts=3, backoff=AT_ONCE)


def seen() -> tuple[int, str]:
    """The number of the running attempt and the error before it."""
    attempt = current_attempt()
    assert attempt is not None
    return attempt.number, type(attempt.last_error).__name__


def fails_twice() -> Any:
    """A call that fails twice and notes the running attempt each time."""
    notes: list[tuple[int, str]] = []

    def call(*args: Any) -> list[tuple[int, str]]:
        notes.append(seen())
        if len(notes) < 3:
            raise ConnectionError
        return notes

    return call


EXPECTED = [(1, "NoneType"), (2, "ConnectionError"), (3, "ConnectionError")]


class Client:
    def __init__(self) -> None:
        self.call = fails_twice()

    @policy
    def method(self) -> Any:
        return self.call()


def async_of(call: Any) -> Any:
    async def acall() -> Any:
        await asyncio.sleep(0)
        return call()

    return acall


@pytest.mark.parametrize(
    "form",
    [
        lambda call: policy(lambda: call())(),
        lambda call: policy.call(call),
        lambda call: policy.execute(call).unwrap(),
        lambda call: policy.with_(timeout=60)(call)(),
        lambda call: policy.with_(attempt_timeout=60).call(call),
        lambda call: policy.with_(recovery=Recovery())(call)(),
        lambda call: policy.proxy(Client(), methods=["method"]).call() if False else Client().method(),
        lambda call: asyncio.run(policy(async_of(call))()),
        lambda call: asyncio.run(policy.call(async_of(call))),
        lambda call: asyncio.run(policy.with_(timeout=60)(async_of(call))()),
        lambda call: asyncio.run(policy(lambda: async_of(call)())()),
    ],
)
def test_the_running_attempt_is_known_inside_the_call(form: Any) -> None:
    """Number and last error, in every form, from the first attempt on."""
    assert EXPECTED == form(fails_twice())


def test_the_running_attempt_is_known_inside_a_stream() -> None:
    """Number and last error, while a stream is opened again."""
    call = fails_twice()

    @policy.with_(streaming=True)
    def stream() -> Iterator[Any]:
        yield call()

    assert [EXPECTED] == list(stream())


def test_outside_there_is_no_attempt() -> None:
    """None before, between and after."""
    assert current_attempt() is None
    policy.call(seen)
    assert current_attempt() is None


def test_the_innermost_attempt_is_the_running_one() -> None:
    """Nested guards: each sees its own."""
    numbers: list[int] = []

    @policy
    def outer() -> None:
        if len(numbers) < 2:
            numbers.append(seen()[0])
            raise ConnectionError
        inner()
        numbers.append(seen()[0])

    @policy
    def inner() -> None:
        numbers.append(seen()[0])

    outer()
    assert [1, 2, 1, 3] == numbers


def test_blocks_and_calls_nest() -> None:
    """A block inside a call, a call inside a block: the innermost again, and the outer one afterwards."""
    numbers: list[int] = []

    @policy
    def called() -> None:
        numbers.append(seen()[0])
        for attempt in policy:
            with attempt:
                numbers.append(seen()[0])
                if attempt.number < 2:
                    raise ConnectionError
        numbers.append(seen()[0])

    for attempt in policy:
        with attempt:
            if attempt.number == 1:
                raise ConnectionError
            called()
            numbers.append(seen()[0])
    assert [1, 1, 2, 1, 2] == numbers
    assert current_attempt() is None


def test_a_block_is_seen_from_a_task_it_starts() -> None:
    """Tasks copy the context, and so the block around them."""

    async def main() -> int:
        async for attempt in policy:
            with attempt:
                return await asyncio.create_task(inner())
        raise AssertionError

    async def inner() -> int:
        return seen()[0]

    assert 1 == asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_in_a_recovery_handler_no_attempt_runs(is_async: bool) -> None:
    """Between two attempts there is none; calls that the handler guards have their own."""
    found: list[object] = []

    def reconnect() -> None:
        found.append(current_attempt())
        found.append(policy.call(seen))

    on = Classifier(Rule(OSError, Action.RECONNECT))
    recovering = Retry(on=on, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
    script = Script("fail", 7)
    assert 7 == (asyncio.run(recovering.call(script.call_async)) if is_async else recovering.call(script))
    assert [None, (1, "NoneType")] == found


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


def test_other_threads_see_nothing() -> None:
    """A thread of its own is outside."""
    found: list[object] = []

    def call() -> None:
        thread = threading.Thread(target=lambda: found.append(current_attempt()))
        thread.start()
        thread.join()

    policy.call(call)
    assert [None] == found


def test_remaining_counts_down_to_the_nearer_limit() -> None:
    """What is left of the attempt or of the whole call."""
    left: list[float | None] = []

    with FakeClock() as clock:

        def call() -> None:
            attempt = current_attempt()
            assert attempt is not None
            left.append(attempt.remaining)
            clock.advance(4)
            left.append(attempt.remaining)
            if len(left) < 6:
                raise ConnectionError

        Retry(on=OSError, timeout=20, attempt_timeout=9, backoff=backoff.constant(3))(call)()
        assert [9, 5, 9, 5, 6, 2] == left

        left.clear()
        Retry(on=OSError).call(lambda: left.append(current_attempt().remaining))  # type: ignore[union-attr]
    assert [None] == left


def test_remaining_in_a_block() -> None:
    """The same in the block form."""
    with FakeClock() as clock:
        for attempt in Retry(on=OSError, attempt_timeout=9):
            with attempt:
                clock.advance(4)
                assert 5 == attempt.remaining


def test_an_attempt_shows_its_number() -> None:
    """In a debugger it reads well."""
    assert "<Attempt 1>" == policy.call(lambda: repr(current_attempt()))
    assert "<AttemptBlock 1>" == next(repr(attempt) for attempt in policy)


def test_a_block_ends_with_its_first_success() -> None:
    """The loop is over, and the last error was visible on the way."""
    met: list[tuple[int, str]] = []
    for attempt in policy:
        with attempt:
            met.append((attempt.number, type(attempt.last_error).__name__))
            if attempt.number < 3:
                raise ConnectionError
    assert EXPECTED == met


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
