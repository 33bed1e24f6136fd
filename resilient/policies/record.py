"""What happens to one call, kept for its outcome."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from resilient.core.events import (
    AttemptFailed,
    CallRejected,
    Entered,
    Event,
    FellBack,
    Hedged,
    RecoveryFailed,
    StateChanged,
    TimedOut,
)
from resilient.core.outcome import Outcome
from resilient.drivers.clock import CLOCK, Clock
from resilient.drivers.retry.rescue import name_of, outer_cut
from resilient.drivers.wrapping.wrap import OF_FIRST
from resilient.observe.listeners import Listener

__all__ = ["Record"]


# Told by policies that need not know when the call began.
UNDATED = (Entered, CallRejected, StateChanged, TimedOut, Hedged, FellBack)


class Record:
    """The timeline of one call.

    Attributes:
        listeners: what the policies of the call must tell, for it to be kept.
    """

    def __init__(self) -> None:
        self._calls: list[int] | None = None
        self._timeline: list[Event] = []
        self._clock = CLOCK.get()
        self._started = self._clock.now()
        # No method of this record, which would be a cycle.
        self.listeners: tuple[Listener, ...] = (partial(_note, self._timeline, self._clock, self._started),)

    def outcome(self, error: Exception | None, value: Any) -> Outcome[Any]:
        """What became of the call."""
        if error is not None:
            outer_cut(error)
        for event in self._timeline:
            past = event.error if isinstance(event, (AttemptFailed, RecoveryFailed)) else None
            if past is not None and past is not error:
                past.with_traceback(None)  # nobody raises it any more, and its frames would be kept
        calls = None if self._calls is None else len(self._calls)
        outcome = Outcome(value, error, self._elapsed(), tuple(self._timeline), calls)
        self._timeline.clear()  # what told of the errors in it is in frames that those errors refer to
        return outcome

    def counting(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls counted."""
        self._calls = []
        counted = partial(_counted, fn, self._calls)
        for name in ("__name__", "__qualname__"):  # for the events of whatever guards it
            setattr(counted, name, name_of(fn))
        return counted

    async def of_async(self, call: Coroutine[Any, Any, Any]) -> Outcome[Any]:
        """The outcome of a coroutine."""
        try:
            return self.outcome(None, await call)
        except Exception as error:
            return self.outcome(error, None)
        finally:
            del self, call  # the frames of the errors in it go back to this one

    def _elapsed(self) -> float:
        return self._clock.now() - self._started


def _counted(fn: Callable[..., Any], calls: list[int], /, *args: Any, **kwargs: Any) -> Any:
    calls.append(1)
    return fn(*args, **kwargs)


setattr(_counted, OF_FIRST, True)


def _note(timeline: list[Event], clock: Clock, started: float, event: Event) -> None:
    timeline.append(replace(event, elapsed=clock.now() - started) if isinstance(event, UNDATED) else event)
