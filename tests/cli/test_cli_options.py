"""Options: what they make of a policy, and how they teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from resilient import Retry, backoff
from resilient.cli.app import app
from resilient.cli.failures import read_statuses
from resilient.cli.options import policy_of, policy_options
from resilient.policies.retry import DEFAULT_BACKOFF

TOML = """
[policies.day]
on = "OSError"
attempts = 2
backoff = "constant:1/full"
[policies.night]
on = "OSError"
timeout = 60
"""


def policy(*arguments: str) -> Retry:
    made: list[Retry] = []

    @click.command()
    @policy_options
    @click.pass_context
    def command(ctx: click.Context, /, **given: Any) -> None:
        made.append(policy_of(ctx))

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return made[0].with_(on=OSError)


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    return " ".join(done.stderr.split())


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "r.toml"
    path.write_text(TOML)
    return str(path)


def test_without_options_it_is_the_librarys_own_policy() -> None:
    """The help names the same defaults."""
    assert policy() == Retry(on=OSError)
    text = " ".join(CliRunner().invoke(app, ["run", "--help"]).stdout.split())
    assert "[default: 5]" in text
    assert "[default: exponential:0.1..300/full]" in text
    assert DEFAULT_BACKOFF == backoff.exponential(0.1, cap=300).jitter("full")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--attempts", "3"), {"attempts": 3}),
        (("--attempts", "unlimited"), {"attempts": None}),
        (("--timeout", "2m", "--attempt-timeout", "0.5"), {"timeout": 120.0, "attempt_timeout": 0.5}),
        (("--backoff", "linear:1..9"), {"backoff": backoff.linear(1, cap=9)}),
        (("--backoff", "linear:1..9", "--jitter", "equal"), {"backoff": backoff.linear(1, cap=9).jitter("equal")}),
        (("--jitter", "none"), {"backoff": backoff.exponential(0.1, cap=300)}),
        (("--jitter", "0.3"), {"backoff": DEFAULT_BACKOFF.jitter(0.3)}),
    ],
)
def test_each_option_is_a_setting(arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    """In the words of settings files."""
    assert policy(*arguments) == Retry(on=OSError).with_(**expected)


def test_options_change_what_a_file_says(file: str) -> None:
    """Those that are given."""
    day = Retry(on=OSError, attempts=2, backoff=backoff.constant(1).jitter("full"), name="day")
    assert policy("--settings", file, "--policy", "day") == day
    changed = policy("--settings", file, "--policy", "day", "--attempts", "unlimited", "--jitter", "none")
    assert changed == day.with_(attempts=None, backoff=backoff.constant(1))


@pytest.mark.parametrize(
    ("arguments", "lesson"),
    [
        (("--attempts", "0"), "'--attempts': attempts must be >= 1, got 0"),
        (("--attempts", "-1"), "'--attempts': attempts must be >= 1, got -1"),
        (("--attempts", "few"), "'--attempts': attempts must be a whole number >= 1 or \"unlimited\", got 'few'"),
        (("--timeout", "0"), "'--timeout': timeout must be > 0 s, got 0.0"),
        (("--timeout", "soon"), "'--timeout': timeout must be seconds or a time such as 250ms, 5s, 2m or 1h, "),
        (("--backoff", "2"), "'--backoff': backoff must be written like constant:2, linear:1..10, "),
        (("--jitter", "much"), "'--jitter': jitter must be \"full\", \"equal\" or a fraction from 0 to 1, got 'much'"),
        (("--backoff", "constant:1/full", "--jitter", "none"), "--jitter is given twice: --backoff ends in one too."),
        (("--backoff", "decorrelated:1..2", "--jitter", "full"), "--jitter: jitter cannot be added to a decorrelated"),
        (("--on-exit", "0"), "'--on-exit': exit statuses must be from 1 to 255, written like 1,75,100-110, or none"),
        (("--on-output", "("), "'--on-output': is no regular expression: missing ), unterminated subpattern"),
        (("--kill-after", "x"), "'--kill-after': kill-after must be seconds or a time such as 250ms, "),
        (("--policy", "a"), "--policy goes with --settings, the file that has it."),
        (("--settings", "no.toml"), "there is no settings file: '"),
        (("--bakoff", "x"), "No such option '--bakoff'"),
    ],
)
def test_wrong_usage_is_taught(arguments: tuple[str, ...], lesson: str) -> None:
    """Status 2, and a text that shows how it should be."""
    for command in ("run", "plan"):
        assert lesson in refused(command, *arguments, "--", "true")


def test_a_command_is_needed() -> None:
    """To run, not to plan."""
    assert "Missing argument 'COMMAND...'" in refused("run", "--attempts", "2")


def test_a_settings_file_is_checked(file: str, tmp_path: Path) -> None:
    """Its own errors come through; the policy must be in it."""
    assert "--policy must say which policy of" in refused("run", "--settings", file, "true")
    assert "has no policy 'nigth'; did you mean 'night'?" in refused(
        "run", "--settings", file, "--policy", "nigth", "true"
    )
    empty = tmp_path / "empty.toml"
    empty.write_text("[policies]")
    assert "it has none" in refused("run", "--settings", str(empty), "true")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[policies.a]\non='OSError'\nattempts=0")
    assert f"{wrong}: policies.a.attempts must be >= 1, got 0" in refused("run", "--settings", str(wrong), "true")


def test_a_command_takes_a_retry(tmp_path: Path) -> None:
    """Other kinds and pipelines may stand in the file, but not in the command line."""
    path = tmp_path / "r.toml"
    cut = "[policies.cut]\nkind='timeout'\nseconds=5\n"
    path.write_text(f"{cut}[policies.day]\non='OSError'\n[pipelines.all]\nlayers=['cut', 'day']")
    assert policy("--settings", str(path)) == Retry(on=OSError, name="day")
    for name, kind in (("cut", "Timeout"), ("all", "Pipeline")):
        for command in ("plan", "run"):
            told = refused(command, "--settings", str(path), "--policy", name, "true")
            assert f"--policy must name a Retry, got {name!r}, which is a {kind}; there are: day" in told
    path.write_text(cut)
    assert "it has none" in refused("run", "--settings", str(path), "true")
    assert "which is a Timeout" in refused("run", "--settings", str(path), "--policy", "cut", "true")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", {1}), ("1,75", {1, 75}), ("100-103, 2", {2, 100, 101, 102, 103}), ("none", set()), ("255", {255})],
)
def test_statuses_are_listed(text: str, expected: set[int]) -> None:
    """Singly or in spans."""
    assert read_statuses(text) == expected


@pytest.mark.parametrize("text", ["", "0", "256", "1,", "5-3", "-3", "a", "1-", "1-300", "all", "٣"])
def test_other_statuses_are_refused(text: str) -> None:
    """A status is from 1 to 255."""
    with pytest.raises(
        ValueError, match="exit statuses must be from 1 to 255, written like 1,75,100-110, or none, got"
    ):
        read_statuses(text)
