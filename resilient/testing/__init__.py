"""Testing code that waits and retries, without waiting: a fake clock, scripted failures, switches.

The pytest plugin of this distribution offers them as the fixtures ``fake_clock``, ``fast_retries`` and
``no_retries``.
"""

from resilient.testing.fake_clock import FakeClock
from resilient.testing.script import Script
from resilient.testing.switches import fast_retries, no_retries

__all__ = ["FakeClock", "Script", "fast_retries", "no_retries"]
