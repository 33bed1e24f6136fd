"""Hedge: another copy of a call that is slow to answer; the first success is the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict, Unpack

from resilient.core.duration import Duration
from resilient.core.events import Entered
from resilient.core.hedging import HedgeMetrics, Percentile, hedge_plan
from resilient.core.setting_errors import checked_name
from resilient.drivers.hedging.race import Hedges, Terms
from resilient.drivers.hedging.tasks import adopt, call_in_tasks
from resilient.drivers.hedging.threads import call_hedged, call_in_threads
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import wrap_eager
from resilient.observe.listeners import Listener, checked_listeners, tell
from resilient.policies.policy import Policy
from resilient.policies.shared import Home, Stateful

__all__ = ["Hedge"]


class HedgeSettings(TypedDict, total=False):
    """The settings of a Hedge, as ``with_`` takes them."""

    after: Duration | str
    extra: int
    min_samples: int | None
    load: float | None
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@dataclass(frozen=True, slots=True, repr=False)
class Hedge(Policy, Stateful):
    """Calls again what is slow to answer, while the first call goes on; the first success is the result.

    For calls that may safely be made more than once. A copy goes out when those under way have been silent for
    ``after``, or at once when one of them fails. If all fail, the first call's own error is raised. Copies are paid
    from a budget that calls fill, so that a server which slows down as a whole is not given more to do.

    Async calls run in the caller's task, their copies in tasks; losers are cancelled and awaited before the result is
    returned, so nothing outlives the call. Blocking calls run in daemon threads, and nothing can stop a thread:
    losers run on to their end with whatever they hold, and what they come to is dropped; a ``Timeout`` inside lets
    them read by when they should be over (``current_deadline()``). A callable of which only the result tells whether
    it is async is taken as blocking, unless an event loop runs where it is called: there it is called in place, and
    hedged only if it gives a coroutine.

    Under a fake clock a blocking copy that sleeps through ``after`` goes on when the copy launched then is over; if
    it has lost by then, it ends there.

    Args:
        after: silence before another copy, seconds >= 0, or a percentile of the latest durations, such as "p95";
            nothing is hedged before enough of them are known.
        extra: most copies besides the first call, >= 1.
        min_samples: durations before a percentile counts, 1 to 1000; None: so many that it differs from the longest.
        load: extra copies per call in the long run, 0 to ``extra``, which is no limit; None: the share of calls beyond
            the percentile, 0.05 for a duration.
        name: for events.
        listeners: functions that are told every event of this policy.
        home: where the state lives; see ``named``.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: "The Tail at Scale", Dean and Barroso, 2013; gRPC proposal A6, "Hedging Policy"; Finagle's
    BackupRequestFilter.
    """

    after: Duration | str
    extra: int = 1
    min_samples: int | None = field(default=None, kw_only=True)
    load: float | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    home: Home | None = field(default=None, kw_only=True, compare=False, repr=False)
    hedges: Hedges = field(init=False, compare=False, repr=False)
    timed: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        plan = hedge_plan(self.after, self.extra, min_samples=self.min_samples, load=self.load)
        timed = isinstance(plan.after, Percentile)
        fix(self, "after", str(plan.after) if timed else plan.after)
        fix(self, "timed", timed)
        fix(self, "listeners", checked_listeners(self.listeners))
        fix(self, "hedges", self.found_state("Hedge", checked_name(self.name), lambda: Hedges(plan)))

    @property
    def tries_again(self) -> bool:
        """Whether what is inside may be called more than once."""
        return True

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind."""
        name = self.name or self.kind
        terms = Terms(self.hedges, self.extra, self.timed, name, (*self.listeners, *listeners))
        runs = {
            Kind.SYNC: partial(call_in_threads, terms, call),
            Kind.ASYNC: partial(call_in_tasks, terms, call),
            Kind.EITHER: partial(call_hedged, terms, adopt, call),
        }
        run = runs[kind]
        return wrap_eager(call, partial(_noted, run, name, listeners) if listeners else run, kind=kind)

    def metrics(self) -> HedgeMetrics:
        """What hedging has done, and the present delay."""
        return self.hedges.metrics()

    def reset(self) -> None:
        """Forgets durations and counts, and fills the budget."""
        self.hedges.reset()

    def with_(self, **changes: Unpack[HedgeSettings]) -> Hedge:
        """A copy with some settings changed, and a state of its own."""
        changes.setdefault("home", None)
        return replace(self, **changes)


def _noted(run: Callable[..., Any], name: str, listeners: tuple[Listener, ...], args: Any, kwargs: Any) -> Any:
    """A call whose timeline is kept."""
    tell(Entered(name, 0.0, "Hedge"), listeners)
    return run(args, kwargs)
