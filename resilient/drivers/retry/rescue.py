"""One call in trouble, as every driver sees it: a run with its clock and whoever listens.

Drivers differ only in how they sleep and call; everything they share is here, and every decision is the
:class:`~resilient.core.run.Run`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from resilient.core.events import (
    AttemptFailed,
    Event,
    GaveUp,
    Recovered,
    Recovering,
    RecoveryFailed,
    Succeeded,
    Waiting,
    described,
)
from resilient.core.notes import cause, note
from resilient.core.run import RECOVERIES, Limit, Run, Stop, gave_up_text, remaining
from resilient.drivers.clock import CLOCK, SWITCHES, SYSTEM
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.retry.attempts import Attempt, attempt_around, is_ours
from resilient.drivers.retry.guard import Guard, Recoverer
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.drivers.wrapping.wrap import OF_FIRST
from resilient.errors import AttemptTimeout
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import INFO, WARNING

__all__ = ["Rescue", "called", "name_of", "outer_cut"]

E = TypeVar("E", bound=BaseException)


class Rescue(Run):
    """The rescue of one call that failed: what is decided, told and counted about it.

    Args:
        guard: the policy.
        call: what is being called, for its name.
        started: when the call began, monotonic seconds, if whoever made the first attempt noted it: then that also
            told the budget of the call. None takes now.
        listeners: heard beside the policy's own.

    Attributes:
        began: when the attempt under way began, if an attempt has a limit of its own.
        short: a plain failure needs no more than a count: it is tried again at once, and nobody listens.
        within: the attempt of another policy around this call, where the stack does not show it.
    """

    began: float | None = None
    within: Attempt | None = None

    def __init__(
        self, guard: Guard, call: object, started: float | None = None, listeners: tuple[Listener, ...] = ()
    ) -> None:
        plan = guard.plan
        self.clock = clock = CLOCK.get()
        # What Run.__init__ does, without the cost of calling it: this is made on every failure.
        self.plan = plan
        self.started = clock.now() if started is None else started
        self.attempts = plan.attempts if SWITCHES.retries else 1
        self.guard = guard
        self.call = call
        self._own = own = guard.listeners + listeners if listeners else guard.listeners
        self._hearers = heard = hearers(own)
        self.outer = outer = DEADLINE.get()
        self.short = plan.at_once and not heard and guard.recovery is None and clock is SYSTEM and outer is None
        if not guard.nested and attempt_around(guard) is not None:
            self.attempts = 1
        if started is None and plan.budget is not None:
            plan.budget.called(self.started)

    @property
    def name(self) -> str:
        """The policy's name, or that of what it guards."""
        return self.guard.name or name_of(self.call)

    @property
    def attempt_began(self) -> float:
        """When the attempt under way began; without a limit of its own, when the call did."""
        return self.started if self.began is None else self.began

    def attempt(self, last_error: Exception | None) -> Attempt:
        """The attempt under way, as its own code sees it.

        Args:
            last_error: what the attempt before raised; None if it was none, or rejected.
        """
        return Attempt(self.guard, self.failures + 1, last_error, self.started, self.attempt_began)

    def lies_within(self, attempt: Attempt) -> None:
        """Takes note that the call runs within an attempt of another policy, which the stack does not show."""
        self.within = attempt
        if not self.guard.nested:
            self.attempts = 1

    def attempt_failed(self, error: Exception, limit: Limit | None = None, previous: Exception | None = None) -> bool:
        """The attempt raised: whether there will be another.

        If not, the error carries its note, and is for the caller.

        Args:
            error: what it raised.
            limit: how long it was allowed to take.
            previous: what the attempt before raised.
        """
        now = self.clock.now()
        if limit is not None and error is limit.error and limit.kind is not AttemptTimeout:
            cause(error, previous)
            return self._answered(self.expired(), error, None, now)
        try:
            stop = self.failed(error, now, self.clock, cut_off=limit is not None and error is limit.error)
        except Exception as broken:  # a user's predicate or delay function
            note(broken, f"raised while deciding what to do about {described(error)}")
            raise broken from error
        if self.short:
            self.plan.on.plain.learn(type(error))
        return self._answered(stop, error, None, now)

    def attempt_returned(self, value: object) -> bool:
        """The attempt returned: whether there will be another, because a rule rejects the value."""
        try:
            rejected = self.plan.on.match_result(value) if self.plan.judges_results else None
        except Exception as broken:
            note(broken, f"raised while judging a result of type {type(value).__name__}")
            raise
        if rejected is None:
            self.attempt_succeeded()
            return False
        now = self.clock.now()
        return self._answered(self.judged(rejected, now, self.clock), None, value, now)

    def attempt_succeeded(self) -> None:
        """The attempt did what it should."""
        if self._hearers or self.plan.budget is not None:
            now = self.clock.now()
            self.succeeded(now)
            if self.failures:
                self._tell(Succeeded(self.name, now - self.started, self.failures + 1))

    def refused(self, error: Exception, why: str) -> None:
        """The attempt raised, and the driver itself knows that it cannot be made again."""
        self.failures += 1
        self._give_up(Stop("fail", why), error, self.clock.now())

    def begins(self) -> int:
        """One more attempt begins; gives the generation of the resource on which it does."""
        if self.plan.attempt_timeout is not None:
            self.began = self.clock.now()
        recovery = self.guard.recovery
        return 0 if recovery is None else recovery.flight.generation

    def attempt_deadline(self) -> float:
        """When the attempt that begins now must be over; only of a plan that limits time."""
        left = remaining(self.plan, self.started, self.attempt_began, now := self.clock.now())
        deadline = now + (0.0 if left is None else left)
        return deadline if self.outer is None or deadline < self.outer else self.outer

    def limited(self) -> Limit | None:
        """How long the attempt that begins now may take; None if nothing limits it."""
        if self.plan.timeout is None and self.plan.attempt_timeout is None:
            return None
        return self.limit(self.clock.now())

    def recovers(self) -> Recoverer | None:
        """The recovery that the verdict asks for, if the policy has any; says so if it has not."""
        action = self.verdict.action
        if action not in RECOVERIES:
            return None
        recovery = self.guard.recovery
        if recovery is None or recovery.handler(action) is None:
            self.recovery_failed(None)
            return None
        return recovery

    def hold(self, flight: SingleFlight) -> float:
        """How long the leader of a recovery must wait before its handler runs, seconds."""
        return flight.hold(self.clock.now()) if SWITCHES.waits else 0.0

    def too_late(self, error: Exception | None, ahead: float = 0.0, *, surely: bool = False) -> bool:
        """Whether the time ran out (``ahead`` seconds from now, or surely) before the next attempt could begin."""
        now = self.clock.now()
        if not (surely or self.overdue(now + ahead)):
            return False
        self._give_up(self.late(), error, now)
        return True

    def time_left(self) -> float | None:
        """Seconds until the timeout of the whole call; None if it has none."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - self.clock.now())

    def recovering(self) -> None:
        """The recovery handler is about to run."""
        self._tell(Recovering(self.name, self._elapsed(), self.verdict.action))

    def recovered(self) -> None:
        """The recovery handler returned."""
        self._tell(Recovered(self.name, self._elapsed(), self.verdict.action))

    def recovery_failed(self, error: Exception | None) -> None:
        """The recovery handler raised, or there is none."""
        listeners = hearers(self._own, INFO if error is None else WARNING)
        if listeners:
            tell(RecoveryFailed(self.name, self._elapsed(), self.verdict.action, error), listeners)

    def _answered(self, stop: Stop | None, error: Exception | None, value: object, now: float) -> bool:
        if self._hearers:
            if error is not None:
                outer_cut(error)  # listeners may keep it
            elapsed = now - self.started
            self._tell(AttemptFailed(self.name, elapsed, self.failures, self.verdict, error, value))
        if stop is not None:
            self._give_up(stop, error, now)
            return False
        if self._hearers:
            self._tell(Waiting(self.name, now - self.started, self.failures + 1, self.wait))
        if not SWITCHES.waits:
            self.wait = 0.0
        return True

    def _give_up(self, stop: Stop, error: Exception | None, now: float) -> None:
        elapsed = now - self.started
        why = stop.why if SWITCHES.retries else f"{stop.why} (retries are off: no_retries)"
        reason = gave_up_text(self.failures, elapsed, why) + self._nested_text()
        if error is not None:
            outer_cut(error)
            if isinstance(error, AttemptTimeout):
                error.of_layer = False  # decided
            note(error, reason)
        listeners = hearers(self._own, WARNING if self.failures > 1 else INFO)
        if listeners:
            retry_at = None if stop.hint is None else now + stop.hint
            tell(GaveUp(self.name, elapsed, self.failures, stop.by, reason, error, retry_at), listeners)

    def _nested_text(self) -> str:
        """What the note adds of an attempt of another policy around the call: retries within retries multiply."""
        around = self.within or attempt_around(self.guard)
        if around is None:
            return ""
        only = "" if self.guard.nested else "nested=False, "
        return f" ({only}within attempt {around.number} of {around.name or 'another policy'})"

    def _elapsed(self) -> float:
        return self.clock.now() - self.started

    def _tell(self, event: Event) -> None:
        tell(event, self._hearers)


def outer_cut(error: E) -> E:
    """The error without the traceback entries of the driver and the wrapper around the call.

    What is left begins in the user's own code, and no frame of ours is kept alive by an error that it holds.
    """
    traceback = error.__traceback__
    while traceback is not None and is_ours(traceback.tb_frame.f_globals):
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def called(call: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What a call calls: itself, or its first argument where that is what it is for."""
    return args[0] if hasattr(call, OF_FIRST) else call


def name_of(call: object) -> str:
    """How a callable is called in events and errors."""
    inner = getattr(call, "func", call)  # a partial's
    if hasattr(inner, OF_FIRST) and inner is not call:
        inner = call.args[0]  # type: ignore[attr-defined]  # bound by of_first
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)
