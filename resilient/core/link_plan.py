"""The settings of a managed connection, and what they make of an error."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from resilient.core.action import Action, Verdict
from resilient.core.backoff import Backoff, exponential
from resilient.core.classify import Classifier, classifier_of
from resilient.core.duration import Duration, seconds, whole
from resilient.core.run import Plan, verdict_on
from resilient.core.setting_errors import SettingTypeError

__all__ = ["BACKOFF", "MAX_WAIT", "STABLE_AFTER", "LinkPlan", "link_plan"]

# Against a peer that accepts and closes: with every wait at its shortest (half of 1, 2, 4 ... s) dials are at 0, 0.5,
# 1.5, 3.5, 7.5, 15.5 and 31.5 s, so 6 in half a minute; and two clients that lost the same server are never in step.
BACKOFF = exponential(1, cap=30).jitter("equal")
STABLE_AFTER = 10.0
MAX_WAIT = 300.0


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """The settings of a link. Made by :func:`link_plan`, which checks them.

    Attributes:
        on: what trouble calls for.
        backoff: waits between connections that fail.
        attempts: connections that may fail in a row, the lost one included; None for ever.
        stable_after: uptime that ends an outage, seconds.
        throttle: least time between the starts of two dials, seconds.
        max_wait: longest delay named by the other side that is waited for, seconds.
        run: the same, as the decisions of an outage need them.
    """

    on: Classifier
    backoff: Backoff
    attempts: int | None
    stable_after: float
    throttle: float
    max_wait: float
    run: Plan = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        run = Plan(self.on, self.attempts, None, None, self.backoff, self.max_wait, None)
        object.__setattr__(self, "run", run)

    def judge(self, error: Exception, *, cut_off: bool = False) -> Verdict:
        """What an error calls for. It may run the user's own predicates, so no lock is to be held.

        Args:
            error: what ended a dial or a connection.
            cut_off: it was the link's own limit of time; then it is dialled again, unless a rule speaks of it.
        """
        return verdict_on(self.on, error, cut_off=cut_off)

    def ends_without_network(self) -> bool:
        """Whether a reset connection is dialled again, but a network that is out of reach ends the link.

        That is no ``ConnectionError``, as one may think, but an ``OSError``.
        """
        reset = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
        try:
            return self.judge(unreachable).action is Action.FAIL is not self.judge(reset).action
        except Exception:  # a predicate that knows its own errors only
            return False


def link_plan(
    on: object,
    *,
    backoff: Backoff = BACKOFF,
    attempts: int | None = None,
    stable_after: Duration = STABLE_AFTER,
    throttle: Duration = 0,
    max_wait: Duration = MAX_WAIT,
) -> LinkPlan:
    """Makes the settings of a link, checked.

    Args:
        on: classes of errors, a predicate or a classifier.
        backoff: waits between connections that fail.
        attempts: connections that may fail in a row before the link is FAILED, >= 1, the lost one included (1: what
            is lost stays lost); None for ever.
        stable_after: uptime after which a loss begins a new outage, seconds, >= 0; with 0 any connect will do.
        throttle: least time between the starts of two dials, seconds, >= 0.
        max_wait: longest delay named by the other side that is waited for, seconds, >= 0.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """
    if not isinstance(backoff, Backoff):
        raise SettingTypeError("backoff", f"must be a Backoff, such as backoff.exponential(1), got {backoff!r}")
    return LinkPlan(
        classifier_of(on),
        backoff,
        None if attempts is None else whole("attempts", attempts, least=1),
        seconds("stable_after", stable_after),
        seconds("throttle", throttle),
        seconds("max_wait", max_wait),
    )
