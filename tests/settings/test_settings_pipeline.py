"""Pipelines of a settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, Timeout, load
from resilient.testing import FakeClock, Script

DOCUMENT = """
[policies.limit]
kind = "rate_limiter"
rate = 50
burst = 10

[policies.retry-db]
on = "ConnectionError"
attempts = 3
backoff = "constant:1"

[pipelines.db]
layers = [
  "limit",
  { kind = "timeout", seconds = "60s" },
  "retry-db",
  { kind = "circuit_breaker", failure_rate = 0.5, open_for = "30s" },
  { kind = "timeout", seconds = "5s", name = "attempt" },
]

[[pipelines.calm.layers]]
kind = "bulkhead"
limit = 3

[[pipelines.calm.layers]]
kind = "timeout"
seconds = 1
"""

LIMIT = {"kind": "rate_limiter", "rate": 50}


def problem_of(**sections: object) -> str:
    with pytest.raises(ValueError) as caught:
        load(sections)
    assert type(caught.value) is ValueError
    return str(caught.value).removeprefix("settings: ")


def layers_problem(layers: object) -> str:
    return problem_of(policies={"limit": LIMIT}, pipelines={"db": {"layers": layers}})


def test_layers_stand_outermost_first(tmp_path: Path) -> None:
    """Named ones and those in place, which take the pipeline's name."""
    file = tmp_path / "resilient.toml"
    file.write_text(DOCUMENT)
    policies = load(file)
    assert list(policies) == ["limit", "retry-db", "db", "calm"]
    assert policies["db"] == Pipeline(
        RateLimiter(50, burst=10, name="limit"),
        Timeout(60, name="db"),
        policies["retry-db"],
        CircuitBreaker(failure_rate=0.5, open_for=30.0, name="db"),
        Timeout(5, name="attempt"),
        name="db",
    )
    assert policies["calm"] == Pipeline(Bulkhead(3, name="calm"), Timeout(1, name="calm"), name="calm")


def test_a_loaded_pipeline_guards_calls(tmp_path: Path) -> None:
    """It is a policy like any other."""
    file = tmp_path / "resilient.toml"
    file.write_text(DOCUMENT)
    db = load(file)["db"]
    with FakeClock() as clock:
        outcome = db.execute(Script(ConnectionError("no"), "yes"))
    assert (outcome.value, clock.sleeps) == ("yes", [1])


def test_a_named_policy_is_one_object_everywhere() -> None:
    """Two pipelines that name a limiter share its schedule."""
    policies = load(
        {"policies": {"limit": LIMIT}, "pipelines": {"a": {"layers": ["limit"]}, "b": {"layers": ("limit",)}}}
    )
    assert policies["a"].layers[0] is policies["limit"]  # type: ignore[attr-defined]
    assert policies["b"].layers[0] is policies["limit"]  # type: ignore[attr-defined]


def test_a_pipeline_may_be_a_layer_of_those_below() -> None:
    """Never of itself."""
    policies = load(
        {"policies": {"limit": LIMIT}, "pipelines": {"in": {"layers": ["limit"]}, "out": {"layers": ["in"]}}}
    )
    assert policies["out"] == Pipeline(policies["in"], name="out")
    problem = "layers[0] must name a policy of this document, or a pipeline above this one, got"
    assert problem_of(pipelines={"a": {"layers": ["a"]}}) == f"pipelines.a.{problem} 'a'; there are none"
    assert problem_of(pipelines={"a": {"layers": ["b"]}, "b": {"layers": [LIMIT]}}).startswith(f"pipelines.a.{problem}")


def test_a_pipeline_may_have_another_name() -> None:
    """Its layers in place take that one; an empty one is honoured."""
    named = {"layers": [{"kind": "timeout", "seconds": 1}], "name": "main"}
    assert load({"pipelines": {"db": named}})["db"] == Pipeline(Timeout(1, name="main"), name="main")
    assert load({"pipelines": {"db": named | {"name": ""}}})["db"] == Pipeline(Timeout(1))


def test_layers_made_by_code_are_taken_as_they_are() -> None:
    """From a mapping."""
    made = Timeout(1)
    assert load({"pipelines": {"db": {"layers": [made]}}})["db"].layers[0] is made  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (
            "limit",
            'layers must be a list of policies, outermost first, such as layers = ["limit", { kind = "timeout", ',
        ),
        ([], "layers must have at least one policy, such as "),
        ([3], "layers[0] must be a policy's name, or a table with its kind, got 3"),
        (
            ["limti"],
            "layers[0] must name a policy of this document, or a pipeline above this one, got 'limti'; "
            "did you mean 'limit'? There are: limit",
        ),
        (["limit", "zzz"], "layers[1] must name a policy of this document, or a pipeline above this one, got 'zzz'; "),
        ([{"seconds": 5}], 'layers[0].kind is missing: seconds is a setting of kind = "timeout"'),
        ([{"name": "x"}], "layers[0].kind is missing; there are: adaptive_limiter, "),
        ([{}], "layers[0].kind is missing; there are: adaptive_limiter, "),
        ([{"kind": "timeuot"}], "layers[0].kind must be a known kind, got 'timeuot'; did you mean 'timeout'?"),
        ([{"kind": "timeout"}], "layers[0].seconds is missing: "),
        (["limit", {"kind": "retry"}], "layers[1].on is missing: "),
        ([{"kind": "retry", "on": "OSError", "atempts": 3}], "layers[0].atempts is not a known key; did you mean 'at"),
        ([{"kind": "fallback", "value": 3}], "layers[0].kind 'fallback' needs code, which no settings file holds: "),
        ([Retry(on=OSError, streaming=True)], "layers[0] guards generators (streaming=True): "),
    ],
)
def test_every_layer_is_checked(layers: object, problem: str) -> None:
    """In its place; one line for one mistake."""
    told = layers_problem(layers)
    assert told.startswith(f"pipelines.db.{problem}")
    assert "\n" not in told


def test_all_problems_are_told_at_once() -> None:
    """Those of the policies, then those of the pipelines; a policy that is wrong is no problem of its pipelines."""
    told = problem_of(
        policies={"limit": LIMIT | {"burst": 0}},
        pipelines={"db": {"layers": ["limit", 3, {"kind": "timeout"}], "nmae": 1}, "api": {"layers": ["db"]}},
    )
    assert [line.removeprefix("settings: ") for line in told.splitlines()] == [
        "policies.limit.burst must be >= 1, got 0",
        "pipelines.db.nmae is not a known key; did you mean 'name'?",
        "pipelines.db.layers[1] must be a policy's name, or a table with its kind, got 3",
        'pipelines.db.layers[2].seconds is missing: this kind needs it, such as seconds = "5s"',
    ]


@pytest.mark.parametrize(
    ("pipeline", "problem"),
    [
        (3, "pipelines.db must be a table, got 3"),
        ({}, "pipelines.db.layers is missing: say which policies, outermost first, such as layers = ["),
        ({"layers": ["limit"], "name": 3}, "pipelines.db.name must be a str, got 3"),
    ],
)
def test_the_table_of_a_pipeline_is_checked(pipeline: object, problem: str) -> None:
    """As those of policies are."""
    assert problem_of(policies={"limit": LIMIT}, pipelines={"db": pipeline}).startswith(problem)


def test_a_name_is_used_once() -> None:
    """In one of the two sections."""
    told = problem_of(policies={"d b": LIMIT}, pipelines={"d b": {"layers": ["d b"]}})
    assert told == 'pipelines."d b" must have a name of its own: there is [policies."d b"]'
