"""The demo, run for real: it recovers from everything, says so when it does not, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from demo import loopback, plugins
from demo.environment import environment
from demo.faults import CROWD, FAULTS
from demo.stage import PARTS

HANG = 180  # seconds: only a run that would never end takes so long
DEMO = (sys.executable, "-W", "error", "-m", "demo")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*DEMO, *options), capture_output=True, text=True, timeout=HANG, encoding="utf-8", env=environment()
    )


def verdicts(output: str) -> dict[tuple[str, str], str]:
    """The last column of the table, by client and fault."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    return {(row[0], row[1]): row[-1] for row in cells if row and row[0]}


@pytest.fixture(scope="module")
def whole() -> subprocess.CompletedProcess[str]:
    return run()


def test_everything_injected_is_recovered(whole):
    """The whole demo ends with 0, and has nothing to complain of."""
    assert (0, "") == (whole.returncode, whole.stderr), whole.stdout


def test_the_table_has_every_fault_for_every_client(whole):
    """Nothing is left out of the table, and all of it is well."""
    expected = {("blocking", fault.name) for fault in FAULTS}
    expected |= {(loop, fault.name) for loop in ("asyncio", "trio") for fault in FAULTS + CROWD}
    expected |= {("loopback", trouble.name) for trouble in loopback.TROUBLES}
    expected |= {("plugin host", trouble.name) for trouble in plugins.TROUBLES}
    expected |= {("resilient run", "fails twice"), ("call", "apply configuration"), ("thread", "background loop")}
    assert dict.fromkeys(expected, "yes") == verdicts(whole.stdout)


def test_each_fault_says_what_was_injected_and_what_was_recovered(whole):
    """There are two lines for each fault while it runs."""
    rows = len(verdicts(whole.stdout))
    assert (rows, rows) == (whole.stdout.count("  injected:"), whole.stdout.count("  recovered:"))


def test_a_plain_pipe_gets_plain_text(whole):
    """Colours are for terminals."""
    assert "\x1b" not in whole.stdout


def test_a_recovery_that_is_missing_is_noticed():
    """Without a way to sign in again the demo ends with 1, and says which faults were not recovered."""
    ended = run("--without", "relogin", "--only", "blocking")
    lost = {fault for (_, fault), verdict in verdicts(ended.stdout).items() if verdict == "NO"}
    assert (1, {"signs out", "hangs up", "dies", "fails in four ways"}) == (ended.returncode, lost), ended.stdout
    assert "not recovered: blocking, signs out: SignedOutError" in ended.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("part", ["blocking", "asyncio", "trio", "loopback", "plugins"])
def test_an_interrupt_ends_it_cleanly(part):
    """Ctrl-C ends the demo with 130 and one word, whichever client runs."""
    with subprocess.Popen(
        (*DEMO, "--only", part), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as running:
        assert running.stdout is not None
        while "injected" not in running.stdout.readline():
            pass
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=HANG)
    # An interrupt may strike between the making of a coroutine and its first await, of which Python then warns.
    assert (130, "interrupted") == (running.returncode, complaint.partition("\n")[0])


def test_help_names_every_part():
    """`--help` tells what there is to see."""
    shown = run("--help").stdout
    assert [] == [part for part in PARTS if part not in shown]
