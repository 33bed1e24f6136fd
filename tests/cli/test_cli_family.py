"""Reaching a command with all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from resilient.cli import family as families
from resilient.cli import processes
from resilient.cli.family import Family, OwnGroup, SharedGroup, in_foreground
from resilient.cli.processes import Process, running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")

HANG = 120
MAKERS: dict[str, tuple[int | None, Callable[[subprocess.Popen[bytes]], Family]]] = {
    "own": (0, lambda child: OwnGroup(child.pid)),
    "shared": (None, SharedGroup),
}


@pytest.fixture(params=sorted(MAKERS))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], Family, int]]:
    """A command, its family, and a grandchild that has begun."""
    group, make = MAKERS[request.param]
    script = "sleep 600 & echo $!; while :; do wait; done"  # it ends by its own signal, not by the end of its child
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, process_group=group) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        yield child, make(child), grandchild
        child.kill()
        if grandchild in pids():
            os.kill(grandchild, signal.SIGKILL)


def pids() -> set[int]:
    return {process.pid for process in running()}


def test_a_signal_reaches_them_all(pair: tuple[subprocess.Popen[bytes], Family, int]) -> None:
    """The command and its children, and nobody else: this test survives."""
    child, family, grandchild = pair
    family.signal(signal.SIGSTOP)
    family.signal(signal.SIGCONT)
    assert {child.pid, grandchild} <= pids()
    family.signal(signal.SIGTERM)
    assert child.wait(HANG) == -signal.SIGTERM
    while family.alive():  # the grandchild needs a moment
        pass
    assert not {child.pid, grandchild} & pids()
    family.signal(signal.SIGTERM)  # nobody is left: nothing happens


def test_a_family_outlives_its_head(pair: tuple[subprocess.Popen[bytes], Family, int]) -> None:
    """What the command leaves behind after a signal is still reached."""
    child, family, grandchild = pair
    family.signal(signal.SIGCONT)
    child.kill()
    child.wait(HANG)
    assert family.alive()
    family.signal(signal.SIGKILL)
    while family.alive():
        pass
    assert grandchild not in pids()


def test_ctrl_c_is_not_passed_on_where_the_terminal_has_sent_it() -> None:
    """In a shared group the command has it already."""
    with subprocess.Popen(["sleep", "600"]) as child:
        family = SharedGroup(child)
        family.pass_on(signal.SIGINT)
        family.pass_on(signal.SIGTERM)
        assert child.wait(HANG) == -signal.SIGTERM


def test_who_leaves_the_group_is_left_alone() -> None:
    """A daemon wants to be on its own."""
    with subprocess.Popen(["sleep", "600"], process_group=0) as child:
        family = SharedGroup(child)
        family.signal(signal.SIGTERM)
        assert not family.alive()
        assert child.poll() is None
        child.kill()


def test_ps_says_the_same_as_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc."""
    told = "    1     0     1 Ss\n   42     1    42 Z+\n   43     1    42 S\n"
    done = subprocess.CompletedProcess[str]([], 0, stdout=told)
    monkeypatch.setattr(processes.os.path, "isdir", lambda path: False)
    monkeypatch.setattr(processes.subprocess, "run", lambda *arguments, **options: done)
    assert list(running()) == [Process(1, 0, 1), Process(43, 1, 42)]


def test_without_any_means_nobody_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ps either: a machine that has neither is no reason to fail."""

    def missing(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("ps")

    monkeypatch.setattr(processes.os.path, "isdir", lambda path: False)
    monkeypatch.setattr(processes.subprocess, "run", missing)
    assert list(running()) == []


def test_the_foreground_belongs_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, no foreground; nor if it will not say."""

    def no_terminal(*arguments: object) -> int:
        raise OSError(6, "No such device or address")

    with monkeypatch.context() as patch:
        patch.setattr(families.os, "tcgetpgrp", no_terminal)
        assert not in_foreground()
    with monkeypatch.context() as patch:
        patch.setattr(families.os, "open", no_terminal)
        assert not in_foreground()
