"""Judges of calls, for gates that count failures."""

from __future__ import annotations

from collections.abc import Callable

from resilient.drivers.gates.gate import NO_VALUE

__all__ = ["FailureJudges"]


class FailureJudges:
    """What calls say about the resource.

    Args:
        of_error: True: a failure; False: none; None: the error says nothing.
        of_result: whether a returned value is a failure; None: none is.
    """

    __slots__ = ("of_error", "of_result")

    def __init__(
        self, of_error: Callable[[Exception], bool | None], of_result: Callable[[object], bool] | None
    ) -> None:
        self.of_error = of_error
        self.of_result = None if of_result is None else _unless_none_is_named(of_result)


def _unless_none_is_named(judge: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is not NO_VALUE and judge(value)
