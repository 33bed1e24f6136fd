"""The public list, guarded: what users may type."""

import importlib
import pkgutil

import pytest

import resilient

PUBLIC = [
    "Action", "AdaptiveLimiter", "AdaptiveRate", "AdaptiveThrottle", "Attempt", "AttemptTimeout", "Backoff",
    "Bulkhead", "BulkheadFull", "Catch", "CircuitBreaker", "CircuitOpen", "Classifier", "Deadline",
    "DeadlineExceeded", "Duration", "Event", "Fallback", "Hedge", "ManagerClosed", "NotConnected", "Outcome",
    "OutcomeUnknown", "PeerSilent", "Pipeline", "Policy", "RateLimited", "RateLimiter", "Recovery", "Rejected",
    "ResilientError", "Retry", "RetryBudget", "Rule", "Throttled", "Timeout", "Verdict", "backoff", "catch",
    "current_attempt", "current_deadline", "events", "listen", "load", "panic_hooks", "presets", "retry",
    "retry_after", "snapshot",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    """A name that comes or goes is a decision."""
    assert PUBLIC == resilient.__all__


def test_every_name_is_annotated_for_type_checkers() -> None:
    """What is loaded on first use is imported under TYPE_CHECKING too, from the same place."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(resilient))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert sorted(PUBLIC) == sorted(alias.asname or alias.name for node in block.body for alias in node.names)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for module in pkgutil.walk_packages(resilient.__path__, "resilient.")
        if "__main__" not in module.name
    ],
)
def test_every_module_exports_what_it_says(name: str) -> None:
    """``__all__`` names exist, in every module that has one."""
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", []):
        assert hasattr(module, exported), exported


def test_errors_form_a_tree() -> None:
    """Timeouts of policies are ResilientErrors and TimeoutErrors, and pickle."""
    import pickle

    for kind in (resilient.AttemptTimeout, resilient.DeadlineExceeded):
        error = pickle.loads(pickle.dumps(kind(3.5)))
        assert isinstance(error, resilient.ResilientError)
        assert isinstance(error, TimeoutError)
        assert (3.5, True) == (error.seconds, "3.5 s" in str(error))


@pytest.mark.parametrize("name", ["BulkheadFull", "CircuitOpen", "RateLimited", "Rejected", "Throttled"])
@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), ""),
        (("db", None, "it is full"), " by 'db': it is full"),
        (("db", 4.0), " by 'db'; another call makes sense in 4 s"),
        (("", 0.12345, "later"), ": later; another call makes sense in 0.123 s"),
    ],
)
def test_rejections_say_who_why_and_when(name: str, args: tuple[object, ...], text: str) -> None:
    """They are ResilientErrors, no TimeoutErrors, and pickle with all they know."""
    import pickle

    kind = getattr(resilient, name)
    error = pickle.loads(pickle.dumps(kind(*args)))
    assert (kind, True, False) == (type(error), isinstance(error, resilient.Rejected), isinstance(error, TimeoutError))
    assert (*args, *("", None, "")[len(args) :]) == (error.name, error.retry_after, error.why)
    assert f"{kind.what}{text}" == str(error)


def test_the_version_is_that_of_the_distribution() -> None:
    """One place."""
    from importlib.metadata import version

    assert version("resilient-toolkit") == resilient.__version__
