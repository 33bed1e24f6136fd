"""The ``resilient`` command as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

HANG = 120  # seconds: only a guard, nothing here takes long
COMMAND = [sys.executable, "-m", "resilient"]

Finished: TypeAlias = "subprocess.CompletedProcess[bytes]"


def environment() -> dict[str, str]:
    """Nothing of the terminal in which the tests run, or of the machine's taste in colours."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return kept | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm"}


@pytest.fixture
def resilient(tmp_path: Path) -> Callable[..., Finished]:
    """Runs it to its end, in a temporary directory and a session of its own (no terminal to share)."""

    def run(*arguments: str, given: bytes | None = None) -> Finished:
        source = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            timeout=HANG,
            cwd=tmp_path,
            env=environment(),
            start_new_session=True,
            **source,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts it, to be sent signals; what is left of it at the end is killed."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(),
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate(timeout=HANG)
