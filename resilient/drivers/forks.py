"""Whether this process is a fork of the one where something began.

Asking for the process id is a call of the system; a count that each fork raises in the child is not.
"""

from __future__ import annotations

import os

__all__ = ["count"]

count = 0
"""How many forks lie between the first process and this one."""


def _forked() -> None:
    global count
    count += 1


if hasattr(os, "register_at_fork"):  # elsewhere nothing forks
    os.register_at_fork(after_in_child=_forked)
