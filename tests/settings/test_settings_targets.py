"""Which errors: names, presets and rules."""

from __future__ import annotations

import pytest

from resilient import Action, Classifier, Rule, Verdict, backoff, load, presets

FAIL = Verdict(Action.FAIL)


def classifier(**settings: object) -> Classifier:
    found = load({"policies": {"db": settings}})["db"].on
    assert isinstance(found, Classifier)
    return found


def problem_of(**settings: object) -> str:
    with pytest.raises(ValueError) as caught:
        classifier(**settings)
    return str(caught.value)


BARE = "on must be a built-in error or a dotted name such as 'httpx.ConnectError'"


class Odd(Exception):
    """An error of somebody's own."""


@pytest.mark.parametrize(
    ("on", "rules"),
    [
        ("ConnectionError", [Rule(ConnectionError)]),
        ("httpx.ConnectError", [Rule("httpx.ConnectError")]),
        (["OSError", "httpx.ConnectError"], [Rule(OSError), Rule("httpx.ConnectError")]),
        (["OSError", "ConnectionError"], [Rule(OSError)]),
        (Odd, [Rule(Odd)]),
        ([Odd, "OSError"], [Rule(Odd), Rule(OSError)]),
        (Classifier(Rule(Odd)), [Rule(Odd)]),
        ("presets.sockets", presets.sockets.rules),
        ("resilient.presets.sockets", presets.sockets.rules),
        (["presets.sockets", "tests.Odd"], [*presets.sockets.rules, Rule("tests.Odd")]),
        (["tests.Odd", "presets.sockets"], [Rule("tests.Odd"), *presets.sockets.rules]),
        (["presets.http", "presets.sockets"], (presets.http | presets.sockets).rules),
        ("presets.errors.Odd", [Rule("presets.errors.Odd")]),
    ],
)
def test_on_is_names_presets_or_classes(on: object, rules: list[Rule]) -> None:
    """Built-in errors by their bare names, others by dotted ones; presets bring their rules."""
    assert classifier(on=on).rules == tuple(rules)


@pytest.mark.parametrize(
    ("on", "problem"),
    [
        ("ConectionError", f"{BARE}, got 'ConectionError'; did you mean 'ConnectionError'?"),
        ("zzz", f"{BARE}, got 'zzz'"),
        ("print", f"{BARE}, got 'print'"),
        ("KeyboardInterrupt", "on must be a kind of Exception, got KeyboardInterrupt"),
        (
            "httpx.Connect Error",
            "on must name a module and a class, such as 'httpx.ConnectError', got 'httpx.Connect Error'",
        ),
        ("presets.sokets", "on must name a preset that exists, got 'presets.sokets'; did you mean 'sockets'?"),
        ("presets.socket_errors", "on must name a preset that exists, got 'presets.socket_errors'"),
        ([], "on must name at least one error, got []"),
        (3, "on must say which errors: "),
        ([3], "on must say which errors: "),
    ],
)
def test_on_is_checked(on: object, problem: str) -> None:
    """A name that cannot be right is a problem at once."""
    assert problem_of(on=on).startswith(f"settings: policies.db.{problem}")


def test_on_has_no_default() -> None:
    """Which errors is the one thing that must be said."""
    assert problem_of(attempts=3).startswith("settings: policies.db.on is missing: say which errors, such as on = ")


def test_rules_come_in_order_before_on() -> None:
    """Rules, then what ``on`` names, then ``otherwise``."""
    rules = [
        {"on": "tests.FloodWait", "action": "wait", "category": "flood", "delay": "2s", "attempts": 3},
        {"on": ["ConnectionError", "tests.Lost"], "action": "RECONNECT", "message": "reset", "backoff": "constant:1"},
        {"on": "TimeoutError", "backoff": {"shape": "constant", "delay": 2}},
    ]
    assert classifier(rules=rules, on="OSError", otherwise="retry") == Classifier(
        Rule("tests.FloodWait", Action.WAIT, category="flood", delay=2, attempts=3),
        Rule((ConnectionError, "tests.Lost"), Action.RECONNECT, message="reset", backoff=backoff.constant(1)),
        Rule(TimeoutError, backoff=backoff.constant(2)),
        Rule(OSError),
        otherwise=Verdict(Action.RETRY),
    )


def test_rules_need_no_on() -> None:
    """They say which errors by themselves."""
    assert classifier(rules=[{"on": "OSError"}]) == Classifier(Rule(OSError))


def test_otherwise_has_the_last_word() -> None:
    """Over the ``otherwise`` of a classifier that ``on`` gives, too."""
    mild = Classifier(Rule(Odd), otherwise=Verdict(Action.RETRY))
    assert classifier(on=mild).otherwise == Verdict(Action.RETRY)
    assert classifier(on=mild, otherwise="FAIL").otherwise == FAIL
    assert problem_of(on="OSError", otherwise="retri").startswith(
        "settings: policies.db.otherwise must be one of WAIT, RECONNECT, ROTATE_PROXY, RELOGIN, RETRY, FAIL, "
        "got 'retri'"
    )


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"on": "OSError"}, "rules must be a list of tables, written [[policies.db.rules]], got "),
        ([3], "rules[0] must be a table, got 3"),
        ([{}], 'rules[0].on is missing: say which errors, such as on = "ConnectionError"'),
        ([{"on": "OSError", "action": "RETRI"}], "rules[0].action must be one of WAIT, "),
        ([{"on": "OSError", "attempts": 0}], "rules[0].attempts must be >= 1, got 0"),
        (
            [{"on": "OSError", "delay": "x"}],
            "rules[0].delay must be seconds or a time such as 250ms, 5s, 2m or 1h, got 'x'",
        ),
        ([{"on": "OSError", "delay": -1}], "rules[0].delay must be >= 0 s, got -1"),
        ([{"on": "OSError", "message": ""}], "rules[0].message must be a text to look for, got ''"),
        ([{"on": "OSError", "category": 3}], "rules[0].category must be a str, got 3"),
        ([{"on": "OSError", "backoff": {"shape": "linear"}}], "rules[0].backoff.first is missing"),
        ([{"on": "OSError", "backoff": "x"}], "rules[0].backoff must be written like "),
        ([{"on": "OSError", "mesage": "x"}], "rules[0].mesage is not a known key; did you mean 'message'?"),
        (
            [{"on": "OSError", "when": "x"}],
            "rules[0].when is a function, which only code can give: use resilient.Rule there",
        ),
        ([{"on": "Odd"}], "rules[0].on must be a built-in error or a dotted name"),
        (
            [{"on": "presets.http"}],
            "rules[0].on must name errors: a preset has rules of its own, name it in the policy's on, ",
        ),
        (
            [{"on": "OSError"}, {"on": "ConnectionError"}],
            "rules[1] can never be reached: earlier rules match all it does",
        ),
    ],
)
def test_every_rule_is_checked(rules: object, problem: str) -> None:
    """By Rule's own checks, in its place in the list; a broken rule alone is one problem."""
    told = problem_of(rules=rules)
    assert told.startswith(f"settings: policies.db.{problem}")
    assert "\n" not in told
