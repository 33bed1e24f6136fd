"""The demo, run for real: it recovers from everything, says so when it does not, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from demo import loopback, plugins, process
from demo.environment import environment
from demo.faults import CROWD, FAULTS
from demo.process import ServerProcess
from demo.report import Report, Row
from demo.stage import PARTS, play
from resilient.cli.processes import running

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


def test_nothing_recovered_is_no_success():
    """A demo that injected nothing has shown nothing."""
    report = Report()
    assert (False, False) == (play(report, parts=()), report.ok)


def test_one_lost_row_loses_the_demo():
    """It is well only if all of it is."""
    report = Report()
    row = Row("client", "fault", "injected", "RETRY x1", 2, 0.1, 0.1)
    report.ended(row)
    assert report.ok
    report.ended(Row("client", "fault", "injected", "", 2, 0.1, 0.1, missing="a reason"))
    assert not report.ok


@pytest.mark.parametrize(
    ("lost", "unconfirmed", "told"), [(None, 0, ""), (0, 0, "0"), (3, 0, "3"), (0, 7, "0 of 7"), (3, 7, "3 of 7")]
)
def test_a_loss_is_told_with_what_was_unconfirmed(lost, unconfirmed, told):
    """Where nothing could be lost, nothing is said."""
    assert told == Row("client", "fault", "injected", "", 0, 0.0, 0.0, lost=lost, unconfirmed=unconfirmed).loss


@pytest.mark.parametrize("part", ["asyncio", "panics", "loopback", "plugins"])
def test_the_parts_leave_nothing_behind(part, capsys, monkeypatch, tmp_path):
    """The threads and files that the demo makes end with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.enumerate()
    assert play(Report(), parts=(part,)), capsys.readouterr().out
    assert (before, []) == (threading.enumerate(), list(tmp_path.iterdir()))


def test_the_server_comes_back_on_its_port():
    """A killed server is started again where its clients look for it, and has forgotten everything."""
    with ServerProcess() as server:
        port = server.port
        server.order("503 2")
        server.kill()
        server.ensure_ready()
        assert (port, {"connections": 0, "logins": 0, "unspent": 0}) == (server.port, server.order("counters"))


def test_no_server_is_left_behind():
    """Where the server was, nobody answers any more, even if the demo broke down."""
    with pytest.raises(ZeroDivisionError), ServerProcess() as server:
        socket.create_connection(server.address).close()
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_server_that_hangs_is_killed(monkeypatch):
    """Nobody waits for its answer for ever."""
    monkeypatch.setattr(process, "SILENCE", 0.5)
    with ServerProcess() as server:
        (child,) = (each.pid for each in running() if each.parent == os.getpid())
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(RuntimeError, match="ended by itself"):
            server.order("counters")


@pytest.mark.parametrize("module", ["server", "loopback_server", "control_plane"])
def test_the_server_ends_with_whoever_started_it(module, tmp_path):
    """A demo that is killed leaves no server: the end of its standard input ends it."""
    arguments = (str(tmp_path / "record"),) if module == "loopback_server" else ()
    server = subprocess.Popen(
        (sys.executable, "-m", f"demo.{module}", "0", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    with server:
        assert server.stdout is not None
        assert server.stdout.readline()
        server.communicate(timeout=HANG)
    assert server.returncode == 0


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
