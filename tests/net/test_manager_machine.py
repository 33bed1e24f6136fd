"""The whole manager, of tasks and of threads, against one model: any order of whatever may happen to it.

Time passes only by hand, connections come and go by script, there are no sockets. After each step the manager must show
just what the model shows; in the end nothing is left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from net.hand_clocks import PATIENCE, TaskClock, ThreadClock, until
from net.manager_model import OUTCOMES, PAUSE, Model, View, settings

from resilient import Recovery
from resilient.core.link import State
from resilient.errors import ManagerClosed
from resilient.net import ConnectionManager
from resilient.net.connection.threads import MOST_HANGING
from resilient.net.sync import ConnectionManager as ThreadManager

MOST_LEFT = MOST_HANGING - 3  # of what hangs, so that nothing is refused because of it
MIDLIFE = 20  # steps, before which nobody ends it
TURNS = 300  # of the event loop: nothing takes so many unless it is broken


class Conn:
    """A connection, and how often it was closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0


class Call:
    """One call of user code, under way until the script says what it comes to.

    Attributes:
        conn: on which it runs, or that it made.
        over: whether it is, however it ended.
    """

    def __init__(self, end: Callable[[object], object], conn: int | None = None) -> None:
        self.end = end
        self.conn = conn
        self.over = False


class Played:
    """What both kinds of managers are given to run, and what is to be seen of them."""

    def __init__(self) -> None:
        self.conns: list[Conn] = []
        self.dials: list[Call] = []
        self.dialled_at: list[float] = []
        self.handlers: list[Call] = []
        self.running: list[Call | None] = []  # by caller
        self.ends: list[object] = []  # likewise
        self.drains: list[bool] = []

    def made(self) -> Conn:
        conn = Conn(len(self.conns) + 1)
        self.conns.append(conn)
        return conn

    def seen(self, manager: Any) -> View:
        stats = manager.stats()
        callers = []
        for call, end in zip(self.running, self.ends, strict=True):
            callers.append(end if end is not None or call is None or call.over else call.conn)
        return View(
            stats.state,
            0 if stats.state is State.CLOSED else stats.generation,
            len(self.dials),
            len(self.handlers),
            tuple(conn.number for conn in self.conns if conn.closed),
            stats.operations,
            stats.waiting,
            tuple(callers),
            tuple(self.drains),
        )


def outcome_of(outcome: object) -> object:
    """What a scripted call comes to."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class OfTasks(Played):
    """A manager of tasks, in an event loop that runs between two steps."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = TaskClock()
        self.clock.__enter__()
        self.manager: ConnectionManager[Conn] = ConnectionManager(
            self.connect, close=self.close_conn, **given | {"recovery": Recovery(relogin=self.handler)}
        )
        self.loop.run_until_complete(self.manager.__aenter__())

    async def played(self, calls: list[Any], place: int | None = None, conn: int | None = None) -> object:
        ending: asyncio.Future[object] = self.loop.create_future()
        call = Call(ending.set_result, conn)
        if place is None:
            calls.append(call)
        else:
            calls[place] = call
        try:
            return outcome_of(await ending)
        finally:
            call.over = True

    async def connect(self) -> Conn:
        self.dialled_at.append(self.clock.now())
        await self.played(self.dials)
        return self.made()

    async def close_conn(self, conn: Conn) -> None:
        conn.closed += 1

    async def handler(self) -> None:
        await self.played(self.handlers)

    def call(self, idempotent: bool) -> None:
        place = len(self.ends)
        self.running.append(None)
        self.ends.append(None)

        async def operation(conn: Conn) -> object:
            return await self.played(self.running, place, conn.number)

        async def work() -> None:
            try:
                self.ends[place] = await self.manager.call(operation, idempotent=idempotent)
            except Exception as error:
                self.ends[place] = type(error)

        self.loop.create_task(work())

    def drain(self) -> None:
        place = len(self.drains)
        self.drains.append(False)

        async def work() -> None:
            await self.manager.drain()
            self.drains[place] = True

        self.loop.create_task(work())

    def close(self) -> None:
        self.loop.run_until_complete(self.manager.close())

    def settle(self, model: Model) -> None:
        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)
                if self.seen(self.manager) == model.view():
                    break
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        assert model.view() == self.seen(self.manager)

    def end(self) -> None:
        try:
            self.loop.run_until_complete(self.manager.__aexit__(None, None, None))
            assert set() == asyncio.all_tasks(self.loop)
        finally:
            self.clock.__exit__(None, None, None)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


class OfThreads(Played):
    """A manager of threads."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.clock = ThreadClock()
        self.clock.__enter__()
        self.manager: ThreadManager[Conn] = ThreadManager(
            self.connect, close=self.close_conn, **given | {"recovery": Recovery(relogin=self.handler)}
        )
        self.manager.__enter__()

    def played(self, calls: list[Any], place: int | None = None, conn: int | None = None) -> object:
        ending: SimpleQueue[object] = SimpleQueue()
        call = Call(ending.put, conn)
        if place is None:
            calls.append(call)
        else:
            calls[place] = call
        try:
            return outcome_of(ending.get(timeout=PATIENCE * 3))
        finally:
            call.over = True

    def connect(self) -> Conn:
        self.dialled_at.append(self.clock.now())
        self.played(self.dials)
        return self.made()

    def close_conn(self, conn: Conn) -> None:
        conn.closed += 1

    def handler(self) -> None:
        self.played(self.handlers)

    def begun(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=copy_context().run, args=(work,))
        self.threads.append(thread)
        thread.start()

    def call(self, idempotent: bool) -> None:
        place = len(self.ends)
        self.running.append(None)
        self.ends.append(None)

        def work() -> None:
            try:
                self.ends[place] = self.manager.call(
                    lambda conn: self.played(self.running, place, conn.number), idempotent=idempotent
                )
            except Exception as error:
                self.ends[place] = type(error)

        self.begun(work)

    def drain(self) -> None:
        place = len(self.drains)
        self.drains.append(False)

        def work() -> None:
            self.manager.drain()
            self.drains[place] = True

        self.begun(work)

    def close(self) -> None:
        self.manager.close()

    def settle(self, model: Model) -> None:
        end = time.monotonic() + PATIENCE
        while self.seen(self.manager) != model.view() or self.clock.asleep != model.pausing:
            if time.monotonic() > end:
                break
            self.manager._jobs.reconciler.stir()  # time may have passed before the driver had begun to wait for it
            time.sleep(0.0002)
        assert (model.view(), model.pausing) == (self.seen(self.manager), self.clock.asleep)

    def end(self) -> None:
        try:
            self.manager.__exit__(None, None, None)
            for thread in [*self.threads, *(t for t in threading.enumerate() if t.name.startswith("connection:"))]:
                thread.join(PATIENCE)
                assert not thread.is_alive(), thread.name
        finally:
            self.clock.__exit__(None, None, None)


class Life(RuleBasedStateMachine):
    """Whatever may happen to a manager."""

    kind: type[OfTasks] | type[OfThreads]

    @initialize(attempts=st.sampled_from([None, 1, 3]), throttle=st.sampled_from([0.0, 2.5]))
    def entered(self, attempts: int | None, throttle: float) -> None:
        given = settings(attempts, throttle)
        self.throttle = throttle
        self.model = Model(given)
        self.played = self.kind(given)
        self.steps = 0
        self.settle()

    def settle(self) -> None:
        self.steps += 1
        self.played.settle(self.model)

    @property
    def dial(self) -> Any:
        """The dial that is wanted."""
        return self.played.dials[-1] if self.model.dialling is not None else None

    # What befalls it.

    @precondition(lambda self: self.model.dialling is not None)
    @rule(outcome=st.sampled_from(["up", "up", "up", "lost", "stale", "fatal"]))
    def a_dial_ends(self, outcome: str) -> None:
        dial = self.played.dials[-1]
        if outcome == "up":
            self.model.opened(len(self.played.conns) + 1)
            dial.end(None)
        else:
            self.model.dial_failed(OUTCOMES[outcome])
            dial.end(OUTCOMES[outcome]())
        self.settle()

    @precondition(lambda self: self.left_behind)
    @rule(outcome=st.sampled_from([None, "fatal"]), data=st.data())
    def a_dial_ends_that_nobody_waits_for(self, outcome: str | None, data: st.DataObject) -> None:
        dial = data.draw(st.sampled_from(self.left_behind))
        number = len(self.played.conns) + 1
        if outcome is None:
            self.model.closed.append(number)
        dial.end(None if outcome is None else OUTCOMES[outcome]())
        self.settle()
        until(lambda: dial.over)

    @property
    def left_behind(self) -> list[Call]:
        """Dials that no manager of threads can stop."""
        return [dial for dial in self.played.dials if not dial.over and dial is not self.dial]

    @property
    def left_handlers(self) -> list[Call]:
        """The same, of recoveries."""
        handlers = [handler for handler in self.played.handlers if not handler.over]
        return handlers if self.model.recovering is None else handlers[:-1]

    @precondition(lambda self: self.model.recovering is not None)
    @rule(outcome=st.sampled_from([None, "fatal"]))
    def a_handler_ends(self, outcome: str | None) -> None:
        self.model.recovered()
        self.played.handlers[-1].end(None if outcome is None else OUTCOMES[outcome]())
        self.settle()

    @precondition(lambda self: self.played.conns)
    @rule(
        data=st.data(),
        error=st.sampled_from([None, "lost", "timeout", "stale", "fatal"]),
        times=st.integers(1, 3),
    )
    def connections_are_reported_lost(self, data: st.DataObject, error: str | None, times: int) -> None:
        for _ in range(times):
            conn = data.draw(st.sampled_from(self.played.conns))
            kind = None if error is None else OUTCOMES[error]
            self.model.lost(conn.number, kind)
            self.played.manager.lost(None if kind is None else kind(), conn)
        self.settle()

    @precondition(lambda self: self.model.link.state in {State.CONNECTING, State.BACKING_OFF})
    @rule()
    def all_goes_well(self) -> None:
        """Until there is a connection."""
        while self.model.conn is None:
            if self.model.dialling is not None:
                self.a_dial_ends("up")
            elif self.model.recovering is not None:
                self.a_handler_ends(None)
            else:
                assert self.model.resumes_at is not None
                self.time_passes(self.model.resumes_at - self.model.now)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 4.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.model.now + seconds
        while self.model.now < end:
            for late in (*self.left_behind[MOST_LEFT:], *self.left_handlers[MOST_LEFT:]):
                late.end(ConnectionResetError())
                until(lambda late=late: late.over)
            step = min([end, *self.model.times()])
            self.played.clock.advance(step - self.model.now)
            self.model.passed(step)
            self.settle()

    @precondition(lambda self: self.model.conn is not None)
    @rule()
    def it_stays_up(self) -> None:
        """For long enough to be stable."""
        self.time_passes(7.0)

    # What its users do.

    @precondition(lambda self: len(self.model.callers) < 12)
    @rule(idempotent=st.booleans())
    def a_call_begins(self, idempotent: bool) -> None:
        self.model.called(idempotent)
        self.played.call(idempotent)
        self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["done", *OUTCOMES]))
    def a_call_ends(self, data: st.DataObject, outcome: str) -> None:
        self.end_call(data.draw(st.sampled_from(self.running)), outcome)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["done", *OUTCOMES]))
    def all_calls_on_a_connection_end_together(self, data: st.DataObject, outcome: str) -> None:
        callers = self.model.callers
        conn = data.draw(st.sampled_from(sorted({callers[place].runs_on for place in self.running})))
        for place in [place for place in self.running if callers[place].runs_on == conn]:
            self.end_call(place, outcome, settles=False)
        self.settle()

    @property
    def running(self) -> list[int]:
        return [place for place, caller in enumerate(self.model.callers) if caller.runs_on is not None]

    def end_call(self, place: int, outcome: str, *, settles: bool = True) -> None:
        call = self.played.running[place]
        assert call is not None
        self.model.call_ended(self.model.callers[place], outcome)
        call.end(OUTCOMES[outcome]() if outcome in OUTCOMES else outcome)
        if settles:
            self.settle()

    @rule()
    def a_new_connection_is_asked_for(self) -> None:
        if self.model.over:
            with pytest.raises(ManagerClosed):
                self.played.manager.reconnect_now()
        else:
            self.model.asked_to_reconnect()
            self.played.manager.reconnect_now()
        self.settle()

    @rule()
    def it_is_resumed(self) -> None:
        if self.model.over:
            with pytest.raises(ManagerClosed):
                self.played.manager.resume()
        else:
            self.model.resumed()
            self.played.manager.resume()
        self.settle()

    @precondition(lambda self: self.steps > MIDLIFE)
    @rule()
    def it_drains(self) -> None:
        self.model.draining()
        self.played.drain()
        self.settle()

    @precondition(lambda self: self.steps > MIDLIFE)
    @rule()
    def it_is_closed(self) -> None:
        self.model.close()
        self.played.close()
        self.settle()

    # What is always so.

    @invariant()
    def dials_are_apart(self) -> None:
        """By the throttle, and only one is wanted."""
        times = self.played.dialled_at
        assert all(later - earlier >= self.throttle for earlier, later in zip(times, times[1:], strict=False))

    @invariant()
    def connections_are_closed_once(self) -> None:
        """At most, before the end."""
        assert {conn.closed for conn in self.played.conns} <= {0, 1}
        assert [conn for conn in self.played.conns if not conn.closed][1:] == []

    def teardown(self) -> None:
        if not hasattr(self, "played"):
            return
        try:
            self.it_is_closed()
            for place in self.running:
                self.end_call(place, "done")
            self.time_passes(PAUSE)
            for call in (*self.left_behind, *self.left_handlers):
                call.end(ConnectionResetError())
            assert [] == [caller for caller in self.model.callers if caller.end is None]
        finally:
            self.played.end()
        stats = self.played.manager.stats()
        assert (0, 0) == (stats.operations, stats.waiting)
        assert [1] * len(self.played.conns) == [conn.closed for conn in self.played.conns]


class LifeOfTasks(Life):
    kind = OfTasks


class LifeOfThreads(Life):
    kind = OfThreads


@pytest.mark.parametrize(("life", "examples"), [(LifeOfTasks, 200), (LifeOfThreads, 150)], ids=["tasks", "threads"])
def test_any_life(life: type[Life], examples: int) -> None:
    """Model and manager agree, whatever happens."""
    run_state_machine_as_test(
        life,
        settings=hypothesis_settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
