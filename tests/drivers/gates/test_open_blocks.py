"""The book of open blocks: each ends with its own ticket, whoever is suspended inside one."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import Bulkhead, Timeout, current_deadline
from resilient.drivers.gates.open_blocks import _users, close_block, open_block
from resilient.testing import FakeClock

POLICY = object()


def opened(ticket: object, policy: object = POLICY) -> None:
    open_block(policy, ticket, sys._getframe(1))


def closed(policy: object = POLICY) -> Any:
    return close_block(policy, sys._getframe(1))


def test_blocks_of_one_frame_end_in_the_reverse_order() -> None:
    """As they nest; blocks of other policies are apart."""
    other = object()
    opened(1)
    opened("other", other)
    opened(2)
    assert [2, 1, "other"] == [closed(), closed(), closed(other)]


def test_frames_that_are_suspended_in_their_blocks_are_not_mixed_up() -> None:
    """Each generator ends its own."""

    def block(ticket: int) -> Iterator[int]:
        opened(ticket)
        yield 0
        yield closed()

    first, second = block(1), block(2)
    next(first), next(second)
    assert [1, 2] == [next(first), next(second)]


def test_a_block_that_was_carried_elsewhere_takes_the_latest_ticket() -> None:
    """An exit stack may be closed by another function."""
    opened(1)

    def elsewhere() -> Any:
        return closed()

    assert 1 == elsewhere()


def test_a_block_that_was_never_begun_is_noticed() -> None:
    """There is nothing to give back."""
    with pytest.raises(RuntimeError, match="ends that was never begun"):
        closed()


def test_exit_stacks_count_as_the_frame_that_uses_them() -> None:
    """They enter and leave from frames of their own."""

    class Block:
        def __enter__(self) -> None:
            open_block(POLICY, 1, sys._getframe(1))

        def __exit__(self, *_: object) -> None:
            tickets.append(close_block(POLICY, sys._getframe(1)))

    tickets: list[int] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(Block())
    assert [1] == tickets


def test_a_frame_without_another_below_is_its_own() -> None:
    """At the bottom of the stack the search ends."""
    frame: Any = type("Bottom", (), {"f_globals": {"__name__": "contextlib"}, "f_back": None})()
    assert frame is _users(frame)


def test_threads_do_not_see_each_others_blocks() -> None:
    """Many at once, each with its own ticket."""

    def work(n: int) -> None:
        for m in range(200):
            opened((n, m))
            assert (n, m) == closed()

    assert [] == together(8, work)


class Entering:
    """A client with blocks of its own, which begin and end in different functions."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    async def __aenter__(self) -> Any:
        return await self.policy.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.policy.__aexit__(*exc_info)


def test_blocks_carried_through_functions_belong_to_their_tasks() -> None:
    """Each task's limit is its own, though all share one policy."""

    async def use(clock: FakeClock, seconds: float) -> str:
        try:
            async with Entering(limit):
                await clock.asleep(seconds)
        except TimeoutError:
            return "cut"
        assert current_deadline() is None
        await clock.asleep(9)
        return "fine"

    async def main() -> list[str]:
        return await asyncio.gather(*(use(clock, seconds) for seconds in (0.1, 3, 0.2, 4, 0.3)))

    limit = Timeout(1)
    with FakeClock() as clock:
        assert ["fine", "cut", "fine", "cut", "fine"] == asyncio.run(main())


def test_a_generator_may_be_closed_by_another_thread() -> None:
    """Its block ends there, and takes its own ticket."""
    bulkhead = Bulkhead(2)

    def block() -> Iterator[int]:
        with bulkhead:
            yield 1

    opened = block()
    next(opened)
    together(1, lambda _: opened.close())
    assert 0 == bulkhead.metrics().inflight


@pytest.mark.parametrize("loop", LOOPS)
def test_a_block_in_a_task_has_its_own_ticket(loop: str) -> None:
    """On every loop."""
    bulkhead = Bulkhead(1)

    async def main() -> int:
        async with bulkhead:
            return bulkhead.metrics().inflight

    assert (1, 0) == (run(loop, main), bulkhead.metrics().inflight)
