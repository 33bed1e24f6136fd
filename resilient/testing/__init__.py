"""Testing code that waits, retries and reconnects: a fake clock, scripted failures, switches, a fault proxy.

The pytest plugin of this distribution offers them as the fixtures ``fake_clock``, ``fast_retries``, ``no_retries`` and
``fault_proxy``. What the proxy can do is in :mod:`resilient.testing.faults`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient.testing.fake_clock import FakeClock
from resilient.testing.script import Script
from resilient.testing.switches import fast_retries, no_retries

if TYPE_CHECKING:
    from resilient.testing.fault_proxy import FaultProxy as FaultProxy

__all__ = ["FakeClock", "FaultProxy", "Script", "fast_retries", "no_retries"]


def __getattr__(name: str) -> object:
    # It needs asyncio and sockets, which nothing else here does.
    if name != "FaultProxy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resilient.testing.fault_proxy import FaultProxy

    globals()[name] = FaultProxy
    return FaultProxy
