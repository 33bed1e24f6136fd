"""What plays: nothing shows nothing, and no part leaves anything behind."""

from __future__ import annotations

import threading

import pytest

from demo.report import Report
from demo.stage import play


def test_nothing_recovered_is_no_success():
    """A demo that injected nothing has shown nothing."""
    report = Report()
    assert (False, False) == (play(report, parts=()), report.ok)


@pytest.mark.parametrize("part", ["asyncio", "panics", "loopback", "plugins"])
def test_the_parts_leave_nothing_behind(part, capsys, monkeypatch, tmp_path):
    """The threads and files that the demo makes end with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.enumerate()
    assert play(Report(), parts=(part,)), capsys.readouterr().out
    assert (before, []) == (threading.enumerate(), list(tmp_path.iterdir()))
