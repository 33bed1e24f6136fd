"""Supervisor for threads: the blocking twin of the one for tasks.

The terms are Erlang/OTP's: restart intensity, escalation; permanent, transient and temporary children.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack, overload

from resilient.core.duration import Duration, optional_seconds
from resilient.core.restarts import Ended, Escalate, Restart, RestartPlan, Step
from resilient.drivers.clock import CLOCK, is_virtual
from resilient.drivers.wrapping.kind import BLOCKING, checked_kind
from resilient.net.supervisor.base import BaseSupervisor, Loop, RestartSettings, is_panic
from resilient.net.supervisor.stop_signal import StopSignal
from resilient.observe.listeners import Listener

__all__ = ["Supervisor"]

ThreadLoop: TypeAlias = Callable[[StopSignal], object]
F = TypeVar("F", bound=ThreadLoop)


class _Runner:
    """The thread of one loop."""

    __slots__ = ("ended", "signal", "thread")

    def __init__(self, name: str, live: Callable[[], None], context: Context) -> None:
        self.signal = StopSignal()
        self.ended = threading.Event()
        # A daemon: one that does not end when asked to must not keep the process alive.
        self.thread = threading.Thread(target=context.run, args=(live,), name=name, daemon=True)


class Supervisor(BaseSupervisor[ThreadLoop, _Runner]):
    """Runs loops in threads behind a ``with`` block, and starts them again when they die.

    As :class:`resilient.net.Supervisor`, with these differences. A loop is given a :class:`StopSignal`: no thread can
    be stopped from outside, so it has to look. One that does not end within its ``stop_timeout`` (real seconds, also
    under a fake clock) is left behind, a daemon, and ``stats().late`` names it. A KeyboardInterrupt in a thread is
    no wish of the user's (those go to the main thread): it is a panic.

    Args:
        name: for errors.
        listeners: functions of an event, for all loops, called in their threads.
        signals: whether the first SIGTERM or SIGINT stops all loops in order, after which ``run()`` and ``wait()``
            return; the next one does what it did before. Only in the main thread.

    Raises:
        TypeError: the name is no text, or a listener cannot be called.

    Source: "Supervisor Behaviour", OTP Design Principles, Erlang/OTP.
    """

    def __init__(
        self, *, name: str = "supervisor", listeners: Iterable[Listener] | Listener = (), signals: bool = False
    ) -> None:
        super().__init__(name, listeners, signals)
        self._lock = threading.Lock()
        self._context: Context | None = None  # while it runs
        self._over = threading.Event()

    @property
    def _runs(self) -> bool:
        return self._context is not None

    @overload
    def add(self, name: str, fn: F, **settings: Unpack[RestartSettings]) -> F: ...
    @overload
    def add(self, name: str, **settings: Unpack[RestartSettings]) -> Callable[[F], F]: ...
    def add(self, name: str, fn: Any = None, **settings: Unpack[RestartSettings]) -> Any:
        """Adds a loop: it starts with the block, or at once within it. Any thread may.

        Without ``fn`` this is a decorator: ``@supervisor.add("beat")``.

        Args:
            name: of the loop and its thread, for events and numbers.
            fn: a function of a :class:`StopSignal`.
            backoff: the waits before restarts: 0.1, 0.2, 0.4 ... 300 s by default.
            intensity: most restarts within so many seconds, ``(10, 300)`` by default; None: no limit.
            permanent: whether it is started again when it returned, too.
            temporary: whether it is never started again.
            stable_after: uptime that resets the backoff, seconds, > 0; 10 by default.
            stop_timeout: after which it is left behind, seconds, > 0; 5 by default.

        Raises:
            TypeError: an argument is of another type.
            ValueError: it is outside its range, or the name is taken.
            RuntimeError: the supervisor is stopping.
        """
        plan = RestartPlan(**settings)
        if fn is None:
            return partial(self._added, name, plan)
        return self._added(name, plan, fn)

    def _added(self, name: str, plan: RestartPlan, fn: F) -> F:
        wanted, instead = "a plain function of a StopSignal", "; net.Supervisor runs async ones"
        checked_kind("fn", fn, BLOCKING, wanted=wanted, instead=instead)
        with self._lock:  # nothing of the user's runs under it
            loop = self._enrol(name, fn, plan)
            if self._runs:
                self._start(loop)
        return fn

    def wait(self, timeout: Duration | None = None) -> bool:
        """Blocks until every loop is done; raises the error of one that died too often, when all are stopped.

        Args:
            timeout: real seconds, >= 0; None: no limit.

        Returns:
            Whether they are done.
        """
        limit = optional_seconds("timeout", timeout)
        self._check_not_within()
        done = self._over.wait(None if limit is None else min(limit, threading.TIMEOUT_MAX))
        if done:
            self._raise_failure()
        return done

    def stop(self) -> None:
        """Stops every loop, in reverse order of start, and waits for their ends; again does nothing.

        Called by one of the loops, it asks all to end and returns.
        """
        own = self._own_loop()
        if own is not None:
            self._ask_all()
        elif self._begin_stop():
            self._stop_all()
        else:
            self._over.wait()

    def run(self) -> None:
        """Runs the loops until every one is done, or one died too often."""
        with self:
            self.wait()

    def __enter__(self) -> Self:
        with self._lock:
            self._begin()
            self._over.clear()
            self._context = copy_context()
        try:
            self._end_by_signals(self._stop_aside)
            with self._lock:
                for loop in self._loops.in_order():
                    if loop.runner is None:  # else another thread has just added it
                        self._start(loop)
        except BaseException:
            self.__exit__(BaseException, None, None)
            raise
        self._note_end()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
            for loop in self._loops.in_order():
                if loop.runner is not None and not loop.late:
                    loop.runner.thread.join()  # it has only to return
            if kind is None and not self._failure_told:
                self._raise_failure()
        finally:
            self._handlers.close()
            self._context = self._failure = None
            del error, traceback  # a frame that holds the error it raised is a cycle

    def _stop_aside(self) -> None:
        """Stops in a thread of its own: the main thread may hold any lock at this moment."""
        try:
            threading.Thread(target=self.stop, name=f"stopping {self.name}", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self._ask_all()

    def _start(self, loop: Loop[ThreadLoop, _Runner]) -> None:
        assert self._context is not None  # it runs
        self._over.clear()
        loop.runner = runner = _Runner(loop.name, partial(self._live, loop), self._context.copy())
        try:
            runner.thread.start()
        except RuntimeError:  # the system has no thread left
            loop.over, loop.runner = True, None
            raise

    def _live(self, loop: Loop[ThreadLoop, _Runner]) -> None:
        """One loop, from its first start to its last end."""
        runner = loop.runner
        assert runner is not None  # this is it
        try:
            again = True
            while again and not self._stopping:
                match self._once(loop, runner.signal):
                    case Restart(wait):
                        clock = CLOCK.get()
                        if is_virtual(clock):
                            clock.record(wait)
                        again = not runner.signal.wait(wait)
                    case _:
                        again = False
        finally:
            loop.over = True
            runner.ended.set()
            self._note_end()

    def _once(self, loop: Loop[ThreadLoop, _Runner], signal: StopSignal) -> Step:
        """One start and end."""
        loop.started()
        died: BaseException | None = None
        try:
            loop.fn(signal)
        except BaseException as error:
            died = error
        try:
            stopping = self._stopping or signal.given
            if died is None:
                step = loop.returned(stopping)
            else:
                died = died.with_traceback(died.__traceback__ and died.__traceback__.tb_next)  # without this frame
                if not (isinstance(died, KeyboardInterrupt) or is_panic(died)):
                    self._escalate(loop, died)  # an exit passes: to whoever waits
                    return Ended()
                step = loop.blew_up(died, stopping)
            if isinstance(step, Escalate):
                self._escalate(loop, loop.failure(step, died))
            return step
        finally:
            del died  # a frame that holds the error it raised is a cycle

    def _escalate(self, loop: Loop[ThreadLoop, _Runner], failure: BaseException) -> None:
        """Stops all other loops, from the thread of the one that died."""
        try:
            if self._begin_stop(failure):
                loop.over = True
                self._stop_all()
        finally:
            del failure  # likewise

    def _begin_stop(self, failure: BaseException | None = None) -> bool:
        """Whether the caller is the one who has to stop everything."""
        try:
            with self._lock:
                first, self._stopping = not self._stopping, True
                if first:
                    self._failure = failure
                return first
        finally:
            del failure  # likewise

    def _stop_all(self) -> None:
        """Stops one after the other, the last started first."""
        try:
            for loop in reversed(self._loops.in_order()):
                runner = loop.runner
                if loop.over or runner is None:
                    continue
                runner.signal.give()
                if not runner.ended.wait(min(loop.stop_timeout, threading.TIMEOUT_MAX)):
                    loop.left_behind()
        finally:
            self._ask_all()  # where an interrupt ended the waiting
            self._over.set()

    def _ask_all(self) -> None:
        for loop in self._loops.in_order():
            if loop.runner is not None:
                loop.runner.signal.give()

    def _note_end(self) -> None:
        with self._lock:  # or a loop that is just being added would not be waited for
            if not self._stopping and self._loops.all_over():
                self._over.set()

    def _own_loop(self) -> Loop[ThreadLoop, _Runner] | None:
        """The loop that runs in this thread, if one does."""
        here = threading.current_thread()
        loops = self._loops.in_order()
        return next((loop for loop in loops if loop.runner is not None and loop.runner.thread is here), None)

    def _check_not_within(self) -> None:
        if self._context is None:
            raise RuntimeError(f"{self.name} does not run: enter it first, by with")
        if self._own_loop() is not None:
            raise RuntimeError(f"{self.name} cannot be waited for by one of its own loops: it would wait for itself")
