"""Events: one line each."""

import pytest

from resilient.core.action import Action, Verdict
from resilient.core.events import (
    AttemptFailed,
    CallRejected,
    Entered,
    Event,
    FellBack,
    GaveUp,
    Hedged,
    LinkChanged,
    Panic,
    Recovered,
    Recovering,
    RecoveryFailed,
    StateChanged,
    Succeeded,
    TimedOut,
    Waiting,
    described,
)
from resilient.errors import AttemptTimeout, BulkheadFull, CircuitOpen


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            AttemptFailed("send", 0.1, 2, Verdict(Action.WAIT, "flood"), OSError("slow\ndown")),
            "send: attempt 2 failed with OSError: slow down: WAIT (flood)",
        ),
        (
            AttemptFailed("send", 0.1, 1, Verdict(Action.RETRY), None, 503),
            "send: attempt 1 failed with a rejected result: RETRY",
        ),
        (Waiting("send", 0.1, 3, 1.25), "send: waiting 1.25 s before attempt 3"),
        (Recovering("send", 0.1, Action.RECONNECT), "send: recovering by RECONNECT"),
        (Recovered("send", 0.1, Action.RELOGIN), "send: recovered by RELOGIN"),
        (
            RecoveryFailed("send", 0.1, Action.RECONNECT, OSError()),
            "send: recovery by RECONNECT failed, trying again without it: OSError",
        ),
        (
            RecoveryFailed("send", 0.1, Action.ROTATE_PROXY, None),
            "send: recovery by ROTATE_PROXY failed, trying again without it: no handler is set",
        ),
        (
            GaveUp("send", 0.1, 3, "attempts", "gave up after 3 attempts", OSError("x")),
            "send: gave up after 3 attempts; last failure: OSError: x",
        ),
        (Succeeded("send", 0.123456, 2), "send: succeeded at attempt 2 after 0.123 s"),
        (Panic("plugin", "call", ValueError("boom")), "plugin: caught a panic (call): ValueError: boom"),
        (LinkChanged("db", 0.1, "IDLE", "CONNECTING"), "db: CONNECTING (was IDLE)"),
        (
            LinkChanged("db", 0.1, "READY", "BACKING_OFF", "OSError: gone"),
            "db: BACKING_OFF (was READY): OSError: gone",
        ),
        (Entered("db", 0.1, "CircuitBreaker"), "db: let through by CircuitBreaker"),
        (
            CallRejected("db", 0.1, "CircuitBreaker", CircuitOpen("db", 4.0)),
            "db: circuit open: call rejected by 'db'; another call makes sense in 4 s",
        ),
        (
            CallRejected("Bulkhead", 0.1, "Bulkhead", BulkheadFull("", None, "limit=3 is reached")),
            "Bulkhead: bulkhead full: call rejected: limit=3 is reached",
        ),
        (StateChanged("db", 0.1, "half_open", "open"), "db: circuit open (was half open)"),
        (StateChanged("db", 0.1, "closed", "forced_open"), "db: circuit forced open (was closed)"),
        (TimedOut("each", 0.1, AttemptTimeout(5)), "each: attempt timed out after 5 s"),
        (Hedged("read", 0.1, 2, 0.25), "read: launched copy 2 after 0.25 s"),
        (FellBack("read", 0.1, OSError("x")), "read: fell back, because of OSError: x"),
    ],
)
def test_an_event_is_one_line(event: Event, line: str) -> None:
    """Each event reads as one line of a log."""
    assert line == str(event)


def test_an_error_without_words_is_still_described() -> None:
    """A message that cannot be had does not hide the error."""
    assert "Unspeakable: <no message: its __str__ raised RuntimeError>" == described(Unspeakable())
