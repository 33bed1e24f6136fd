"""The blocking driver: sleeps in the thread, calls in the thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable, iscoroutine
from threading import Event
from types import CoroutineType
from typing import Any

from resilient.core.flight import Part
from resilient.core.run import Again
from resilient.drivers import aio
from resilient.drivers.episode import FIRST, Episode, First, Guard, Recoverer, given, outer_cut

__all__ = ["guard", "prepare", "rescue", "settle"]


def rescue(
    policy: Guard,
    call: Callable[..., Any],
    error: Exception,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    started: float | None = None,
    born: int = 0,
) -> Any:
    """The first call failed: decides, waits, recovers and calls again until it works or has to stop.

    Args:
        error: what the first call raised.
        started: when it began, monotonic seconds; None if nobody had to know.
        born: the generation of the resource on which it began.
    """
    try:
        return given(settle(Episode(policy, call, started), call, args, kwargs, error, born))
    finally:
        del error  # a frame that holds the error it raised is a cycle


def guard(policy: Guard, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A whole guarded call, the first attempt included."""
    return given(settle(Episode(policy, call), call, args, kwargs))


def settle(
    episode: Episode,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    error: Exception | None = None,
    born: int = 0,
) -> tuple[Exception | None, Any]:
    """Calls until it works or has to stop: the last error, or None and the value.

    A call that turns out to return a coroutine goes on under the async driver: the value is then a coroutine.
    """
    value: Any = None
    step: Again | First | None = FIRST if error is None else episode.failed(outer_cut(error))
    while step is not None:
        if isinstance(step, Again) and not prepare(episode, step, error, born):
            break
        born = episode.begins()
        try:
            value = call(*args, **kwargs)
        except Exception as failure:
            error = outer_cut(failure)
            step = episode.failed(error)
        else:
            if value.__class__ is CoroutineType:
                return None, aio.go_on(episode, call, value, args, kwargs, born)
            error = None
            step = episode.returned(value)
    return error, value


def prepare(episode: Episode, step: Again, error: Exception | None, born: int) -> bool:
    """Waits and recovers before the next attempt; False if that took until it was too late."""
    episode.clock.sleep(step.wait)
    recovery = episode.recovers(step)
    if recovery is None:
        return True
    return _recover(episode, step, recovery, error, born) and not episode.too_late(step, error)


def _recover(episode: Episode, step: Again, recovery: Recoverer, error: Exception | None, born: int) -> bool:
    flight = recovery.flight
    while True:
        over = Event()
        match flight.ask(born, over.set):
            case Part.SKIP:
                return True
            case Part.LEAD:
                return _lead(episode, step, recovery, error)
            case Part.JOIN:
                try:
                    over.wait(episode.remaining_in_all())
                finally:
                    flight.leave(over.set)
                if episode.too_late(step, error):
                    return False


def _lead(episode: Episode, step: Again, recovery: Recoverer, error: Exception | None) -> bool:
    flight, ended_at = recovery.flight, None
    unmark = flight.lead()
    try:
        hold = episode.hold(flight)
        if hold:
            if episode.too_late(step, error, ahead=hold):
                return False
            episode.clock.sleep(hold)
        _perform(episode, step, recovery)
        ended_at = episode.clock.now()
    finally:
        unmark()
        flight.finish(ended_at)
    return True


def _perform(episode: Episode, step: Again, recovery: Recoverer) -> None:
    handler = recovery.handler(step.action)
    assert handler is not None  # recovers() has looked
    episode.recovering(step.action)
    try:
        pending = handler()
        if isawaitable(pending):
            if iscoroutine(pending):
                pending.close()
            raise TypeError(
                f"the handler {handler!r} is async, but the guarded call is not: give a blocking handler, "
                "or make the call async"
            )
    except Exception as failure:
        episode.recovery_failed(step.action, failure)
    else:
        episode.recovered(step.action)
