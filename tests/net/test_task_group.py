"""The tasks of a supervisor, on every event loop."""

from __future__ import annotations

import pytest
from loops import LOOPS, run

from resilient.drivers.loops.current import current_backend
from resilient.net.task_group import Latch, crew


@pytest.mark.parametrize("loop", LOOPS)
def test_a_latch_is_waited_for_by_many(loop: str) -> None:
    """Before and after it happened; it happens once."""
    woken: list[int] = []

    async def main() -> None:
        latch, ended = Latch(), Latch()
        team = crew()
        await team.open()

        async def waiting() -> None:
            await latch.wait()
            woken.append(1)

        for n in range(3):
            team.start(waiting, f"{n}", lambda: len(woken) == 3 and ended.happen())
        await current_backend().sleep(0)
        latch.happen()
        latch.happen()
        await ended.wait()
        await latch.wait()
        await team.close()

    run(loop, main)
    assert 3 == len(woken)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abandoned_crew_is_cancelled(loop: str) -> None:
    """All of it at once."""
    ended: list[int] = []

    async def main() -> None:
        team = crew()
        await team.open()
        for n in range(3):
            team.start(current_backend().waiter().wait, f"{n}", lambda: ended.append(1))
        await current_backend().sleep(0)
        team.abandon()
        await team.close()

    run(loop, main)
    assert [1, 1, 1] == ended


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancellation_from_outside_is_told_from_one_within(loop: str) -> None:
    """asyncio counts them; on trio each stays in its scope."""
    seen: list[bool] = []

    async def main() -> None:
        team = crew()
        await team.open()

        async def look() -> None:
            before = team.cancellations()
            seen.append(team.left(before))
            try:
                await current_backend().waiter().wait()
            finally:
                seen.append(team.left(before))

        member = team.start(look, "look", lambda: None)
        await current_backend().sleep(0.001)
        member.cancel()
        await team.close()

    run(loop, main)
    assert [loop == "trio", True] == seen
