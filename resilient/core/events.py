"""What happens to a guarded call, a connection or a loop, as values: one small closed union, told to whoever listens.

``str(event)`` is its line in a log. ``name`` is that of the policy, or else of the function; of the manager; or of the
loop. ``elapsed`` is in seconds since the call began (since its first failure, where nothing but that failure made the
policy read a clock), since the manager was entered, since the loop was first started, or since the poller's last answer
was followed by a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resilient.core.action import Action, Verdict
from resilient.errors import PolicyTimeout, Rejected

__all__ = [
    "AttemptFailed",
    "CallRejected",
    "Entered",
    "Event",
    "FellBack",
    "GaveUp",
    "Hedged",
    "LinkChanged",
    "Panic",
    "Recovered",
    "Recovering",
    "RecoveryFailed",
    "StateChanged",
    "Succeeded",
    "TimedOut",
    "Waiting",
    "described",
]


def described(error: BaseException | None) -> str:
    """An error in one line: its class and its message."""
    if error is None:
        return "a rejected result"
    try:
        text = " ".join(str(error).split())
    except Exception as broken:
        text = f"<no message: its __str__ raised {type(broken).__name__}>"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt raised, or returned what a result rule rejects (``error`` is None then)."""

    name: str
    elapsed: float
    attempt: int
    verdict: Verdict
    error: Exception | None
    value: object = None

    def __str__(self) -> str:
        category = f" ({self.verdict.category})" if self.verdict.category else ""
        return (
            f"{self.name}: attempt {self.attempt} failed with {described(self.error)}: "
            f"{self.verdict.action.name}{category}"
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call, poller, manager or loop sleeps ``seconds`` before its next attempt, fetch, dial or start.

    Attributes:
        attempt: the number of that; for a manager within the outage, where the lost connection is the first.
    """

    name: str
    elapsed: float
    attempt: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: waiting {self.seconds:.3g} s before attempt {self.attempt}"


@dataclass(frozen=True, slots=True)
class Recovering:
    """A call runs a recovery handler, for itself and all others that failed with it."""

    name: str
    elapsed: float
    action: Action

    def __str__(self) -> str:
        return f"{self.name}: recovering by {self.action.name}"


@dataclass(frozen=True, slots=True)
class Recovered:
    """The recovery handler returned."""

    name: str
    elapsed: float
    action: Action

    def __str__(self) -> str:
        return f"{self.name}: recovered by {self.action.name}"


@dataclass(frozen=True, slots=True)
class RecoveryFailed:
    """The handler raised, or there is none (``error`` is None then); the call falls back to a plain retry."""

    name: str
    elapsed: float
    action: Action
    error: Exception | None

    def __str__(self) -> str:
        why = "no handler is set" if self.error is None else described(self.error)
        return f"{self.name}: recovery by {self.action.name} failed, trying again without it: {why}"


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The call ends without success; a poller has failed as often as it may; or a loop is not started again.

    Attributes:
        attempts: calls that were made, or starts of a loop.
        stopped_by: "fail" (classified as FAIL), "attempts", "timeout", "max_wait" or "budget"; "intensity": a loop of a
            supervisor was restarted too often.
        retry_at: monotonic instant from which another call makes sense, if the other side named one.
    """

    name: str
    elapsed: float
    attempts: int
    stopped_by: str
    reason: str
    error: Exception | None
    retry_at: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}; last failure: {described(self.error)}"


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The call succeeded after at least one retry."""

    name: str
    elapsed: float
    attempts: int

    def __str__(self) -> str:
        return f"{self.name}: succeeded at attempt {self.attempts} after {self.elapsed:.3g} s"


@dataclass(frozen=True, slots=True)
class Panic:
    """``catch``, a supervisor or a process-wide hook caught what would have killed something.

    Attributes:
        where: "call" for ``catch``, under which hooks of framed clients and servers and the ``apply`` of pollers run as
            well; "loop" for a supervisor; "process", "thread", "unraisable" or "event loop" for ``panic_hooks``.
    """

    name: str
    where: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.name}: caught a panic ({self.where}): {described(self.error)}"


@dataclass(frozen=True, slots=True)
class Entered:
    """The call passed from one policy inward; told only to the timeline of ``execute``.

    Attributes:
        policy: the kind of policy, such as "CircuitBreaker".
    """

    name: str
    elapsed: float
    policy: str

    def __str__(self) -> str:
        return f"{self.name}: let through by {self.policy}"


@dataclass(frozen=True, slots=True)
class CallRejected:
    """A policy did not let a call through.

    Attributes:
        retry_at: monotonic instant from which another call makes sense; None if nobody knows.
    """

    name: str
    elapsed: float
    policy: str
    error: Rejected
    retry_at: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.error}"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A circuit breaker changed its state, as ``breaker.state`` shows it."""

    name: str
    elapsed: float
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name}: circuit {self.after.replace('_', ' ')} (was {self.before.replace('_', ' ')})"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A ``Timeout`` cut a call off; or a loop did not end in time when its supervisor stopped it."""

    name: str
    elapsed: float
    error: PolicyTimeout

    def __str__(self) -> str:
        return f"{self.name}: {self.error}"


@dataclass(frozen=True, slots=True)
class Hedged:
    """One more copy of a call was launched, because those under way took ``after`` seconds or failed."""

    name: str
    elapsed: float
    copy: int
    after: float

    def __str__(self) -> str:
        return f"{self.name}: launched copy {self.copy} after {self.after:.3g} s"


@dataclass(frozen=True, slots=True)
class FellBack:
    """A ``Fallback`` took the place of what the call should have given."""

    name: str
    elapsed: float
    error: Exception

    def __str__(self) -> str:
        return f"{self.name}: fell back, because of {described(self.error)}"


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A managed connection changed its state, as ``manager.state`` shows it.

    Attributes:
        before, after: "IDLE", "CONNECTING", "READY", "BACKING_OFF", "FAILED", "DRAINING" or "CLOSED".
        why: what made it do so, in words; empty if that says itself.
    """

    name: str
    elapsed: float
    before: str
    after: str
    why: str = ""

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        return f"{self.name}: {self.after} (was {self.before}){why}"


Event: TypeAlias = (
    AttemptFailed
    | Waiting
    | Recovering
    | Recovered
    | RecoveryFailed
    | GaveUp
    | Succeeded
    | Panic
    | Entered
    | CallRejected
    | StateChanged
    | TimedOut
    | Hedged
    | FellBack
    | LinkChanged
)
