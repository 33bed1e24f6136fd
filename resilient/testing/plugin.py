"""The pytest plugin: ``fake_clock``, ``fast_retries``, ``no_retries`` and ``fault_proxy`` as fixtures.

Loaded by every pytest run of an environment that has this distribution, so it loads nothing else beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilient.testing.fake_clock import FakeClock
    from resilient.testing.fault_proxy import FaultProxy

__all__ = ["fake_clock", "fast_retries", "fault_proxy", "no_retries"]


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Virtual time for every policy that the test uses."""
    from resilient.testing.fake_clock import FakeClock

    with FakeClock() as clock:
        yield clock


@pytest.fixture
def fast_retries() -> Iterator[None]:
    """Lets a test retry without waits."""
    from resilient.testing import switches

    with switches.fast_retries():
        yield


@pytest.fixture
def no_retries() -> Iterator[None]:
    """No retries at all."""
    from resilient.testing import switches

    with switches.no_retries():
        yield


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Makes running proxies, which are closed after the test: ``fault_proxy(upstream, ...)``, as ``FaultProxy``."""
    from resilient.testing.fault_proxy import FaultProxy

    with ExitStack() as running:
        yield lambda *args, **kwargs: running.enter_context(FaultProxy(*args, **kwargs))
