"""Resilience for long-lived clients: classify an error into an action, then recover and carry on.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient import presets as presets
    from resilient.core import backoff as backoff
    from resilient.core import events as events
    from resilient.core.action import Action as Action
    from resilient.core.action import Verdict as Verdict
    from resilient.core.backoff import Backoff as Backoff
    from resilient.core.classify import Classifier as Classifier
    from resilient.core.duration import Duration as Duration
    from resilient.core.events import Event as Event
    from resilient.core.outcome import Outcome as Outcome
    from resilient.core.rule import Rule as Rule
    from resilient.drivers.attempts import Attempt as Attempt
    from resilient.drivers.attempts import current_attempt as current_attempt
    from resilient.errors import AttemptTimeout as AttemptTimeout
    from resilient.errors import DeadlineExceeded as DeadlineExceeded
    from resilient.errors import ResilientError as ResilientError
    from resilient.observe.listeners import listen as listen
    from resilient.policies.catch import Catch as Catch
    from resilient.policies.catch import catch as catch
    from resilient.policies.panics import panic_hooks as panic_hooks
    from resilient.policies.recovery import Recovery as Recovery
    from resilient.policies.retry import Retry as Retry
    from resilient.policies.retry import retry as retry
    from resilient.presets.server_hints import retry_after as retry_after
    from resilient.settings import load as load

__version__ = "0.1.0"

# Where each public name lives; an empty name is the module itself.
_HOMES = {
    "Action": "core.action",
    "Attempt": "drivers.attempts",
    "AttemptTimeout": "errors",
    "Backoff": "core.backoff",
    "Catch": "policies.catch",
    "Classifier": "core.classify",
    "DeadlineExceeded": "errors",
    "Duration": "core.duration",
    "Event": "core.events",
    "Outcome": "core.outcome",
    "Recovery": "policies.recovery",
    "ResilientError": "errors",
    "Retry": "policies.retry",
    "Rule": "core.rule",
    "Verdict": "core.action",
    "backoff": "core.backoff:",
    "catch": "policies.catch",
    "current_attempt": "drivers.attempts",
    "events": "core.events:",
    "listen": "observe.listeners",
    "load": "settings",
    "panic_hooks": "policies.panics",
    "presets": "presets:",
    "retry": "policies.retry",
    "retry_after": "presets.server_hints",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    module = import_module(f"{__name__}.{home.rstrip(':')}")
    found = module if home.endswith(":") else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
