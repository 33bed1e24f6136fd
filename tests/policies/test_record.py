"""What happens to one call, kept for its outcome."""

import asyncio
import functools
import gc
import weakref
from typing import Any

import pytest

from resilient import Action, Classifier, Pipeline, Recovery, Retry, Rule, Timeout, backoff, events
from resilient.policies.record import Record
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)


def test_calls_are_counted() -> None:
    """Of the function itself, which keeps its name."""
    record = Record()
    counted = record.counting(len)
    assert [3, 0] == [counted("abc"), counted("")]
    assert (2, "len", "len") == (record.outcome(None, 3).attempts, counted.__name__, counted.__qualname__)
    assert "len" == Record().counting(functools.partial(len, "abc")).__name__


def test_without_counting_the_timeline_tells() -> None:
    """Of a Retry alone, the last event."""
    record = Record()
    (note,) = record.listeners
    note(events.Succeeded("call", 0.0, 3))
    assert 3 == record.outcome(None, 7).attempts
    assert 1 == Record().outcome(None, 7).attempts


def test_events_are_dated_from_the_beginning_of_the_call() -> None:
    """Also those of policies that need not know when it began; a Retry's own dates stay."""
    with FakeClock(start=50) as clock:
        record = Record()
        (note,) = record.listeners
        clock.advance(3)
        for event in (
            events.Entered("db", 0.0, "Timeout"),
            events.StateChanged("db", 0.0, "closed", "open"),
            events.Waiting("db", 1.0, 2, 5.0),
        ):
            note(event)
        outcome = record.outcome(None, 7)
    assert [3.0, 3.0, 1.0] == [event.elapsed for event in outcome.timeline if not isinstance(event, events.Panic)]
    assert (3.0, True, 7) == (outcome.elapsed, outcome.ok, outcome.value)


def test_errors_of_the_past_keep_no_frames() -> None:
    """Only the last one is raised again; what recoveries raised is not either."""

    def fail() -> None:
        raise OSError

    on = Classifier(Rule(OSError, Action.RECONNECT))
    layers = Pipeline(
        Timeout(9), Retry(on=on, attempts=2, backoff=AT_ONCE, recovery=Recovery(reconnect=Script(KeyError("k"))))
    )
    outcome = layers.execute(fail)
    first, broken, last = (
        event.error for event in outcome.timeline if isinstance(event, (events.AttemptFailed, events.RecoveryFailed))
    )
    assert isinstance(first, OSError)
    assert isinstance(broken, KeyError)
    assert (None, None, True) == (first.__traceback__, broken.__traceback__, last is outcome.error)
    assert outcome.error is not None
    traceback: Any = outcome.error.__traceback__
    assert ("fail", None) == (traceback.tb_frame.f_code.co_name, traceback.tb_next)


@pytest.mark.parametrize("value", [7, OSError("gone")])
def test_a_coroutine_has_an_outcome_too(value: object) -> None:
    """Its value or its error."""
    outcome = asyncio.run(Record().of_async(Script(value).call_async()))
    assert (None, value) == (outcome.value, outcome.error) or (value, None) == (outcome.value, outcome.error)


def test_exits_and_cancellation_have_none() -> None:
    """They pass."""
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Record().of_async(Script(asyncio.CancelledError).call_async()))


def test_an_outcome_alone_keeps_its_errors_alive() -> None:
    """What told of them, in the frames to which they refer, has forgotten them."""

    class Noted(OSError):
        pass

    def fail() -> None:
        raise Noted

    layers = Pipeline(Timeout(9), Retry(on=OSError, attempts=2, backoff=AT_ONCE))
    layers.execute(fail)
    gc.collect()
    gc.disable()
    try:
        outcome = layers.execute(fail)
        assert outcome.error is not None
        error = weakref.ref(outcome.error)
        del outcome
        assert error() is None
    finally:
        gc.enable()
