"""The locks around the steps of shared states.

They are reentrant: the collector may run in the middle of a step, and with it the end of an abandoned block, which
takes a step of its own in this very thread; with a plain lock it would wait for itself. A step is a few assignments,
which another one in between cannot spoil.

``with lock`` costs twice what ``acquire`` and ``release`` do. But a signal is handled right after a call, and one that
comes between ``acquire()`` and the ``try`` behind it, or is raised while it waits, must neither leave the lock held nor
release that of another. So what every call passes is written like this::

    try:
        lock.acquire()
        ...
    except BaseException:
        let_go(lock)
        raise
    lock.release()
"""

from __future__ import annotations

from contextlib import suppress
from threading import RLock

__all__ = ["let_go"]


def let_go(lock: RLock) -> None:
    """Releases a lock if this thread holds it."""
    with suppress(RuntimeError):  # interrupted while it waited for the lock
        lock.release()
