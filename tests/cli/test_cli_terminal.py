"""``resilient run`` on a terminal: a real pseudo-terminal, which controls it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")

HANG = 120

# The new session's leader makes the terminal its own, then becomes `resilient`, as a shell's child would.
LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "resilient", *sys.argv[1:]])
"""


class Terminal:
    """A pseudo-terminal with `resilient` in its foreground."""

    def __init__(self, place: Path, encoding: str, arguments: tuple[str, ...]) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\x00\x50\x00\x00\x00\x00\x00")  # 24 lines of 80 columns
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADER, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=place,
            env=environment | {"TERM": "xterm", "PYTHONIOENCODING": encoding},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self.master, text.encode())

    def read_until(self, text: str) -> None:
        """Waits until a text is on the screen."""
        while text not in self.seen:
            assert self._read(), f"{text!r} never came, but {self.seen!r}"

    def end(self) -> int:
        """Reads to the end; the exit status."""
        while self._read():
            pass
        return self.process.wait(HANG)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], HANG)
        assert ready, f"nothing more came after {self.seen!r}"
        try:
            data = os.read(self.master, 65_536)
        except OSError:  # how Linux says that nobody holds the other end
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """Ends whatever is left."""
        self.process.kill()
        self.process.wait(HANG)
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts it on a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str, encoding: str = "utf-8") -> Terminal:
        opened.append(Terminal(tmp_path, encoding, arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", "━"), ("ascii", "-")])
def test_a_wait_is_counted_down_and_cleared(terminal: Callable[..., Terminal], encoding: str, line: str) -> None:
    """The seconds are seen, and the line is gone before the command writes again."""
    screen = terminal(
        "run", "--attempts", "2", "--backoff", "constant:0.3", "--", "sh", "-c", "echo hello; exit 3", encoding=encoding
    )
    assert screen.end() == 3
    assert "resilient: attempt 1 of 2 failed: exit status 3; next in 300ms" in screen.seen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.seen)
    assert re.search(f"{line} attempt 2 of 2 in 0.[0-3]s", plain)
    countdown, _, after = screen.seen.rpartition("attempt 2 of 2 in ")
    assert "hello" in countdown
    assert after.index("\x1b[2K") < after.index("hello")  # the whole line is erased
    assert after.index("\x1b[?25h") < after.index("hello")  # and the cursor is back


def test_no_countdown_where_it_is_not_wanted(terminal: Callable[..., Terminal]) -> None:
    """Not with --quiet."""
    screen = terminal("run", "-q", "--attempts", "2", "--backoff", "constant:0.05", "--", "sh", "-c", "exit 3")
    assert (screen.end(), screen.seen) == (3, "")


def test_the_command_sees_the_terminal(terminal: Callable[..., Terminal]) -> None:
    """It may ask something there, as a password prompt does."""
    script = "import sys; assert sys.stdout.isatty(); print(input('name? ').upper())"
    screen = terminal("run", "--", sys.executable, "-c", script)
    screen.read_until("name? ")
    screen.type("ada\n")
    assert screen.end() == 0
    assert "ADA" in screen.seen


def test_ctrl_c_while_the_command_runs(terminal: Callable[..., Terminal]) -> None:
    """The command gets it from the terminal, and not from us as well; nothing is tried again."""
    script = (
        "import signal, sys, time; count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1)); print('ready', flush=True)\n"
        "while not count: time.sleep(0.01)\n"
        "time.sleep(0.3); print(f'{len(count)} heard'); sys.exit(7)"
    )
    screen = terminal("run", "--backoff", "constant:0", "--", sys.executable, "-c", script)
    screen.read_until("ready")
    screen.type("\x03")
    assert screen.end() == 7
    assert screen.seen.count("1 heard") == 1


def test_ctrl_c_while_it_waits(terminal: Callable[..., Terminal]) -> None:
    """At once, and the countdown is cleared."""
    screen = terminal("run", "--backoff", "constant:3600", "--", "sh", "-c", "exit 3")
    screen.read_until("attempt 2 of 5 in")
    screen.type("\x03")
    assert screen.end() == 130
    assert screen.seen.rstrip().endswith("\x1b[2K")


def test_an_attempt_that_takes_too_long_is_ended_with_its_tree(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Also where the process group is ours too."""
    script = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! >pid; wait"
    screen = terminal(
        "run", "--attempt-timeout", "3", "--kill-after", "0.1", "--attempts", "1", "--", "sh", "-c", script
    )
    assert screen.end() == 124
    wait_until_gone(int((tmp_path / "pid").read_text()))


def wait_until_gone(pid: int) -> None:
    """A process that was killed goes as soon as somebody reaps it."""
    deadline = time.monotonic() + HANG
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{pid} is still there")
