"""Forks are counted, in the child."""

from __future__ import annotations

import os
from collections.abc import Callable

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


@pytest.fixture
def fork(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What a fork does in the child, here."""
    monkeypatch.setattr(forks, "count", forks.count)
    return forks._forked


def test_what_never_began_is_no_fork_of_it(fork: Callable[[], None]) -> None:
    """Nor is it here."""
    origin = forks.Origin()
    fork()
    assert (None, False, False) == (origin.pid, origin.here, origin.forked)


def test_what_began_here_is_elsewhere_after_a_fork(fork: Callable[[], None]) -> None:
    """Its process is known all the same."""
    origin = forks.Origin()
    origin.begin()
    assert (os.getpid(), True, False) == (origin.pid, origin.here, origin.forked)
    fork()
    assert (os.getpid(), False, True) == (origin.pid, origin.here, origin.forked)
