"""``resilient run`` with real commands: attempts, statuses, streams, limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")

Resilient = Callable[..., "CompletedProcess[bytes]"]

QUICK = ("--backoff", "constant:0.01")

# Fails until it has been run as often as its first argument says, then exits with 0; otherwise with the second.
COUNTING = """
import os, sys
count = os.path.getsize("count") + 1 if os.path.exists("count") else 1
with open("count", "a") as file:
    file.write(".")
print(f"out {count}", flush=True)
print(f"err {count}", file=sys.stderr, flush=True)
sys.exit(0 if count >= int(sys.argv[1]) else int(sys.argv[2]))
"""


def counting(works_at: int, status: int = 1) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", COUNTING, str(works_at), str(status))


def runs(place: Path) -> int:
    return (place / "count").stat().st_size


def test_a_command_is_run_until_it_works(resilient: Resilient, tmp_path: Path) -> None:
    """Its streams come through where they belong; progress is on stderr."""
    done = resilient("run", *QUICK, *counting(3))
    assert done.returncode == 0
    assert done.stdout == b"out 1\nout 2\nout 3\n"
    lines = done.stderr.decode().splitlines()
    assert lines[:4] == [
        "err 1",
        "resilient: attempt 1 of 5 failed: exit status 1; next in 10ms",
        "err 2",
        "resilient: attempt 2 of 5 failed: exit status 1; next in 10ms",
    ]
    assert lines[5].startswith("resilient: succeeded at attempt 3 of 5 after ")
    assert runs(tmp_path) == 3


def test_the_last_status_is_the_commands_own(resilient: Resilient, tmp_path: Path) -> None:
    """When the attempts run out."""
    done = resilient("run", *QUICK, "--attempts", "2", *counting(9, 75))
    assert (done.returncode, runs(tmp_path)) == (75, 2)
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("resilient: gave up after 2 attempts in ")
    assert last.endswith("attempts exhausted (exit status 75)")


def test_what_works_at_once_is_left_alone(resilient: Resilient) -> None:
    """Nothing is said about it."""
    done = resilient("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


@pytest.mark.parametrize(("status", "times"), [(75, 3), (101, 3), (2, 1), (1, 1)])
def test_only_some_statuses_may_be_tried_again(resilient: Resilient, tmp_path: Path, status: int, times: int) -> None:
    """Those of --on-exit."""
    done = resilient("run", *QUICK, "--attempts", "3", "--on-exit", "75,100-110", *counting(9, status))
    assert (done.returncode, runs(tmp_path)) == (status, times)
    assert (f"exit status {status}: not tried again" in done.stderr.decode()) == (times == 1)


def test_quiet_says_nothing(resilient: Resilient, tmp_path: Path) -> None:
    """Only the command speaks."""
    done = resilient("run", "-q", *QUICK, *counting(3))
    assert (done.stderr, runs(tmp_path)) == (b"err 1\nerr 2\nerr 3\n", 3)


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_command_that_is_not_there(resilient: Resilient, quiet: tuple[str, ...]) -> None:
    """127, at once; that much is said in any case."""
    done = resilient("run", *quiet, "--", "no-such-command-anywhere")
    assert (done.returncode, done.stderr) == (127, b"resilient: no-such-command-anywhere: command not found\n")


def test_a_command_that_cannot_be_executed(resilient: Resilient, tmp_path: Path) -> None:
    """126, at once."""
    (tmp_path / "text").write_text("no program")
    done = resilient("run", "--", "./text")
    assert (done.returncode, done.stderr) == (126, b"resilient: ./text: permission denied\n")
    assert resilient("run", "--", "./text/below").returncode == 127


def test_a_command_that_a_signal_killed(resilient: Resilient) -> None:
    """128 plus the signal's number, as shells have it; it is tried again like other failures."""
    done = resilient("run", *QUICK, "--attempts", "2", "--", "sh", "-c", "kill -KILL $$")
    assert done.returncode == 137
    assert done.stderr.count(b"killed by SIGKILL") == 2
    assert resilient("run", *QUICK, "--on-exit", "1", "--", "sh", "-c", "kill -KILL $$").stderr.count(b"SIGKILL") == 1


def test_a_command_whose_reader_left_is_not_run_again(resilient: Resilient) -> None:
    """As in ``... | head``: nobody would see it. No word about it either."""
    done = resilient("run", "--", "sh", "-c", "kill -PIPE $$")
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("limit", ["--attempt-timeout", "--timeout"])
def test_a_command_that_takes_too_long_is_ended(resilient: Resilient, limit: str) -> None:
    """124, whichever limit it was."""
    done = resilient("run", limit, "0.1", "--attempts", "1", "--", "sleep", "60")
    assert done.returncode == 124
    assert b"timed out after 100ms" in done.stderr


def test_an_attempt_that_takes_too_long_is_tried_again(resilient: Resilient, tmp_path: Path) -> None:
    """As often as the attempts allow."""
    done = resilient(
        "run", *QUICK, "--attempt-timeout", "0.2", "--attempts", "3", "--", "sh", "-c", "echo . >>n; sleep 60"
    )
    assert done.returncode == 124
    assert (tmp_path / "n").read_text() == ".\n.\n.\n"


def test_the_timeout_bounds_all_attempts(resilient: Resilient) -> None:
    """It ends waits that would outlast it: the status is the command's, which was not cut off."""
    done = resilient("run", "--backoff", "constant:60", "--timeout", "30", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert b"the next attempt would come after the timeout of 30 s (exit status 3)" in done.stderr


@pytest.mark.parametrize("pattern", [(), ("--on-output", "never")])
def test_the_whole_tree_is_ended(resilient: Resilient, tmp_path: Path, pattern: tuple[str, ...]) -> None:
    """Grandchildren too, even one that ignores the request, so that none runs beside the next attempt."""
    stubborn = "trap '' TERM; echo >pid$$; while :; do sleep 1; done"
    options = ("--attempt-timeout", "3", "--kill-after", "0.1", "--attempts", "1")
    done = resilient("run", *options, *pattern, "--", "sh", "-c", 'sh -c "$0" & wait', stubborn)
    assert done.returncode == 124
    pid = next(tmp_path.glob("pid*")).name.removeprefix("pid")
    assert state_of(pid) in ("", "Z")


def state_of(pid: str) -> str:
    """A process's state as ps has it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_binary_output_comes_through_unchanged(resilient: Resilient) -> None:
    """With a pattern or without one, every byte."""
    script = "import os; data = bytes(range(256)) * 4000; os.write(2, data[:300]); [os.write(1, data) for _ in '123']"
    expected = bytes(range(256)) * 12000
    for pattern in ((), ("--on-output", "^never")):
        done = resilient("run", *pattern, "--", sys.executable, "-c", script)
        assert (done.returncode, done.stdout == expected, done.stderr) == (0, True, expected[:300])


def test_output_that_matches_is_a_failure(resilient: Resilient, tmp_path: Path) -> None:
    """Even with exit status 0, on either stream, and across the chunks in which it comes."""
    script = "import sys\nfor part in ('connection', ' re', 'set\\n'): print(end=part, file=sys.stderr, flush=True)"
    done = resilient(
        "run", *QUICK, "--attempts", "2", "--on-output", "^connection reset$", "--", sys.executable, "-c", script
    )
    assert done.returncode == 1
    assert done.stderr.count(b"connection reset\n") == 2
    assert b"attempt 1 of 2 failed: its output matched, at 'connection reset'; next in 10ms" in done.stderr


def test_a_match_keeps_the_commands_own_status(resilient: Resilient) -> None:
    """Unless that says success. Statuses that are not to be tried again do not count against a match."""
    done = resilient(
        "run", *QUICK, "--attempts", "2", "--on-exit", "none", "--on-output", "x", "--", "sh", "-c", "echo x; exit 9"
    )
    assert (done.returncode, done.stdout) == (9, b"x\nx\n")
    assert resilient("run", "--on-exit", "none", "--", "sh", "-c", "echo x; exit 9").stdout == b"x\n"


def test_a_grandchild_that_keeps_the_pipe_does_not_keep_us(resilient: Resilient, tmp_path: Path) -> None:
    """The command has ended, and all that it wrote is there."""
    script = "sleep 60 & echo $! >pid; echo done"
    done = resilient("run", "--on-output", "never", "--", "sh", "-c", f"{script} 3>&1 >&3")
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_pipe_whose_reader_left_is_noticed_through_us(resilient: Resilient, tmp_path: Path) -> None:
    """With a pattern the command writes to us, and must still end when nobody reads what we pass on."""
    script = f"{sys.executable} -m resilient run --on-output never -- yes | head -n 1; echo end"
    done = resilient("run", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr) == (b"y\nend\n", b"")


def test_options_of_the_command_are_its_own(resilient: Resilient) -> None:
    """With ``--`` or without it, whatever they look like."""
    for dashes in (("--",), ()):
        done = resilient("run", "--attempts", "2", *dashes, "echo", "--attempts", "-x", "--help", "--", "-q")
        assert done.stdout == b"--attempts -x --help -- -q\n"


def test_input_from_a_file_is_read_again(resilient: Resilient, tmp_path: Path) -> None:
    """Each attempt finds it where the first did."""
    (tmp_path / "in").write_text("skipped\none\ntwo\n")
    inner = f"{sys.executable} -m resilient run -q --backoff constant:0 --attempts 2 -- sh -c 'cat; exit 1'"
    done = resilient("run", "--", "sh", "-c", f"exec <in; read skipped; {inner} || true")
    assert done.stdout == b"one\ntwo\none\ntwo\n"


def test_input_from_a_pipe_goes_to_the_first_attempt(resilient: Resilient) -> None:
    """What it has read is gone."""
    done = resilient("run", *QUICK, "--attempts", "2", "--", "sh", "-c", "cat; exit 1", given=b"once\n")
    assert done.stdout == b"once\n"


def test_a_policy_from_a_settings_file(resilient: Resilient, tmp_path: Path) -> None:
    """Its limits hold; options change them; the errors that it is for are Python's, and not asked."""
    (tmp_path / "r.toml").write_text("[policies.night]\non='OSError'\nattempts=2\nbackoff='constant:0'")
    assert resilient("run", "--settings", "r.toml", *counting(9, 7)).returncode == 7
    assert runs(tmp_path) == 2
    resilient("run", "--settings", "r.toml", "--policy", "night", "--attempts", "3", *counting(9, 7))
    assert runs(tmp_path) == 2 + 3


def test_attempts_without_limit(resilient: Resilient, tmp_path: Path) -> None:
    """Until it works; the lines name no limit then."""
    done = resilient("run", "--backoff", "constant:0", "--attempts", "unlimited", *counting(8))
    assert (done.returncode, runs(tmp_path)) == (0, 8)
    assert b"resilient: attempt 7 failed: exit status 1; next in 0s" in done.stderr
