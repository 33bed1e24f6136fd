"""Deadlines: read inside, passed inward, taken off again."""

import asyncio
from collections.abc import Iterator

import pytest

from resilient import Deadline, Retry, Timeout, backoff, current_deadline
from resilient.drivers.deadline import DEADLINE, lift, limiting
from resilient.testing import FakeClock, Script


def test_outside_there_is_no_deadline() -> None:
    """None, and none afterwards."""
    assert current_deadline() is None
    with FakeClock():
        assert 5 == Timeout(5).call(current_deadline)
    assert current_deadline() is None


def test_a_deadline_is_an_instant_and_knows_what_remains() -> None:
    """Never less than nothing."""
    with FakeClock(start=3) as clock:
        deadline = Deadline(8.0)
        left = [deadline.remaining]
        for step in (2, 9):
            clock.advance(step)
            left.append(deadline.remaining)
    assert (8.0, [5, 3, 0]) == (deadline, left)


@pytest.mark.parametrize(
    ("settings", "outer", "expected"),
    [
        ({"timeout": 9}, None, 19),
        ({"attempt_timeout": 4}, None, 14),
        ({"timeout": 9, "attempt_timeout": 4}, None, 14),
        ({"timeout": 9}, 12.0, 12),
        ({"timeout": 9}, 30.0, 19),
    ],
)
def test_the_first_attempt_ends_at_the_nearest_limit(
    settings: dict[str, float], outer: float | None, expected: float
) -> None:
    """Its own two, and that around it."""
    token = DEADLINE.set(outer)
    own = limiting(Retry(on=OSError, **settings).plan)(10.0)  # type: ignore[arg-type]
    assert expected == current_deadline()
    lift(own)
    assert outer == DEADLINE.get()
    DEADLINE.reset(token)


def test_a_deadline_that_ends_in_another_context_is_simply_gone() -> None:
    """As that of an async generator that another task closes."""

    def set_in_another() -> object:
        import contextvars

        return contextvars.copy_context().run(DEADLINE.set, 5.0)

    lift(set_in_another())  # type: ignore[arg-type]
    assert current_deadline() is None


def test_tasks_inherit_it_and_threads_do_not() -> None:
    """It travels with the context."""

    async def main() -> list[float | None]:
        async with Timeout(5):
            task = asyncio.create_task(read())
            return [await task, await asyncio.to_thread(current_deadline)]

    async def read() -> float | None:
        return current_deadline()

    with FakeClock():
        assert [5.0, 5.0] == asyncio.run(main())


def test_every_attempt_of_a_retry_reads_its_own() -> None:
    """From the first on."""
    seen: list[float | None] = []

    def call() -> None:
        seen.append(current_deadline())
        if len(seen) < 3:
            raise OSError

    with FakeClock():
        Retry(on=OSError, timeout=10, attempt_timeout=5, backoff=backoff.constant(3))(call)()
        assert current_deadline() is None
    assert [5, 8, 10] == seen


def test_a_fake_clock_begins_without_one() -> None:
    """A deadline is an instant of one clock."""
    with Timeout(60):
        assert current_deadline() is not None
        with FakeClock():
            assert current_deadline() is None
        assert current_deadline() is not None


def test_a_generator_may_hold_a_deadline_over_a_yield() -> None:
    """And takes it off at its end."""

    def items() -> Iterator[float | None]:
        with Timeout(5):
            yield current_deadline()

    with FakeClock():
        assert ([5.0], None) == (list(items()), current_deadline())


def test_a_failing_attempt_takes_its_deadline_off() -> None:
    """Also where the call gives up."""
    with FakeClock():
        Retry(on=OSError, timeout=9, attempts=2, backoff=backoff.constant(1)).execute(Script("fail"))
        assert current_deadline() is None
