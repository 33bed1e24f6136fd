"""The settings of an outbox."""

from typing import Any

import pytest

from resilient.core.outbox_plan import OutboxPlan


def test_by_default_it_waits_for_room() -> None:
    """And sends nothing twice."""
    assert OutboxPlan("block", 1000, 16 * 2**20, None, resend=False) == OutboxPlan()


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        (
            {"overflow": "drop"},
            ValueError,
            "overflow must be one of block, drop_oldest, drop_newest, error, got 'drop'",
        ),
        ({"max_items": 0}, ValueError, "max_items must be >= 1, got 0"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes must be a whole number >= 1, got 1.5"),
        ({"pipe": -1}, ValueError, "pipe must be >= 0, got -1"),
        ({"resend": 1}, TypeError, "resend must be True or False, got 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], kind: type[Exception], text: str) -> None:
    """By name and value."""
    with pytest.raises(kind, match=text):
        OutboxPlan(**settings)
