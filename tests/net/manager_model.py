"""What a manager should do, in a few lines: for each event of its life, what whoever looks at it must see then.

When the link dials, waits, recovers and gives up is asked of a :class:`~resilient.core.link.Link` of its own, which has
laws of its own; the model knows what managers add: callers, leases, ends of connections, limits of time, drains.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from net.manager_scenarios import ON, Busy, Fatal, Stale

from resilient import Action, backoff
from resilient.core.link import Dial, Link, Recover, State, Step, Wait
from resilient.core.link_plan import link_plan
from resilient.core.run import TRY_AGAIN, Stop
from resilient.errors import AttemptTimeout, ManagerClosed, NotConnected, OutcomeUnknown

__all__ = ["LIMIT", "OUTCOMES", "PAUSE", "Model", "View", "settings"]

LIMIT = 5.0  # seconds, of dials and recoveries
PAUSE = 3.0  # seconds, for which Busy asks

# What user code may come to, by name: each with its verdict in ON.
OUTCOMES: dict[str, type[Exception]] = {
    "lost": ConnectionResetError,
    "timeout": TimeoutError,
    "stale": Stale,
    "busy": Busy,
    "fatal": Fatal,
}


def settings(attempts: int | None, throttle: float) -> dict[str, Any]:
    """Those of manager and model alike."""
    return {
        "on": ON,
        "backoff": backoff.constant(1),
        "attempts": attempts,
        "throttle": throttle,
        "stable_after": 6,
        "connect_timeout": LIMIT,
    }


@dataclass(frozen=True)
class View:
    """What is to be seen of a manager.

    Attributes:
        state: of the manager.
        generation: of its connection; 0 when it is closed.
        dials: that were begun.
        handlers: of recoveries, that were begun.
        closed: the numbers of connections that were closed, in order of their numbers.
        operations: under way, as the manager counts them.
        waiting: callers that wait for a connection.
        callers: what became of each operation: the number of the connection on which it runs, None between two tries,
            what it came to in the end.
        drained: whether each drain is over.
    """

    state: State
    generation: int
    dials: int
    handlers: int
    closed: tuple[int, ...]
    operations: int
    waiting: int
    callers: tuple[object, ...]
    drained: tuple[bool, ...]


class Caller:
    """One operation."""

    def __init__(self, idempotent: bool) -> None:
        self.idempotent = idempotent
        self.entered = False
        self.runs_on: int | None = None
        self.goes_on_at: float | None = None
        self.failures = 0
        self.end: object = None

    @property
    def waits(self) -> bool:
        return self.end is None and self.runs_on is None and self.goes_on_at is None

    def seen(self) -> object:
        return self.runs_on if self.end is None else self.end


class Model:
    """A manager as it should be. Its user tells it what happens, and never lets time pass an end of ``times()``."""

    def __init__(self, given: dict[str, Any]) -> None:
        usual = {name: given[name] for name in ("backoff", "attempts", "throttle", "stable_after")}
        self.link = Link(link_plan(ON, **usual))
        self.attempts: int | None = given["attempts"]
        self.now = 0.0
        self.dials = self.handlers = 0
        self.dialling: float | None = None  # until when
        self.recovering: float | None = None
        self.resumes_at: float | None = None
        self.conn: int | None = None
        self.closed: list[int] = []
        self.callers: list[Caller] = []
        self.drains: list[bool] = []
        self.last_error: type[Exception] | None = None
        self._took(self.link.started(0.0))

    def view(self) -> View:
        return View(
            self.link.state,
            0 if self.link.state is State.CLOSED else self.link.generation,
            self.dials,
            self.handlers,
            tuple(sorted(self.closed)),
            self.operations,
            sum(caller.waits for caller in self.callers),
            tuple(caller.seen() for caller in self.callers),
            tuple(self.drains),
        )

    @property
    def operations(self) -> int:
        return sum(caller.entered and caller.end is None for caller in self.callers)

    @property
    def pausing(self) -> int:
        return sum(caller.end is None and caller.goes_on_at is not None for caller in self.callers)

    @property
    def over(self) -> bool:
        return self.link.state in {State.DRAINING, State.CLOSED}

    def times(self) -> list[float]:
        """When something is due."""
        ends = [self.dialling, self.recovering, self.resumes_at, *(caller.goes_on_at for caller in self.callers)]
        return sorted(end for end in ends if end is not None)

    def passed(self, now: float) -> None:
        """It is later."""
        self.now = now
        for caller in self.callers:
            if caller.goes_on_at is not None and now >= caller.goes_on_at:
                caller.goes_on_at = None
        if self.dialling is not None and now >= self.dialling:
            self.dial_failed(AttemptTimeout)
        if self.recovering is not None and now >= self.recovering:
            self.recovered()
        if self.resumes_at is not None and now >= self.resumes_at:
            self.resumes_at = None
            self._took(self.link.woke(now))
        self._settle()

    def opened(self, conn: int) -> None:
        """A dial that is still wanted gave this connection."""
        self.link.opened(self.link.generation, self.now)
        self.dialling, self.conn = None, conn
        self._settle()

    def dial_failed(self, error: type[Exception]) -> None:
        self.dialling, self.last_error = None, error
        verdict = TRY_AGAIN if error is AttemptTimeout else self._verdict(error)
        self._took(self.link.dial_failed(self.link.generation, verdict, self.now, Random(1)))
        self._settle()

    def recovered(self) -> None:
        """The handler returned or raised."""
        self.recovering = None
        self._took(self.link.recovered(self.link.generation, self.now))

    def lost(self, conn: int, error: type[Exception] | None) -> None:
        """Somebody says so."""
        self._lost(conn, error)
        self._settle()

    def _lost(self, conn: int, error: type[Exception] | None) -> None:
        if conn == self.conn:
            self.last_error = error
            verdict = None if error is None else self._verdict(error)
            self._took(self.link.lost(self.link.generation, verdict, self.now, Random(1)))

    def asked_to_reconnect(self) -> None:
        self._took(self.link.asked_to_reconnect(self.now))
        self._settle()

    def resumed(self) -> None:
        self._took(self.link.resumed(self.now))
        self._settle()

    def draining(self) -> None:
        self.link.draining(self.now)
        self.drains.append(False)
        self._took(None)
        self._settle()

    def close(self) -> None:
        self.link.closed(self.now)
        self._took(None)
        self._settle()

    def called(self, idempotent: bool) -> None:
        """An operation begins."""
        self.callers.append(Caller(idempotent))
        self._settle()

    def call_ended(self, caller: Caller, outcome: str) -> None:
        """A function came to this."""
        conn, caller.runs_on = caller.runs_on, None
        assert conn is not None
        error = OUTCOMES.get(outcome)
        if error is None:
            caller.end = outcome
        else:
            self._call_failed(caller, conn, error)
        self._settle()

    def _call_failed(self, caller: Caller, conn: int, error: type[Exception]) -> None:
        action = self._verdict(error).action
        caller.failures += 1
        if action is Action.FAIL:
            caller.end = error
            return
        if action is not Action.WAIT:
            self._lost(conn, error)
        if not caller.idempotent and action in {Action.RECONNECT, Action.RETRY}:
            caller.end = OutcomeUnknown
        elif caller.failures == self.attempts:
            caller.end = error
        elif action is Action.WAIT:
            caller.goes_on_at = self.now + PAUSE

    def _verdict(self, error: type[Exception]) -> Any:
        return self.link.plan.judge(error())

    def _took(self, step: Step | None) -> None:
        """What every fact ends in."""
        state = self.link.state
        if self.conn is not None and state not in {State.READY, State.DRAINING}:
            self.closed.append(self.conn)
            self.conn = None
        if state is not State.CONNECTING:
            self.dialling = None
        if state is not State.BACKING_OFF:
            self.recovering = self.resumes_at = None
        match step:
            case Dial():
                self.dials += 1
                self.dialling = self.now + LIMIT
            case Wait(seconds):
                self.resumes_at = self.now + seconds
            case Recover():
                self.handlers += 1
                self.resumes_at = None
                self.recovering = self.now + LIMIT
            case Stop() | None:
                pass

    def _settle(self) -> None:
        """What callers are told now."""
        state = self.link.state
        for caller in self.callers:
            if not caller.waits:
                continue
            if state is State.READY or (state is State.DRAINING and caller.entered):
                caller.entered, caller.runs_on = True, self.conn
            elif state is State.FAILED:
                caller.end = self.last_error or NotConnected
            elif self.over:
                caller.end = ManagerClosed
        if state is State.DRAINING and not self.operations:
            self.link.drained(self.now)
            self._took(None)
            state = self.link.state
        if state is State.CLOSED:
            self.drains = [True] * len(self.drains)
