"""Forks are counted, in the child."""

from __future__ import annotations

import os

import pytest

from resilient.drivers import forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_is_one_fork_further() -> None:
    """The parent is where it was."""
    before = forks.count
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        os.write(writing, str(forks.count).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert (str(before + 1).encode(), before) == (os.read(reading, 100), forks.count)
    os.close(reading)
    os.close(writing)
