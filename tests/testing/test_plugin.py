"""The pytest plugin, as users' suites meet it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SUITE = """
    import pytest
    from resilient import Retry, backoff
    from resilient.testing import Script

    policy = Retry(on=OSError, attempts=3, backoff=backoff.constant(3600))

    def test_clock(fake_clock):
        assert policy.call(Script("fail", 7)) == 7
        assert fake_clock.sleeps == [3600]

    def test_fast(fast_retries):
        assert policy.call(Script("fail", 7)) == 7

    def test_none(no_retries):
        with pytest.raises(ConnectionError):
            policy.call(Script("fail", 7))

    def test_proxy(fault_proxy):
        assert fault_proxy(("127.0.0.1", 1)).address[0] == "127.0.0.1"
"""


def test_its_fixtures_work_in_a_suite_of_its_own(tmp_path: Path) -> None:
    """Without any conftest: installing the distribution is enough."""
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(SUITE))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_fixtures_work_here_too(fake_clock, fast_retries, no_retries) -> None:  # type: ignore[no-untyped-def]
    """All three together."""
    from resilient.drivers.clock import CLOCK, SWITCHES

    assert CLOCK.get() is fake_clock
    assert (False, False) == (SWITCHES.waits, SWITCHES.retries)


def test_nothing_but_what_is_there_is_offered() -> None:
    """The proxy is loaded on first use; other names are none."""
    import resilient.testing as testing

    assert testing.FaultProxy.__name__ in testing.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = testing.nothing
