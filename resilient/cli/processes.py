"""The processes of this machine, as far as ending some of them needs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Process", "running"]

ENDED = ("Z", "X")  # a zombie that waits for its parent to look, or is being taken away


class Process(NamedTuple):
    """One of them, by its number, its parent's and its process group's."""

    pid: int
    parent: int
    group: int


def running() -> Iterator[Process]:
    """Every process that has not ended."""
    if os.path.isdir("/proc/self"):
        yield from _from_proc()
    else:
        yield from _from_ps()


def _from_proc() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError), open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                # The name comes second, in brackets, and may hold spaces and brackets of its own.
                state, parent, group = file.read().rpartition(")")[2].split()[:3]
                if state not in ENDED:
                    yield Process(int(entry), int(parent), int(group))


def _from_ps() -> Iterator[Process]:
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True)
        for line in told.stdout.splitlines():
            pid, parent, group, state = line.split()
            if not state.startswith(ENDED):
                yield Process(int(pid), int(parent), int(group))
