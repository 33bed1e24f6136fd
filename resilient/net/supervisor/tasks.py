"""Supervisor: background tasks that are started again when they die, on asyncio and trio alike.

The terms are Erlang/OTP's: restart intensity, escalation; permanent, transient and temporary children.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack, overload

from resilient.core.restarts import Ended, Escalate, Restart, RestartPlan, Step
from resilient.drivers.clock import CLOCK
from resilient.drivers.loops.base import Task, TaskGroup, Waiter
from resilient.drivers.loops.current import current_backend, pause, task_group
from resilient.drivers.loops.waiters import Latch
from resilient.drivers.wrapping.kind import Kind, checked_kind
from resilient.net.supervisor.base import BaseSupervisor, Loop, RestartSettings, is_panic
from resilient.observe.listeners import Listener

__all__ = ["Supervisor"]

# Turns of the event loop within which nearly every loop ends that is cancelled: those need no timer.
PROMPT_TURNS = 10

AsyncLoop: TypeAlias = Callable[[], Awaitable[object]]
F = TypeVar("F", bound=AsyncLoop)


class _Runner:
    """The task of one loop."""

    __slots__ = ("ended", "task")

    def __init__(self) -> None:
        self.ended = Latch()
        self.task: Task | None = None


class Supervisor(BaseSupervisor[AsyncLoop, _Runner]):
    """Runs loops in the background of an ``async with`` block, and starts them again when they die.

    A loop that returns is done (*transient*), unless it is *permanent*; one that raises is reported as a
    :class:`~resilient.events.Panic`, counted, and started again after a wait, unless it is *temporary*. If one dies too
    often, all others are stopped, and its error comes out of ``wait()``, ``run()`` or the end of the block. At the end
    of the block all loops are stopped, in reverse order of start: each is cancelled, and the next is not before it
    ended or its time is up. None is left: the block ends after the last of them.

    Cancellation and exits pass. A supervisor may be used again, but not twice at once.

    Args:
        name: for errors.
        listeners: functions of an event, for all loops.
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
        self._watch: Task | None = None  # for signals
        self._group: TaskGroup | None = None
        self._over = Latch()

    @property
    def _runs(self) -> bool:
        return self._group is not None

    @overload
    def add(self, name: str, fn: F, **settings: Unpack[RestartSettings]) -> F: ...
    @overload
    def add(self, name: str, **settings: Unpack[RestartSettings]) -> Callable[[F], F]: ...
    def add(self, name: str, fn: Any = None, **settings: Unpack[RestartSettings]) -> Any:
        """Adds a loop: it starts with the block, or at once within it.

        Without ``fn`` this is a decorator: ``@supervisor.add("beat")``.

        Args:
            name: of the loop, for events and numbers.
            fn: an async function without arguments.
            backoff: the waits before restarts: 0.1, 0.2, 0.4 ... 300 s by default.
            intensity: most restarts within so many seconds, ``(10, 300)`` by default; None: no limit.
            permanent: whether it is started again when it returned, too.
            temporary: whether it is never started again.
            stable_after: uptime that resets the backoff, seconds, > 0; 10 by default.
            stop_timeout: how long the others wait for its end before they are stopped as well, seconds, > 0; 5 by
                default.

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
        wanted, instead = "an async function", "; net.sync.Supervisor runs others, in threads"
        checked_kind("fn", fn, (Kind.ASYNC, Kind.EITHER), wanted=wanted, instead=instead)
        loop = self._enrol(name, fn, plan)
        if self._group is not None:
            self._start(self._group, loop)
        return fn

    async def wait(self) -> None:
        """Waits until every loop is done; raises the error of one that died too often, when all are stopped."""
        self._opened()
        await self._over.wait()
        self._raise_failure()

    async def stop(self) -> None:
        """Stops every loop, in reverse order of start, and waits for their ends; again does nothing."""
        self._begin_stop(self._opened())
        await self._over.wait()

    async def run(self) -> None:
        """Runs the loops until every one is done, or one died too often."""
        async with self:
            await self.wait()

    async def __aenter__(self) -> Self:
        self._begin()
        self._over = Latch()
        asked = current_backend().waiter()
        self._end_by_signals(asked.wake)
        try:
            opened = task_group()
            await opened.open()
        except BaseException:
            self._handlers.close()
            raise
        self._group = opened
        if self._signals:
            self._watch = opened.start(partial(self._await_signal, opened, asked), f"signals to {self.name}", nothing)
        for loop in self._loops.in_order():
            self._start(opened, loop)
        self._note_end()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._opened()
        interrupt: BaseException | None = None
        try:
            if kind is GeneratorExit:  # the coroutine is being closed: nothing can be awaited
                self._stopping = True
                opened.abandon()
                return
            self._begin_stop(opened)
            interrupt = await self._ended(opened)
            if self._watch is not None:
                self._watch.cancel()
            await opened.close()
            if kind is None:
                if interrupt is not None:
                    raise interrupt
                if not self._failure_told:  # else whoever waited within the block has dealt with it
                    self._raise_failure()
        finally:
            self._handlers.close()
            self._group = self._failure = self._watch = None
            del interrupt, error, traceback  # a frame that holds the error it raised is a cycle

    async def _ended(self, opened: TaskGroup) -> BaseException | None:
        """Waits for the end of all loops; a cancellation that comes meanwhile is handed on, to be told in the end."""
        interrupt: BaseException | None = None
        try:
            while not self._over.happened:
                try:
                    with opened.shelter():
                        await self._over.wait()
                except GeneratorExit:
                    opened.abandon()
                    raise
                except BaseException as error:
                    interrupt = error
            return interrupt
        finally:
            del interrupt  # likewise

    async def _await_signal(self, opened: TaskGroup, asked: Waiter) -> None:
        await asked.wait()
        self._begin_stop(opened)

    def _opened(self) -> TaskGroup:
        if self._group is None:
            raise RuntimeError(f"{self.name} does not run: enter it first, by async with")
        return self._group

    def _start(self, opened: TaskGroup, loop: Loop[AsyncLoop, _Runner]) -> None:
        loop.runner = runner = _Runner()
        if self._over.happened:  # the loops before it were done
            self._over = Latch()
        runner.task = opened.start(partial(self._live, opened, loop), loop.name, partial(self._done, loop, runner))

    def _done(self, loop: Loop[AsyncLoop, _Runner], runner: _Runner) -> None:
        loop.over = True
        runner.ended.happen()
        self._note_end()

    def _note_end(self) -> None:
        if self._loops.all_over():
            self._over.happen()

    async def _live(self, opened: TaskGroup, loop: Loop[AsyncLoop, _Runner]) -> None:
        """One loop, from its first start to its last end."""
        clock = CLOCK.get()
        while not self._stopping:
            match await self._once(opened, loop):
                case Restart(wait):
                    await pause(clock, wait)
                case _:
                    return

    async def _once(self, opened: TaskGroup, loop: Loop[AsyncLoop, _Runner]) -> Step:
        """One start and end."""
        loop.started()
        before = opened.cancellations()
        died: BaseException | None = None
        try:
            await loop.fn()
        except opened.cancelled as error:
            if self._stopping or opened.left(before):
                raise
            died = error  # what it awaited was cancelled, not the loop
        except BaseException as error:
            if not is_panic(error):
                raise
            died = error
        try:
            if died is None:
                step = loop.returned(self._stopping)
            else:
                died = died.with_traceback(died.__traceback__ and died.__traceback__.tb_next)  # without this frame
                step = loop.blew_up(died, self._stopping)
            if isinstance(step, Escalate) and not self._stopping:
                self._failure = loop.failure(step, None if isinstance(died, opened.cancelled) else died)
                self._begin_stop(opened)
                return Ended()
            return step
        finally:
            del died  # a frame that holds the error it raised is a cycle

    def _begin_stop(self, opened: TaskGroup) -> None:
        if not self._stopping:
            self._stopping = True
            opened.start(self._stop_all, f"stopping {self.name}", self._note_end)

    async def _stop_all(self) -> None:
        """Stops one after the other, the last started first; then waits for those that were late."""
        late = [loop for loop in reversed(self._loops.in_order()) if not await self._stopped(loop)]
        while late:
            late = [loop for loop in late if not await self._stopped(loop)]

    async def _stopped(self, loop: Loop[AsyncLoop, _Runner]) -> bool:
        """Cancels a loop: whether it ended within its time."""
        runner = loop.runner
        if loop.over or runner is None or runner.task is None:
            return True
        runner.task.cancel()
        backend = current_backend()
        for _ in range(PROMPT_TURNS):
            await backend.sleep(0)
            if loop.over:
                return True
        with backend.cutoff(loop.stop_timeout, CLOCK.get()):
            await runner.ended.wait()
        if not loop.over:
            loop.left_behind()
        return loop.over


def nothing() -> None:
    """Nobody is to be told."""
