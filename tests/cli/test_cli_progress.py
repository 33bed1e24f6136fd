"""Progress in one process: lines, and commands that a virtual clock makes wait."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner

from resilient.cli.app import app
from resilient.cli.progress import Progress
from resilient.core.action import Action
from resilient.core.events import Recovering, Succeeded, Waiting
from resilient.testing import FakeClock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")


def test_the_waits_are_the_policys(capfd: pytest.CaptureFixture[str]) -> None:
    """Minutes of them, which pass at once on a fake clock."""
    with FakeClock() as clock:
        done = CliRunner().invoke(app, ["run", "--backoff", "exponential:60..600", "--", "sh", "-c", "echo x; exit 3"])
    assert done.exit_code == 3
    assert clock.sleeps == [60, 120, 240, 480]
    assert capfd.readouterr().out == "x\n" * 5
    assert done.stderr.splitlines() == [
        "resilient: attempt 1 of 5 failed: exit status 3; next in 1m",
        "resilient: attempt 2 of 5 failed: exit status 3; next in 2m",
        "resilient: attempt 3 of 5 failed: exit status 3; next in 4m",
        "resilient: attempt 4 of 5 failed: exit status 3; next in 8m",
        "resilient: gave up after 5 attempts in 900.00 s: attempts exhausted (exit status 3)",
    ]


def test_a_success_says_nothing() -> None:
    """Nor does a command that works at once."""
    done = CliRunner().invoke(app, ["run", "true"])
    assert (done.exit_code, done.output) == (0, "")


def test_output_that_matches(capfd: pytest.CaptureFixture[str]) -> None:
    """On either stream."""
    for stream in ("", " >&2"):
        done = CliRunner().invoke(
            app, ["run", "--attempts", "1", "--on-output", "bad", "sh", "-c", f"echo bad{stream}"]
        )
        assert done.exit_code == 1
        assert "its output matched, at 'bad'" in done.stderr
    assert tuple(capfd.readouterr()) == ("bad\n", "bad\n")


def test_limits_end_a_command() -> None:
    """Gently, then not."""
    done = CliRunner().invoke(app, ["run", "--attempt-timeout", "0.1", "--attempts", "1", "sleep", "60"])
    assert done.exit_code == 124
    stubborn = "trap '' TERM; while :; do sleep 0.05; done"
    options = ["--timeout", "0.5", "--kill-after", "0.05", "--attempts", "1", "--on-output", "never"]
    assert CliRunner().invoke(app, ["run", *options, "sh", "-c", stubborn]).exit_code == 124


@pytest.mark.parametrize(("word", "status"), [("no-such-command-anywhere", 127), (os.devnull, 126)])
def test_what_cannot_start(word: str, status: int) -> None:
    """Is not tried again."""
    assert CliRunner().invoke(app, ["run", word]).exit_code == status


def test_a_signal_that_has_no_name() -> None:
    """Real-time signals are told by number."""
    number = 40 if sys.platform == "linux" else 31
    done = CliRunner().invoke(app, ["run", "--attempts", "1", "sh", "-c", f"kill -{number} $$"])
    assert done.exit_code == 128 + number
    assert "killed by " in done.stderr


def test_a_closed_stderr_does_not_stop_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is only progress."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        Progress(5)(Succeeded("x", 1.0, 3))
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            closed.close()


def test_other_events_are_not_for_here(capsys: pytest.CaptureFixture[str]) -> None:
    """A command has no connection to recover."""
    Progress(5)(Recovering("x", 0.0, Action.RECONNECT))
    assert capsys.readouterr().err == ""


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot go back over one."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress(5)
    progress(Waiting("x", 0.0, 2, 0.5))
    assert progress._countdown is None
    assert capsys.readouterr().err.endswith("; next in 500ms\n")
