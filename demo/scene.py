"""One fault and its recovery, told to the report."""

from __future__ import annotations

import time
from types import TracebackType

from demo.evidence import error_line
from demo.report import Report, Row

__all__ = ["Scene"]


class Scene:
    """A context manager around what meets a fault: says what is injected, and at the end what became of it.

    What is raised within is the reason why it was not recovered, and goes no further.

    Args:
        report: what is told of it.
        where: who meets the fault.
        fault: its name.
        injected: how it is made.

    Attributes:
        recovered: what it took to get over it.
        attempts: calls made; 0 where nothing is tried again.
        waited: seconds.
        lost, unconfirmed: messages, as in a ``Row``.
    """

    def __init__(self, report: Report, where: str, fault: str, injected: str) -> None:
        self.recovered = ""
        self.attempts = 0
        self.waited = 0.0
        self.lost: int | None = None
        self.unconfirmed = 0
        self._report = report
        self._told = where, fault, injected
        self._missing: list[str] = []

    def expect(self, holds: object, otherwise: str) -> None:
        """Something has to be so for the fault to count as recovered; ``otherwise`` says how it was instead."""
        if not holds:
            self._missing.append(otherwise)

    def say(self, text: str) -> None:
        """A line to be read along with the rest."""
        self._report.say(f"  {text}")

    def __enter__(self) -> Scene:
        self._report.injected(*self._told)
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        elapsed = time.monotonic() - self._started
        if not (error is None or isinstance(error, Exception)):
            return False
        self._report.ended(
            Row(
                *self._told,
                recovered=self.recovered,
                attempts=self.attempts,
                waited=self.waited,
                elapsed=elapsed,
                missing="; ".join([*self._missing, *([] if error is None else [error_line(error)])]),
                lost=self.lost,
                unconfirmed=self.unconfirmed,
            )
        )
        return True
