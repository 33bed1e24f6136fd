"""A command as a function that a policy can call: it returns, or raises what went wrong."""

from __future__ import annotations

import math
import os
import re
import stat
import subprocess
import time
from collections.abc import Sequence

from resilient.cli.failures import (
    CommandExited,
    CommandNotStarted,
    CommandTimedOut,
    OutputMatched,
    status_of,
)
from resilient.cli.family import Family, OwnGroup, SharedGroup, in_foreground
from resilient.cli.output import LineSearch, Pump
from resilient.cli.signals import Interrupted, Signals
from resilient.cli.watch import Watch
from resilient.drivers.retry.attempts import current_attempt

__all__ = ["Command"]

STDIN, STDOUT, STDERR = 0, 1, 2


class Command:
    """A command that can be run again.

    Args:
        words: its name and arguments.
        signals: passed on to it while it runs.
        pattern: what its output must not have. Without one it inherits our streams, and sees a terminal if
            there is one.
        grace: seconds between the request to end and the kill, where it is cut off.
    """

    def __init__(
        self, words: Sequence[str], signals: Signals, *, pattern: re.Pattern[bytes] | None = None, grace: float = 5.0
    ) -> None:
        self._words = words
        self._signals = signals
        self._pattern = pattern
        self._grace = grace
        self._input_at = _position(STDIN)

    def run(self) -> None:
        """Runs the command once.

        Raises:
            CommandFailed: it did not end well.
            Interrupted: we were sent a signal meanwhile.
        """
        self._rewind()
        began = time.monotonic()
        ends_at = began + _time_left()
        searches = [] if self._pattern is None else [LineSearch(self._pattern) for _ in (STDOUT, STDERR)]
        shares = in_foreground()
        with self._signals.busy() as adopt, self._start(shares) as child:
            family: Family = SharedGroup(child) if shares else OwnGroup(child.pid)
            adopt(family)
            watch = Watch(child, family, _pumps(child, searches), self._signals, ends_at, self._grace)
            returncode = watch.run()
        if self._signals.received is not None:
            raise Interrupted(status_of(returncode))
        if watch.cut_off:
            raise CommandTimedOut(ends_at - began)
        _judge(returncode, searches)

    def _rewind(self) -> None:
        # A file can be read again by the next attempt; what came through a pipe is gone.
        if self._input_at is not None:
            os.lseek(STDIN, self._input_at, os.SEEK_SET)

    def _start(self, shares_group: bool) -> subprocess.Popen[bytes]:
        through_us = None if self._pattern is None else subprocess.PIPE
        group = None if shares_group else 0
        try:
            return subprocess.Popen(self._words, stdout=through_us, stderr=through_us, process_group=group)
        except OSError as error:
            raise CommandNotStarted(self._words[0], error) from None


def _position(fd: int) -> int | None:
    """Where a file is being read; None if it is no file that can be read twice."""
    try:
        return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:  # closed
        return None


def _time_left() -> float:
    attempt = current_attempt()
    left = None if attempt is None else attempt.remaining
    return math.inf if left is None else left


def _pumps(child: subprocess.Popen[bytes], searches: Sequence[LineSearch]) -> list[Pump]:
    pairs = zip((child.stdout, child.stderr), (STDOUT, STDERR), strict=True)
    piped = [(source, sink) for source, sink in pairs if source is not None]
    return [Pump(source, sink, search) for (source, sink), search in zip(piped, searches, strict=True)]


def _judge(returncode: int, searches: Sequence[LineSearch]) -> None:
    for search in searches:
        if search.found is not None:
            raise OutputMatched(search.found.decode(errors="replace"), status_of(returncode))
    if returncode != 0:
        raise CommandExited(returncode)
