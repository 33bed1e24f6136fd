"""Signals to ``resilient run``: real ones, to real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from resilient.cli.signals import Interrupted, Signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")

Start = Callable[..., "Popen[bytes]"]

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
HANG = 120

# Says which signal it got, and how often, and exits with 40 + its number.
TELLING = """
import os, signal, sys, time
def tell(number, frame):
    os.write(1, b"got %d\\n" % number)  # not print: the signal may come in the middle of the other one
    sys.exit(40 + number)
for number in (1, 2, 15):
    signal.signal(number, tell)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def ended(process: Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=HANG)
    return process.returncode, out, err


def read_until(process: Popen[bytes], text: bytes, stream: str = "stdout") -> None:
    source = getattr(process, stream)
    for line in source:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("pattern", [(), ("--on-output", "never")], ids=["inherited", "piped"])
def test_a_signal_is_passed_on_to_the_command(started: Start, number: signal.Signals, pattern: tuple[str, ...]) -> None:
    """Once; its last words come through, its status is ours, and it is not tried again."""
    process = started("run", *pattern, "--backoff", "constant:0", "--", sys.executable, "-c", TELLING)
    read_until(process, b"ready")
    process.send_signal(number)
    assert ended(process) == (40 + number, b"got %d\n" % number, b"")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_that_kills_the_command(started: Start, number: signal.Signals) -> None:
    """128 plus its number."""
    process = started("run", "--backoff", "constant:0", "--", "sh", "-c", "echo ready; exec sleep 60")
    read_until(process, b"ready")
    process.send_signal(number)
    assert ended(process) == (128 + number, b"", b"")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_a_wait(started: Start, number: signal.Signals) -> None:
    """At once; 128 plus its number."""
    process = started("run", "--backoff", "constant:3600", "--", "sh", "-c", "exit 3")
    read_until(process, b"next in 1h", "stderr")
    process.send_signal(number)
    assert ended(process) == (128 + number, b"", b"")


def test_a_command_may_ignore_a_signal(started: Start, tmp_path: Path) -> None:
    """Then we wait for it, and its success is a success; a failure is not tried again."""
    for status in (0, 5):
        script = f"trap '' INT; echo ready; while [ ! -e go{status} ]; do sleep 0.05; done; exit {status}"
        process = started("run", "--backoff", "constant:0", "--", "sh", "-c", script)
        read_until(process, b"ready")
        process.send_signal(signal.SIGINT)
        (tmp_path / f"go{status}").touch()
        assert ended(process) == (status, b"", b"")


def test_a_signal_reaches_grandchildren(started: Start) -> None:
    """The whole group gets it, as from a terminal."""
    process = started("run", "--", "sh", "-c", '"$0" -c "$1"; echo shell: $?', sys.executable, TELLING)
    read_until(process, b"ready")
    process.send_signal(signal.SIGHUP)
    assert process.wait(HANG) == 128 + signal.SIGHUP
    assert process.stdout is not None
    assert process.stdout.readline() == b"got 1\n"


def test_what_was_ignored_stays_ignored(started: Start) -> None:
    """As under nohup: neither we nor the command hear it."""
    script = 'trap "" HUP; "$0" -m resilient run -- sh -c \'kill -HUP $PPID; kill -HUP $$; echo alive\''
    process = started("run", "--", "sh", "-c", script, sys.executable)
    assert ended(process) == (0, b"alive\n", b"")


class Heard:
    """A family that notes what it is passed."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def signal(self, number: int) -> None:
        raise AssertionError("only passed on")

    def pass_on(self, number: int) -> None:
        self.heard.append(number)

    def alive(self) -> bool:
        return True


def test_between_commands_a_signal_interrupts() -> None:
    """It comes out of whatever runs then, and no policy takes it for a failure."""
    with Signals() as signals, pytest.raises(Interrupted) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert (caught.value.status, signals.received) == (128 + 15, signal.SIGTERM)
    assert not isinstance(caught.value, Exception)


def test_while_a_command_starts_a_signal_waits_for_it() -> None:
    """Raised between fork and the child's number, it would leave an orphan."""
    family = Heard()
    with Signals() as signals, signals.busy() as adopt:
        signal.raise_signal(signal.SIGHUP)
        assert family.heard == []
        adopt(family)
        assert family.heard == [signal.SIGHUP]
        signal.raise_signal(signal.SIGINT)
    assert family.heard == [signal.SIGHUP, signal.SIGINT]


def test_the_handlers_are_put_back() -> None:
    """Whatever they were, a handler that Python does not know included."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCHLD)}
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGCHLD)
        signals.drain()
        signals._old[signal.SIGCHLD] = None
    after = {number: signal.getsignal(number) for number in before}
    assert after == before | {signal.SIGCHLD: signal.SIG_DFL}
    signal.signal(signal.SIGCHLD, before[signal.SIGCHLD])
