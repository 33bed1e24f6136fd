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
    from resilient.drivers.deadline import Deadline as Deadline
    from resilient.drivers.deadline import current_deadline as current_deadline
    from resilient.drivers.retry.attempts import Attempt as Attempt
    from resilient.drivers.retry.attempts import current_attempt as current_attempt
    from resilient.errors import AttemptTimeout as AttemptTimeout
    from resilient.errors import BulkheadFull as BulkheadFull
    from resilient.errors import CircuitOpen as CircuitOpen
    from resilient.errors import DeadlineExceeded as DeadlineExceeded
    from resilient.errors import ManagerClosed as ManagerClosed
    from resilient.errors import NotConnected as NotConnected
    from resilient.errors import OutcomeUnknown as OutcomeUnknown
    from resilient.errors import PeerSilent as PeerSilent
    from resilient.errors import RateLimited as RateLimited
    from resilient.errors import Rejected as Rejected
    from resilient.errors import ResilientError as ResilientError
    from resilient.errors import Throttled as Throttled
    from resilient.observe.listeners import listen as listen
    from resilient.policies.adaptive_limiter import AdaptiveLimiter as AdaptiveLimiter
    from resilient.policies.adaptive_rate import AdaptiveRate as AdaptiveRate
    from resilient.policies.adaptive_throttle import AdaptiveThrottle as AdaptiveThrottle
    from resilient.policies.bulkhead import Bulkhead as Bulkhead
    from resilient.policies.catch import Catch as Catch
    from resilient.policies.catch import catch as catch
    from resilient.policies.circuit_breaker import CircuitBreaker as CircuitBreaker
    from resilient.policies.fallback import Fallback as Fallback
    from resilient.policies.hedge import Hedge as Hedge
    from resilient.policies.panics import panic_hooks as panic_hooks
    from resilient.policies.pipeline import Pipeline as Pipeline
    from resilient.policies.policy import Policy as Policy
    from resilient.policies.rate_limiter import RateLimiter as RateLimiter
    from resilient.policies.recovery import Recovery as Recovery
    from resilient.policies.retry import Retry as Retry
    from resilient.policies.retry import retry as retry
    from resilient.policies.retry_budget import RetryBudget as RetryBudget
    from resilient.policies.shared import snapshot as snapshot
    from resilient.policies.timeout import Timeout as Timeout
    from resilient.presets.server_hints import retry_after as retry_after
    from resilient.settings import load as load

__version__ = "0.1.0"

# Where each public name lives; an empty name is the module itself.
_HOMES = {
    "Action": "core.action",
    "AdaptiveLimiter": "policies.adaptive_limiter",
    "AdaptiveRate": "policies.adaptive_rate",
    "AdaptiveThrottle": "policies.adaptive_throttle",
    "Attempt": "drivers.retry.attempts",
    "AttemptTimeout": "errors",
    "Backoff": "core.backoff",
    "Bulkhead": "policies.bulkhead",
    "BulkheadFull": "errors",
    "Catch": "policies.catch",
    "CircuitBreaker": "policies.circuit_breaker",
    "CircuitOpen": "errors",
    "Classifier": "core.classify",
    "Deadline": "drivers.deadline",
    "DeadlineExceeded": "errors",
    "Duration": "core.duration",
    "Event": "core.events",
    "Fallback": "policies.fallback",
    "Hedge": "policies.hedge",
    "ManagerClosed": "errors",
    "NotConnected": "errors",
    "Outcome": "core.outcome",
    "OutcomeUnknown": "errors",
    "PeerSilent": "errors",
    "Pipeline": "policies.pipeline",
    "Policy": "policies.policy",
    "RateLimited": "errors",
    "RateLimiter": "policies.rate_limiter",
    "Recovery": "policies.recovery",
    "Rejected": "errors",
    "ResilientError": "errors",
    "Retry": "policies.retry",
    "RetryBudget": "policies.retry_budget",
    "Rule": "core.rule",
    "Throttled": "errors",
    "Timeout": "policies.timeout",
    "Verdict": "core.action",
    "backoff": "core.backoff:",
    "catch": "policies.catch",
    "current_attempt": "drivers.retry.attempts",
    "current_deadline": "drivers.deadline",
    "events": "core.events:",
    "listen": "observe.listeners",
    "load": "settings",
    "panic_hooks": "policies.panics",
    "presets": "presets:",
    "retry": "policies.retry",
    "retry_after": "presets.server_hints",
    "snapshot": "policies.shared",
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
