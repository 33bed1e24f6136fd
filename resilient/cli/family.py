"""A running command and the processes that it has started.

Where it runs decides how they are reached:

* **In a process group of its own**, unless the next point holds. One ``killpg`` reaches them all at once, and
  a signal that somebody sends to our group does not reach them twice.
* **In our group, if that is the foreground of a terminal.** Only there may a program read the terminal (a
  password, a prompt, a pager): in a group of its own the kernel would stop it. Ctrl-C and Ctrl-Z then reach
  it straight from the terminal, so that Ctrl-C must not be passed on: many programs take a second one as "now
  at once". The group is also our neighbours' in a pipeline, so that only our own descendants are signalled.

``timeout`` of coreutils makes the user choose between the two (``--foreground``).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from resilient.cli.processes import Process, running

__all__ = ["Family", "OwnGroup", "SharedGroup", "in_foreground"]


class Family(Protocol):
    """A command with its descendants."""

    def signal(self, number: int) -> None:
        """Sends all of them a signal."""
        ...

    def pass_on(self, number: int) -> None:
        """Sends them a signal that we were sent, unless they have it already."""
        ...

    def alive(self) -> bool:
        """Whether any of them is left."""
        ...


class OwnGroup:
    """A command that leads a process group.

    Args:
        leader: its process id, which is the group's.
    """

    def __init__(self, leader: int) -> None:
        self._group = leader

    def signal(self, number: int) -> None:
        """Sends all of them a signal."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    pass_on = signal

    def alive(self) -> bool:
        """Whether any of them is left."""
        try:
            os.killpg(self._group, 0)
        except (ProcessLookupError, PermissionError):  # the latter: macOS, if only zombies are left
            return False
        # Zombies count as members, and in containers nobody may ever reap them.
        return any(process.group == self._group for process in running())


class SharedGroup:
    """A command in our own process group.

    Args:
        child: the command.
    """

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._known: set[int] = set()

    def signal(self, number: int) -> None:
        """Sends all of them a signal."""
        for pid in self._left():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def pass_on(self, number: int) -> None:
        """Sends them a signal that we were sent, unless the terminal sent it to them as well."""
        if number != signal.SIGINT:
            self.signal(number)

    def alive(self) -> bool:
        """Whether any of those that were signalled is left."""
        return bool(self._left())

    def _left(self) -> set[int]:
        # Whoever left the group wants to be on its own; a number used again is hardly in it.
        ours = [process for process in running() if process.group == os.getpgrp()]
        if self._child.returncode is None:  # reaped, its number may belong to somebody else
            self._known |= {self._child.pid} | _descendants(self._child.pid, ours)
        else:
            self._known.discard(self._child.pid)
        return self._known & {process.pid for process in ours}


def in_foreground() -> bool:
    """Whether our process group is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # no terminal controls us
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _descendants(ancestor: int, processes: Iterable[Process]) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    pending = [ancestor]
    while pending:
        born = children.get(pending.pop(), [])
        found.update(born)
        pending.extend(born)
    return found
