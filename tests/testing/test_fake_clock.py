"""Virtual time."""

import asyncio
import time
from datetime import timedelta
from random import Random

import pytest

from resilient import Retry, backoff
from resilient.drivers.clock import CLOCK, SYSTEM, VirtualClock
from resilient.testing import FakeClock, Script


def test_blocking_sleeps_advance_it_at_once() -> None:
    """Every wait, in order, and no real one."""
    with FakeClock() as clock:
        Retry(on=OSError, backoff=backoff.exponential(1000, cap=9000)).call(Script("fail", "fail", 7))
    assert ([1000, 2000], 3000) == (clock.sleeps, clock.now())


def test_it_counts_in_its_context_only() -> None:
    """Nested clocks, and the system's afterwards."""
    with FakeClock() as outer:
        with FakeClock() as inner:
            assert CLOCK.get() is inner
        assert CLOCK.get() is outer
    assert CLOCK.get() is SYSTEM


def test_tasks_and_other_contexts() -> None:
    """A task copies the context it was made in."""

    async def main() -> int:
        return await Retry(on=OSError, backoff=backoff.constant(500)).call(Script("fail", 7).call_async)

    with FakeClock() as clock:
        assert 7 == asyncio.run(main())
    assert [500] == clock.sleeps


@pytest.mark.parametrize("duration", [2.5, timedelta(seconds=2.5)])
def test_advance_lets_things_happen(duration: float) -> None:
    """What falls due, at its own instant, and what that makes due in turn."""
    clock, happened = FakeClock(start=10), list[float]()
    clock.call_later(
        1, lambda: (happened.append(clock.now()), clock.call_later(1, lambda: happened.append(clock.now())))
    )
    clock.call_later(3, lambda: happened.append(clock.now()))
    clock.advance(duration)
    assert ([11.0, 12.0], 12.5) == (happened, clock.now())


def test_a_cancelled_timer_does_not_fire() -> None:
    """Nor does it keep the clock busy."""
    clock = FakeClock()
    clock.call_later(1, lambda: pytest.fail("fired")).cancel()
    assert not clock.jump()
    clock.advance(5)


def test_a_timer_cancelled_by_its_neighbour_does_not_fire() -> None:
    """Also if both are due together."""
    clock = FakeClock()
    later = []
    clock.call_later(1, lambda: later[0].cancel())
    later.append(clock.call_later(1, lambda: pytest.fail("fired")))
    assert not clock.jump()


def test_jump_goes_from_timer_to_timer() -> None:
    """And says whether there is another."""
    clock, happened = FakeClock(), list[float]()
    for seconds in (5, 1):
        clock.call_later(seconds, lambda: happened.append(clock.now()))
    assert (True, False, False) == (clock.jump(), clock.jump(), clock.jump())
    assert [1.0, 5.0] == happened


def test_wall_time_passes_with_it() -> None:
    """For dates that a server names."""
    clock = FakeClock(start=100)
    before = clock.wall()
    clock.advance(60)
    assert 60.0 == pytest.approx(clock.wall() - before)
    assert abs(before - time.time()) < 60


class Half:
    def random(self) -> float:
        return 0.5


@pytest.mark.parametrize("rng", [Half(), Random(7)])
def test_it_seeds_jitter(rng: Half) -> None:
    """With any object that has random()."""
    expected = Random(7).random() if isinstance(rng, Random) else 0.5
    with FakeClock(rng) as clock:
        Retry(on=OSError, backoff=backoff.constant(10).jitter("full")).call(Script("fail", 7))
    assert [10 * expected] == clock.sleeps


def test_without_rng_jitter_is_the_systems() -> None:
    """Still in range."""
    assert 0 <= FakeClock().random() < 1


def test_asleep_is_not_among_the_policys_sleeps() -> None:
    """The code under test may wait by the same clock."""
    clock = FakeClock()
    asyncio.run(clock.asleep(7))
    assert ([], 7.0) == (clock.sleeps, clock.now())


def test_it_is_a_virtual_clock_and_shows_itself() -> None:
    """By its time and the number of waits."""
    assert isinstance(FakeClock(), VirtualClock)
    assert "<FakeClock at 3 s, 0 sleeps>" == repr(FakeClock(start=3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FakeClock(7), TypeError, r"rng must have a random\(\) method, such as random.Random\(7\), got 7"),
        (lambda: FakeClock(start=-1), ValueError, "start must be >= 0 s"),
        (lambda: FakeClock().advance(-1), ValueError, "duration must be >= 0 s"),
    ],
)
def test_bad_input_says_which(make: object, error: type[Exception], message: str) -> None:
    """Each is named."""
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
