"""Playing within this process; ``test_command.py`` plays every part in processes of their own."""

from __future__ import annotations

from demo.report import Report
from demo.stage import play


def test_nothing_recovered_is_no_success():
    """A demo that injected nothing has shown nothing."""
    report = Report()
    assert (False, False) == (play(report, parts=()), report.ok)
