"""When to probe a connection, and when its silence is its end."""

from __future__ import annotations

from resilient.net.connection.heartbeat import Heartbeat


def opened() -> Heartbeat:
    """One of 10 s, whose connection is up since 0."""
    heartbeat = Heartbeat(10.0, 3)
    heartbeat.opened(0.0)
    return heartbeat


def test_an_idle_connection_is_probed_at_each_interval() -> None:
    """Not before, and once."""
    heartbeat = opened()
    asked = [heartbeat.beats(now) for now in (9.9, 10.0, 10.1)]
    heartbeat.answered(10.2)
    assert [False, True, False] == asked
    assert [False, True] == [heartbeat.beats(19.9), heartbeat.beats(20.3)]


def test_a_connection_that_is_heard_is_not_probed() -> None:
    """The probe is put off until an interval after the last sign of life."""
    heartbeat = opened()
    heartbeat.heard(4.0)
    assert [False, False, True] == [heartbeat.beats(now) for now in (10.0, 13.9, 14.0)]


def test_silence_is_suspicious_after_the_misses() -> None:
    """Any sign of life ends it."""
    heartbeat = opened()
    for now in range(5, 30, 5):
        assert not heartbeat.silent(now)
    heartbeat.heard(29.0)
    assert not heartbeat.silent(30.0)
    for now in range(35, 59, 5):
        assert not heartbeat.silent(now)
    assert (True, 30.0) == (heartbeat.silent(59.0), heartbeat.longest_silence)


def test_our_own_stall_is_not_silence() -> None:
    """Whoever looks too late was away itself: an interval is left at least."""
    heartbeat = opened()
    assert not heartbeat.silent(100.0)
    assert 0.0 < heartbeat.next_look(100.0) <= 10.0
