"""The connection manager for tasks: one table with that for threads, then what only tasks can show."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from loops import LOOPS, run
from net.at_once import at_once
from net.manager_scenarios import ON, SCENARIOS, After, Fatal, Low, Scenario, Stale, of_ours

from resilient import Action, Classifier, DeadlineExceeded, Recovery, Retry, Rule, Timeout, backoff, current_deadline
from resilient.core.events import LinkChanged, Recovering, RecoveryFailed
from resilient.core.link import State
from resilient.drivers.loops.current import current_backend
from resilient.errors import AttemptTimeout, ManagerClosed, NotConnected, OutcomeUnknown, PeerSilent
from resilient.net import ConnectionManager
from resilient.testing import FakeClock

every_loop = pytest.mark.parametrize("loop", LOOPS)


class Conn:
    """A connection, and how often it was closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Lines:
    """Makes connections by a script: errors are raised, an async function is awaited, the rest is a connection."""

    def __init__(self, clock: FakeClock, *script: object) -> None:
        self.clock = clock
        self.script = script or ("up",)
        self.dialled: list[float] = []
        self.endpoints: list[object] = []
        self.conns: list[Conn] = []

    async def connect(self, *endpoint: object) -> Conn:
        outcome = self.script[min(len(self.dialled), len(self.script) - 1)]
        self.dialled.append(self.clock.now())
        self.endpoints.extend(endpoint)
        if isinstance(outcome, Exception):
            raise outcome
        if callable(outcome):
            await outcome()
        conn = Conn(len(self.conns) + 1)
        self.conns.append(conn)
        return conn

    @property
    def open(self) -> list[int]:
        return [conn.number for conn in self.conns if not conn.closed]


def managed(lines: Lines, **settings: Any) -> ConnectionManager[Conn]:
    """A manager of these connections."""
    return ConnectionManager(lines.connect, close=Conn.close, **{"on": ON, "backoff": backoff.constant(1)} | settings)


async def passed(seconds: float = 0.0) -> None:
    """Real turns of the loop."""
    await current_backend().sleep(seconds)


async def drained(manager: ConnectionManager[Any], operations: int, timeout: float | None = None) -> bool:
    """Drains it when so many operations are under way."""
    while manager.stats().operations < operations:
        await passed()
    return await manager.drain(timeout)


def left_over() -> list[str]:
    """Tasks beside this one."""
    return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def bound(clock: FakeClock, script: Any, done: list[int]) -> Callable[..., Awaitable[object]]:
    """An operation that plays a script."""

    async def operation(conn: object) -> object:
        done.append(1)
        outcome = script[min(len(done), len(script)) - 1]
        if isinstance(outcome, After):
            await clock.asleep(outcome.seconds)
            outcome = outcome.then
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return operation


@every_loop
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenarios(loop: str, scenario: Scenario) -> None:
    """The table."""
    play(loop, scenario)


def play(loop: str, scenario: Scenario) -> None:
    """One line of it."""

    async def main() -> None:
        with FakeClock(rng=Low()) as clock:
            lines, handled = Lines(clock, *scenario.dials), list[str]()
            probe = bound(clock, scenario.probes, []) if scenario.probes else None
            recovery = Recovery(
                relogin=lambda: handled.append("relogin"), rotate_proxy=lambda: handled.append("rotate_proxy")
            )
            settings = {"on": ON, "recovery": recovery} | scenario.settings
            value: object = None
            notes: list[str] = []
            async with ConnectionManager(lines.connect, close=Conn.close, probe=probe, **settings) as manager:
                try:
                    value = await manager.call(bound(clock, scenario.operation, []), idempotent=scenario.idempotent)
                except Exception as error:
                    value = type(error)
                    notes += getattr(error, "__notes__", [])
                assert (scenario.comes_to, list(scenario.notes)) == (value, notes)
                state = manager.state
                if value is OutcomeUnknown:
                    await passed()
            assert scenario.state is state
            assert list(scenario.dialled) == lines.dialled
            assert list(scenario.waits) == clock.sleeps
            assert list(scenario.endpoints) == lines.endpoints
            assert list(scenario.handled) == handled
            assert [1] * len(lines.conns) == [conn.closed for conn in lines.conns]
            assert State.CLOSED is manager.state
            if loop != "trio":
                assert [] == left_over()

    scenario.forget()
    run(loop, main)
    scenario.forget()


@every_loop
def test_after_every_scenario_memory_is_where_it_was(loop: str) -> None:
    """No manager, link, lease or job is left."""

    def play_all() -> None:
        for scenario in SCENARIOS:
            play(loop, scenario)

    play_all()
    before = of_ours()
    play_all()
    assert Counter() == of_ours() - before


@every_loop
def test_two_clients_are_never_in_step(loop: str) -> None:
    """Each wait is drawn anew, between half of it and all of it."""

    async def main() -> None:
        waits = []
        for _ in range(2):
            with FakeClock() as clock:
                lines = Lines(clock, *[ConnectionRefusedError()] * 6, "up")
                async with ConnectionManager(lines.connect, on=OSError) as manager, manager.use():
                    waits.append(clock.sleeps)
        for n, (one, other) in enumerate(zip(*waits, strict=True)):
            assert one != other
            assert min(30.0, 2.0**n) / 2 <= min(one, other) <= max(one, other) <= min(30.0, 2.0**n)

    run(loop, main)


@every_loop
def test_a_handler_that_raises_is_an_event(loop: str) -> None:
    """And the dial comes all the same."""

    async def main() -> None:
        with FakeClock() as clock:
            told: list[Any] = []

            def handler() -> None:
                raise Fatal("wrong password")

            recovery = Recovery(relogin=handler)
            async with (
                managed(Lines(clock, Stale(), "up"), recovery=recovery, listeners=told.append) as manager,
                manager.use(),
            ):
                assert 1 == manager.stats().recoveries
            kinds = [type(event) for event in told if not isinstance(event, LinkChanged)]
            assert [Recovering, RecoveryFailed] == kinds[1:]
            assert "wrong password" == str(next(event for event in told if isinstance(event, RecoveryFailed)).error)

    run(loop, main)


@every_loop
def test_a_handler_that_hangs_is_cut_off(loop: str) -> None:
    """At the connect timeout, which it can read, for all who share it; and the dial comes all the same."""

    async def main() -> None:
        with FakeClock() as clock:
            told: list[Any] = []
            handled: list[float] = []
            remaining: list[float | None] = []

            async def hang() -> None:
                handled.append(clock.now())
                deadline = current_deadline()
                remaining.append(deadline and deadline.remaining)
                await clock.asleep(1e6)

            recovery = Recovery(relogin=hang, throttle=60)
            one, other = Lines(clock, Stale(), "up", Stale(), "up"), Lines(clock, Stale(), "up")
            settings = {"recovery": recovery, "connect_timeout": 4}
            async with managed(one, listeners=told.append, **settings) as first, managed(other, **settings) as second:
                assert [1, 1] == await at_once(
                    lambda: first.call(lambda conn: conn.number), lambda: second.call(lambda conn: conn.number)
                )
                assert ([1.0], [0.0, 5.0], [0.0, 5.0]) == (handled, one.dialled, other.dialled)
                first.reconnect_now()
                await first.call(lambda conn: None)
            assert ([1.0, 65.0], [4.0, 4.0]) == (handled, remaining)  # the throttle is no part of its time
            assert [0.0, 5.0, 5.0, 69.0] == one.dialled
            failures = [event.error for event in told if isinstance(event, RecoveryFailed)]
            assert [AttemptTimeout] * 2 == [type(error) for error in failures]

    run(loop, main)


@every_loop
def test_a_handler_may_take_for_ever(loop: str) -> None:
    """Without a timeout."""

    async def main() -> None:
        with FakeClock() as clock:

            async def slow() -> None:
                assert current_deadline() is None
                await clock.asleep(1000)

            recovery = Recovery(relogin=slow)
            async with managed(Lines(clock, Stale(), "up"), recovery=recovery, connect_timeout=None) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
            assert 1001.0 == clock.now()

    run(loop, main)


@every_loop
def test_a_link_may_fail_without_an_error(loop: str) -> None:
    """An orderly end that is not to be mended: the caller is told in our own words."""

    async def main() -> None:
        with FakeClock() as clock:
            async with managed(Lines(clock), attempts=1, name="db") as manager:
                async with manager.use() as conn:
                    manager.lost(None, conn)
                with pytest.raises(NotConnected, match="not connected to 'db': attempts exhausted"):
                    await manager.call(lambda conn: conn)

    run(loop, main)


@every_loop
def test_a_connect_that_hangs_is_cut_off(loop: str) -> None:
    """At its timeout, which it can read."""

    async def main() -> None:
        with FakeClock() as clock:
            remaining: list[float | None] = []

            async def hang() -> None:
                deadline = current_deadline()
                remaining.append(deadline and deadline.remaining)
                await clock.asleep(1000)

            lines = Lines(clock, hang, "up")
            async with managed(lines, connect_timeout=4) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
                assert isinstance(manager.stats().last_error, AttemptTimeout)
            assert ([0.0, 5.0], [4.0]) == (lines.dialled, remaining)

    run(loop, main)


@every_loop
def test_a_connect_may_take_for_ever(loop: str) -> None:
    """Without a timeout."""

    async def main() -> None:
        with FakeClock() as clock:

            async def slow() -> None:
                assert current_deadline() is None
                await clock.asleep(1000)

            lines = Lines(clock, slow)
            async with managed(lines, connect_timeout=None) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
            assert 1000.0 == clock.now()

    run(loop, main)


@every_loop
def test_a_connection_that_comes_too_late_is_closed(loop: str) -> None:
    """The connect heeded no cancellation."""

    async def main() -> None:
        with FakeClock() as clock:

            async def deaf() -> None:
                try:
                    await clock.asleep(1000)
                except BaseException:
                    return

            lines = Lines(clock, deaf, "up")
            async with managed(lines) as manager:
                assert 2 == await manager.call(lambda conn: conn.number)
                assert [2] == lines.open
            assert [1, 1] == [conn.closed for conn in lines.conns]

    run(loop, main)


class Heart:
    """A probe that answers so many times, and then hangs or raises."""

    def __init__(self, clock: FakeClock, beats: int, then: Exception | None = None) -> None:
        self.clock = clock
        self.beats = beats
        self.then = then
        self.asked: list[float] = []

    async def probe(self, conn: Conn) -> None:
        self.asked.append(self.clock.now())
        if conn.number == 1 and len(self.asked) > self.beats:
            if self.then is not None:
                raise self.then
            await self.clock.asleep(1e6)


@every_loop
def test_a_peer_that_falls_silent_is_lost(loop: str) -> None:
    """Three intervals after the last sign of life."""

    async def main() -> None:
        with FakeClock() as clock:
            lines, heart = Lines(clock), Heart(clock, 3)
            async with managed(lines, probe=heart.probe, heartbeat=5) as manager:
                await clock.asleep(26.5)
                assert ([0.0, 5.0, 10.0, 15.0, 26.0], [0.0, 26.0]) == (heart.asked, lines.dialled)
                assert isinstance(manager.stats().last_error, PeerSilent)
                assert [2] == lines.open

    run(loop, main)


@every_loop
def test_a_probe_that_fails_is_a_loss(loop: str) -> None:
    """At once."""

    async def main() -> None:
        with FakeClock() as clock:
            lines, heart = Lines(clock), Heart(clock, 2, ConnectionResetError("gone"))
            async with managed(lines, probe=heart.probe, heartbeat=5):
                await clock.asleep(11.5)
                assert ([0.0, 5.0, 10.0, 11.0], [0.0, 11.0]) == (heart.asked, lines.dialled)

    run(loop, main)


@every_loop
def test_operations_are_signs_of_life(loop: str) -> None:
    """While they succeed, nobody is asked."""

    async def main() -> None:
        with FakeClock() as clock:
            heart = Heart(clock, 100)
            async with managed(Lines(clock), probe=heart.probe, heartbeat=5) as manager:
                for _ in range(10):
                    await clock.asleep(4)
                    await manager.call(lambda conn: None)
                await clock.asleep(6)
            assert [0.0, 45.0] == heart.asked

    run(loop, main)


@every_loop
def test_our_own_stall_accuses_nobody(loop: str) -> None:
    """The loop was blocked for 20 s, four intervals, and a probe was under way."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def probe(conn: Conn) -> None:
                await clock.asleep(0.5)

            async with managed(lines, probe=probe, heartbeat=5) as manager:
                await clock.asleep(5.6)
                clock.advance(20)
                await clock.asleep(40)
                assert (0, [0.0]) == (manager.stats().losses, lines.dialled)

    run(loop, main)


@every_loop
def test_a_loss_while_it_drains_is_its_end(loop: str) -> None:
    """Nobody dials for those that are about to leave."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def slow(conn: Conn) -> None:
                await clock.asleep(5)
                raise ConnectionResetError("gone")

            async with managed(lines) as manager:
                await manager.call(lambda conn: None)
                told, _ = await at_once(lambda: manager.call(slow, idempotent=True), lambda: drained(manager, 1))
                assert (ManagerClosed, 1) == (type(told), len(lines.dialled))

    run(loop, main)


@every_loop
def test_waiting_ends_with_the_deadline(loop: str) -> None:
    """Of the policies around it; with the last error as its cause."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, ConnectionRefusedError("no"))
            async with managed(lines) as manager:
                with pytest.raises(DeadlineExceeded):
                    await Timeout(2.5)(manager.call)(lambda conn: conn)
                from resilient.drivers.deadline import DEADLINE

                token = DEADLINE.set(clock.now() + 2.5)
                with pytest.raises(DeadlineExceeded) as caught:
                    await manager.call(lambda conn: conn)
                assert (2.5, "no") == (caught.value.seconds, str(caught.value.__cause__))
                DEADLINE.set(clock.now())
                with pytest.raises(DeadlineExceeded):
                    await manager.call(lambda conn: conn)
                DEADLINE.reset(token)
                assert (0, 0) == (manager.stats().waiting, manager.stats().operations)

    run(loop, main)


@every_loop
@pytest.mark.parametrize("phase", ["connecting", "waiting for the backoff", "running", "between two tries"])
def test_a_cancelled_caller_leaves_nothing_behind(loop: str, phase: str) -> None:
    """In whatever it was doing; the link goes on."""

    async def main() -> None:
        with FakeClock() as clock:

            async def slow() -> None:
                await clock.asleep(50)

            script: dict[str, object] = {
                "connecting": slow,
                "waiting for the backoff": ConnectionRefusedError(),
                "running": "up",
                "between two tries": "up",
            }
            on = Classifier(Rule(OSError), Rule(KeyError, Action.WAIT, delay=100))
            lines = Lines(clock, script[phase], "up")

            async def operation(conn: Conn) -> None:
                if phase == "between two tries":
                    raise KeyError(1)
                await clock.asleep(1000)

            async with managed(lines, on=on, connect_timeout=None, backoff=backoff.constant(50)) as manager:
                with current_backend().cutoff(5, clock) as cutoff:
                    await manager.call(operation)
                assert cutoff.expired
                stats = manager.stats()
                assert (0, 0) == (stats.waiting, stats.operations)
                # Whose call was cut off may still carry its answer: the next caller gets another one.
                assert (2 if phase == "running" else 1) == await manager.call(lambda conn: conn.number)

    run(loop, main)


@every_loop
def test_a_cancelled_body_closes_the_manager(loop: str) -> None:
    """The cancellation comes out, when nothing is left."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)
            with current_backend().cutoff(5, clock) as cutoff:
                async with managed(lines) as manager:
                    async with manager.use():
                        await clock.asleep(1000)
            assert (True, State.CLOSED, [1]) == (cutoff.expired, manager.state, [conn.closed for conn in lines.conns])

    run(loop, main)


def test_a_cancellation_while_it_closes_is_told_in_the_end() -> None:
    """And nothing is left behind."""

    async def main() -> None:
        with FakeClock() as clock:
            closed: list[float] = []

            async def close(conn: Conn) -> None:
                await clock.asleep(3)
                closed.append(clock.now())

            async def work() -> None:
                async with ConnectionManager(Lines(clock).connect, close=close, on=OSError) as manager:
                    await manager.call(lambda conn: None)

            task = asyncio.create_task(work())
            await clock.asleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ([3.0], []) == (closed, [name for name in left_over() if name.startswith("connection")])

    asyncio.run(main())


@every_loop
def test_a_close_that_hangs_is_cut_off(loop: str) -> None:
    """After 10 s; and one that raises hurts nobody. Meanwhile the next connection is there."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def close(conn: Conn) -> None:
                if conn.number == 2:
                    raise OSError("not connected")
                await clock.asleep(1e6)

            async with ConnectionManager(lines.connect, close=close, on=OSError) as manager:
                for number in (1, 2):
                    async with manager.use() as conn:
                        assert number == conn.number
                    manager.reconnect_now()
                await manager.call(lambda conn: None)
                assert clock.now() == 0.0 or loop == "uvloop"  # it does not show when nothing can run
            assert clock.now() == 10.0 or loop == "uvloop"

    run(loop, main)


@every_loop
@pytest.mark.parametrize("hurts", ["raises", "reconnects", "calls", "closes"])
def test_a_listener_harms_nothing(loop: str, hurts: str, caplog: pytest.LogCaptureFixture) -> None:
    """One dial per attempt, and the loop goes on."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, ConnectionRefusedError(), ConnectionRefusedError(), "up")

            def listener(event: object) -> None:
                if hurts == "raises":
                    raise ValueError("a bug")
                if hurts == "reconnects" and isinstance(event, LinkChanged) and event.after == "CONNECTING":
                    manager.reconnect_now()
                if hurts == "calls":
                    manager.call(lambda conn: conn).close()
                    manager.stats()
                if hurts == "closes" and isinstance(event, LinkChanged) and event.after == "READY":
                    manager.close().close()

            async with managed(lines) as manager:
                assert listener is manager.on_event(listener)
                assert 1 == await manager.call(lambda conn: conn.number)
                assert [0.0, 1.0, 2.0] == lines.dialled

    with caplog.at_level("CRITICAL", "resilient"):
        run(loop, main)


def test_async_listeners_are_refused() -> None:
    """Nobody would await them."""

    async def listener(event: object) -> None: ...

    manager = ConnectionManager(int, on=OSError)
    with pytest.raises(TypeError, match="a listener must be a plain function"):
        manager.on_event(listener)
    with pytest.raises(TypeError, match="a listener must be a plain function"):
        ConnectionManager(int, on=OSError, listeners=listener)


@every_loop
def test_a_loss_may_be_noticed_while_it_is_probed(loop: str) -> None:
    """The same."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def probe(conn: Conn) -> None:
                if conn.number == 1:
                    manager.lost(ConnectionResetError("early"), conn)
                    await clock.asleep(1e6)

            async with managed(lines, probe=probe) as manager:
                assert 2 == await manager.call(lambda conn: conn.number)
                assert (1.0, [2]) == (clock.now(), lines.open)

    run(loop, main)


@every_loop
def test_blocking_functions_will_do(loop: str) -> None:
    """For connect, close, probe and operations."""

    async def main() -> None:
        closed: list[int] = []
        numbers = count(1)
        async with ConnectionManager(
            lambda: next(numbers), close=closed.append, probe=lambda conn: conn, on=OSError
        ) as manager:
            assert 2 == await manager.call(lambda conn: conn + 1)
        assert [1] == closed
        async with ConnectionManager(lambda: 5, on=OSError) as manager:
            assert 5 == await manager.call(lambda conn: conn)

    run(loop, main)


@every_loop
def test_a_retry_around_it_has_the_last_word(loop: str) -> None:
    """An operation whose outcome is unknown is its user's to judge."""

    async def main() -> None:
        with FakeClock() as clock:
            async with managed(Lines(clock)) as manager:
                tries: list[int] = []

                async def operation(conn: Conn) -> str:
                    tries.append(conn.number)
                    if conn.number == 1:
                        raise ConnectionResetError
                    return "done"

                assert "done" == await Retry(on=OutcomeUnknown).call(manager.call, operation)
                assert [1, 2] == tries

    run(loop, main)


def test_another_event_loop_is_refused() -> None:
    """A connection belongs to the loop that made it."""

    async def main() -> None:
        async with ConnectionManager(lambda: 1, on=OSError, name="db") as manager:
            assert 1 == await manager.call(lambda conn: conn)
            caught: list[BaseException] = []

            def elsewhere() -> None:
                for use in (lambda: manager.call(lambda conn: conn), manager.drain, manager.close):
                    try:
                        asyncio.run(use())
                    except RuntimeError as error:
                        caught.append(error)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert ["the manager of 'db' was started in another event loop"] * 3 == [
                str(error).split(",")[0] for error in caught
            ]
            assert 1 == await manager.call(lambda conn: conn)

    asyncio.run(main())


def test_any_thread_may_tell_of_a_loss() -> None:
    """Readers often have their own."""

    async def main() -> None:
        numbers = count(1)
        async with ConnectionManager(lambda: next(numbers), on=OSError, backoff=backoff.constant(0)) as manager:
            assert 1 == await manager.call(lambda conn: conn)
            thread = threading.Thread(target=manager.lost, args=(ConnectionResetError(), 1))
            thread.start()
            thread.join()
            assert 2 == await manager.call(lambda conn: conn)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_refused() -> None:
    """The connection belongs to the parent."""

    async def main() -> None:
        closed: list[int] = []
        async with ConnectionManager(lambda: 1, close=closed.append, on=OSError, name="db") as manager:
            await manager.call(lambda conn: conn)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                told = "nothing"
                try:
                    manager.call(lambda conn: conn).send(None)
                except RuntimeError as error:
                    told = str(error)
                try:
                    manager.__aexit__(None, None, None).send(None)
                except StopIteration:
                    told += f"; closed {closed}"
                try:
                    manager._state.start()
                except RuntimeError as error:
                    told += str(error)[:20]
                os.write(writer, told.encode())
                os._exit(0)
            os.close(writer)
            told = os.read(reader, 1000).decode()
            os.close(reader)
            os.waitpid(child, 0)
            assert f"the manager of 'db' was started in process {os.getpid()}, of which {child} is a fork" in told
            assert told.endswith("; closed []the manager of 'db' ")
            assert 1 == await manager.call(lambda conn: conn)

    asyncio.run(main())


@every_loop
def test_a_dial_that_cancels_itself_has_failed(loop: str) -> None:
    """Its own task was not cancelled by us."""

    async def main() -> None:
        with FakeClock() as clock:

            async def cancelled() -> None:
                raise asyncio.CancelledError

            lines = Lines(clock, cancelled, "up")
            async with managed(lines) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
                assert "its dial was cancelled by CancelledError" in str(manager.stats().last_error)

    if loop == "trio":
        pytest.skip("no code of a user can raise it")
    run(loop, main)


def test_an_exit_in_a_hook_ends_the_manager() -> None:
    """And comes out, of the loop itself."""

    class Exit(SystemExit):
        pass

    def connect() -> None:
        raise Exit

    async def main() -> None:
        async with ConnectionManager(connect, on=OSError) as manager:
            await manager.call(lambda conn: conn)

    with pytest.raises(Exit):
        asyncio.run(main())


@every_loop
def test_errors_leave_no_cycles(loop: str) -> None:
    """Neither those of dials, nor of operations, nor those that we raise."""

    class Traced(ConnectionResetError):
        pass

    alive: list[weakref.ref[Exception]] = []

    async def main() -> None:
        with FakeClock() as clock:

            async def fail() -> None:
                error = Traced("dial")
                alive.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error

            async def operation(conn: Conn) -> None:
                await fail()

            lines = Lines(clock, fail, "up")
            async with managed(lines) as manager:
                for idempotent in (False, True):
                    try:
                        await Timeout(30).call(manager.call, operation, idempotent=idempotent)
                    except (OutcomeUnknown, DeadlineExceeded):
                        pass
                await clock.asleep(2)
                manager.reconnect_now()
                await manager.call(lambda conn: None)
                last = manager.stats().last_error
                await passed()
                assert [] == [ref for ref in alive if ref() not in {None, last}]

    gc.collect()
    gc.disable()
    try:
        run(loop, main)
        assert len(alive) > (1 if loop == "uvloop" else 10)  # it does not show when nothing can run
    finally:
        gc.enable()


@every_loop
def test_what_is_not_entered_is_nothing(loop: str) -> None:
    """A manager that nobody holds is gone at once, closed or never entered."""

    async def main() -> None:
        manager = ConnectionManager(lambda: 1, on=OSError)
        async with manager:
            await manager.call(lambda conn: conn)
        assert (0, 0.0) == (manager.stats().operations, manager.stats().uptime)

    run(loop, main)


def test_a_generator_that_is_closed_leaves_no_task() -> None:
    """It cannot wait for the end, which comes all the same."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def numbers() -> AsyncIterator[int]:
                async with managed(lines) as manager:
                    yield await manager.call(lambda conn: conn.number)

            generator = numbers()
            assert 1 == await anext(generator)
            await generator.aclose()
            for _ in range(20):
                await passed()
            assert ([], []) == (lines.open, [name for name in left_over() if name.startswith("connection")])

    asyncio.run(main())


@every_loop
def test_a_recovery_that_is_cancelled_is_over(loop: str) -> None:
    """By its own code: dialled all the same; by the end of the manager: nothing is left."""

    async def main() -> None:
        with FakeClock() as clock:

            async def cancelled() -> None:
                if loop != "trio":
                    raise asyncio.CancelledError

            told: list[str] = []
            async with managed(
                Lines(clock, Stale(), "up"),
                recovery=Recovery(relogin=cancelled),
                listeners=lambda event: told.append(str(event)),
            ) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
            failed = [line for line in told if "its recovery was cancelled by CancelledError" in line]
            assert len(failed) == (loop != "trio")

            async def hang() -> None:
                begun.append(1)
                try:
                    await clock.asleep(1e6)
                except BaseException:
                    if loop == "trio":
                        raise

            begun: list[int] = []
            async with managed(Lines(clock, Stale(), "up"), recovery=Recovery(relogin=hang)) as manager:
                await clock.asleep(2)
            assert [1] == begun
            assert State.CLOSED is manager.state

    run(loop, main)


def test_an_exit_in_a_handler_ends_the_manager() -> None:
    """And comes out."""

    def leave() -> None:
        raise SystemExit

    async def main() -> None:
        with FakeClock() as clock:
            async with managed(Lines(clock, Stale()), recovery=Recovery(relogin=leave)) as manager:
                await manager.call(lambda conn: conn)

    with pytest.raises(SystemExit):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"connect": 3}, TypeError, "connect must be a function that makes a connection, got 3"),
        ({"close": 3}, TypeError, "close must be a function of the connection, got 3"),
        ({"probe": 3}, TypeError, "probe must be a function of the connection, got 3"),
        ({"on": 3}, TypeError, "on must say which errors"),
        ({"backoff": 3}, TypeError, "backoff must be a Backoff"),
        ({"attempts": 0}, ValueError, "attempts must be >= 1, got 0"),
        ({"stable_after": -1}, ValueError, "stable_after must be >= 0 s, got -1"),
        ({"throttle": -1}, ValueError, "throttle must be >= 0 s, got -1"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout must be > 0 s, got 0"),
        ({"heartbeat": 0, "probe": int}, ValueError, "heartbeat must be > 0 s, got 0"),
        ({"heartbeat": 5}, ValueError, "heartbeat needs a probe"),
        ({"misses": 1}, ValueError, "misses must be >= 2, got 1"),
        ({"recovery": 3}, TypeError, "recovery must be a Recovery"),
        ({"endpoints": ["a", "a"]}, ValueError, "endpoints must each be named once"),
        ({"endpoints": "a:1"}, TypeError, "endpoints must be a list"),
        ({"name": 3}, TypeError, "name must be a str, got 3"),
        ({"listeners": 3}, TypeError, "listeners must be functions of an event, got 3"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], kind: type[Exception], message: str) -> None:
    """Where the manager is made."""
    with pytest.raises(kind, match=message):
        ConnectionManager(**{"connect": int, "on": OSError} | settings)


def descriptors() -> int:
    """How many files and sockets this process has open, where that can be seen."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(listener.getsockname()[1], flush=True)
while True:
    conn, _ = listener.accept()
    import threading
    def echo(conn=conn):
        while data := conn.recv(100):
            conn.sendall(data)
    threading.Thread(target=echo, daemon=True).start()
"""


def served(port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """An echo server in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def killed(process: subprocess.Popen[str]) -> None:
    """Without a goodbye."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_real_server_is_killed_and_comes_back() -> None:
    """The manager serves again."""

    async def main() -> None:
        process, port = served()

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", port)

        async def close(conn: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
            conn[1].close()
            await conn[1].wait_closed()

        async def echo(conn: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
            conn[1].write(b"hello")
            await conn[1].drain()
            return await conn[0].readexactly(5)

        on = Classifier(Rule((OSError, EOFError), Action.RECONNECT))
        async with ConnectionManager(connect, close=close, on=on, backoff=backoff.constant(0.01)) as manager:
            try:
                for _ in range(3):
                    assert b"hello" == await manager.call(echo)
                    killed(process)
                    with pytest.raises(OutcomeUnknown):
                        await manager.call(echo)
                    process, port = served(port)
                    assert b"hello" == await manager.call(echo, idempotent=True)
            finally:
                killed(process)
            assert manager.stats().connects >= 4

    before = descriptors()
    asyncio.run(main())
    assert descriptors() <= before
