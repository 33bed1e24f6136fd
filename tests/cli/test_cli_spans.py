"""Lengths of time for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.cli.spans import spoken


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.0000123, "0.0123ms"),
        (0.25, "250ms"),
        (0.9996, "0.9996s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.99, "59.99s"),
        (59.999, "1m"),
        (125, "2m 5s"),
        (3600, "1h"),
        (3725, "1h 2m"),
        (86400 * 30, "720h"),
        (3.6e9, "1e+06h"),
    ],
)
def test_each_size_has_its_units(seconds: float, expected: str) -> None:
    """As short as says enough."""
    assert spoken(seconds) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0, "0.0s"), (9.96, "10.0s"), (59.94, "59.9s"), (59.96, "1m")])
def test_a_countdown_keeps_its_width(seconds: float, expected: str) -> None:
    """Tenths below a minute."""
    assert spoken(seconds, tenths=True) == expected


@given(st.floats(0, 1e300))
def test_any_length_has_a_name(seconds: float) -> None:
    """A short one."""
    assert len(spoken(seconds)) < 14
