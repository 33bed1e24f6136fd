"""What calls say to a gate that counts failures."""

from __future__ import annotations

from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import NO_VALUE


def test_a_result_is_judged() -> None:
    """By the rule for results, which has no say where a block names none."""
    judges = FailureJudges(lambda error: True, lambda value: value != 1)
    assert judges.of_result is not None
    assert [False, True, False] == [judges.of_result(value) for value in (1, 2, NO_VALUE)]


def test_without_a_rule_for_results_none_is_judged() -> None:
    """Errors are, all the same."""
    judges = FailureJudges(lambda error: None, None)
    assert (None, None) == (judges.of_result, judges.of_error(OSError()))
