"""What pollers share: the value in force, the schedule, and what listeners hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from resilient.core.action import Action, Verdict
from resilient.core.events import AttemptFailed, Event, GaveUp, Panic, Succeeded, Waiting
from resilient.core.polling import Polling, PollPlan
from resilient.core.run import gave_up_text
from resilient.core.setting_errors import checked_name
from resilient.drivers.clock import CLOCK, SYSTEM, Clock
from resilient.drivers.loops.steps import Call, Steps
from resilient.drivers.wrapping.kind import Kind, checked_kind
from resilient.observe.listeners import Listener, checked_listeners, hearers, tell
from resilient.observe.log import INFO, WARNING
from resilient.policies.catch import Catch

__all__ = ["BasePoller"]

T = TypeVar("T")

BLEW_UP = object()  # in place of what applying a value returned
AGAIN = Verdict(Action.RETRY)


class BasePoller(Generic[T]):
    """The side of a poller that others look at, and what it does between two fetches."""

    _fetch_kinds: ClassVar[tuple[Kind, ...]]
    _apply_kinds: ClassVar[tuple[Kind, ...]]

    def __init__(
        self,
        fetch: Callable[[], object],
        apply: Callable[[T], object] | None,
        plan: PollPlan,
        name: str,
        listeners: tuple[Listener, ...],
    ) -> None:
        checked_kind("fetch", fetch, self._fetch_kinds)
        self._fetch = fetch
        self.name = checked_name(name)
        self.rejected = 0
        self._listeners = checked_listeners(listeners)
        self._polling = Polling(plan)
        self._apply: Callable[[T], Any] | None = None
        if apply is not None:
            kind = checked_kind("apply", apply, self._apply_kinds)
            # Not the decorator: this way the poller's own listeners hear of the panic, too.
            guarding = Catch(f"{self.name}: apply", default=BLEW_UP)
            self._apply = guarding.guard(apply, kind, (self._hear_panic,) if self._listeners else ())
        self._clock: Clock = SYSTEM
        self._good: tuple[T, float] | None = None  # one object: readers in other threads see both or none
        self._failing_since = 0.0
        self._runs = False

    @property
    def value(self) -> T | None:
        """The last good value, which is in force; None before there is one."""
        good = self._good
        return None if good is None else good[0]

    @property
    def age(self) -> float | None:
        """Seconds since the value in force was fetched; None before there is one."""
        good = self._good
        return None if good is None else self._clock.now() - good[1]

    @property
    def failures(self) -> int:
        """Fetches that failed since the last answer."""
        return self._polling.failures

    def poll_now(self) -> None:
        """Fetches at once, without waiting any longer; from any thread. What is being fetched is fetched again."""
        raise NotImplementedError

    def _arrived(self) -> None:
        """There is a value: whoever waits for it is woken."""
        raise NotImplementedError

    @contextmanager
    def _running(self) -> Iterator[Clock]:
        if self._runs:
            raise RuntimeError(f"{self.name} runs already: once at a time")
        self._runs = True
        self._clock = CLOCK.get()
        try:
            yield self._clock
        finally:
            self._runs = False

    def _polled(self) -> Steps[Any, float | None]:
        """Fetches and applies; gives the seconds until the next fetch, None if that was the last."""
        try:
            value = cast("T", (yield Call(self._fetch)))
        except Exception as error:
            return self._failed(error)
        wait = self._answered()
        outcome: object = None
        if self._apply is not None:
            outcome = yield Call(partial(self._apply, value))
        self._applied(value, outcome)
        return wait

    def _answered(self) -> float:
        """There is an answer: seconds until the next fetch."""
        failures = self._polling.failures
        wait = self._polling.answered(self._clock)
        if failures:
            self._tell(Succeeded(self.name, self._elapsed(), failures + 1))
        return wait

    def _applied(self, value: T, outcome: object) -> None:
        """The value was applied, with this outcome: it is in force, unless that blew up."""
        if outcome is BLEW_UP:
            self.rejected += 1
        else:
            self._good = value, self._clock.now()
            self._arrived()

    def _failed(self, error: Exception) -> float | None:
        """There is no answer: seconds until the next fetch, None if that was the last."""
        try:
            if not self._polling.failures:
                self._failing_since = self._clock.now()
            follows = self._polling.failed(self._clock)
            failures, elapsed = self._polling.failures, self._elapsed()
            self._tell(AttemptFailed(self.name, elapsed, failures, AGAIN, error))
            if follows.gave_up:
                why = "stopping" if follows.wait is None else "going on all the same"
                why = gave_up_text(failures, elapsed, f"{why}; the last good value stays in force")
                self._tell(GaveUp(self.name, elapsed, failures, "attempts", why, error), WARNING)
            if follows.wait is not None:
                self._tell(Waiting(self.name, elapsed, failures + 1, follows.wait))
            return follows.wait
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def _elapsed(self) -> float:
        return self._clock.now() - self._failing_since

    def _hear_panic(self, event: Event) -> None:
        if isinstance(event, Panic):  # not of every value that is applied
            tell(event, self._listeners)

    def _tell(self, event: Event, level: int = INFO) -> None:
        heard = hearers(self._listeners, level)
        if heard:
            tell(event, heard)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.failures} failures, {self.rejected} rejected>"
