"""The demo, run for real: it recovers from everything, says so when it does not, and leaves nothing behind.

Its parts mostly wait. So each is played once, in a process of its own, and all of them at the same time; the tests
share what came of it. ``make demo`` plays them one after the other, in one process.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

import demo.command
from demo import loopback, plugins
from demo.environment import environment
from demo.faults import CROWD, FAULTS
from demo.stage import PARTS

HANG = 180  # seconds: only a run that would never end takes so long
# As `python -m demo`; complains of any thread that it leaves.
PROGRAM = """
import runpy, sys, threading
before = threading.enumerate()
try:
    runpy.run_module("demo", run_name="__main__", alter_sys=True)
finally:
    print(*set(threading.enumerate()) - set(before), sep="\\n", end="", file=sys.stderr)
"""
DEMO = (sys.executable, "-W", "error", "-c", PROGRAM)
# Each takes about as long as the others; beside them, one after the other, are those that are interrupted.
PLAYS = {
    "without relogin": ("blocking", "--without", "relogin"),
    "loopback": ("loopback",),
    "asyncio": ("asyncio",),
    "trio": ("trio",),
    "the rest": ("blocking", "--only", "plugins", "--only", "command", "--only", "panics"),
}
WHOLE = [name for name in PLAYS if name != "without relogin"]
INTERRUPTED = ("blocking", "asyncio", "trio", "loopback", "plugins")
AT_ONCE = len(PLAYS) + 1
NUMBERS = re.compile(r"(\d+) accepted = (\d+) delivered \+ (\d+) unconfirmed \+ (\d+) dropped \+ (\d+) pending")


class Ended(NamedTuple):
    """What came of a run."""

    status: int
    told: str
    complaints: str
    files: list[str]


def run(temporary: Path, *options: str, interrupt: bool = False) -> Ended:
    """Runs the demo to its end, or to its first fault."""
    settings = environment() | {"TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        (*DEMO, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=settings, cwd=temporary
    ) as running:
        assert running.stdout is not None
        if interrupt:
            next(line for line in running.stdout if "injected" in line)
            running.send_signal(signal.SIGINT)
        try:
            told, complaints = running.communicate(timeout=HANG)
        finally:
            running.kill()  # if it hangs; nothing happens to what has ended
    return Ended(running.returncode, told, complaints, [path.name for path in temporary.iterdir()])


def verdicts(output: str) -> dict[tuple[str, str], str]:
    """The last column of the table, by client and fault."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    return {(row[0], row[1]): row[-1] for row in cells if row and row[0]}


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> dict[str, Ended]:
    """What came of each of the plays; the runs that are interrupted are named ``interrupted`` and their part."""
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def start(*options: str, interrupt: bool = False) -> Future[Ended]:
            return pool.submit(run, tmp_path_factory.mktemp("demo"), "--only", *options, interrupt=interrupt)

        ending = {name: start(*options) for name, options in PLAYS.items()}
        if sys.platform != "win32":
            ending |= {f"interrupted {part}": start(part, interrupt=True) for part in INTERRUPTED}
    return {name: each.result() for name, each in ending.items()}


@pytest.mark.parametrize("name", WHOLE)
def test_everything_injected_is_recovered(name, played):
    """The demo ends with 0, and has nothing to complain of: no warning, and no thread that it leaves."""
    assert (0, "") == (played[name].status, played[name].complaints), played[name].told


def test_the_table_has_every_fault_for_every_client(played):
    """Nothing is left out of the table, and all of it is well."""
    expected = {("blocking", fault.name) for fault in FAULTS}
    expected |= {(loop, fault.name) for loop in ("asyncio", "trio") for fault in FAULTS + CROWD}
    expected |= {("loopback", trouble.name) for trouble in loopback.TROUBLES}
    expected |= {("plugin host", trouble.name) for trouble in plugins.TROUBLES}
    expected |= {("resilient run", "fails twice"), ("call", "apply configuration"), ("thread", "background loop")}
    assert dict.fromkeys(expected, "yes") == verdicts("".join(played[name].told for name in WHOLE))


@pytest.mark.parametrize("name", WHOLE)
def test_each_fault_says_what_was_injected_and_what_was_recovered(name, played):
    """There are two lines for each fault while it runs."""
    told = played[name].told
    rows = len(verdicts(told))
    assert (rows, rows) == (told.count("  injected:"), told.count("  recovered:"))


def test_the_numbers_of_the_loopback_client_add_up(played):
    """accepted = delivered + unconfirmed + dropped + pending, after each trouble."""
    sums = [tuple(map(int, line)) for line in NUMBERS.findall(played["loopback"].told)]
    assert len(loopback.TROUBLES) == len(sums)
    assert [accepted for accepted, *_ in sums] == [sum(fates) for _, *fates in sums]


@pytest.mark.parametrize("name", WHOLE)
def test_a_plain_pipe_gets_plain_text(name, played):
    """Colours are for terminals."""
    assert "\x1b" not in played[name].told


@pytest.mark.parametrize("name", PLAYS)
def test_the_parts_leave_no_file_behind(name, played):
    """Nothing is in the directory for temporary files, which is the current one too."""
    assert [] == played[name].files


def test_a_recovery_that_is_missing_is_noticed(played):
    """Without a way to sign in again the demo ends with 1, and says which faults were not recovered."""
    ended = played["without relogin"]
    lost = {fault for (_, fault), verdict in verdicts(ended.told).items() if verdict == "NO"}
    assert (1, {"signs out", "hangs up", "dies", "fails in four ways"}) == (ended.status, lost), ended.told
    assert "not recovered: blocking, signs out: SignedOutError" in ended.told


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("part", INTERRUPTED)
def test_an_interrupt_ends_it_cleanly(part, played):
    """Ctrl-C ends the demo with 130 and one word, whichever client runs."""
    ended = played[f"interrupted {part}"]
    # An interrupt may strike between the making of a coroutine and its first await, of which Python then warns.
    assert (130, "interrupted") == (ended.status, ended.complaints.partition("\n")[0])


def test_without_only_all_parts_are_played(monkeypatch):
    """One after the other, in one process."""
    shortest = {name: part for name, part in PARTS.items() if name in ("command", "panics")}
    monkeypatch.setattr(demo.command, "PARTS", shortest)
    ended = CliRunner().invoke(demo.command.demo)
    clients = [client for client, _ in verdicts(ended.stdout)]
    assert (0, ["resilient run", "call", "thread"]) == (ended.exit_code, clients)


def test_help_names_every_part(tmp_path):
    """`--help` tells what there is to see."""
    shown = run(tmp_path, "--help").told
    assert [] == [part for part in PARTS if part not in shown]
