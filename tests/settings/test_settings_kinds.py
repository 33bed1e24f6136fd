"""The kinds of policies beside Retry: their keys, and what is wrong with them."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from resilient import (
    AdaptiveLimiter,
    AdaptiveRate,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    Classifier,
    Hedge,
    Policy,
    RateLimiter,
    Retry,
    Rule,
    Timeout,
    backoff,
    load,
    presets,
)
from resilient.settings import retry
from resilient.settings.kinds import KINDS

# The least that each kind needs, in TOML's words and as its class takes it.
LEAST: dict[str, tuple[dict[str, Any], Policy]] = {
    "retry": ({"on": "OSError"}, Retry(on=OSError, name="x")),
    "timeout": ({"seconds": 5}, Timeout(5, name="x")),
    "circuit_breaker": ({}, CircuitBreaker(name="x")),
    "rate_limiter": ({"rate": 50}, RateLimiter(50, name="x")),
    "bulkhead": ({"limit": 10}, Bulkhead(10, name="x")),
    "adaptive_limiter": ({}, AdaptiveLimiter(name="x")),
    "adaptive_throttle": ({}, AdaptiveThrottle(name="x")),
    "adaptive_rate": ({"on": "ConnectionError"}, AdaptiveRate(on=Classifier(Rule(ConnectionError)), name="x")),
    "hedge": ({"after": "p95"}, Hedge("p95", name="x")),
}

KEYS_OF = {kind: tuple(settings.keys) for kind, settings in KINDS.items()} | {"retry": retry.KEYS}

# Settings that no file can hold; Timeout's error is set by the pipeline it stands in.
CODE = {"listeners", "result", "home", "error"}


def policy(kind: str, **settings: object) -> Policy:
    return load({"policies": {"x": {"kind": kind} | settings}})["x"]


def problems_of(kind: str | None = None, **settings: object) -> list[str]:
    table = settings if kind is None else {"kind": kind} | settings
    with pytest.raises(ValueError) as caught:
        load({"policies": {"x": table}})
    assert type(caught.value) is ValueError
    assert all(line.startswith("settings: policies.x.") for line in str(caught.value).splitlines())
    return [line.removeprefix("settings: policies.x.") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("kind", LEAST)
def test_what_is_left_out_is_as_in_the_class(kind: str) -> None:
    """Only the name is taken from the table."""
    settings, expected = LEAST[kind]
    made = policy(kind, **settings)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_can_be_written(kind: str) -> None:
    """A setting is a key, or code."""
    known = {field.name for field in fields(LEAST[kind][1]) if field.init}  # type: ignore[arg-type]
    assert {"name", *KINDS[kind].keys} == known - CODE


@pytest.mark.parametrize(
    ("kind", "key", "given", "expected"),
    [
        ("retry", "nested", False, False),
        ("timeout", "seconds", "250ms", 0.25),
        ("timeout", "worker", True, True),
        ("timeout", "name", "all", "all"),
        ("circuit_breaker", "failure_rate", 0.2, 0.2),
        ("circuit_breaker", "window", 20, 20),
        ("circuit_breaker", "window", "2m", timedelta(minutes=2)),
        ("circuit_breaker", "window", timedelta(minutes=2), timedelta(minutes=2)),
        ("circuit_breaker", "min_calls", 5, 5),
        ("circuit_breaker", "consecutive", 5, 5),
        ("circuit_breaker", "consecutive", "none", None),
        ("circuit_breaker", "slow_call", "2s", 2.0),
        ("circuit_breaker", "slow_call", "none", None),
        ("circuit_breaker", "slow_rate", 0.5, 0.5),
        ("circuit_breaker", "open_for", 10, 10),
        ("circuit_breaker", "open_for", "1m", 60.0),
        ("circuit_breaker", "open_for", "exponential:5..300", backoff.exponential(5, cap=300)),
        ("circuit_breaker", "open_for", {"shape": "linear", "first": 5}, backoff.linear(5)),
        ("circuit_breaker", "open_for", backoff.linear(5), backoff.linear(5)),
        ("circuit_breaker", "probes", 3, 3),
        ("circuit_breaker", "on", "presets.http", presets.http),
        ("circuit_breaker", "on", ["OSError", "httpx.Odd"], Classifier(Rule(OSError), Rule("httpx.Odd"))),
        ("circuit_breaker", "ignore", "KeyError", Classifier(Rule(KeyError))),
        ("circuit_breaker", "ignore", [], ()),
        ("rate_limiter", "rate", 0.5, 0.5),
        ("rate_limiter", "per", "1m", 60.0),
        ("rate_limiter", "burst", 10, 10),
        ("rate_limiter", "max_wait", "5s", 5.0),
        ("bulkhead", "max_wait", "5s", 5.0),
        ("bulkhead", "max_wait", "unlimited", None),
        ("bulkhead", "queue", 3, 3),
        ("bulkhead", "queue", "unlimited", None),
        ("adaptive_limiter", "algorithm", "vegas", "vegas"),
        ("adaptive_limiter", "initial", 50, 50),
        ("adaptive_limiter", "min_limit", 10, 10),
        ("adaptive_limiter", "max_limit", 50, 50),
        ("adaptive_limiter", "on", "OSError", Classifier(Rule(OSError))),
        ("adaptive_throttle", "k", 1.5, 1.5),
        ("adaptive_throttle", "window", "30s", 30.0),
        ("adaptive_throttle", "min_calls", 0, 0),
        ("adaptive_throttle", "on", "OSError", Classifier(Rule(OSError))),
        ("adaptive_rate", "on", "lib.Throttled", Classifier(Rule("lib.Throttled"))),
        ("adaptive_rate", "max_wait", "5s", 5.0),
        ("adaptive_rate", "max_wait", "unlimited", None),
        ("adaptive_rate", "beta", 0.5, 0.5),
        ("adaptive_rate", "scale", 0.2, 0.2),
        ("hedge", "after", "p99.9", "p99.9"),
        ("hedge", "after", "200ms", 0.2),
        ("hedge", "after", 1, 1.0),
        ("hedge", "extra", 2, 2),
        ("hedge", "min_samples", 20, 20),
        ("hedge", "load", 0.1, 0.1),
    ],
)
def test_each_key_is_a_setting_of_the_class(kind: str, key: str, given: object, expected: object) -> None:
    """In TOML's words or in Python's."""
    settings, least = LEAST[kind]
    assert policy(kind, **settings | {key: given}) == least.with_(**{key: expected})


def test_rates_can_be_left_to_others() -> None:
    """A breaker that only counts failures in a row."""
    made = policy("circuit_breaker", failure_rate="none", consecutive=5)
    assert made == CircuitBreaker(failure_rate=None, consecutive=5, name="x")


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("timeout", {"seconds": 0}, "seconds must be > 0 s, got 0"),
        ("timeout", {"seconds": "5 s"}, "seconds must be seconds or a time such as 250ms, 5s, 2m or 1h, got '5 s'"),
        ("timeout", {"worker": 1}, "worker must be True or False, got 1"),
        ("timeout", {"name": 3}, "name must be a str, got 3"),
        ("timeout", {"secnods": 3}, "secnods is not a known key; did you mean 'seconds'?"),
        ("timeout", {"burst": 3}, 'burst is a setting of kind = "rate_limiter"'),
        ("timeout", {"max_wait": 3}, 'max_wait is a setting of kind = "retry" or "rate_limiter" or '),
        ("timeout", {"error": 3}, "error is not a known key; there are: kind, name, seconds, worker"),
        ("circuit_breaker", {"failure_rate": 2}, "failure_rate must be > 0 and <= 1, got 2"),
        ("circuit_breaker", {"failure_rate": "no"}, "failure_rate must be a number or \"none\", got 'no'"),
        ("circuit_breaker", {"failure_rate": "none"}, "failure_rate, consecutive and slow_call are all None"),
        ("circuit_breaker", {"window": 0}, "window must be >= 1, got 0"),
        ("circuit_breaker", {"window": "100"}, "window must be a number of calls, or a time with its unit such as "),
        ("circuit_breaker", {"window": "9e99h"}, "window must be a number of calls, or a time with its unit such as "),
        ("circuit_breaker", {"window": "soon"}, "window must be a number of calls, or a time with its unit such as "),
        ("circuit_breaker", {"window": 10, "min_calls": 20}, "min_calls must be <= window (10), got 20"),
        ("circuit_breaker", {"window": 0, "min_calls": 200}, "window must be >= 1, got 0"),
        (
            "circuit_breaker",
            {"slow_call": "nune"},
            "slow_call must be \"none\", seconds or a time such as 250ms, 5s, 2m or 1h, got 'nune'",
        ),
        (
            "circuit_breaker",
            {"open_for": "long"},
            "open_for must be seconds or a time such as 250ms, 5s, 2m or 1h, or waits such as exponential:5..300, "
            "got 'long'",
        ),
        ("circuit_breaker", {"open_for": "exp:1"}, "open_for must be written like exponential:0.1..300, "),
        ("circuit_breaker", {"open_for": 0}, "open_for must be > 0 s, got 0"),
        ("circuit_breaker", {"open_for": {"shape": "lin"}}, "open_for.shape must be a known shape, got 'lin'"),
        ("circuit_breaker", {"open_for": [1]}, "open_for must be seconds (int, float) or a timedelta, got [1]"),
        ("circuit_breaker", {"on": "OsError"}, "on must be a built-in error or a dotted name such as "),
        ("circuit_breaker", {"ignore": "OsError"}, "ignore must be a built-in error or a dotted name such as "),
        ("circuit_breaker", {"ignore": 3}, "ignore must say which errors: "),
        ("circuit_breaker", {"result": "x"}, "result is code, which no settings file holds: load(...)["),
        ("circuit_breaker", {"home": "x"}, "home is code, which no settings file holds: load(...)["),
        ("circuit_breaker", {"rules": []}, 'rules is a setting of kind = "retry"'),
        ("rate_limiter", {"rate": "fast"}, "rate must be a number of calls > 0, got 'fast'"),
        ("rate_limiter", {"rate": -1}, "rate must be finite and > 0, got -1"),
        ("rate_limiter", {"burst": 0}, "burst must be >= 1, got 0"),
        ("rate_limiter", {"max_wait": "unlimited"}, "max_wait must be seconds or a time such as "),
        ("bulkhead", {"limit": 0}, "limit must be >= 1, got 0"),
        ("bulkhead", {"max_wait": "ever"}, 'max_wait must be "unlimited", seconds or a time such as '),
        ("bulkhead", {"queue": "long"}, "queue must be a number or \"unlimited\", got 'long'"),
        ("bulkhead", {"listeners": []}, 'listeners is code, which no settings file holds: load(...)["name"].with_('),
        ("adaptive_limiter", {"algorithm": "cubic"}, "algorithm must be one of 'gradient', 'vegas', 'aimd', got "),
        ("adaptive_limiter", {"min_limit": 300}, "max_limit must be >= 300, got 200"),
        ("adaptive_limiter", {"min_limit": 0, "max_limit": 3}, "min_limit must be >= 1, got 0"),
        ("adaptive_limiter", {"initial": 5, "max_limit": 3}, "initial must be <= max_limit (3), got 5"),
        ("adaptive_throttle", {"k": 0.5}, "k must be >= 1, got 0.5"),
        ("adaptive_throttle", {"window": "x"}, "window must be seconds or a time such as "),
        ("adaptive_rate", {"beta": 1}, "beta must be < 1, got 1"),
        ("hedge", {"after": "p100"}, 'after must be a duration or a percentile between "p0" and "p100" as "p99.9", '),
        ("hedge", {"after": "soon"}, 'after must be a percentile such as "p95", seconds or a time such as 250ms, '),
        ("hedge", {"load": 2}, "load must be from 0 to extra (1), got 2"),
        ("hedge", {"extra": 0, "load": 2}, "extra must be >= 1, got 0"),
    ],
)
def test_every_setting_is_checked(kind: str, settings: dict[str, object], problem: str) -> None:
    """By the class's own checks, one problem for one mistake."""
    told = problems_of(kind, **LEAST[kind][0] | settings)
    assert len(told) == 1
    assert told[0].startswith(problem)


def test_all_problems_of_a_policy_are_told() -> None:
    """Those of reading first, then the class's."""
    assert problems_of("circuit_breaker", probes=0, window="x", slow_call="y", slow_rate=7, consecutive=0) == [
        'window must be a number of calls, or a time with its unit such as "30s" or "2m", got \'x\'',
        "slow_call must be \"none\", seconds or a time such as 250ms, 5s, 2m or 1h, got 'y'",
        "consecutive must be >= 1, got 0",
        "slow_rate must be > 0 and <= 1, got 7",
        "probes must be >= 1, got 0",
    ]
    assert problems_of("rate_limiter", rate=0, burst=0, per="0s", name=1) == [
        "rate must be finite and > 0, got 0",
        "per must be > 0 s, got 0.0",
        "burst must be >= 1, got 0",
        "name must be a str, got 1",
    ]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("timeout", 'seconds is missing: this kind needs it, such as seconds = "5s"'),
        ("rate_limiter", "rate is missing: this kind needs it, such as rate = 50"),
        ("bulkhead", "limit is missing: this kind needs it, such as limit = 10"),
        ("adaptive_rate", 'on is missing: this kind needs it, such as on = "ConnectionError"'),
        ("hedge", 'after is missing: this kind needs it, such as after = "p95"'),
    ],
)
def test_what_is_needed_is_asked_for(kind: str, problem: str) -> None:
    """With an example that works, beside whatever else is wrong."""
    assert problems_of(kind) == [problem]
    assert problems_of(kind, name=3) == [problem, "name must be a str, got 3"]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("ratelimiter", "kind must be a known kind, got 'ratelimiter'; did you mean 'rate_limiter'?"),
        ("zzz", "kind must be a known kind, got 'zzz'; there are: adaptive_limiter, adaptive_rate, "),
        (3, "kind must be a known kind, got 3; there are: "),
        (["retry"], "kind must be a known kind, got ['retry']"),
        ("fallback", "kind 'fallback' needs code, which no settings file holds: resilient.Fallback(...) >> load("),
        ("catch", "kind 'catch' needs code, which no settings file holds: resilient.catch(...)"),
        ("pipeline", "kind 'pipeline' has a section of its own: write a table such as [pipelines.db]"),
    ],
)
def test_the_kind_is_checked(kind: object, problem: str) -> None:
    """A kind that is not known, or that only code can make."""
    told = problems_of(kind=kind, on="OSError")
    assert len(told) == 1
    assert told[0].startswith(problem)


def test_a_forgotten_kind_is_noticed() -> None:
    """Settings of another kind alone were hardly meant for a Retry."""
    assert problems_of(rate=50, burst=10) == ['kind is missing: rate is a setting of kind = "rate_limiter"']
    assert problems_of(rate=50, on="OSError") == ['rate is a setting of kind = "rate_limiter"']
    assert problems_of(name="x") == [
        'on is missing: say which errors, such as on = "ConnectionError" or on = "presets.http"'
    ]


def test_a_document_without_sections_may_be_of_any_kind() -> None:
    """It is called "default"."""
    assert dict(load({"kind": "timeout", "seconds": 5})) == {"default": Timeout(5, name="default")}
    with pytest.raises(ValueError, match=r'^settings: kind is missing: seconds is a setting of kind = "timeout"$'):
        load({"seconds": 5})


ODD = [None, True, 0, -1, 10**300, 0.5, -0.0, float("inf"), float("nan"), "", "x", "1e999", "p", ":", "/", [], [[]], {}]
ODD += [{"shape": "constant"}, [3], timedelta.max, timedelta(-1), object(), Exception, KeyboardInterrupt, b"1s"]


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, (least, _) in LEAST.items() for key in ("name", *KEYS_OF[kind])]
)
def test_whatever_stands_there_is_read_or_refused(kind: str, key: str) -> None:
    """By a ValueError that names the key; nothing else escapes."""
    beside = KINDS[kind].beside if kind in KINDS else {}
    for odd in ODD:
        try:
            made = policy(kind, **LEAST[kind][0] | {key: odd})
        except ValueError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1, (odd, lines)
            named = (key, *beside[key]) if key in beside else (key,)
            assert lines[0].startswith(tuple(f"settings: policies.x.{name}" for name in named)), (odd, lines)
        else:
            assert made.kind.lower() == kind.replace("_", ""), odd
