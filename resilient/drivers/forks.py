"""Whether this process is a fork of the one where something began.

Asking for the process id is a call of the system; a count that each fork raises in the child is not.
"""

from __future__ import annotations

import os

__all__ = ["Origin", "count"]

count = 0
"""How many forks lie between the first process and this one."""


class Origin:
    """The process in which something was started, if it was.

    Attributes:
        pid: of that process; None before the start.
        forks: the count of forks there; -1, which is no count, before the start.
    """

    __slots__ = ("forks", "pid")

    def __init__(self) -> None:
        self.pid: int | None = None
        self.forks = -1

    def begin(self) -> None:
        """Notes that the start is in this process."""
        self.pid, self.forks = os.getpid(), count

    @property
    def here(self) -> bool:
        """Whether it was started in this very process."""
        return self.forks == count

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one where it was started."""
        return self.forks not in {-1, count}


def _forked() -> None:
    global count
    count += 1


if hasattr(os, "register_at_fork"):  # pragma: no branch  # elsewhere nothing forks
    os.register_at_fork(after_in_child=_forked)
