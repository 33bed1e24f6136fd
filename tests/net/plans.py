"""Settings of managers, for tests of their parts."""

from __future__ import annotations

from typing import Any

from resilient.core import backoff
from resilient.core.link_plan import link_plan
from resilient.net.connection.settings import ManagerPlan

__all__ = ["plan_of"]


def plan_of(**settings: Any) -> ManagerPlan:
    """A plan; what is not given is as simple as it may be."""
    link = {name: settings.pop(name) for name in ("attempts", "stable_after", "throttle") if name in settings}
    fields: dict[str, Any] = {
        "dial": object,
        "close": None,
        "probe": None,
        "link": link_plan(settings.pop("on", OSError), backoff=settings.pop("waits", backoff.constant(10)), **link),
        "connect_timeout": None,
        "heartbeat": None,
        "misses": 3,
        "recovery": None,
        "endpoints": (),
        "on_connect": None,
        "on_cancel": "retire",
        "max_age": None,
        "failback_after": 60.0,
        "probe_when_busy": False,
        "name": "db",
        "listeners": (),
    }
    return ManagerPlan(**fields | settings)
