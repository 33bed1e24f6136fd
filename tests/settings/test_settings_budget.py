"""Retry budgets: of one policy, or shared by name."""

from __future__ import annotations

import pytest

from resilient import Retry, RetryBudget, load
from resilient.testing import FakeClock, Script


def budget(given: object, **sections: object) -> object:
    return load({"policies": {"db": {"on": "OSError", "budget": given}}, **sections}).retries["db"].budget


def problem_of(given: object, **sections: object) -> str:
    with pytest.raises(ValueError) as caught:
        budget(given, **sections)
    return str(caught.value).removeprefix("settings: ")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, RetryBudget(name="db")),
        ({"form": "quota", "capacity": 100}, RetryBudget.quota(100, name="db")),
        ({"capacity": 9, "retry_cost": 2, "name": "few"}, RetryBudget.quota(9, 2, name="few")),
        ({"form": "ratio", "percent": 0.1, "ttl": "30s"}, RetryBudget.ratio(0.1, ttl=30, name="db")),
        ({"form": "throttle", "token_ratio": 0.2}, RetryBudget.throttle(token_ratio=0.2, name="db")),
    ],
)
def test_a_budget_may_be_a_table(table: dict[str, object], expected: RetryBudget) -> None:
    """Of one policy, whose name it takes; or shared, by the name of its own table."""
    assert budget(table) == expected
    assert budget("db", budgets={"db": table}) == expected


def test_a_budget_takes_the_name_that_its_policy_gives_itself() -> None:
    """Not that of the table."""
    policies = load({"policies": {"db": {"on": "OSError", "name": "main", "budget": {}}}})
    assert policies.retries["db"].budget == RetryBudget(name="main")


def test_policies_share_the_budget_that_they_name() -> None:
    """One object, so that the retries of one leave less for the other."""
    named = {"on": "OSError", "budget": "shared", "backoff": "constant:1"}
    policies = load({"budgets": {"shared": {"capacity": 10}}, "policies": {"a": named, "b": named}}).retries
    assert policies["a"].budget is policies["b"].budget
    calls = Script(*[OSError()] * 9)
    with FakeClock() as clock:
        assert policies["a"].execute(calls).stopped_by == "budget"
        assert policies["b"].execute(calls).stopped_by == "budget"
    assert clock.sleeps == [1, 1]


def test_layers_in_place_name_budgets_too() -> None:
    """As the policies of the document do."""
    policies = load(
        {
            "budgets": {"shared": {}},
            "policies": {"db": {"on": "OSError", "budget": "shared"}},
            "pipelines": {"api": {"layers": [{"kind": "retry", "on": "OSError", "budget": "shared"}]}},
        }
    )
    [layer] = policies["api"].layers  # type: ignore[attr-defined]
    assert layer.budget is policies.retries["db"].budget


def test_a_budget_made_by_code_is_taken_as_it_is() -> None:
    """From a mapping."""
    made = RetryBudget.ratio()
    assert budget(made) is made


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("shred", "policies.db.budget must name a table of [budgets], got 'shred'; did you mean 'shared'?"),
        ("zzz", "policies.db.budget must name a table of [budgets], got 'zzz'; there are: other, shared"),
        (
            3,
            "policies.db.budget must be the name of a table of [budgets], or a table such as "
            '{ form = "quota", capacity = 100 }, got 3',
        ),
        ({"form": "quata"}, "policies.db.budget.form must be a known form, got 'quata'; did you mean 'quota'?"),
        ({"form": 3}, "policies.db.budget.form must be a known form, got 3; there are: quota, ratio, throttle"),
        ({"form": []}, "policies.db.budget.form must be a known form, got []"),
        ({"capacity": -1}, "policies.db.budget.capacity must be >= 0, got -1"),
        ({"capacity": "many"}, "policies.db.budget.capacity must be a number >= 0, got 'many'"),
        ({"capasity": 1}, "policies.db.budget.capasity is not a known key; did you mean 'capacity'?"),
        ({"percent": 1}, 'policies.db.budget.percent is a setting of form = "ratio"'),
        ({"form": "ratio", "ttl": "1h"}, "policies.db.budget.ttl must be >= 1 and <= 60, got 3600.0"),
        ({"form": "ratio", "ttl": "x"}, "policies.db.budget.ttl must be seconds or a time such as "),
        ({"name": 3}, "policies.db.budget.name must be a str, got 3"),
    ],
)
def test_a_budget_is_checked(given: object, problem: str) -> None:
    """By RetryBudget's own checks; one line for one mistake."""
    told = problem_of(given, budgets={"shared": {}, "other": {}})
    assert told.startswith(problem)
    assert "\n" not in told


def test_a_budget_that_is_wrong_is_told_once() -> None:
    """In its own table, not in those that name it."""
    assert problem_of("shared", budgets={"shared": {"capacity": -1}}) == "budgets.shared.capacity must be >= 0, got -1"


def test_without_budgets_none_can_be_named() -> None:
    """The text says what to write."""
    expected = "policies.db.budget must name a table of [budgets], got 'shared'; there is no [budgets.shared]"
    assert problem_of("shared") == expected


def test_a_wrong_name_leaves_the_budget_alone() -> None:
    """One mistake is one problem."""
    with pytest.raises(ValueError) as caught:
        load({"policies": {"db": {"on": "OSError", "name": 3, "budget": {}}}})
    assert str(caught.value) == "settings: policies.db.name must be a str, got 3"


def test_a_single_policy_may_have_a_budget() -> None:
    """A document that is one table."""
    assert load({"on": "OSError", "budget": {"capacity": 7}})["default"] == Retry(
        on=OSError, budget=RetryBudget.quota(7, name="default"), name="default"
    )
