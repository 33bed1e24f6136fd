"""``resilient plan``: its numbers are the backoff's, its drawing fits any output."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from resilient import Retry, backoff
from resilient.cli.app import app
from resilient.cli.schedule import FARTHEST, schedule
from resilient.core.backoff import Backoff
from resilient.testing import FakeClock, Script

BACKOFFS = [
    backoff.constant(2),
    backoff.exponential(0.1, cap=3),
    backoff.exponential(0.1, cap=3).jitter("full"),
    backoff.exponential(0.1, cap=3).jitter("equal").floor(0.07),
    backoff.linear(1, cap=4).jitter(0.3),
    backoff.fibonacci(1, 20).jitter("full").floor(0.5),
    backoff.decorrelated(0.1, 5),
    backoff.sequence(1, 5, 2).jitter(1),
]


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def shown(*arguments: str) -> str:
    done = plan(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def facts(*arguments: str) -> Any:
    return json.loads(shown("--json", *arguments))


@pytest.mark.parametrize("curve", BACKOFFS, ids=repr)
def test_the_waits_are_the_backoffs_own(curve: Backoff) -> None:
    """Without jitter they are Backoff.delay; with it, every drawn wait is within the band, which is no wider."""
    found = schedule(Retry(on=OSError, attempts=9, backoff=curve), rows=20)
    assert [retry.wait for retry in found.retries] == [curve.delay(n) for n in range(1, 9)]
    drawn = [[wait for _, wait in zip(range(8), curve.delays(Random(seed)), strict=False)] for seed in range(400)]
    for number, retry in enumerate(found.retries):
        waits = [each[number] for each in drawn]
        assert retry.low <= min(waits)
        assert max(waits) <= retry.high
        assert retry.earliest <= retry.at
        assert retry.earliest <= retry.latest


@given(
    curve=st.sampled_from(BACKOFFS),
    attempts=st.integers(1, 12),
    timeout=st.none() | st.floats(0.01, 40),
    seed=st.integers(0, 1000),
)
def test_a_real_run_is_within_the_plan(curve: Backoff, attempts: int, timeout: float | None, seed: int) -> None:
    """What a policy does while everything fails at once, on a virtual clock."""
    policy = Retry(on=OSError, attempts=attempts, timeout=timeout, backoff=curve)
    found = schedule(policy, rows=99)
    with FakeClock(rng=Random(seed)) as clock, pytest.raises(OSError):
        policy.call(Script(*[OSError()] * 12))
    assert found.least is not None
    assert found.most is not None
    total = sum(clock.sleeps)
    assert found.least <= total + 1e-9
    assert total <= found.most + 1e-9
    sure = [retry for retry in found.retries if retry.in_time == "yes"]
    possible = [retry for retry in found.retries if retry.in_time != "no"]
    assert len(sure) <= len(clock.sleeps) <= len(possible)
    if curve.spread == 0.0:
        assert found.usual == found.least == found.most == pytest.approx(total)


def test_the_timeout_ends_the_schedule() -> None:
    """The retry that comes too late is the last row, and marked."""
    text = shown("--attempts", "8", "--backoff", "exponential:1..60", "--timeout", "40")
    rows = [line.split() for line in text.splitlines() if line.endswith(("yes ", "no "))]
    assert rows == [
        ["1", "1s", "1s", "yes"],
        ["2", "2s", "3s", "yes"],
        ["3", "4s", "7s", "yes"],
        ["4", "8s", "15s", "yes"],
        ["5", "16s", "31s", "yes"],
        ["6", "32s", "1m", "3s", "no"],
    ]
    assert "32s  too late" in text
    assert "gives up after 31s of waiting\n" in text


def test_jitter_may_decide_whether_a_retry_is_in_time() -> None:
    """Such a retry is marked "maybe", and the end is a span."""
    text = shown("--backoff", "exponential:0.1/equal", "--timeout", "1.2")
    assert "400ms .. 800ms        1.5s    750ms .. 1.5s     maybe" in text
    assert "gives up after 700ms of waiting without jitter; with it, 400ms .. 1.2s" in text


def test_json_has_the_same_numbers() -> None:
    """In seconds."""
    assert facts("--attempts", "3", "--backoff", "linear:1/equal", "--timeout", "60", "--attempt-timeout", "2s") == {
        "backoff": "linear:1/equal",
        "attempts": 3,
        "timeout": 60.0,
        "attempt_timeout": 2.0,
        "retries": [
            {"number": 1, "wait": 1, "low": 0.5, "high": 1, "at": 1, "earliest": 0.5, "latest": 1, "in_time": "yes"},
            {"number": 2, "wait": 2, "low": 1, "high": 2, "at": 3, "earliest": 1.5, "latest": 3, "in_time": "yes"},
        ],
        "more": 0,
        "usual": 3.0,
        "least": 1.5,
        "most": 3.0,
    }


def test_rows_are_limited() -> None:
    """The rest is counted, if it can be; the sums are of all."""
    text = shown("--attempts", "30", "--backoff", "constant:1", "--rows", "3")
    assert "... and 26 more\ngives up after 29s of waiting\n" in text
    endless = shown("--attempts", "unlimited", "--backoff", "constant:1", "--rows", "3")
    assert "... and so on\nthe command's own" in endless
    assert facts("--attempts", "unlimited")["usual"] is None


def test_more_attempts_than_anybody_counts() -> None:
    """No sums are given then, unless a timeout bounds them."""
    many = str(10 * FARTHEST)
    found = facts("--attempts", many, "--backoff", "constant:1")
    assert (found["more"], found["most"]) == (10 * FARTHEST - 21, None)
    found = facts("--attempts", "unlimited", "--backoff", "constant:1/full", "--timeout", "10")
    assert (found["more"], found["usual"], found["least"], found["most"]) == (None, 9.0, 9.0, 10.0)


def test_a_policy_without_retries() -> None:
    """One attempt has no schedule."""
    expected = "exponential:0.1..300/full, 1 attempt\none attempt is all, so there is nothing to wait for\n"
    assert shown("--attempts", "1") == expected


def test_waits_of_nothing() -> None:
    """Bars of no length, and no division by it."""
    text = shown("--attempts", "3", "--backoff", "constant:0")
    assert "gives up after 0s of waiting\n" in text


def test_a_band_is_drawn_with_what_the_output_can_show() -> None:
    """Blocks, or characters that everything has; eighths of blocks where there is no band."""
    unicode = shown("--attempts", "3", "--backoff", "linear:1/equal")
    assert f"1 {'█' * 12}{'░' * 12} 1s\n2 {'█' * 24}{'░' * 24} 2s\n" in unicode
    assert f"1 {'█' * 6}▊ 1s\n" in shown("--attempts", "3", "--backoff", "sequence:1,7.1")
    plain = CliRunner(charset="ascii").invoke(app, ["plan", "--attempts", "3", "--backoff", "linear:1/equal"])
    assert f"1 {'#' * 12}{'.' * 12} 1s\n2 {'#' * 24}{'.' * 24} 2s\n" in plain.stdout
    plain = CliRunner(charset="ascii").invoke(app, ["plan", "--attempts", "2", "--backoff", "linear:1"])
    assert f"1 {'#' * 48} 1s\n" in plain.stdout
    assert plain.stdout.isascii()


def test_nothing_but_text_goes_to_a_file() -> None:
    """No colours where there is no terminal."""
    assert "\x1b" not in shown("--timeout", "1")


def test_run_becomes_plan() -> None:
    """A whole command line of ``resilient run`` is taken."""
    options = ("--attempts", "3", "--on-exit", "1", "--on-output", "x", "--kill-after", "1", "--quiet")
    assert shown(*options, "--", "rm", "--help") == shown("--attempts", "3")


def test_a_policy_from_a_file_is_shown(tmp_path: Path) -> None:
    """With its floor; options change it."""
    file = tmp_path / "r.toml"
    file.write_text("[policies.a]\non='OSError'\nbackoff={shape='constant', delay=2, floor=1}\ntimeout=60\n")
    assert shown("--settings", str(file)).startswith("constant:2, at least 1 s, 5 attempts, timeout 1m\n")
    changed = ("--settings", str(file), "--jitter", "full", "--attempts", "2", "--attempt-timeout", "5")
    assert shown(*changed).startswith("constant:2/full, at least 1 s, 2 attempts, timeout 1m, attempt timeout 5s\n")


def test_an_endless_schedule_with_a_timeout_ends_at_it() -> None:
    """The earliest end is where the next wait may be too long."""
    found = schedule(Retry(on=OSError, attempts=None, timeout=10, backoff=backoff.constant(4)), rows=9)
    assert [retry.in_time for retry in found.retries] == ["yes", "yes", "no"]
    assert (found.more, found.usual, found.least, found.most) == (0, 8.0, 8.0, 8.0)
    assert not math.isinf(found.most or 0)
