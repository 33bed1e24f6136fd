"""For every test: the coverage of each test module is kept apart, so that ``own_coverage.py`` can tell whose it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

import resilient.drivers.hedging.asyncio

# Loaded on first use: whose test that is must not matter.
import resilient.drivers.loops.asyncio
import resilient.policies.proxies

with suppress(ImportError):
    import resilient.drivers.hedging.trio  # noqa: F401

# Coverage starts by itself in every process of the suite (its patch "subprocess"), but not in those that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        del os.environ[name]

# A suite that a shell starts in the background inherits ignored signals, and would hand them on to every process that
# its tests mean to interrupt.
for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    inherited = getattr(signal, name, None)  # Windows has no SIGHUP
    if inherited is not None and signal.getsignal(inherited) is signal.SIG_IGN:
        signal.signal(inherited, usual)


@pytest.fixture(autouse=True, scope="module")
def _coverage_of_this_module(request: pytest.FixtureRequest) -> Iterator[None]:
    try:
        from coverage import Coverage
    except ImportError:
        yield
        return
    running = Coverage.current()
    if running is not None:
        place = request.path.relative_to(request.config.rootpath / "tests").with_suffix("")
        running.switch_context(".".join(place.parts))
    yield
    if running is not None:
        running.switch_context("")
