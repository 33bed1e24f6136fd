"""One fault, from its injection to the judgement on what the client made of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from demo.evidence import Evidence, error_line
from demo.faults import Fault
from demo.process import ServerProcess
from demo.report import Report, Row
from resilient import Event, events, listen

__all__ = ["Trial"]


class Trial:
    """A context manager around the calls that meet a fault: injects it first, and judges at the end.

    What the calls raise is part of the judgement, and goes no further.

    Args:
        where: which client meets it.
        fault: what is injected.
        server: into what.
        report: what is told of it.

    Attributes:
        numbers: what to ask the server, each in a call of its own.
        squares: its answers, to be set within the block.
    """

    def __init__(self, where: str, fault: Fault, server: ServerProcess, report: Report) -> None:
        self.numbers = range(2, 2 + fault.callers)
        self.squares: Sequence[int] = ()
        self._where = where
        self._fault = fault
        self._server = server
        self._report = report
        self._heard: list[Event] = []

    def __enter__(self) -> Trial:
        self._report.injected(self._where, f"the server {self._fault.name}", self._fault.injected)
        self._server.order("behave")
        self._before = self._fault.inject(self._server)
        self._listening = listen(self._hear)
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        elapsed = time.monotonic() - self._started
        self._listening.close()
        if not (error is None or isinstance(error, Exception)):
            return False
        self._server.ensure_ready()
        self._report.ended(self._judged(error, elapsed))
        return True

    def _hear(self, event: Event) -> None:
        self._heard.append(event)
        if isinstance(event, events.RecoveryFailed) and Evidence(self._heard).refused == self._fault.returns_after:
            self._server.start()  # it listens some time later, as servers do

    def _judged(self, error: Exception | None, elapsed: float) -> Row:
        fault, evidence = self._fault, Evidence(self._heard)
        return Row(
            where=self._where,
            fault=fault.name,
            injected=fault.injected,
            recovered=evidence.recovered_by(),
            attempts=evidence.failures + len(self.squares),
            waited=evidence.waited / fault.callers,
            elapsed=elapsed,
            missing="; ".join(self._missing(evidence) if error is None else [error_line(error)]),
        )

    def _missing(self, evidence: Evidence) -> list[str]:
        after = self._server.order("counters")
        served = {name: count - self._before.get(name, 0) for name, count in after.items()}
        missing = evidence.missing(self._fault.takes, served)
        if list(self.squares) != [number * number for number in self.numbers]:
            missing.append("wrong answers")
        if after["unspent"]:
            missing.append(f"{after['unspent']} of the faults never happened")
        return missing
