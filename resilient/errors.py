"""The error tree.

::

    ResilientError
    └── PolicyTimeout          (also TimeoutError)
        ├── AttemptTimeout     one attempt took longer than ``attempt_timeout``
        └── DeadlineExceeded   the whole call took longer than ``timeout``

Whatever a guarded call raises by itself comes back as it is, with a note; these are only for facts that a
policy adds. Bad settings are a plain ``ValueError`` or ``TypeError``, raised where the policy is made.
"""

from __future__ import annotations

__all__ = ["AttemptTimeout", "DeadlineExceeded", "PolicyTimeout", "ResilientError"]


class ResilientError(Exception):
    """Base of every error that a policy raises on its own account."""


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


class DeadlineExceeded(PolicyTimeout):
    """The whole call, waits included, ran out of time while something was still running.

    Its ``__cause__`` is the last error of the call itself, if there was one.
    """

    what = "deadline exceeded"
