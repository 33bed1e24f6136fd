"""Generators, guarded until their first item, and beyond with a resume hook."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from loops import run

from resilient import AttemptTimeout, DeadlineExceeded, Retry, backoff, current_attempt, events
from resilient.testing import FakeClock

AT_ONCE = backoff.constant(0)
streaming = Retry(on=OSError, attempts=3, backoff=AT_ONCE, streaming=True)


def test_a_stream_is_opened_again_until_its_first_item() -> None:
    """Failures before the first item are retried with the same arguments."""
    opened: list[Any] = []

    @streaming
    def items(start: int, *, step: int) -> Iterator[int]:
        attempt = current_attempt()
        opened.append((start, step, attempt and attempt.number))
        if len(opened) < 3:
            raise ConnectionError
        yield start
        yield start + step

    assert [1, 3] == list(items(1, step=2))
    assert [(1, 2, 1), (1, 2, 2), (1, 2, 3)] == opened


def test_a_stream_that_never_starts_gives_its_error() -> None:
    """Attempts exhausted: the generator's own error, with its note."""

    @streaming
    def items() -> Iterator[int]:
        raise ConnectionError
        yield

    with pytest.raises(ConnectionError) as caught:
        next(items())
    assert "gave up after 3 attempts in 0.00 s: attempts exhausted" == caught.value.__notes__[0]


def test_after_an_item_only_resume_helps() -> None:
    """Without a hook a broken stream is not tried again, and says so."""
    opened = 0

    @streaming
    def items() -> Iterator[int]:
        nonlocal opened
        opened += 1
        yield 1
        raise ConnectionError

    got: list[int] = []
    with pytest.raises(ConnectionError) as caught:
        got.extend(items())
    assert ([1], 1) == (got or [1], opened)
    assert "items were delivered already" in caught.value.__notes__[0]


def resumable(breaks: int) -> tuple[Any, list[int]]:
    """A stream of 0..9 that breaks after every second item, so many times."""
    resumed: list[int] = []

    def numbers(start: int, end: int) -> Iterator[int]:
        for n in range(start, end):
            if n and n % 2 == 0 and len(resumed) < breaks and n not in resumed:
                resumed.append(n)
                raise ConnectionError
            yield n

    def resume(last: int, start: int, end: int) -> Iterator[int]:
        return numbers(last + 1, end)

    return streaming.with_(attempts=2, resume=resume)(numbers), resumed


def test_resume_goes_on_behind_the_last_item() -> None:
    """No item lost, none doubled; each item that arrives forgives the failures before it."""
    numbers, resumed = resumable(4)
    assert list(range(10)) == list(numbers(0, 10))
    assert [2, 4, 6, 8] == resumed


def test_a_resume_hook_that_fails_is_an_attempt() -> None:
    """What the hook raises is classified like any failure."""
    calls = 0

    def resume(last: int) -> Iterator[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("not yet")
        return iter([last + 1])

    @streaming.with_(resume=resume)
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError

    assert [1, 2] == list(items())


def test_resume_may_give_any_iterable() -> None:
    """A list will do; and what breaks without a hook is an event."""
    heard: list[events.Event] = []

    @streaming.with_(resume=lambda last: [2, 3])
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError

    assert [1, 2, 3] == list(items())
    with pytest.raises(ConnectionError):
        list(streaming.with_(listeners=(heard.append,))(items.__wrapped__)())  # type: ignore[attr-defined]
    assert ["GaveUp"] == [type(event).__name__ for event in heard]


def test_resume_gets_the_same_arguments_in_every_form() -> None:
    """Those of positional parameters by position, defaults filled in; the others by name."""
    seen: list[Any] = []

    def source(first: int, second: int = 2, *, third: int = 3) -> Iterator[int]:
        yield first
        raise ConnectionError

    def resume(*args: Any, **kwargs: Any) -> Iterator[int]:
        seen.append((args, kwargs))
        return iter([9])

    resuming = streaming.with_(resume=resume)
    assert [1, 9] == list(resuming(source)(first=1)) == list(resuming.call(source, first=1))
    assert [((1, 1, 2), {"third": 3})] * 2 == seen


def test_a_resume_hook_that_stops_is_not_the_end_of_the_stream() -> None:
    """Its StopIteration is a mistake, and nothing is lost silently."""

    def resume(last: int) -> Iterator[int]:
        return iter([next(iter([]))])

    @streaming.with_(resume=resume)
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError

    with pytest.raises(RuntimeError, match="the resume hook raised StopIteration"):
        list(items())


def test_a_generator_behind_a_lambda_is_streamed() -> None:
    """What a policy that streams is given counts as a generator, whatever it looks like."""
    opened: list[int] = []

    def items() -> Iterator[int]:
        opened.append(1)
        if len(opened) < 2:
            raise ConnectionError
        yield 7

    assert [7] == list(streaming(lambda: items())())
    with pytest.raises(TypeError):
        list(streaming(lambda: 3)())  # type: ignore[call-overload]


def test_an_async_stream_is_an_async_generator_function() -> None:
    """Frameworks that look, and other policies, see what it is."""

    @streaming
    async def items() -> AsyncIterator[int]:
        yield 1

    assert inspect.isasyncgenfunction(items)
    with pytest.raises(TypeError, match="is a generator function"):
        Retry(on=OSError)(items)
    assert [1] == asyncio.run(collected(streaming(items)()))


def test_send_throw_and_return_reach_the_source() -> None:
    """The consumer's side of a generator is forwarded, and so is its return value."""

    @streaming
    def echo() -> Generator[str, str, str]:
        heard = yield "ready"
        try:
            heard = yield heard.upper()
        except ValueError as error:
            heard = yield f"caught {error}"
        return heard

    stream = echo()
    assert ["ready", "A", "caught b"] == [next(stream), stream.send("a"), stream.throw(ValueError("b"))]
    with pytest.raises(StopIteration) as stopped:
        stream.send("end")
    assert "end" == stopped.value.value


def test_what_the_consumer_throws_in_is_never_retried() -> None:
    """It is the consumer's own error, whatever its class."""
    opened = 0

    @streaming.with_(resume=lambda last: iter([9]))
    def items() -> Iterator[int]:
        nonlocal opened
        opened += 1
        yield 1

    stream = items()
    next(stream)
    with pytest.raises(ConnectionError, match="mine"):
        stream.throw(ConnectionError("mine"))
    assert 1 == opened


def test_close_reaches_the_source() -> None:
    """Leaving early closes what is underneath."""
    closed: list[bool] = []

    @streaming
    def items() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    stream = items()
    next(stream)
    stream.close()
    assert [True] == closed


def test_a_plain_iterator_from_resume_can_be_closed_and_thrown_into() -> None:
    """Iterators without close or throw behave as ``yield from`` would make them."""

    @streaming.with_(resume=lambda last: iter([2, 3]))
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError

    stream = items()
    assert [1, 2] == [next(stream), next(stream)]
    stream.close()
    stream = items()
    assert [1, 2] == [next(stream), next(stream)]
    with pytest.raises(KeyError):
        stream.throw(KeyError("k"))


def test_a_stream_is_a_generator_function() -> None:
    """Frameworks that look see what it is."""

    @streaming
    def items() -> Iterator[int]:
        yield 1

    assert inspect.isgeneratorfunction(items)
    assert [1] == list(streaming.call(items.__wrapped__))  # type: ignore[attr-defined]


def test_progress_is_an_event() -> None:
    """An item after failures is a success."""
    heard: list[events.Event] = []
    opened = 0

    @streaming.with_(listeners=(heard.append,))
    def items() -> Iterator[int]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise ConnectionError
        yield 1

    assert [1] == list(items())
    assert ["AttemptFailed", "Waiting", "Succeeded"] == [type(event).__name__ for event in heard]


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
class TestAsync:
    """The same for async generators."""

    def test_opened_again_until_the_first_item(self, loop: str) -> None:
        """Failures before the first item are retried."""
        opened = 0

        @streaming
        async def items(n: int) -> AsyncIterator[int]:
            nonlocal opened
            opened += 1
            if opened < 3:
                raise ConnectionError
            yield n
            yield n + 1

        assert [5, 6] == run(loop, lambda: collected(items(5)))

    def test_never_started(self, loop: str) -> None:
        """Attempts exhausted."""

        @streaming
        async def items() -> AsyncIterator[int]:
            raise ConnectionError
            yield

        with pytest.raises(ConnectionError) as caught:
            run(loop, lambda: collected(streaming.call(items.__wrapped__)))  # type: ignore[attr-defined]
        assert "attempts exhausted" in caught.value.__notes__[0]

    def test_only_resume_helps_later(self, loop: str) -> None:
        """With the hook it goes on; without it says so."""

        async def items() -> AsyncIterator[int]:
            yield 1
            raise ConnectionError

        async def resume(last: int) -> AsyncIterator[int]:
            yield last + 1

        assert [1, 2] == run(loop, lambda: collected(streaming.with_(resume=resume)(items)()))
        with pytest.raises(ConnectionError) as caught:
            run(loop, lambda: collected(streaming(items)()))
        assert "items were delivered already" in caught.value.__notes__[0]

    def test_send_throw_and_close_reach_the_source(self, loop: str) -> None:
        """The consumer's side is forwarded."""
        closed: list[bool] = []

        @streaming
        async def echo() -> AsyncGenerator[str, str]:
            try:
                heard = yield "ready"
                try:
                    heard = yield heard.upper()
                except ValueError as error:
                    heard = yield f"caught {error}"
            finally:
                closed.append(True)

        async def main() -> list[str]:
            stream = echo()
            heard = [await anext(stream), await stream.asend("a"), await stream.athrow(ValueError("b"))]
            await stream.aclose()
            return heard

        assert ["ready", "A", "caught b"] == run(loop, main)
        assert [True] == closed

    def test_thrown_in_is_not_retried(self, loop: str) -> None:
        """The consumer's own error passes."""

        @streaming
        async def items() -> AsyncGenerator[int, None]:
            yield 1

        async def main() -> None:
            stream = items()
            await anext(stream)
            await stream.athrow(ConnectionError("mine"))

        with pytest.raises(ConnectionError, match="mine"):
            run(loop, main)

    def test_plain_async_iterators(self, loop: str) -> None:
        """A resume hook may give an iterator that has neither aclose nor athrow."""

        class Numbers:
            def __aiter__(self) -> "Numbers":
                return self

            async def __anext__(self) -> int:
                return 2

        @streaming.with_(resume=lambda last: Numbers())
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            raise ConnectionError

        async def main(error: Exception | None) -> list[int]:
            stream = items()
            got = [await anext(stream), await anext(stream)]
            if error is None:
                await stream.aclose()
            else:
                await stream.athrow(error)
            return got

        assert [1, 2] == run(loop, lambda: main(None))
        with pytest.raises(KeyError):
            run(loop, lambda: main(KeyError("k")))

    def test_each_item_is_bounded(self, loop: str) -> None:
        """attempt_timeout bounds the wait for an item, timeout the whole stream."""
        with FakeClock() as clock:

            @streaming.with_(attempt_timeout=5, attempts=2)
            async def slow() -> AsyncIterator[int]:
                await clock.asleep(9)
                yield 1

            with pytest.raises(AttemptTimeout):
                run(loop, lambda: collected(slow()))
            assert 10.0 == clock.now()

            @streaming.with_(timeout=20)
            async def steady() -> AsyncIterator[int]:
                while True:
                    await clock.asleep(9)
                    yield 1

            with pytest.raises(DeadlineExceeded):
                run(loop, lambda: collected(steady()))
            assert 30.0 == clock.now()


def test_a_stream_cut_off_says_that_time_ran_out() -> None:
    """Also after items were delivered."""
    with FakeClock() as clock:

        @streaming.with_(timeout=20)
        async def steady() -> AsyncIterator[int]:
            while True:
                await clock.asleep(9)
                yield 1

        with pytest.raises(DeadlineExceeded) as caught:
            asyncio.run(collected(steady()))
    assert ["gave up after 1 attempt in 20.00 s: cut off by the timeout of 20 s"] == caught.value.__notes__


def test_cancellation_passes_through_an_async_stream() -> None:
    """A cancelled stream is not opened again."""
    opened = 0

    @streaming.with_(on=Exception)
    async def items() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        await asyncio.Event().wait()
        yield 1

    async def main() -> None:
        task = asyncio.create_task(collected(items()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert 1 == opened
