"""One run of a command, from its start to the end of all that it leaves behind.

A single loop waits for everything at once: signals (the end of the child is one), output, and the limits.
Nothing in it blocks, so that a limit holds and Ctrl-C works whatever the command does.
"""

from __future__ import annotations

import math
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from resilient.cli.family import Family
from resilient.cli.output import Pump
from resilient.cli.signals import Signals

__all__ = ["Watch"]

# Seconds without output after which pipes that outlive the child (a daemon that it left behind holds them)
# are given up. Whatever the child itself wrote is in them by then.
SILENCE = 0.25
LONGEST_WAIT = 86_400.0  # seconds: select() takes no year
REMAINS_POLL = 0.05  # seconds between looks at processes that are no children of ours


class Watch:
    """A child under watch.

    Args:
        child: just started.
        family: the child and its descendants.
        pumps: its output, if it comes through us.
        signals: what wakes us.
        ends_at: monotonic instant at which it is cut off.
        grace: seconds from the request to end until it is killed.

    Attributes:
        cut_off: whether it was told to end, for want of time.
    """

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        family: Family,
        pumps: Sequence[Pump],
        signals: Signals,
        ends_at: float,
        grace: float,
    ) -> None:
        self._child = child
        self._family = family
        self._pumps = pumps
        self._signals = signals
        self._ends_at = ends_at
        self._grace = grace
        self._exited = False
        self._quiet_since = 0.0
        self._kill_at = math.inf
        self._killed = False
        self.cut_off = False

    def run(self) -> int:
        """Returns when it is over: its return code, as ``subprocess`` has it."""
        while True:
            now = time.monotonic()
            self._look(now)
            self._limit(now)
            if self._exited and self._drained(now) and self._gone():
                break
            self._wait(max(0.0, self._next_event(now) - now))
        for pump in self._pumps:
            pump.close()
        return self._child.returncode

    def _look(self, now: float) -> None:
        if not self._exited and self._child.poll() is not None:
            self._exited, self._quiet_since = True, now
            for pump in self._pumps:
                pump.child_ended()

    def _limit(self, now: float) -> None:
        if not self.cut_off and not self._exited and now >= self._ends_at:
            self.cut_off, self._kill_at = True, now + self._grace
            self._family.signal(signal.SIGTERM)
            self._family.signal(signal.SIGCONT)  # who is stopped cannot end
        if not self._killed and now >= self._kill_at:
            self._killed = True
            self._family.signal(signal.SIGKILL)

    def _drained(self, now: float) -> bool:
        """Whether there is no more output to wait for."""
        if all(pump.done for pump in self._pumps):
            return True
        return not self._held_up() and now >= self._quiet_since + SILENCE

    def _held_up(self) -> bool:
        """Whether somebody who reads our output is slow: the rest waits as long as it takes, unless we must end."""
        in_haste = self._killed or self._signals.received is not None
        return not in_haste and any(pump.writes is not None for pump in self._pumps)

    def _gone(self) -> bool:
        """Whether nothing is left that would run beside the next attempt.

        What a command that ended in time leaves behind is its own affair.
        """
        return not self.cut_off or self._killed or not self._family.alive()

    def _next_event(self, now: float) -> float:
        """When to look again if nothing happens until then."""
        if self.cut_off and not self._killed:
            return min(self._kill_at, now + REMAINS_POLL) if self._exited else self._kill_at
        if self._exited:
            return math.inf if self._held_up() else self._quiet_since + SILENCE
        return math.inf if self._killed else self._ends_at

    def _wait(self, seconds: float) -> None:
        sources = {fd: pump for pump in self._pumps if (fd := pump.reads) is not None}
        sinks = {fd: pump for pump in self._pumps if (fd := pump.writes) is not None}
        limit = min(seconds, LONGEST_WAIT)
        readable, writable, _ = select.select([self._signals.wake, *sources], list(sinks), [], limit)
        if self._signals.wake in readable:
            self._signals.drain()
        for fd in readable:
            if fd in sources:
                sources[fd].read()
        for fd in writable:
            sinks[fd].write()
        if len(readable) + len(writable) > (self._signals.wake in readable):
            self._quiet_since = time.monotonic()
