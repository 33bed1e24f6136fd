"""A flaky command under ``resilient run``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.environment import environment
from demo.report import Report, Row

__all__ = ["flaky_command"]

FAILURES, WAIT = 2, 0.05
HANGS = 60  # seconds after which it is given up
# Fails until its file has a line for each of its runs but the last.
SCRIPT = f"""\
import sys
with open(sys.argv[1], "a+") as runs:
    print("run", file=runs)
    runs.seek(0)
    sys.exit(0 if len(runs.readlines()) > {FAILURES} else 75)
"""
RUN = (sys.executable, "-m", "resilient", "run", "--attempts", "5", "--backoff", f"constant:{WAIT}", "--")


def flaky_command(report: Report) -> None:
    """Runs a command that fails twice, and counts its runs."""
    injected = f"exits with 75, {FAILURES} times"
    report.injected("resilient run", "the command fails twice", injected)
    started = time.monotonic()
    status, runs = _run()
    elapsed = time.monotonic() - started
    missing = "" if (status, runs) == (0, FAILURES + 1) else f"exit status {status} after {runs} runs"
    recovered = f"RETRY x{max(0, runs - 1)}" if runs > 1 else ""
    report.ended(
        Row("resilient run", "fails twice", injected, recovered, runs, WAIT * (runs - 1), elapsed, missing=missing)
    )


def _run() -> tuple[int, int]:
    """Its exit status, and how often it ran."""
    with TemporaryDirectory(prefix="resilient-demo-") as directory:
        runs = Path(directory, "runs")
        runs.touch()
        try:
            ended = subprocess.run(
                (*RUN, sys.executable, "-c", SCRIPT, str(runs)),
                capture_output=True,
                timeout=HANGS,
                check=False,
                env=environment(),
            )
        except subprocess.TimeoutExpired:
            return -1, len(runs.read_text().splitlines())
        return ended.returncode, len(runs.read_text().splitlines())
