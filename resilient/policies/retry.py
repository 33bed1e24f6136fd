"""Retry: one error classified into one action, then waits, recovers and calls again."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import iscoroutine, signature
from typing import Any, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, cast, overload

from resilient.core import backoff as backoffs
from resilient.core.backoff import Backoff
from resilient.core.budget import Budget
from resilient.core.classify import Classifier, classifier_of
from resilient.core.duration import Duration, optional_seconds, seconds, whole
from resilient.core.events import Entered
from resilient.core.outcome import Outcome
from resilient.core.rule import ErrorTarget, Predicate, Rule
from resilient.core.run import Plan
from resilient.core.setting_errors import SettingTypeError, SettingValueError
from resilient.drivers.blocks.levels import BlockRetry, Part
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE, limiting
from resilient.drivers.retry import aio, streams, sync
from resilient.drivers.retry.streams import Resume
from resilient.drivers.wrapping.compile import POLICY
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import OF_FIRST, wrap_eager, wrap_rescued
from resilient.observe.listeners import Listener, checked_listeners, tell
from resilient.policies.frozen import by_name
from resilient.policies.guarding import check_kind
from resilient.policies.policy import NOT_PLAIN, Policy
from resilient.policies.record import Record
from resilient.policies.recovery import Recovery

__all__ = ["DEFAULT_BACKOFF", "OnErrors", "Retry", "retry"]

P = ParamSpec("P")
T = TypeVar("T")

OnErrors: TypeAlias = ErrorTarget | tuple[ErrorTarget, ...] | Predicate | Classifier | Rule
"""Which errors: a class, its dotted name, a tuple of either, a predicate, a rule or a classifier."""

DEFAULT_BACKOFF = backoffs.exponential(0.1, cap=300).jitter("full")

# A wrapper's globals hold these beside its own names; no parameter of a sane function is called so.
NOW, FLIGHT = "__resilient_now__", "__resilient_flight__"


class RetrySettings(TypedDict, total=False):
    """The settings of a Retry, as ``with_`` takes them."""

    on: OnErrors
    attempts: int | None
    timeout: Duration | None
    attempt_timeout: Duration | None
    backoff: Backoff
    max_wait: Duration
    recovery: Recovery | None
    budget: Budget | None
    name: str
    streaming: bool
    resume: Resume | None
    nested: bool
    listeners: tuple[Listener, ...]


@by_name("@retry(on=ConnectionError)")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Retry(Policy):
    """Tries again what a classifier says is worth trying again, after waiting and recovering as it says.

    Args:
        on: which errors, and what they call for; there is no default. Only ``Exception`` is ever classified:
            cancellation and exits pass through.
        attempts: calls in all, the first included, >= 1; None for no limit.
        timeout: for everything, seconds, > 0; never slept past. An async call is cut off there.
        attempt_timeout: for each attempt, seconds, > 0. An async attempt is cut off there and tried again, unless
            a rule says otherwise of ``AttemptTimeout``; a blocking one finds it in
            ``current_attempt().remaining``.
        backoff: waits where a verdict names none.
        max_wait: longest delay of a verdict that is honoured, seconds; beyond it the call stops at once.
        recovery: what RECONNECT, ROTATE_PROXY and RELOGIN do.
        budget: limits the retries of many calls together.
        name: for events and logs; the guarded function's name if empty.
        streaming: guards generator functions, until their first item is out; result rules have no say then.
        resume: continues a stream that broke after that: called with the last item delivered and the call's
            own arguments (those of positional parameters by position, defaults filled in), gives what follows.
        nested: whether it tries again even within an attempt of another Retry, whose attempts multiply with its own
            (that is noted on the error). False leaves all trying again to the outer one.
        listeners: functions that are told every :data:`~resilient.Event` of this policy.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.
    """

    on: OnErrors
    attempts: int | None = 5
    timeout: Duration | None = None
    attempt_timeout: Duration | None = None
    backoff: Backoff = DEFAULT_BACKOFF
    max_wait: Duration = 300.0
    recovery: Recovery | None = None
    budget: Budget | None = None
    name: str = ""
    streaming: bool = False
    resume: Resume | None = None
    nested: bool = True
    listeners: tuple[Listener, ...] = ()
    plan: Plan = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        on = classifier_of(self.on)
        fix(self, "on", on)
        if self.attempts is not None:
            whole("attempts", self.attempts, least=1)
        timeout = optional_seconds("timeout", self.timeout, above=True)
        fix(self, "timeout", timeout)
        attempt_timeout = optional_seconds("attempt_timeout", self.attempt_timeout, above=True)
        fix(self, "attempt_timeout", attempt_timeout)
        max_wait = seconds("max_wait", self.max_wait)
        fix(self, "max_wait", max_wait)
        fix(self, "listeners", checked_listeners(self.listeners))
        _check("backoff", self.backoff, Backoff, "a Backoff, such as backoff.exponential(0.1)")
        _check("recovery", self.recovery, (Recovery, type(None)), "a Recovery or None")
        _check("budget", self.budget, (Budget, type(None)), "a retry budget or None")
        _check("name", self.name, str, "a str")
        _check("streaming", self.streaming, bool, "True or False")
        _check("nested", self.nested, bool, "True or False")
        if self.resume is not None and not (callable(self.resume) and self.streaming):
            raise SettingValueError("resume", f"must be a function, and goes with streaming=True, got {self.resume!r}")
        plan = Plan(on, self.attempts, timeout, attempt_timeout, self.backoff, max_wait, self.budget)
        fix(self, "plan", plan)

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function under this policy; if it is async, await what this returns.

        Returns:
            What it returns.

        Raises:
            Its own last exception, with a note: how many attempts, how long, and why no more.
        """
        code = getattr(fn, "__code__", None)
        if code is not None and not (code.co_flags & NOT_PLAIN or self.streaming):  # what follows takes its time
            return cast("T", sync.begin(self, fn, args, kwargs))
        kind = check_kind(fn, policy="Retry", streams=self.streaming)
        if kind in _STREAMS:
            # As a decorated function hands them on: positional ones by position, with their defaults.
            bound = signature(fn).bind(*args, **kwargs)
            bound.apply_defaults()
            return cast("T", _STREAMS[kind](self, fn, self.resume, bound.args, bound.kwargs))
        if kind is Kind.ASYNC:
            return cast("T", aio.settle(self, fn, None, args, kwargs))
        return cast("T", sync.begin(self, fn, args, kwargs))

    @overload
    def execute(  # type: ignore[overload-overlap]  # a coroutine function's outcome comes from awaiting it
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Outcome[T]]: ...
    @overload
    def execute(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[T]: ...
    def execute(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function and gives an :class:`Outcome` instead of raising; if it is async, await it."""
        kind = check_kind(fn, policy="Retry.execute", streams=False)
        record = Record()
        if kind is Kind.ASYNC:
            return record.of_async(aio.settle(self, fn, None, args, kwargs, listeners=record.listeners))
        try:
            value = sync.settle(self, fn, None, args, kwargs, listeners=record.listeners)
            return record.of_async(value) if iscoroutine(value) else record.outcome(None, value)
        except Exception as error:
            return record.outcome(error, None)
        finally:
            del record  # the frames of the errors in it go back to this one

    def with_(self, **changes: Unpack[RetrySettings]) -> Retry:
        """A copy with some settings changed; None is a value like any other."""
        return replace(self, **changes)

    def parts(self) -> tuple[Part, ...]:
        """What the block form is made of."""
        return (BlockRetry(self),)

    @property
    def tries_again(self) -> bool:
        """Whether what is inside may be called more than once."""
        return True

    @property
    def streams(self) -> bool:
        """Whether it guards generator functions, and nothing else."""
        return self.streaming

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind."""
        names: dict[str, Any] = {POLICY: self}
        if kind in _STREAMS:
            return wrap_eager(call, partial(_STREAMS[kind], self, call, self.resume), kind=kind, names=names)
        settle, adopt = (aio if kind is Kind.ASYNC else sync).settle, aio.adopt
        if hasattr(call, OF_FIRST):
            settle, adopt = sync.of_first(settle), sync.of_first(adopt)
        timed = self.plan.timed
        if listeners or self.plan.judges_results or (timed and kind is Kind.ASYNC):
            run = partial(settle, self, call, None, listeners=listeners)
            return wrap_eager(call, self._announced(run, listeners) if listeners else run, kind=kind, names=names)
        facts: dict[str, str] = {}
        limit = succeeded = None
        if timed:
            facts["started"], names[NOW] = f"{NOW}()", _now
            limit = limiting(self.plan)
        budget = self.budget
        if budget is not None and getattr(budget, "heeds_calls", True):
            facts["started"], names[NOW] = f"{NOW}()", _told(budget.called)
        if budget is not None and getattr(budget, "heeds_successes", True):
            succeeded = _telling(budget.succeeded)
        if self.recovery is not None:
            facts["born"], names[FLIGHT] = f"{FLIGHT}.generation", self.recovery.flight
        return wrap_rescued(
            call, settle, self, kind=kind, facts=facts, names=names, adopt=adopt,
            limit=limit, unlimit=DEADLINE.reset, succeeded=succeeded,
        )  # fmt: skip

    def _announced(self, run: Callable[..., Any], listeners: tuple[Listener, ...]) -> Callable[..., Any]:
        """A layer of a pipeline whose timeline names every layer."""

        def announced(args: Any, kwargs: Any) -> Any:
            tell(Entered(self.name or self.kind, 0.0, self.kind), listeners)
            return run(args, kwargs)

        return announced


retry = Retry
"""The same by the name that reads well as a decorator: ``@retry(on=ConnectionError)``."""

_STREAMS: dict[Kind, Callable[..., Any]] = {
    Kind.GENERATOR: streams.stream,
    Kind.ASYNC_GENERATOR: streams.async_stream,
}


def _now() -> float:
    return CLOCK.get().now()


def _told(called: Callable[[float], None]) -> Callable[[], float]:
    """The present instant, at which a budget is told of a call."""

    def begun() -> float:
        called(now := CLOCK.get().now())
        return now

    return begun


def _telling(succeeded: Callable[[float, float | None], None]) -> Callable[[], None]:
    """Tells a budget that a call needed no retry."""

    def told() -> None:
        succeeded(CLOCK.get().now(), None)

    return told


def _check(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kinds):
        raise SettingTypeError(name, f"must be {wanted}, got {value!r}")
