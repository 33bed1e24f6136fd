"""Resilience for long-lived clients: classify an error into an action, then recover and carry on.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient.lazy import lazy_names

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
    from resilient.policies.policy import Pipeline as Pipeline
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

# Where each public name lives; a colon says that it is the module itself.
_HOMES = {
    "Action": "resilient.core.action",
    "AdaptiveLimiter": "resilient.policies.adaptive_limiter",
    "AdaptiveRate": "resilient.policies.adaptive_rate",
    "AdaptiveThrottle": "resilient.policies.adaptive_throttle",
    "Attempt": "resilient.drivers.retry.attempts",
    "AttemptTimeout": "resilient.errors",
    "Backoff": "resilient.core.backoff",
    "Bulkhead": "resilient.policies.bulkhead",
    "BulkheadFull": "resilient.errors",
    "Catch": "resilient.policies.catch",
    "CircuitBreaker": "resilient.policies.circuit_breaker",
    "CircuitOpen": "resilient.errors",
    "Classifier": "resilient.core.classify",
    "Deadline": "resilient.drivers.deadline",
    "DeadlineExceeded": "resilient.errors",
    "Duration": "resilient.core.duration",
    "Event": "resilient.core.events",
    "Fallback": "resilient.policies.fallback",
    "Hedge": "resilient.policies.hedge",
    "ManagerClosed": "resilient.errors",
    "NotConnected": "resilient.errors",
    "Outcome": "resilient.core.outcome",
    "OutcomeUnknown": "resilient.errors",
    "PeerSilent": "resilient.errors",
    "Pipeline": "resilient.policies.policy",
    "Policy": "resilient.policies.policy",
    "RateLimited": "resilient.errors",
    "RateLimiter": "resilient.policies.rate_limiter",
    "Recovery": "resilient.policies.recovery",
    "Rejected": "resilient.errors",
    "ResilientError": "resilient.errors",
    "Retry": "resilient.policies.retry",
    "RetryBudget": "resilient.policies.retry_budget",
    "Rule": "resilient.core.rule",
    "Throttled": "resilient.errors",
    "Timeout": "resilient.policies.timeout",
    "Verdict": "resilient.core.action",
    "backoff": "resilient.core.backoff:",
    "catch": "resilient.policies.catch",
    "current_attempt": "resilient.drivers.retry.attempts",
    "current_deadline": "resilient.drivers.deadline",
    "events": "resilient.core.events:",
    "listen": "resilient.observe.listeners",
    "load": "resilient.settings",
    "panic_hooks": "resilient.policies.panics",
    "presets": "resilient.presets:",
    "retry": "resilient.policies.retry",
    "retry_after": "resilient.presets.server_hints",
    "snapshot": "resilient.policies.shared",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
