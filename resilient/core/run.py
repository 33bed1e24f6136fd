"""One call after its first failure.

A :class:`Run` is born when a call first fails and is told each failure; it answers None, which means to wait
``run.wait`` seconds, recover as ``run.verdict`` says and call again, or a :class:`Stop`. It belongs to that one
call and is never shared. ``attempts`` counts calls, the first included; a category's attempts count the
failures of that category.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from resilient.core.action import Action, Verdict
from resilient.core.backoff import Backoff, Rng
from resilient.core.budget import Budget
from resilient.core.classify import Classifier
from resilient.errors import AttemptTimeout, DeadlineExceeded, PolicyTimeout, Rejected

__all__ = [
    "RECOVERIES",
    "Limit",
    "Plan",
    "Run",
    "Stop",
    "gave_up_text",
    "rejections_in",
    "remaining",
    "told_when",
    "verdict_on",
]

RECOVERIES = frozenset({Action.RECONNECT, Action.ROTATE_PROXY, Action.RELOGIN})

# Before anything failed, and where no rule had a say.
PLAIN_FAIL = Verdict(Action.FAIL)
# The policy's own attempt timeout, where no rule speaks of it: trying again is what it was set for.
TRY_AGAIN = Verdict(Action.RETRY, category="attempt timeout")
# An inner policy did not let the call through, where no rule speaks of that: it is worth another try, later.
COME_BACK = Verdict(Action.WAIT, category="rejected")


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that decide about a run: attempts >= 1 or None, times in seconds or None.

    Attributes:
        judges_results: whether a rule of ``on`` looks at returned values.
        at_once: whether a plain retry needs no wait, no instant and no budget.
        timed: whether anything depends on when a call or an attempt began.
        watched: whether even a successful attempt has to be looked at.
    """

    on: Classifier
    attempts: int | None
    timeout: float | None
    attempt_timeout: float | None
    backoff: Backoff
    max_wait: float
    budget: Budget | None
    judges_results: bool = field(init=False)
    at_once: bool = field(init=False)
    timed: bool = field(init=False)
    watched: bool = field(init=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        judges = self.on.judges_results
        timed = self.timeout is not None or self.attempt_timeout is not None
        fix(self, "judges_results", judges)
        fix(self, "timed", timed)
        fix(self, "watched", judges or self.budget is not None)
        fix(self, "at_once", self.backoff.never_waits and not timed and not self.watched)


class Stop:
    """Give the failure to the caller.

    Attributes:
        by: the setting that stopped the call, as ``Outcome.stopped_by`` shows it.
        why: the same in words.
        hint: seconds after which another call makes sense, if the verdict names them.
    """

    __slots__ = ("by", "hint", "why")

    def __init__(self, by: str, why: str, hint: float | None = None) -> None:
        self.by = by
        self.why = why
        self.hint = hint


class Limit:
    """How long one attempt may take, and the error if it takes longer.

    That error is recognised by identity: a call's own ``TimeoutError`` is never taken for the policy's.
    """

    __slots__ = ("_limit", "error", "kind", "seconds")

    def __init__(self, seconds: float, limit: float, kind: type[PolicyTimeout]) -> None:
        self.seconds = seconds
        self.kind = kind
        self.error: PolicyTimeout | None = None
        self._limit = limit

    def passed(self) -> PolicyTimeout:
        """The attempt was cut off: the error to raise."""
        self.error = self.kind(self._limit)
        return self.error


class Run:
    """The decisions of one call.

    Args:
        plan: the policy's settings.
        started: when the call began, monotonic seconds.
        attempts: the overall limit of calls; the plan's unless retries are switched off.

    Attributes:
        failures: attempts that failed so far.
        verdict: on the latest of them.
        wait: seconds before the next attempt.
        idle: there is nothing to do before the next attempt.
        price: what the latest retry cost the budget.
        unspaced: of the failures, those after which no backoff was due: it grows without them.
        outer: when the policies around this call want it to be over, monotonic seconds; None if they set no limit.
    """

    # Defaults of the class, not set one by one: a run is made on every failure, and most need no more than three.
    failures = 0
    verdict = PLAIN_FAIL
    wait = 0.0
    idle = True
    price: float | None = None
    unspaced = 0
    outer: float | None = None
    _counts: dict[object, int] | None = None
    _waits: dict[object, float] | None = None

    def __init__(self, plan: Plan, started: float, attempts: int | None) -> None:
        self.plan = plan
        self.started = started
        self.attempts = attempts

    @property
    def deadline(self) -> float | None:
        """When the whole call must be over, monotonic seconds; None if nothing limits it.

        A policy never outlives those around it.
        """
        if self.plan.timeout is None:
            return self.outer
        own = self.started + self.plan.timeout
        return own if self.outer is None or own <= self.outer else self.outer

    def repeats(self, error: Exception) -> bool:
        """The short answer under a plan that retries at once: whether this failure is simply tried again.

        False says nothing, and counts nothing: ask :meth:`failed`.
        """
        failures, attempts = self.failures + 1, self.attempts
        if error.__class__ not in self.plan.on.plain or (attempts is not None and failures >= attempts):
            return False
        self.failures = failures
        self.idle = True
        return True

    def failed(self, error: Exception, now: float, rng: Rng, *, cut_off: bool = False) -> Stop | None:
        """The attempt under way raised.

        Args:
            error: what it raised.
            now: monotonic instant, seconds.
            rng: source of jitter.
            cut_off: the policy's own attempt timeout ended it. Then it is tried again, unless a rule
                speaks of it or the classifier's ``otherwise`` is more than the plain FAIL. Likewise an inner
                policy's rejection, which is waited out.
        """
        cut_off = cut_off or (isinstance(error, AttemptTimeout) and error.of_layer)
        verdict = verdict_on(self.plan.on, error, cut_off=cut_off)
        return self.judged(verdict, now, rng, timed_out=cut_off or isinstance(error, TimeoutError))

    def judged(self, verdict: Verdict, now: float, rng: Rng, *, timed_out: bool = False) -> Stop | None:
        """The attempt failed, and this is the verdict on it."""
        self.failures += 1
        self.verdict = verdict
        self.idle = False
        hint, budget = verdict.seconds, self.plan.budget
        if verdict.action is Action.FAIL:
            return Stop("fail", "classified as FAIL", hint)
        if budget is not None:
            budget.failed(now)
        if self.attempts is not None and self.failures >= self.attempts:
            return Stop("attempts", "attempts exhausted", hint)
        wait = self._next_wait(verdict, rng)
        if wait is None:
            return Stop("attempts", f"attempts of {verdict.category or 'its rule'} exhausted", hint)
        if hint is not None and hint > self.plan.max_wait:
            why = f"told to wait {hint:g} s, more than max_wait ({self.plan.max_wait:g} s); come back after that"
            return Stop("max_wait", why, hint)
        if self.overdue(now + wait):
            return Stop("timeout", f"the next attempt would come after {self._end_text()}", hint)
        if budget is not None:
            self.price = budget.acquire(now, timed_out)
            if self.price is None:
                return Stop("budget", "the retry budget is empty", hint)
        self.wait = wait
        return None

    def limit(self, now: float) -> Limit | None:
        """How long an attempt that begins now may take; None if nothing limits it."""
        each, timeout = self.plan.attempt_timeout, self.plan.timeout
        if timeout is not None:
            left = max(0.0, self.started + timeout - now)
            if each is None or left <= each:
                return Limit(left, timeout, DeadlineExceeded)
        return None if each is None else Limit(each, each, AttemptTimeout)

    def overdue(self, now: float) -> bool:
        """Whether it is too late to begin an attempt at this instant."""
        deadline = self.deadline
        return deadline is not None and now >= deadline

    def expired(self) -> Stop:
        """The time ran out while an attempt ran, which was cut off."""
        self.failures += 1
        self.verdict = PLAIN_FAIL
        return Stop("timeout", f"cut off by the timeout of {self.plan.timeout:g} s")

    def late(self) -> Stop:
        """The time ran out while the call recovered."""
        return Stop("timeout", f"recovery outlasted {self._end_text()}")

    def succeeded(self, now: float) -> None:
        """The call succeeded: its budget hears of it."""
        if self.plan.budget is not None:
            self.plan.budget.succeeded(now, self.price)

    def _end_text(self) -> str:
        timeout = self.plan.timeout
        if timeout is None or (self.outer is not None and self.outer < self.started + timeout):
            return "the deadline of a policy around this one"
        return f"the timeout of {timeout:g} s"

    def _next_wait(self, verdict: Verdict, rng: Rng) -> float | None:
        """Seconds before the next attempt, or None: this category has had its attempts."""
        key, n, backoff = None, max(1, self.failures - self.unspaced), self.plan.backoff
        if verdict.category or verdict.attempts is not None or verdict.backoff is not None:
            key, count = self._count(verdict)
            if verdict.attempts is not None and count >= verdict.attempts:
                return None
            if verdict.backoff is not None:
                n, backoff = count, verdict.backoff
        if verdict.seconds is not None:
            return verdict.seconds
        if backoff.spread != "decorrelated":
            return backoff.wait(n, None, rng)
        if self._waits is None:
            self._waits = {}
        wait = self._waits[key] = backoff.wait(n, self._waits.get(key), rng)
        return wait

    def _count(self, verdict: Verdict) -> tuple[object, int]:
        # Rules without a category are counted apart, by what they grant.
        key = verdict.category or (verdict.attempts, verdict.backoff)
        if self._counts is None:
            self._counts = {}
        n = self._counts[key] = self._counts.get(key, 0) + 1
        return key, n


def verdict_on(on: Classifier, error: Exception, *, cut_off: bool = False) -> Verdict:
    """What a classifier makes of an error that may be the library's own.

    Args:
        on: the classifier.
        error: what was raised.
        cut_off: the policy's own attempt timeout ended the attempt: it is tried again, unless a rule speaks of it or
            ``otherwise`` is more than the plain FAIL. Likewise what an inner policy rejected, which is waited out.
    """
    rejections, rest = rejections_in(error)
    verdict = None if rest is None else on.match(rest)
    if verdict is None:
        verdict = on.match(error) if rest is None else None
    if verdict is None:
        verdict = on.otherwise
        if verdict == PLAIN_FAIL and (cut_off or rest is None):
            verdict = TRY_AGAIN if cut_off else COME_BACK
    if not rejections:
        return verdict
    known = [rejected.retry_after for rejected in rejections if rejected.retry_after is not None]
    return told_when(verdict, max(known, default=None))


def rejections_in(error: Exception) -> tuple[list[Rejected], Exception | None]:
    """What inner policies did not let through, of an error or of the leaves of a group; and what else there is."""
    if isinstance(error, Rejected):
        return [error], None
    if not isinstance(error, ExceptionGroup):
        return [], error
    rejected, rest = error.split(Rejected)
    return [] if rejected is None else list(_leaves(rejected)), rest


def _leaves(group: ExceptionGroup[Rejected]) -> Iterator[Rejected]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def told_when(verdict: Verdict, retry_after: float | None) -> Verdict:
    """A verdict on a rejection that says when another call makes sense: to ask earlier would be hammering."""
    if verdict.action is Action.FAIL or verdict.delay is not None or retry_after is None:
        return verdict
    action = Action.WAIT if verdict.action is Action.RETRY else verdict.action
    return replace(verdict, action=action, delay=retry_after)


def gave_up_text(attempts: int, elapsed: float, why: str) -> str:
    """The note on the error that ends a call."""
    return f"gave up after {attempts} attempt{'s' if attempts != 1 else ''} in {elapsed:.2f} s: {why}"


def remaining(plan: Plan, started: float, began: float, now: float) -> float | None:
    """Seconds left for an attempt, >= 0; None if nothing limits it.

    Args:
        plan: the policy's settings.
        started: when the call began, monotonic seconds.
        began: when this attempt of it began.
        now: the present instant.
    """
    ends = [] if plan.timeout is None else [started + plan.timeout]
    if plan.attempt_timeout is not None:
        ends.append(began + plan.attempt_timeout)
    return max(0.0, min(ends) - now) if ends else None
