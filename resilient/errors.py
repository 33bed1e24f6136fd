"""The error tree.

::

    ResilientError
    ├── PolicyTimeout          (also TimeoutError)
    │   ├── AttemptTimeout     one attempt took longer than its own limit
    │   ├── DeadlineExceeded   the whole call took longer than ``timeout``
    │   └── PeerSilent         the other side of a connection gave no sign of life
    ├── Rejected               a policy did not let the call through: it was not made
    │   ├── CircuitOpen        the circuit breaker is open
    │   ├── RateLimited        the rate limiter has no slot soon enough
    │   ├── BulkheadFull       as many calls run, and wait, as may
    │   └── Throttled          the server rejects so much that asking it would not help
    ├── NotConnected           there is no connection, and waiting would not bring one: the call was not made
    │   └── ManagerClosed      its manager is closed, or is about to be
    └── OutcomeUnknown         the connection was lost under a call, which may have been carried out

All but ``PolicyTimeout`` are in :mod:`resilient`, those of connections in :mod:`resilient.net` as well, and so are
those that stand beside what raises them: ``OutboxFull`` (a ``Rejected``), ``FrameTooLarge`` (also a ``ValueError``),
``TooManyRestarts``, and ``StillRunning`` (a ``PolicyTimeout``), which is told and never raised.

Whatever a guarded call raises by itself comes back as it is, with a note; these are only for facts that a policy or a
manager adds. Bad settings are a ``ValueError`` or ``TypeError``, raised where the policy is made.
"""

from __future__ import annotations

__all__ = [
    "AttemptTimeout",
    "BulkheadFull",
    "CircuitOpen",
    "DeadlineExceeded",
    "ManagerClosed",
    "NotConnected",
    "OutcomeUnknown",
    "PeerSilent",
    "PolicyTimeout",
    "RateLimited",
    "Rejected",
    "ResilientError",
    "Throttled",
]


class ResilientError(Exception):
    """Base of every error that this library raises on its own account."""


class PolicyTimeout(ResilientError, TimeoutError):
    """A limit of time that a policy set was reached.

    Attributes:
        seconds: the limit, seconds.
    """

    what = "timed out"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.what} after {self.seconds:g} s"


class AttemptTimeout(PolicyTimeout):
    """One attempt was cut off; the policy may still try again."""

    what = "attempt timed out"
    of_layer = False  # whether it comes from a Timeout inside a pipeline's Retry, which has yet to decide


class DeadlineExceeded(PolicyTimeout):
    """The whole call, waits included, ran out of time while something was still running.

    Its ``__cause__`` is the last error of the call itself, if there was one.
    """

    what = "deadline exceeded"


class PeerSilent(PolicyTimeout):
    """Nothing came from the other side of a connection for so long that it counts as lost."""

    what = "peer silent: no sign of life"


class Rejected(ResilientError):
    """A policy did not let a call through: the function was not called.

    Attributes:
        name: the policy that said so; empty if it has no name.
        retry_after: seconds after which another call makes sense; None if nobody knows.
        why: what stood in the way, in words.
    """

    what = "rejected"

    def __init__(self, name: str = "", retry_after: float | None = None, why: str = "") -> None:
        super().__init__(name, retry_after, why)
        self.name = name
        self.retry_after = retry_after
        self.why = why

    def __str__(self) -> str:
        named = f" by {self.name!r}" if self.name else ""
        why = f": {self.why}" if self.why else ""
        later = "" if self.retry_after is None else f"; another call makes sense in {self.retry_after:.3g} s"
        return f"{self.what}{named}{why}{later}"


class CircuitOpen(Rejected):
    """The circuit breaker is open, or half open with all its probes out."""

    what = "circuit open: call rejected"


class RateLimited(Rejected):
    """No slot of the rate limiter comes soon enough."""

    what = "rate limited: call rejected"


class BulkheadFull(Rejected):
    """The bulkhead or limiter allows no more calls to run, or to wait."""

    what = "bulkhead full: call rejected"


class Throttled(Rejected):
    """The other side rejects so many calls that this one was not even sent."""

    what = "throttled: call rejected"


class NotConnected(ResilientError):
    """There is no connection, and waiting would not bring one: the call was not made.

    Attributes:
        name: the connection's manager; empty if it has no name.
        why: what stood in the way, in words.
    """

    what = "not connected"

    def __init__(self, name: str = "", why: str = "") -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        named = f" to {self.name!r}" if self.name else ""
        why = f": {self.why}" if self.why else ""
        return f"{self.what}{named}{why}"


class ManagerClosed(NotConnected):
    """The connection's manager is closed, or finishes what is under way and takes no more."""


class OutcomeUnknown(ResilientError):
    """The connection was lost under a call, which may have been carried out, and may not be made twice.

    Its ``__cause__`` is the call's own error.

    Attributes:
        name: the connection's manager; empty if it has no name.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        named = f" to {self.name!r}" if self.name else ""
        return f"outcome unknown: the connection{named} was lost under a call that is not declared idempotent"
