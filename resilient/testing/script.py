"""A callable that plays a script: fails, succeeds, fails again, as told."""

from __future__ import annotations

from typing import Any

__all__ = ["Script"]


class Script:
    """Plays one outcome a call, in order; the last one repeats.

    Args:
        outcomes: an exception (or exception class) is raised, anything else is returned. For short scripts the
            word ``"fail"`` raises a ``ConnectionError``, and ``"ok"`` is returned like any other value.

    Attributes:
        calls: how often it was called.
        arguments: the positional and keyword arguments of each call.

    ``await script.call_async()`` plays the same script from coroutines.
    """

    def __init__(self, *outcomes: object) -> None:
        if not outcomes:
            raise ValueError("outcomes must be at least one, got none")
        self.outcomes = outcomes
        self.calls = 0
        self.arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Plays the next outcome."""
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        self.arguments.append((args, kwargs))
        if isinstance(outcome, str) and outcome == "fail":
            raise ConnectionError(f"call {self.calls} fails, as the script says")
        if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
            raise outcome
        return outcome

    async def call_async(self, /, *args: Any, **kwargs: Any) -> Any:
        """Plays the next outcome, in a coroutine."""
        return self(*args, **kwargs)
