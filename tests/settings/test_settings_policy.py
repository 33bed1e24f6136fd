"""The keys of one policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from resilient import Policy, Retry, backoff, load
from resilient.core.backoff import Backoff
from resilient.core.setting_errors import SettingValueError
from resilient.policies.retry import DEFAULT_BACKOFF
from resilient.settings.kinds import KINDS, Kind, plain


def policy(**settings: object) -> Retry:
    return load({"policies": {"db": {"on": "OSError"} | settings}})["db"]


def problem_of(**settings: object) -> str:
    with pytest.raises(ValueError) as caught:
        policy(**settings)
    return str(caught.value)


def test_what_is_left_out_is_as_in_retry() -> None:
    """Only the name is taken from the table."""
    assert policy() == Retry(on=OSError, name="db")


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("attempts", 7, 7),
        ("attempts", "unlimited", None),
        ("attempts", None, None),
        ("timeout", 5, 5.0),
        ("timeout", 0.5, 0.5),
        ("timeout", "250ms", 0.25),
        ("timeout", timedelta(seconds=2), 2.0),
        ("attempt_timeout", "1h", 3600.0),
        ("max_wait", "10s", 10.0),
        ("max_wait", 0, 0.0),
        ("name", "sender", "sender"),
        ("backoff", "linear:1..3", backoff.linear(1, cap=3)),
        ("backoff", backoff.constant(1), backoff.constant(1)),
        ("backoff", {"shape": "constant", "delay": "2s"}, backoff.constant(2)),
        ("jitter", "equal", DEFAULT_BACKOFF.jitter("equal")),
        ("jitter", "none", backoff.exponential(0.1)),
        ("jitter", 0.2, DEFAULT_BACKOFF.jitter(0.2)),
    ],
)
def test_each_key_is_a_setting_of_retry(key: str, given: object, expected: object) -> None:
    """In TOML's words or in Python's."""
    made = policy(**{key: given})
    changes: dict[str, Any] = {"backoff" if key == "jitter" else key: expected}
    assert made == Retry(on=OSError, name="db").with_(**changes)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"attempts": 0}, "attempts must be >= 1, got 0"),
        ({"attempts": 1.5}, "attempts must be a whole number >= 1, got 1.5"),
        ({"attempts": True}, "attempts must be a whole number >= 1, got True"),
        ({"attempts": "many"}, "attempts must be a whole number >= 1 or \"unlimited\", got 'many'"),
        ({"timeout": 0}, "timeout must be > 0 s, got 0"),
        ({"timeout": "soon"}, "timeout must be seconds or a time such as 250ms, 5s, 2m or 1h, got 'soon'"),
        ({"timeout": [1]}, "timeout must be seconds (int, float) or a timedelta, got [1]"),
        ({"attempt_timeout": "0s"}, "attempt_timeout must be > 0 s, got 0.0"),
        ({"max_wait": -1}, "max_wait must be >= 0 s, got -1"),
        ({"name": 3}, "name must be a str, got 3"),
        ({"backoff": 3}, "backoff must be text such as exponential:0.1..300 or a table, got 3"),
        ({"backoff": "exponential:2..1"}, "backoff: cap must be >= first (2 s), got 1.0 (in 'exponential:2..1')"),
        ({"jitter": "fully"}, 'jitter must be "full", "equal" or a fraction from 0 to 1, got \'fully\''),
        ({"jitter": 2}, 'jitter must be "full", "equal" or a fraction from 0 to 1, got 2'),
        ({"jitter": "full", "backoff": "decorrelated:1..2"}, "jitter cannot be added to a decorrelated backoff, "),
        ({"jitter": "full", "backoff": "constant:1/equal"}, "jitter is given twice: backoff is 'constant:1/equal'"),
        ({"atempts": 3}, "atempts is not a known key; did you mean 'attempts'?"),
        ({"recovery": {}}, 'recovery is code, which no settings file holds: load(...)["name"].with_(recovery=...)'),
    ],
)
def test_every_setting_is_checked(settings: dict[str, object], problem: str) -> None:
    """By Retry's own checks; the text names the source, the dotted key, the value and the limit."""
    assert problem_of(**settings).startswith(f"settings: policies.db.{problem}")


def test_jitter_says_nothing_about_a_backoff_that_is_wrong() -> None:
    """One mistake is one problem."""
    assert problem_of(backoff="constant", jitter="full").count("\n") == 0


def test_jitter_beside_a_plain_backoff() -> None:
    """It is added."""
    assert policy(backoff="constant:1", jitter="full").backoff == backoff.constant(1).jitter("full")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"shape": "constant", "delay": 2}, backoff.constant(2)),
        ({"shape": "linear", "first": 1}, backoff.linear(1)),
        ({"shape": "linear", "first": "1s", "step": "500ms", "cap": "1m"}, backoff.linear(1, 0.5, 60)),
        ({"shape": "exponential", "first": 0.1}, backoff.exponential(0.1)),
        ({"shape": "exponential", "first": 0.1, "factor": 3, "cap": 9}, backoff.exponential(0.1, 3, 9)),
        ({"shape": "fibonacci"}, backoff.fibonacci()),
        ({"shape": "fibonacci", "first": 2, "cap": 9}, backoff.fibonacci(2, 9)),
        ({"shape": "decorrelated", "first": 0.1, "cap": 9}, backoff.decorrelated(0.1, 9)),
        ({"shape": "sequence", "delays": [1, "2s", 5]}, backoff.sequence(1, 2, 5)),
        (
            {"shape": "constant", "delay": 2, "jitter": "full", "floor": "50ms"},
            backoff.constant(2).jitter("full").floor(0.05),
        ),
        ({"shape": "constant", "delay": 2, "jitter": 0.5}, backoff.constant(2).jitter(0.5)),
    ],
)
def test_a_backoff_may_be_a_table(table: dict[str, object], expected: Backoff) -> None:
    """Its keys are the arguments of the function of that shape."""
    assert policy(backoff=table).backoff == expected


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "shape is missing; there are: constant, decorrelated, exponential, fibonacci, linear, sequence"),
        ({"shape": "lineer"}, "shape must be a known shape, got 'lineer'; did you mean 'linear'?"),
        ({"shape": 3}, "shape must be a known shape, got 3; there are: "),
        ({"shape": "linear"}, "first is missing: linear takes first, step, cap"),
        ({"shape": "linear", "first": 1, "caps": 3}, "caps is not a known key; did you mean 'cap'?"),
        (
            {"shape": "constant", "delay": 1, "factor": 3},
            "factor is not a known key; there are: delay, floor, jitter, shape",
        ),
        ({"shape": "exponential", "first": 0}, "first must be > 0 s, got 0"),
        ({"shape": "exponential", "first": 1, "factor": "2s"}, "factor must be a number >= 1, got '2s'"),
        ({"shape": "exponential", "first": 5, "cap": 2}, "cap must be >= first (5 s), got 2"),
        ({"shape": "sequence", "delays": "1,2"}, "delays must be a list of waits, got '1,2'"),
        ({"shape": "sequence", "delays": []}, "delays must be at least one wait, got none"),
        (
            {"shape": "constant", "delay": 1, "jitter": 2},
            'jitter must be "full", "equal" or a fraction from 0 to 1, got 2',
        ),
        ({"shape": "exponential", "first": 1, "cap": 2, "floor": 3}, "floor must be <= cap (2 s), got 3"),
    ],
)
def test_a_backoff_table_is_checked(table: dict[str, object], problem: str) -> None:
    """By the function of its shape."""
    assert problem_of(backoff=table).startswith(f"settings: policies.db.backoff.{problem}")


@dataclass(frozen=True)
class Door(Policy):
    """A policy whose errors speak of a setting late in their text, or not at all."""

    width: int = 1
    height: int = 2
    name: str = ""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingValueError("width", "fits through a door without width", subject="nobody")
        if self.height < 1:
            raise SettingValueError("height", "must be >= 1")


@dataclass(frozen=True)
class Locked(Door):
    """A policy whose error is about none of its settings."""

    def __post_init__(self) -> None:
        raise ValueError("width is not the problem")


def problems_of(monkeypatch: pytest.MonkeyPatch, door: type[Door], **settings: object) -> list[str]:
    monkeypatch.setitem(KINDS, "door", Kind(door, {"width": plain, "height": plain}))
    with pytest.raises(ValueError) as caught:
        load({"policies": {"db": {"kind": "door"} | settings}})
    return str(caught.value).splitlines()


def test_a_setting_is_found_by_what_its_error_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the others are looked at without it, wherever the text has its name."""
    assert problems_of(monkeypatch, Door, width=0, height=0) == [
        "settings: policies.db.width: nobody fits through a door without width",
        "settings: policies.db.height must be >= 1",
    ]


def test_an_error_that_carries_no_setting_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the search, though its text begins like a setting."""
    assert problems_of(monkeypatch, Locked, width=3) == ["settings: policies.db.width is not the problem"]
