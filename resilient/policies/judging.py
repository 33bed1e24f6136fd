"""What an error says about the other side, as the policies see it that count failures."""

from __future__ import annotations

from collections.abc import Callable

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.errors import PolicyTimeout, Rejected

__all__ = ["says"]


def says(on: Classifier, ignore: Classifier | None = None) -> Callable[[Exception], bool | None]:
    """A judge of errors: True: a failure; False: none; None: the error says nothing.

    An error is a failure if ``on`` would have it tried again, in whatever way. A limit of time that an inner policy
    set is one too, unless a rule speaks of it. What an inner policy did not let through never reached the other
    side, and says nothing.

    Args:
        on: which errors are failures.
        ignore: which errors say nothing.
    """

    def judge(error: Exception) -> bool | None:
        if isinstance(error, Rejected) or (ignore is not None and ignore(error).action is not Action.FAIL):
            return None
        verdict = on.match(error)
        if verdict is None:
            return isinstance(error, PolicyTimeout) or on.otherwise.action is not Action.FAIL
        return verdict.action is not Action.FAIL

    return judge
