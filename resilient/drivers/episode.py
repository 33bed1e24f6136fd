"""One call in trouble, as every driver sees it: the run, its clock, and whoever listens.

Drivers differ only in how they sleep and call; everything they share is here, and every decision is the
:class:`~resilient.core.run.Run`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from resilient.core.action import Action
from resilient.core.events import (
    AttemptFailed,
    Event,
    GaveUp,
    Recovered,
    Recovering,
    RecoveryFailed,
    Succeeded,
    Waiting,
)
from resilient.core.run import RECOVERIES, Again, Plan, Run, Step, Stop, gave_up_text
from resilient.drivers.clock import CLOCK, SWITCHES
from resilient.drivers.shared_flight import SharedFlight
from resilient.drivers.wrap import POLICY
from resilient.errors import AttemptTimeout, DeadlineExceeded, PolicyTimeout
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import WARNING

__all__ = ["FIRST", "Episode", "Guard", "Limit", "Recoverer", "given", "name_of", "outer_cut"]


T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Recoverer(Protocol):
    """What a driver needs of a ``Recovery``."""

    @property
    def flight(self) -> SharedFlight: ...

    def handler(self, action: Action) -> Callable[[], object] | None: ...


class Guard(Protocol):
    """What a driver needs of a policy."""

    @property
    def name(self) -> str: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def attempt_timeout(self) -> float | None: ...
    @property
    def recovery(self) -> Recoverer | None: ...
    @property
    def listeners(self) -> tuple[Listener, ...]: ...


class First:
    """The step before the first attempt: nothing to wait for, nothing to recover."""


FIRST = First()


class Limit:
    """How long one attempt may take, and the error if it takes longer.

    The error is recognised by identity: a call's own ``TimeoutError`` is never taken for the policy's.
    """

    __slots__ = ("error", "kind", "limit", "seconds")

    def __init__(self, seconds: float, limit: float, kind: type[PolicyTimeout]) -> None:
        self.seconds = seconds
        self.limit = limit
        self.kind = kind
        self.error: PolicyTimeout | None = None

    def passed(self) -> PolicyTimeout:
        """The attempt was cut off."""
        self.error = self.kind(self.limit)
        return self.error


class Episode:
    """The rescue of one call.

    Args:
        guard: the policy.
        call: what is being called, for its name.
        started: when the call began, monotonic seconds; None takes now.
        listeners: heard beside the policy's own.
    """

    __slots__ = ("_hearers", "_own", "began", "call", "clock", "guard", "last_error", "run")

    def __init__(
        self,
        guard: Guard,
        call: object,
        started: float | None = None,
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        self.guard = guard
        self.call = call
        self.clock = CLOCK.get()
        plan = guard.plan
        self.began = self.clock.now() if started is None else started
        self.run = Run(plan, self.began, plan.attempts if SWITCHES.retries else 1)
        self._own = guard.listeners + listeners
        self._hearers = hearers(self._own)
        self.last_error: Exception | None = None

    @property
    def name(self) -> str:
        """The policy's name, or that of what it guards."""
        return self.guard.name or name_of(self.call)

    def failed(self, error: Exception, limit: Limit | None = None) -> Again | None:
        """The attempt raised: the next step, or None if the caller gets the error (its note is on it)."""
        now = self.clock.now()
        if limit is not None and error is limit.error:
            step = self._cut_off(error, limit, now)
        else:
            step = self._classified(error, now)
        return self._answer(step, error, None, now)

    def returned(self, value: object) -> Again | None:
        """The attempt returned: the next step if a rule rejects the value, None if the caller gets it."""
        run = self.run
        rejected = run.plan.on.match_result(value) if run.plan.judges_results else None
        if rejected is None:
            self.done()
            return None
        now = self.clock.now()
        return self._answer(run.judged(rejected, now, self.clock), None, value, now)

    def done(self) -> None:
        """The attempt succeeded, and there is no value to judge."""
        if self.run.failures or self.run.plan.budget is not None:
            self._succeeded()

    def begins(self) -> int:
        """Another attempt begins; gives the generation of the resource on which it does."""
        if self.guard.attempt_timeout is not None:
            self.began = self.clock.now()
        recovery = self.guard.recovery
        return 0 if recovery is None else recovery.flight.generation

    def limit(self) -> Limit | None:
        """How long the attempt that begins now may take, or None."""
        attempt_timeout, deadline = self.guard.attempt_timeout, self.run.deadline
        if deadline is not None:
            remaining = max(0.0, deadline - self.clock.now())
            if attempt_timeout is None or remaining <= attempt_timeout:
                return Limit(remaining, self.run.plan.timeout or 0.0, DeadlineExceeded)
        return None if attempt_timeout is None else Limit(attempt_timeout, attempt_timeout, AttemptTimeout)

    def recovers(self, step: Again) -> Recoverer | None:
        """The recovery that a step asks for, if the policy has any; says so if it has not."""
        if step.action not in RECOVERIES:
            return None
        recovery = self.guard.recovery
        if recovery is None or recovery.handler(step.action) is None:
            self.recovery_failed(step.action, None)
            return None
        return recovery

    def hold(self, flight: SharedFlight) -> float:
        """How long the leader of a recovery must wait before its handler runs, seconds."""
        return flight.hold(self.clock.now()) if SWITCHES.waits else 0.0

    def too_late(self, step: Again, error: Exception | None, ahead: float = 0.0) -> bool:
        """Whether the time ran out (``ahead`` seconds from now) before the next attempt could begin."""
        now = self.clock.now()
        if not self.run.overdue(now + ahead):
            return False
        self._give_up(self.run.late(step.verdict), error, now)
        return True

    def remaining(self) -> float | None:
        """Seconds that are left for the attempt under way; None if nothing limits it."""
        now = self.clock.now()
        return remaining_of(now, self.began, self.guard.attempt_timeout, self.run.deadline)

    def remaining_in_all(self) -> float | None:
        """Seconds until the timeout of the whole call; None if it has none."""
        deadline = self.run.deadline
        return None if deadline is None else max(0.0, deadline - self.clock.now())

    def recovering(self, action: Action) -> None:
        if self._hearers:
            self._tell(Recovering(self.name, self._elapsed(), action))

    def recovered(self, action: Action) -> None:
        if self._hearers:
            self._tell(Recovered(self.name, self._elapsed(), action))

    def recovery_failed(self, action: Action, error: Exception | None) -> None:
        listeners = self._hearers or hearers(self._own, WARNING)
        if listeners:
            tell(RecoveryFailed(self.name, self._elapsed(), action, error), listeners)

    def _classified(self, error: Exception, now: float) -> Step:
        try:
            return self.run.failed(error, now, self.clock)
        except Exception as broken:  # a user's predicate or delay function
            broken.add_note(f"raised while deciding what to do about {type(error).__name__}: {error}")
            raise broken from error

    def _cut_off(self, error: Exception, limit: Limit, now: float) -> Step:
        if limit.kind is AttemptTimeout:
            return self.run.failed(error, now, self.clock, cut_off=True)
        if self.last_error is not None:
            error.__cause__ = self.last_error
        return self.run.expired()

    def _answer(self, step: Step, error: Exception | None, value: object, now: float) -> Again | None:
        self.last_error = error
        if self._hearers:
            elapsed = now - self.run.started
            self._tell(AttemptFailed(self.name, elapsed, self.run.failures, step.verdict, error, value))
        if isinstance(step, Stop):
            self._give_up(step, error, now)
            return None
        if self._hearers:
            self._tell(Waiting(self.name, now - self.run.started, self.run.failures + 1, step.wait))
        if not SWITCHES.waits:
            step.wait = 0.0
        return step

    def _give_up(self, stop: Stop, error: Exception | None, now: float) -> None:
        self.last_error = None  # the caller has it now; held here it would make a cycle
        attempts, elapsed = self.run.failures, now - self.run.started
        why = stop.why if SWITCHES.retries else f"{stop.why} (retries are off: no_retries)"
        reason = gave_up_text(attempts, elapsed, why)
        if error is not None:
            with suppress(Exception):  # an error whose attributes are frozen takes no note
                error.add_note(reason)
        listeners = self._hearers or hearers(self._own, WARNING if attempts > 1 else 20)
        if listeners:
            tell(GaveUp(self.name, elapsed, attempts, stop.by, reason, error, stop.retry_at), listeners)

    def _succeeded(self) -> None:
        self.last_error = None
        now = self.clock.now()
        self.run.succeeded(now)
        if self.run.failures and self._hearers:
            self._tell(Succeeded(self.name, now - self.run.started, self.run.failures + 1))

    def _elapsed(self) -> float:
        return self.clock.now() - self.run.started

    def _tell(self, event: Event) -> None:
        tell(event, self._hearers)


def given(settled: tuple[Exception | None, T]) -> T:
    """Returns the value or raises the error."""
    error, value = settled
    if error is None:
        return value
    try:
        raise error
    finally:
        del error, settled  # a frame that holds the error it raised is a cycle


def outer_cut(error: E) -> E:
    """The error without the traceback entries of the driver and the wrapper around the call.

    What is left begins in the user's own code, and no frame of ours is kept alive by an error that it holds.
    """
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback.tb_frame.f_globals):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    return error


def _is_ours(namespace: dict[str, Any]) -> bool:
    return POLICY in namespace or namespace.get("__name__", "").startswith("resilient.drivers.")


def remaining_of(now: float, began: float, attempt_timeout: float | None, deadline: float | None) -> float | None:
    """Seconds left for an attempt, >= 0, or None if nothing limits it."""
    ends = [] if deadline is None else [deadline]
    if attempt_timeout is not None:
        ends.append(began + attempt_timeout)
    return max(0.0, min(ends) - now) if ends else None


def name_of(call: object) -> str:
    """How a callable is called in events and errors."""
    inner = getattr(call, "func", call)  # a partial's
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)
