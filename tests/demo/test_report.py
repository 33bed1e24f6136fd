"""What the demo reports: it is well only if all of it is."""

from __future__ import annotations

import pytest

from demo.report import Report, Row


def test_one_lost_row_loses_the_demo():
    """It is well only if all of it is."""
    report = Report()
    row = Row("client", "fault", "injected", "RETRY x1", 2, 0.1, 0.1)
    report.ended(row)
    assert report.ok
    report.ended(Row("client", "fault", "injected", "", 2, 0.1, 0.1, missing="a reason"))
    assert not report.ok


@pytest.mark.parametrize(
    ("lost", "unconfirmed", "told"), [(None, 0, ""), (0, 0, "0"), (3, 0, "3"), (0, 7, "0 of 7"), (3, 7, "3 of 7")]
)
def test_a_loss_is_told_with_what_was_unconfirmed(lost, unconfirmed, told):
    """Where nothing could be lost, nothing is said."""
    assert told == Row("client", "fault", "injected", "", 0, 0.0, 0.0, lost=lost, unconfirmed=unconfirmed).loss
