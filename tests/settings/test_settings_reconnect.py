"""The message client's own keys: attempts and waits as that program had them."""

from __future__ import annotations

import pytest

from resilient import Retry, load, presets
from resilient.testing import FakeClock, Script

KEYS = {
    "enable_auto_reconnect": True,
    "reconnect_interval_ms": 1000,
    "max_reconnect_attempts": 5,
    "reconnect_backoff_ms": 2000,
    "enable_reconnect_backoff": True,
}


def waits_of(policy: Retry) -> list[float]:
    """What a call waits that never works, and that it makes one call more."""
    dial = Script(*[ConnectionRefusedError("no")] * 50)
    with FakeClock() as clock, pytest.raises(ConnectionRefusedError):
        policy.call(dial)
    assert dial.calls == len(clock.sleeps) + 1
    return clock.sleeps


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({}, [1, 2, 2, 2, 2]),
        ({"enable_reconnect_backoff": False}, [1, 1, 1, 1, 1]),
        ({"enable_auto_reconnect": False}, []),
        ({"max_reconnect_attempts": 2}, [1, 2]),
        ({"max_reconnect_attempts": 0}, []),
        ({"reconnect_interval_ms": 300}, [0.3, 0.6, 0.9, 1.2, 1.5]),
        ({"reconnect_interval_ms": 3000}, [3, 2, 2, 2, 2]),
        ({"reconnect_interval_ms": 0}, [0, 0, 0, 0, 0]),
        ({"reconnect_interval_ms": 3000, "enable_reconnect_backoff": False}, [3, 3, 3, 3, 3]),
    ],
)
@pytest.mark.parametrize("place", ["top", "policy"])
def test_the_waits_are_that_programs(changes: dict[str, object], waits: list[float], place: str) -> None:
    """min(base * n, cap) from the second on, else the base; five reconnects are six calls."""
    document: dict[str, object] = KEYS | changes
    policies = load(document if place == "top" else {"policies": {"default": document}})
    assert waits_of(policies["default"]) == pytest.approx(waits)


def test_any_of_the_keys_brings_the_defaults_of_the_others() -> None:
    """They are the program's, not Retry's, and what it reconnects for is what sockets raise."""
    made = load({"enable_auto_reconnect": True})["default"]
    assert waits_of(made) == [1, 2, 2, 2, 2]
    assert made.on == presets.sockets


def test_other_settings_stand_beside_them() -> None:
    """They stand for attempts and backoff only."""
    made = load(KEYS | {"on": "OSError", "timeout": 60, "jitter": "full", "name": "wire"})["default"]
    assert (made.timeout, made.name, made.backoff.spread) == (60, "wire", "full")
    assert waits_of(made.with_(backoff=made.backoff.jitter(0.0))) == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"attempts": 3},
            "attempts cannot stand beside enable_auto_reconnect, which sets it too: give one or the other",
        ),
        ({"backoff": "constant:1"}, "backoff cannot stand beside enable_auto_reconnect, which sets it too: "),
        ({"enable_auto_reconnect": 1}, "enable_auto_reconnect must be true or false, got 1"),
        ({"reconnect_interval_ms": -1}, "reconnect_interval_ms must be >= 0, got -1"),
        ({"reconnect_interval_ms": 1.5}, "reconnect_interval_ms must be a whole number >= 0, got 1.5"),
        ({"reconnect_backoff_ms": 10**400}, "reconnect_backoff_ms must be finite, got an integer beyond any float"),
        ({"max_reconnect_attempts": True}, "max_reconnect_attempts must be a whole number >= 0, got True"),
    ],
)
def test_the_keys_are_checked(changes: dict[str, object], problem: str) -> None:
    """Each by its own name; two ways to say one thing contradict each other."""
    with pytest.raises(ValueError) as caught:
        load(KEYS | changes)
    assert str(caught.value).startswith(f"settings: {problem}")
