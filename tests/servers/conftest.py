"""For every test with a server: what it opened is closed in the end."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from servers.daemons import until

FILES = "/proc/self/fd"


def open_sockets() -> int:
    """How many this process has. (Of pipes some loops keep one for good.)"""
    count = 0
    for name in os.listdir(FILES):
        with suppress(FileNotFoundError):
            count += os.readlink(f"{FILES}/{name}").startswith("socket:")
    return count


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Sockets and threads are back where they were. (Tasks: see ``Client.run``.)"""
    if not os.path.isdir(FILES):
        yield
        return
    sockets, threads = open_sockets(), set(threading.enumerate())
    yield
    until(lambda: not set(threading.enumerate()) - threads)
    gc.collect()
    until(lambda: open_sockets() <= sockets)
