"""What supervisors of tasks and of threads share: settings, each loop's record, its events, its numbers.

Whoever runs a loop tells its record when it begins and how it ends, and does what the record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import RLock
from types import MappingProxyType
from typing import Any, Generic, TypedDict, TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration
from resilient.core.events import Event, GaveUp, Panic, TimedOut, Waiting
from resilient.core.naming import is_named
from resilient.core.notes import note
from resilient.core.restarts import Ended, Escalate, Intensity, Restart, RestartPlan, Restarts, Step
from resilient.core.setting_errors import SettingTypeError, checked_name
from resilient.drivers.clock import CLOCK
from resilient.errors import PolicyTimeout, ResilientError
from resilient.net.supervisor.signals import ending_by_signals
from resilient.observe.listeners import Listener, checked_listeners, hearers, tell
from resilient.observe.log import ERROR, INFO, WARNING
from resilient.policies.catch import NATIVE_PANICS

__all__ = [
    "BaseSupervisor",
    "Loop",
    "Loops",
    "RestartSettings",
    "StillRunning",
    "SupervisorStats",
    "TooManyRestarts",
    "is_panic",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


class TooManyRestarts(ResilientError):
    """A loop ended again and again, without an error of its own: it is permanent and returned, or it was cancelled.

    (One that raises too often is given up with what it raised.)

    Attributes:
        name: the loop.
        restarts: more than so many ...
        seconds: ... within so many seconds.
    """

    def __init__(self, name: str, restarts: int, seconds: float) -> None:
        super().__init__(name, restarts, seconds)
        self.name = name
        self.restarts = restarts
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the loop {self.name!r} is given up: {_too_often(self.restarts, self.seconds)}"


class StillRunning(PolicyTimeout):
    """A loop did not end within its stop timeout."""

    what = "asked to stop, still running"


@dataclass(frozen=True, slots=True)
class SupervisorStats:
    """What became of a supervisor's loops so far, each by its name.

    Attributes:
        running: loops that are not done, in order of start: those that wait to be restarted, too.
        restarts: how often each was started again.
        panics: how often each blew up; those that never did are left out.
        late: loops that did not end within their stop timeout when asked to.
    """

    running: tuple[str, ...] = ()
    restarts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    panics: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    late: tuple[str, ...] = ()


class RestartSettings(TypedDict, total=False):
    """How one loop is started again: what :class:`~resilient.core.restarts.RestartPlan` is made from."""

    backoff: Backoff
    intensity: Intensity | None
    stable_after: Duration
    permanent: bool
    temporary: bool
    stop_timeout: Duration


R = TypeVar("R")


class Loop(Generic[F, R]):
    """One loop, and what is known of it.

    Attributes:
        runner: the task or thread that runs it; None before that.
        over: whether it runs no more, and never will again.
        late: whether it was asked to end, and did not within its time.
    """

    __slots__ = (
        "_began",
        "_listeners",
        "_restarts",
        "fn",
        "late",
        "name",
        "over",
        "panics",
        "plan",
        "runner",
        "stop_timeout",
    )

    def __init__(self, name: str, fn: F, plan: RestartPlan, listeners: tuple[Listener, ...]) -> None:
        self.name = name
        self.fn = fn
        self.plan = plan
        self.stop_timeout: float = plan.stop_timeout  # type: ignore[assignment]  # seconds, once checked
        self.panics = 0
        self.runner: R | None = None
        self.over = False
        self.late = False
        self._listeners = listeners
        self._restarts = Restarts(plan)
        self._began: float | None = None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(0, self._restarts.starts - 1)

    def started(self) -> None:
        """The loop begins, for the first time or again."""
        now = CLOCK.get().now()
        if self._began is None:
            self._began = now
        self._restarts.started(now)

    def returned(self, stopping: bool) -> Step:
        """The loop returned: what follows."""
        if stopping:
            return Ended()
        clock = CLOCK.get()
        return self._told(self._restarts.returned(clock.now(), clock), None)

    def blew_up(self, error: BaseException, stopping: bool) -> Step:
        """The loop raised, and that is a panic: what follows."""
        try:
            self.panics += 1
            self._tell(Panic(self.name, "loop", error), ERROR)
            if stopping:
                return Ended()
            clock = CLOCK.get()
            return self._told(self._restarts.failed(clock.now(), clock), error)
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def left_behind(self) -> None:
        """The loop did not end within its time."""
        if not self.late:
            self.late = True
            self._tell(TimedOut(self.name, self._elapsed(), StillRunning(self.stop_timeout)), INFO)

    def failure(self, step: Escalate, error: BaseException | None) -> BaseException:
        """What whoever waits for the supervisor is to be told."""
        if error is None:
            return TooManyRestarts(self.name, step.restarts, step.period)
        note(error, f"the loop {self.name!r} is given up: {_too_often(step.restarts, step.period)}")
        return error

    def _told(self, step: Step, error: BaseException | None) -> Step:
        if isinstance(step, Restart):
            self._tell(Waiting(self.name, self._elapsed(), self._restarts.starts + 1, step.seconds), INFO)
        elif isinstance(step, Escalate):
            why = f"given up: {_too_often(step.restarts, step.period)}"
            shown = error if isinstance(error, Exception) else TooManyRestarts(self.name, step.restarts, step.period)
            starts = self._restarts.starts
            self._tell(GaveUp(self.name, self._elapsed(), starts, "intensity", why, shown), WARNING)
        return step

    def _elapsed(self) -> float:
        return 0.0 if self._began is None else CLOCK.get().now() - self._began

    def _tell(self, event: Event, level: int) -> None:
        listeners = hearers(self._listeners, level)
        if listeners:
            tell(event, listeners)


class Loops(Generic[F, R]):
    """The loops of one supervisor, by name, in order of start. Safe for threads."""

    __slots__ = ("_by_name", "_listeners", "_lock")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._by_name: dict[str, Loop[F, R]] = {}
        self._listeners = listeners
        self._lock = RLock()  # a signal handler may come in between

    def add(self, name: str, fn: F, plan: RestartPlan) -> Loop[F, R]:
        """A new loop; the name of one that is over may be given again.

        Raises:
            TypeError: the name is no text, or the function cannot be called.
            ValueError: another loop has that name.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a text that is not empty, got {name!r}")
        if not callable(fn):
            raise TypeError(f"fn must be a function, got {fn!r}")
        loop: Loop[F, R] = Loop(name, fn, plan, self._listeners)
        with self._lock:
            known = self._by_name.get(name)
            if known is not None and not known.over:
                raise ValueError(f"name must be that of no other loop of this supervisor, got {name!r}")
            self._by_name.pop(name, None)  # the order is that of the starts
            self._by_name[name] = loop
        return loop

    def in_order(self) -> list[Loop[F, R]]:
        """All of them, in order of start."""
        with self._lock:
            return list(self._by_name.values())

    def renew(self) -> None:
        """Every loop as if it had never run."""
        for loop in self.in_order():
            loop.over = True
            self.add(loop.name, loop.fn, loop.plan)

    def all_over(self) -> bool:
        """Whether none runs, or ever will again."""
        return all(loop.over for loop in self.in_order())

    def stats(self) -> SupervisorStats:
        """The numbers of all loops, as of now."""
        loops = self.in_order()
        return SupervisorStats(
            running=tuple(loop.name for loop in loops if loop.runner is not None and not loop.over),
            restarts=_numbers((loop.name, loop.restarts) for loop in loops),
            panics=_numbers((loop.name, loop.panics) for loop in loops if loop.panics),
            late=tuple(loop.name for loop in loops if loop.late),
        )


class BaseSupervisor(Generic[F, R]):
    """The side of a supervisor that is the same for tasks and for threads.

    Args:
        name: for errors.
        listeners: functions of an event, for all loops.
        signals: whether SIGTERM and SIGINT stop it.
    """

    def __init__(self, name: str, listeners: Iterable[Listener] | Listener, signals: bool) -> None:
        self.name = checked_name(name)
        if not isinstance(signals, bool):
            raise SettingTypeError("signals", f"must be True or False, got {signals!r}")
        self._signals = signals
        self._handlers = ExitStack()
        self._loops: Loops[F, R] = Loops(checked_listeners(listeners))
        self._stopping = False
        self._failure: BaseException | None = None
        self._failure_told = False  # to somebody who waited
        self._used = False

    @property
    def _runs(self) -> bool:
        """Whether it is entered."""
        raise NotImplementedError

    def stats(self) -> SupervisorStats:
        """The numbers of all loops, as of now."""
        return self._loops.stats()

    def _end_by_signals(self, end: Callable[[], object]) -> None:
        """Lets the first SIGTERM or SIGINT call this, as long as the supervisor runs."""
        if self._signals:
            self._handlers.enter_context(ending_by_signals(self.name, end))

    def _begin(self) -> None:
        """The supervisor is entered, for the first time or again."""
        if self._runs:
            raise RuntimeError(f"{self.name} runs already: it may be used again, but not twice at once")
        if self._used:
            self._loops.renew()
        self._used, self._stopping, self._failure_told = True, False, False

    def _enrol(self, name: str, fn: F, plan: RestartPlan) -> Loop[F, R]:
        """Adds a loop, which is yet to be started."""
        if self._runs and self._stopping:
            raise RuntimeError(f"{self.name} is stopping: no loop can be added, got {name!r}")
        return self._loops.add(name, fn, plan)

    def _raise_failure(self) -> None:
        """The error of the loop that died too often, if one did."""
        failure = self._failure
        if failure is None:
            return
        self._failure_told = True
        try:
            raise failure
        finally:
            del failure  # a frame that holds the error it raised is a cycle


def is_panic(error: BaseException) -> bool:
    """Whether a loop that raises this blew up, and did not leave: exits and cancellation pass."""
    return isinstance(error, Exception) or any(is_named(type(error), name) for name in NATIVE_PANICS)


def _numbers(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    return MappingProxyType(dict(pairs))


def _too_often(restarts: int, seconds: float) -> str:
    return f"more than {restarts} restart{'s' if restarts != 1 else ''} in {seconds:g} s"
