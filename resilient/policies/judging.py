"""What an error, or a returned value, says about the other side, as the policies see it that count failures."""

from __future__ import annotations

from collections.abc import Callable

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.run import rejections_in
from resilient.errors import PolicyTimeout

__all__ = ["says", "says_of"]


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
        if ignore is not None and ignore(error).action is not Action.FAIL:
            return None
        _, rest = rejections_in(error)
        if rest is None:
            return None
        verdict = on.match(rest)
        if verdict is None:
            return isinstance(rest, PolicyTimeout) or on.otherwise.action is not Action.FAIL
        return verdict.action is not Action.FAIL

    return judge


def says_of(on: Classifier) -> Callable[[object], bool] | None:
    """A judge of returned values: whether one is a failure; None if ``on`` has no rule for results.

    A value is a failure if ``on`` would have it tried again, in whatever way.
    """
    if not on.judges_results:
        return None

    def judge(value: object) -> bool:
        verdict = on.match_result(value)
        return verdict is not None and verdict.action is not Action.FAIL

    return judge
