"""One call after its first failure.

A :class:`Run` is born when a call first fails and is told each failure; it answers with the next step. It
belongs to that one call and is never shared. ``attempts`` counts calls, the first included; a category's
attempts count the failures of that category.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resilient.core.action import Action, Verdict
from resilient.core.backoff import Backoff, Rng
from resilient.core.budget import Budget
from resilient.core.classify import Classifier

__all__ = ["RECOVERIES", "Again", "Plan", "Run", "Step", "Stop"]

RECOVERIES = frozenset({Action.RECONNECT, Action.ROTATE_PROXY, Action.RELOGIN})


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that decide about a run: attempts >= 1 or None, times in seconds or None.

    ``judges_results`` says whether a rule of ``on`` looks at returned values.
    """

    on: Classifier
    attempts: int | None
    timeout: float | None
    backoff: Backoff
    max_wait: float
    budget: Budget | None
    judges_results: bool


class Again:
    """Wait, recover if the action says so, and call again."""

    __slots__ = ("action", "verdict", "wait")

    def __init__(self, wait: float, verdict: Verdict) -> None:
        self.wait = wait
        self.action = verdict.action
        self.verdict = verdict


class Stop:
    """Give the failure to the caller.

    Attributes:
        by: the setting that stopped the call, as ``Outcome.stopped_by`` shows it.
        why: the same in words.
        retry_at: monotonic instant from which another call makes sense, if one is known.
    """

    __slots__ = ("by", "retry_at", "verdict", "why")

    def __init__(self, by: str, why: str, verdict: Verdict, retry_at: float | None = None) -> None:
        self.by = by
        self.why = why
        self.verdict = verdict
        self.retry_at = retry_at


Step: TypeAlias = Again | Stop


class Run:
    """The decisions of one call.

    Args:
        plan: the policy's settings.
        started: when the call began, monotonic seconds.
        attempts: the overall limit of calls; the plan's unless retries are switched off.
    """

    __slots__ = ("_counts", "_previous", "attempts", "deadline", "failures", "plan", "price", "started")

    def __init__(self, plan: Plan, started: float, attempts: int | None) -> None:
        self.plan = plan
        self.started = started
        self.attempts = attempts
        self.deadline = None if plan.timeout is None else started + plan.timeout
        self.failures = 0
        self.price: float | None = None
        self._counts: dict[object, int] | None = None
        self._previous: dict[object, float] | None = None

    def failed(self, error: Exception, now: float, rng: Rng, *, cut_off: bool = False) -> Step:
        """The attempt raised.

        Args:
            error: what it raised.
            now: monotonic instant, seconds.
            rng: source of jitter.
            cut_off: the policy's own attempt timeout ended it. Then it is tried again, unless a rule
                speaks of it or the classifier's ``otherwise`` is more than the plain FAIL.
        """
        verdict = self.plan.on.match(error)
        if verdict is None:
            verdict = self.plan.on.otherwise
            if cut_off and verdict == CALLERS_OWN:
                verdict = TRY_AGAIN
        return self.judged(verdict, now, rng, timed_out=cut_off or isinstance(error, TimeoutError))

    def judged(self, verdict: Verdict, now: float, rng: Rng, *, timed_out: bool = False) -> Step:
        """The attempt failed, and this is the verdict on it."""
        self.failures += 1
        hint = verdict.delay
        retry_at = None if hint is None else now + hint  # type: ignore[operator]  # normalised to float
        if verdict.action is Action.FAIL:
            return Stop("fail", "classified as FAIL", verdict, retry_at)
        if self.attempts is not None and self.failures >= self.attempts:
            return Stop("attempts", "attempts exhausted", verdict, retry_at)
        wait = self._wait(verdict, rng)
        if wait is None:
            return Stop("attempts", f"attempts of {verdict.category or 'its rule'} exhausted", verdict, retry_at)
        if hint is not None and wait > self.plan.max_wait:
            why = f"told to wait {wait:g} s, more than max_wait ({self.plan.max_wait:g} s); come back after that"
            return Stop("max_wait", why, verdict, retry_at)
        if self.overdue(now + wait):
            why = f"the next attempt would come after the timeout of {self.plan.timeout:g} s"
            return Stop("timeout", why, verdict, retry_at)
        if not self._afford(now, timed_out):
            return Stop("budget", "the retry budget is empty", verdict, retry_at)
        return Again(wait, verdict)

    def overdue(self, now: float) -> bool:
        """Whether it is too late to begin an attempt at this instant."""
        return self.deadline is not None and now >= self.deadline

    def expired(self) -> Stop:
        """The time ran out while an attempt ran, which was cut off."""
        self.failures += 1
        return Stop("timeout", f"cut off by the timeout of {self.plan.timeout:g} s", CALLERS_OWN)

    def late(self, verdict: Verdict) -> Stop:
        """The time ran out while the call recovered."""
        return Stop("timeout", f"recovery outlasted the timeout of {self.plan.timeout:g} s", verdict)

    def succeeded(self, now: float) -> None:
        """The call succeeded: its budget hears of it."""
        if self.plan.budget is not None:
            self.plan.budget.release(now, self.price)

    def _wait(self, verdict: Verdict, rng: Rng) -> float | None:
        """Seconds before the next attempt, or None: this category has had its attempts."""
        key, n = None, self.failures
        if verdict.attempts is not None or verdict.backoff is not None:
            key, n = self._count(verdict)
            if verdict.attempts is not None and n >= verdict.attempts:
                return None
        if verdict.delay is not None:
            return verdict.delay  # type: ignore[return-value]  # normalised to float
        if verdict.backoff is None:
            key, n, backoff = None, self.failures, self.plan.backoff
        else:
            backoff = verdict.backoff
        if backoff.spread != "decorrelated":
            return backoff.wait(n, None, rng)
        if self._previous is None:
            self._previous = {}
        wait = self._previous[key] = backoff.wait(n, self._previous.get(key), rng)
        return wait

    def _count(self, verdict: Verdict) -> tuple[object, int]:
        # Rules without a category are counted apart, by what they grant.
        key = verdict.category or (verdict.attempts, verdict.backoff)
        if self._counts is None:
            self._counts = {}
        n = self._counts[key] = self._counts.get(key, 0) + 1
        return key, n

    def _afford(self, now: float, timed_out: bool) -> bool:
        if self.plan.budget is None:
            return True
        self.price = self.plan.budget.acquire(now, timed_out)
        return self.price is not None


CALLERS_OWN = Verdict(Action.FAIL)
TRY_AGAIN = Verdict(Action.RETRY, category="attempt timeout")


def gave_up_text(attempts: int, elapsed: float, why: str) -> str:
    """The note on the error that ends a call."""
    return f"gave up after {attempts} attempt{'s' if attempts != 1 else ''} in {elapsed:.2f} s: {why}"
