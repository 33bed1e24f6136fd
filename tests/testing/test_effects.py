"""What faults do to a stream, without one: pure, seeded, by the byte."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from resilient.testing.effects import Effect
from resilient.testing.faults import (
    AcceptThenClose,
    Bandwidth,
    Corrupt,
    Down,
    Fault,
    HalfOpen,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stall,
    Timeout,
)


class Always:
    """Chance that always draws the same."""

    def __init__(self, drawn: float) -> None:
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


def effect_of(fault: Fault, *, now: float = 100.0, drawn: float | None = None, seed: int = 7) -> Effect:
    return fault.effect(now, Random(seed) if drawn is None else Always(drawn), "down", Counter())


def pieces(effect: Effect, reads: list[int]) -> list[int]:
    """The sizes of what is written, for so many bytes in each read."""
    written = []
    for read in reads:
        left = read
        while left and not effect.spent:
            size = effect.most(left)
            effect.sent(size)
            written.append(size)
            left -= size
    return written


@pytest.mark.parametrize(
    ("fault", "drawn", "expected"),
    [
        (Latency(0.5), 0.9, 0.5),
        (Latency(0.5, 0.2), 0.0, 0.3),
        (Latency(0.5, 0.2), 0.75, 0.6),
        (Latency(0.1, 0.2), 0.0, 0.0),
    ],
)
def test_latency_is_uniform_around_its_mean_and_never_negative(fault: Latency, drawn: float, expected: float) -> None:
    """Toxiproxy: latency +/- jitter."""
    effect = effect_of(fault, drawn=drawn)
    assert pytest.approx(expected) == effect.delay()
    assert pytest.approx(expected) == effect.delay_of_end()


def test_bandwidth_sends_each_piece_when_a_line_would_have_carried_it() -> None:
    """In spells of a tenth of a second; idle time is not saved up."""
    effect = effect_of(Bandwidth(1000))
    assert 100 == effect.most(5000)
    assert 7 == effect.most(7)
    due = []
    for now in (100.0, 100.05, 100.2, 200.0):
        effect.reserve(now, 100)
        due.append(effect.ready_at)
    assert pytest.approx([100.1, 100.2, 100.3, 200.1]) == due


def test_a_line_is_busy_while_we_are_late() -> None:
    """Small pieces whose timers come late keep the rate; after a long wait no more than a spell is made up for."""
    effect = effect_of(Bandwidth(1000))
    due = []
    for n, now in enumerate((100.0, 100.019, 100.028, 100.03)):
        effect.reserve(now, 10, now - 100.0)
        due.append(effect.ready_at - 100.0)
        assert pytest.approx((n + 1) * 0.01) == due[-1]
    effect.reserve(200.0, 100, 50.0)
    assert pytest.approx(200.0) == effect.ready_at


def test_the_slowest_line_carries_single_bytes() -> None:
    """A rate below ten bytes a second still moves."""
    effect = effect_of(Bandwidth(0.5))
    assert 1 == effect.most(10)
    effect.reserve(100.0, 1)
    assert pytest.approx(102.0) == effect.ready_at


@given(reads=some.lists(some.integers(1, 400), max_size=20), seed=some.integers(0, 999))
def test_slices_do_not_depend_on_how_the_bytes_were_read(reads: list[int], seed: int) -> None:
    """The stream is cut at the same bytes, whatever came together; sizes stay within the variation."""
    slicer = Slicer(10, 4)
    split, whole = (pieces(effect_of(slicer, seed=seed), how) for how in (reads, [sum(reads)]))
    ends = {sum(split[: n + 1]) for n in range(len(split))}
    assert {sum(whole[: n + 1]) for n in range(len(whole))} <= ends
    assert all(6 <= size <= 14 for size in whole[:-1])


def test_slices_are_a_delay_apart() -> None:
    """The first goes at once."""
    effect, due = effect_of(Slicer(10, delay=0.5)), []
    for now in (100.0, 100.0, 109.0):
        effect.reserve(now, 10)
        due.append(max(now, effect.ready_at))
    assert [100.0, 100.5, 109.0] == due


@given(reads=some.lists(some.integers(1, 400), max_size=20), limit=some.integers(0, 3000))
def test_a_limit_is_kept_to_the_byte(reads: list[int], limit: int) -> None:
    """However the bytes came."""
    effect = effect_of(LimitData(limit))
    assert min(limit, sum(reads)) == sum(pieces(effect, reads))
    assert (sum(reads) >= limit) == effect.spent


def test_limits_on_average_are_exponential() -> None:
    """Mean n; a draw of 1 - 1/e is exactly the mean."""
    assert [100] == pieces(effect_of(LimitData(100, average=True), drawn=1 - 1 / math.e - 1e-12), [500])[:1]
    drawn = [sum(pieces(effect_of(LimitData(1000, average=True), seed=seed), [10**6])) for seed in range(2000)]
    assert 900 < sum(drawn) / len(drawn) < 1100
    assert 0.33 < sum(limit > 1000 for limit in drawn) / len(drawn) < 0.41  # 1/e


def test_who_sees_a_limit_as_a_reset() -> None:
    """Nobody, or both."""
    assert ((), ("up", "down")) == (effect_of(LimitData(1)).resets, effect_of(LimitData(1, reset=True)).resets)


@given(data=some.binary(max_size=300), at=some.integers(0, 300), seed=some.integers(0, 99))
def test_flips_do_not_depend_on_how_the_bytes_were_written(data: bytes, at: int, seed: int) -> None:
    """The same bytes change, each by one bit, and the length stays."""
    once, twice = effect_of(Corrupt(0.1), seed=seed), effect_of(Corrupt(0.1), seed=seed)
    bent = once.bent(data)
    assert bent == twice.bent(data[:at]) + twice.bent(data[at:])
    assert len(bent) == len(data)
    assert {(a ^ b).bit_count() for a, b in zip(data, bent, strict=True)} <= {0, 1}


def test_flips_come_at_their_rate() -> None:
    """One byte in fifty; all of them; next to none."""
    zeros = bytes(100_000)
    assert 1700 < len(zeros) - effect_of(Corrupt(0.02)).bent(zeros).count(0) < 2300
    assert 0 == effect_of(Corrupt(1)).bent(zeros).count(0)
    assert zeros == effect_of(Corrupt(5e-324)).bent(zeros)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ResetPeer(), (100.0, ("down",))),
        (ResetPeer(3), (103.0, ("down",))),
        (Timeout(2), (102.0, ())),
        (Timeout(), (math.inf, ())),
        (Timeout(0), (math.inf, ())),
        (AcceptThenClose(1), (101.0, ())),
        (Down(), (100.0, ("down",))),
        (Stall(), (math.inf, ())),
        (HalfOpen(1), (math.inf, ())),
    ],
)
def test_when_a_connection_is_cut(fault: Fault, expected: tuple[float, tuple[str, ...]]) -> None:
    """And who sees a reset."""
    effect = effect_of(fault)
    assert expected == (effect.cut_at, effect.resets)


def test_which_faults_spare_connections_that_are_there() -> None:
    """Those of the door."""
    faults = (Down(), Down(keep=True), AcceptThenClose(), Stall())
    assert [False, True, True, False] == [fault.spares_old for fault in faults]


def test_half_open_closes_one_side_when_told() -> None:
    """After a while, or never by itself."""
    assert [103.0, math.inf] == [effect_of(HalfOpen(3)).quiet_at, effect_of(HalfOpen()).quiet_at]


def test_a_hole_is_remembered() -> None:
    """A stream that lost something must not go on when the fault is lifted."""
    effect = effect_of(Timeout())
    before = effect.lifted()
    effect.dropped(3)
    assert [False, True] == [before, effect.lifted()]


def test_a_slow_close_delays_the_end_only() -> None:
    """Data passes at once."""
    effect = effect_of(SlowClose(2))
    assert [0.0, 2.0] == [effect.delay(), effect.delay_of_end()]


def test_a_fault_without_an_effect_is_not_finished() -> None:
    """The base says so."""
    with pytest.raises(NotImplementedError):
        Fault().effect(0, Random(7), "up", Counter())
    plain = Effect("", Counter())
    plain.sent(1)
    plain.dropped(1)
    plain.reserve(0, 1)
    assert (False, b"x", 7, 0.0) == (plain.lifted(), plain.bent(b"x"), plain.most(7), plain.delay_of_end())
