"""Faults as values: their settings, checked."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta

import pytest

from resilient.testing.faults import (
    FAULTS,
    AcceptThenClose,
    Bandwidth,
    Corrupt,
    Fault,
    HalfOpen,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

TOXICS = {"latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data"}


def test_the_names_are_toxiproxys_where_it_has_them() -> None:
    """Shopify/toxiproxy, README, "Toxics"."""
    assert set() == TOXICS - set(FAULTS)
    assert all(name == kind.name for name, kind in FAULTS.items())


def test_faults_are_values() -> None:
    """They compare, hash and pickle; durations become seconds."""
    slow = Latency(timedelta(milliseconds=50), jitter=1)
    assert Latency(0.05, 1.0) == slow == pickle.loads(pickle.dumps(slow))
    assert 1 == len({slow, Latency(0.05, 1)})
    assert "Latency(latency=0.05, jitter=1.0)" == repr(slow)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Latency(-1), ValueError, "latency must be >= 0 s, got -1"),
        (lambda: Latency(1, jitter="x"), TypeError, "jitter must be seconds"),
        (lambda: Bandwidth(0), ValueError, "rate must be > 0, got 0"),
        (lambda: Bandwidth(float("nan")), ValueError, "rate must be > 0, got nan"),
        (lambda: SlowClose(-1), ValueError, "delay must be >= 0 s, got -1"),
        (lambda: Timeout(-1), ValueError, "timeout must be >= 0 s, got -1"),
        (lambda: ResetPeer(None), TypeError, "timeout must be seconds"),
        (lambda: Slicer(0), ValueError, "average_size must be >= 1, got 0"),
        (lambda: Slicer(5, -1), ValueError, "size_variation must be >= 0, got -1"),
        (lambda: Slicer(5, 5), ValueError, r"size_variation must be smaller than average_size \(5\), got 5"),
        (lambda: Slicer(5, delay=-1), ValueError, "delay must be >= 0 s, got -1"),
        (lambda: LimitData(-1), ValueError, "bytes must be >= 0, got -1"),
        (lambda: LimitData(1.5), TypeError, "bytes must be a whole number >= 0, got 1.5"),
        (lambda: Corrupt(1.1), ValueError, "rate must be > 0 and <= 1, got 1.1"),
        (lambda: HalfOpen(-1), ValueError, "after must be >= 0 s, got -1"),
        (lambda: AcceptThenClose(-1), ValueError, "after must be >= 0 s, got -1"),
    ],
)
def test_bad_settings_say_which(make: Callable[[], Fault], error: type[Exception], message: str) -> None:
    """The argument, the value and the limit."""
    with pytest.raises(error, match=message):
        make()
