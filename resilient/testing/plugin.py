"""The pytest plugin: ``fake_clock``, ``fast_retries`` and ``no_retries`` as fixtures.

Loaded by every pytest run of an environment that has this distribution, so it loads nothing else beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilient.testing.fake_clock import FakeClock

__all__ = ["fake_clock", "fast_retries", "no_retries"]


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Virtual time for every policy that the test uses."""
    from resilient.testing.fake_clock import FakeClock

    with FakeClock() as clock:
        yield clock


@pytest.fixture
def fast_retries() -> Iterator[None]:
    """Retries without waits."""
    from resilient.testing import switches

    with switches.fast_retries():
        yield


@pytest.fixture
def no_retries() -> Iterator[None]:
    """No retries at all."""
    from resilient.testing import switches

    with switches.no_retries():
        yield
