"""One table of scenarios, for every driver: the same outcome and the same waits, however it is called.

Each scenario is a script of what the call does, the settings of a ``Retry``, and what must come of it. Every
driver plays it under a fake clock whose jitter always draws 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from resilient import Action, Classifier, Recovery, Retry, Rule, Verdict, backoff
from resilient.testing import Script


class FloodWait(Exception):
    """A server's request to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Unauthorized(Exception):
    """The session is over."""


class ProxyFailed(OSError):
    """The proxy is."""


class Half:
    """Jitter that always draws 0.5."""

    def random(self) -> float:
        return 0.5


@dataclass
class Scenario:
    """A script, settings, and what must come of them.

    Attributes:
        expected: the value returned, or the class of the error raised.
        waits: what the clock slept, seconds.
        performed: which recovery handlers ran, in order.
        note: a part of the note on the error.
    """

    name: str
    script: tuple[object, ...]
    settings: dict[str, Any]
    expected: object
    calls: int
    waits: list[float] = field(default_factory=list)
    performed: list[str] = field(default_factory=list)
    note: str = ""
    judges: bool = False
    handlers: dict[str, object] = field(default_factory=dict)
    throttle: float = 0.0


ONE = backoff.constant(1)
EVERYTHING = Classifier(
    Rule(FloodWait, Action.WAIT, category="flood", delay=lambda error: error.seconds, attempts=5),
    Rule(Unauthorized, Action.RELOGIN, category="auth", attempts=2),
    Rule(ProxyFailed, Action.ROTATE_PROXY, category="proxy", attempts=3, delay=5),
    Rule(ConnectionError, Action.RECONNECT, category="connection", attempts=3, backoff=backoff.exponential(1)),
    Rule(ValueError, Action.FAIL),
    otherwise=Verdict(Action.RETRY, "unknown", attempts=2),
)
BROKEN = RuntimeError("the handler is broken")
ALL = {"reconnect": None, "rotate_proxy": None, "relogin": None}

SCENARIOS = [
    Scenario("first try", (7,), {"on": OSError}, 7, 1),
    Scenario("second try", ("fail", 7), {"on": OSError, "backoff": ONE}, 7, 2, [1]),
    Scenario(
        "attempts count calls",
        ("fail",),
        {"on": OSError, "attempts": 3, "backoff": ONE},
        ConnectionError,
        3,
        [1, 1],
        note="gave up after 3 attempts in 2.00 s: attempts exhausted",
    ),  # fmt: skip
    Scenario("one attempt", ("fail",), {"on": OSError, "attempts": 1}, ConnectionError, 1, note="1 attempt in 0.00 s"),
    Scenario("no limit", ("fail",) * 40 + (7,), {"on": OSError, "attempts": None, "backoff": ONE}, 7, 41, [1] * 40),
    Scenario("not ours", (KeyError("k"),), {"on": OSError}, KeyError, 1, note="classified as FAIL"),
    Scenario("later not ours", ("fail", KeyError("k")), {"on": OSError, "backoff": ONE}, KeyError, 2, [1]),
    Scenario("no wait", ("fail", "fail", 7), {"on": OSError, "backoff": backoff.constant(0)}, 7, 3, [0, 0]),
    Scenario(
        "exponential", ("fail",) * 4 + (7,), {"on": OSError, "backoff": backoff.exponential(1)}, 7, 5, [1, 2, 4, 8]
    ),
    Scenario(
        "full jitter",
        ("fail",) * 3 + (7,),
        {"on": OSError, "backoff": backoff.exponential(2).jitter("full")},
        7,
        4,
        [1, 2, 4],
    ),  # fmt: skip
    Scenario(
        "decorrelated", ("fail",) * 3 + (7,), {"on": OSError, "backoff": backoff.decorrelated(1, 4)}, 7, 4, [2, 3.5, 4]
    ),  # fmt: skip
    Scenario(
        "predicate",
        ("fail", KeyError("k")),
        {"on": lambda error: isinstance(error, OSError), "backoff": ONE},
        KeyError,
        2,
        [1],
    ),  # fmt: skip
    Scenario("dotted name", ("fail", 7), {"on": "builtins.ConnectionError", "backoff": ONE}, 7, 2, [1]),
    Scenario(
        "timeout forbids a wait",
        ("fail",),
        {"on": OSError, "backoff": backoff.constant(4), "timeout": 10},
        ConnectionError,
        3,
        [4, 4],
        note="after the timeout of 10 s",
    ),  # fmt: skip
    Scenario(
        "a wait to the very deadline",
        ("fail",),
        {"on": OSError, "backoff": backoff.constant(5), "timeout": 10},
        ConnectionError,
        2,
        [5],
        note="timeout of 10 s",
    ),  # fmt: skip
    Scenario("named wait", (FloodWait(3), 7), {"on": EVERYTHING}, 7, 2, [3]),
    Scenario("named wait of zero", (FloodWait(0), 7), {"on": EVERYTHING}, 7, 2, [0]),
    Scenario("named wait at max_wait", (FloodWait(300), 7), {"on": EVERYTHING}, 7, 2, [300]),
    Scenario(
        "named wait above max_wait", (FloodWait(301), 7), {"on": EVERYTHING}, FloodWait, 1, note="told to wait 301 s"
    ),
    Scenario("own max_wait", (FloodWait(3), 7), {"on": EVERYTHING, "max_wait": 2}, FloodWait, 1, note="max_wait (2 s)"),
    Scenario(
        "category attempts",
        (ConnectionError(),),
        {"on": EVERYTHING, "attempts": 9},
        ConnectionError,
        3,
        [1, 2],
        ["reconnect", "reconnect"],
        note="attempts of connection exhausted",
        handlers=ALL,
    ),  # fmt: skip
    Scenario(
        "categories apart",
        (ConnectionError(), FloodWait(7), ConnectionError(), Unauthorized(), 7),
        {"on": EVERYTHING, "backoff": ONE},
        7,
        5,
        [1, 7, 2, 1],
        ["reconnect", "reconnect", "relogin"],
        handlers=ALL,
    ),  # fmt: skip
    Scenario(
        "policy attempts hold over categories",
        (FloodWait(1),),
        {"on": EVERYTHING, "attempts": 2},
        FloodWait,
        2,
        [1],
        note="attempts exhausted",
    ),  # fmt: skip
    Scenario("otherwise", (KeyError("k"), 7), {"on": EVERYTHING, "backoff": ONE}, 7, 2, [1]),
    Scenario("FAIL by rule", (ValueError(),), {"on": EVERYTHING}, ValueError, 1, note="classified as FAIL"),
    Scenario(
        "wait, recover, try again", (ProxyFailed(), 7), {"on": EVERYTHING}, 7, 2, [5], ["rotate_proxy"], handlers=ALL
    ),
    Scenario(
        "no handler", (Unauthorized(), 7), {"on": EVERYTHING, "backoff": ONE}, 7, 2, [1], handlers={"reconnect": None}
    ),  # fmt: skip
    Scenario("no recovery at all", (Unauthorized(), 7), {"on": EVERYTHING, "backoff": ONE}, 7, 2, [1]),
    Scenario(
        "handler raises",
        (Unauthorized(), 7),
        {"on": EVERYTHING, "backoff": ONE},
        7,
        2,
        [1],
        ["relogin"],
        handlers={"relogin": BROKEN},
    ),  # fmt: skip
    Scenario(
        "no recovery after the last attempt",
        (Unauthorized(),),
        {"on": EVERYTHING, "attempts": 1},
        Unauthorized,
        1,
        handlers=ALL,
    ),  # fmt: skip
    Scenario(
        "throttled",
        (ProxyFailed(), ProxyFailed(), 7),
        {"on": EVERYTHING},
        7,
        3,
        [5, 5, 15],
        ["rotate_proxy"] * 2,
        handlers=ALL,
        throttle=20,
    ),  # fmt: skip
    Scenario(
        "throttle beyond the timeout",
        (ProxyFailed(), ProxyFailed(), 7),
        {"on": EVERYTHING, "timeout": 12},
        ProxyFailed,
        2,
        [5, 5],
        ["rotate_proxy"],
        note="recovery outlasted the timeout of 12 s",
        handlers=ALL,
        throttle=20,
    ),  # fmt: skip
    Scenario("group", (ExceptionGroup("two", [FloodWait(2), FloodWait(9)]), 7), {"on": EVERYTHING}, 7, 2, [9]),
    Scenario(
        "group with a FAIL",
        (ExceptionGroup("two", [FloodWait(2), ValueError()]), 7),
        {"on": EVERYTHING},
        ExceptionGroup,
        1,
    ),  # fmt: skip
    Scenario(
        "own TimeoutError",
        (TimeoutError("mine"),),
        {"on": ConnectionError, "attempt_timeout": 60, "timeout": 99},
        TimeoutError,
        1,
        note="classified as FAIL",
    ),  # fmt: skip
    Scenario(
        "a value to reject",
        (None, 7),
        {"on": Classifier(Rule.result(lambda value: value is None, delay=2))},
        7,
        2,
        [2],
        judges=True,
    ),  # fmt: skip
    Scenario(
        "a value rejected to the end",
        (None,),
        {"on": Classifier(Rule.result(lambda value: value is None)), "backoff": ONE, "attempts": 3},
        None,
        3,
        [1, 1],
        judges=True,
    ),  # fmt: skip
    Scenario(
        "errors and values",
        ("fail", None, 7),
        {"on": Classifier(Rule(OSError), Rule.result(lambda value: value is None)), "backoff": backoff.linear(1)},
        7,
        3,
        [1, 2],
        judges=True,
    ),  # fmt: skip
]


class Handlers:
    """The recovery handlers of a scenario, blocking or async, and which of them ran."""

    def __init__(self, scenario: Scenario) -> None:
        self.performed: list[str] = []
        self._scenario = scenario

    def recovery(self, *, is_async: bool) -> Recovery | None:
        """A ``Recovery`` of them; None if the scenario has none."""
        if not self._scenario.handlers:
            return None
        made: dict[str, Any] = {
            name: self._made(name, error, is_async) for name, error in self._scenario.handlers.items()
        }
        return Recovery(**made, throttle=self._scenario.throttle)

    def _made(self, name: str, error: object, is_async: bool) -> Callable[[], object]:
        def perform() -> None:
            self.performed.append(name)
            if isinstance(error, Exception):
                raise error

        async def perform_async() -> None:
            perform()

        return perform_async if is_async else perform


def policy_of(scenario: Scenario, handlers: Handlers, *, is_async: bool = False) -> Retry:
    """The policy of a scenario, with fresh shared state."""
    return Retry(**scenario.settings, recovery=handlers.recovery(is_async=is_async))


def script_of(scenario: Scenario) -> Script:
    """What its call does."""
    return Script(*scenario.script)
