"""What managers promise on every runtime: for tasks, on each event loop, and for threads."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from net.manager_scenarios import Fatal, Stale
from net.runtimes import Conn, Lines, Runtime, every_runtime, runtime

from resilient import Action, Classifier, DeadlineExceeded, Recovery, Rule, backoff
from resilient.core.link import State
from resilient.drivers.deadline import DEADLINE
from resilient.errors import AttemptTimeout, ManagerClosed, NotConnected, OutcomeUnknown
from resilient.testing import FakeClock

__all__ = ["runtime"]


class Meeting:
    """Where so many operations meet, each on its runtime, before any of them goes on."""

    def __init__(self, runtime: Runtime, size: int) -> None:
        self.runtime, self.size, self.there = runtime, size, 0
        self.lock = threading.Lock()

    async def arrive(self) -> None:
        with self.lock:
            self.there += 1
        await self.runtime.until(lambda: self.there >= self.size)


@every_runtime
def test_all_who_notice_a_loss_share_one_reconnect(runtime: Runtime) -> None:
    """Reader, writer and heartbeat, for the same connection; and late, for an old one."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)
            async with runtime.managed(lines) as manager:
                async with manager.use() as conn:

                    async def notice(why: Exception | None) -> None:
                        manager.lost(why, conn)

                    errors = [ConnectionResetError("reader"), ConnectionResetError("writer"), None]
                    await runtime.at_once(*[lambda error=error: notice(error) for error in errors])
                async with manager.use() as again:
                    assert (2, 2, 1) == (again.number, len(lines.dialled), manager.stats().losses)
                    manager.lost(ConnectionResetError("late"), conn)
                    assert State.READY is manager.state

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_hundred_operations_fail_together(runtime: Runtime, idempotent: bool) -> None:
    """One reconnect; each is finished, or told that nobody knows."""

    async def main() -> None:
        with FakeClock() as clock:
            lines, meeting = Lines(clock), Meeting(runtime, 100)

            async def operation(conn: Conn) -> int:
                if conn.number == 1:
                    await meeting.arrive()
                    raise ConnectionResetError("gone")
                return conn.number

            async with runtime.managed(lines) as manager:
                outcomes = await runtime.at_once(*[lambda: manager.call(operation, idempotent=idempotent)] * 100)
                expected = [2] * 100 if idempotent else [OutcomeUnknown] * 100
                assert expected == (outcomes if idempotent else [type(outcome) for outcome in outcomes])
                if not idempotent:
                    assert {"gone"} == {str(outcome.__cause__) for outcome in outcomes}
                    await manager.call(lambda conn: conn.number)
                stats = manager.stats()
                assert (2, 1, 0, 0) == (len(lines.dialled), stats.losses, stats.operations, stats.waiting)

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize("action", [Action.RELOGIN, Action.ROTATE_PROXY])
def test_a_handler_runs_once_for_all(runtime: Runtime, action: Action) -> None:
    """However many operations, and managers that share the recovery, ask for it together."""

    async def main() -> None:
        with FakeClock() as clock:
            handled, meeting = list[int](), Meeting(runtime, 20)
            managers: list[Any] = []

            async def handler() -> None:
                handled.append(1)
                await runtime.until(lambda: all(manager.state is State.BACKING_OFF for manager in managers))

            async def operation(conn: Conn) -> int:
                if conn.number == 1:
                    await meeting.arrive()
                    raise Stale
                return conn.number

            recovery = Recovery(relogin=runtime.hook(handler), rotate_proxy=runtime.hook(handler))
            settings = {"on": Classifier(Rule(Stale, action)), "recovery": recovery}
            one, other = Lines(clock), Lines(clock)
            async with runtime.managed(one, **settings) as first, runtime.managed(other, **settings) as second:
                managers += [first, second]
                works = [lambda: first.call(operation)] * 10 + [lambda: second.call(operation)] * 10
                assert [2] * 20 == await runtime.at_once(*works)
            assert ([1], 2, 2) == (handled, len(one.dialled), len(other.dialled))

    runtime.run(main)


@every_runtime
def test_a_recovery_has_its_throttle(runtime: Runtime) -> None:
    """The next handler begins so long after the end of the last; one that raises is an event."""

    async def main() -> None:
        with FakeClock() as clock:
            handled, told = list[float](), list[str]()

            def handler() -> None:
                handled.append(clock.now())
                raise Fatal("wrong password")

            settings = {"recovery": Recovery(relogin=handler, throttle=60)}
            lines = Lines(clock, Stale(), Stale(), "up")
            async with runtime.managed(lines, listeners=lambda event: told.append(str(event)), **settings) as manager:
                async with manager.use():
                    assert [1.0, 61.0] == handled
            assert 2 == len([line for line in told if "recovery by RELOGIN failed" in line])

    runtime.run(main)


@every_runtime
def test_callers_of_a_failed_link_are_told_at_once(runtime: Runtime) -> None:
    """Those that waited, and those that come later; until it is resumed."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, *[ConnectionRefusedError("no")] * 2, "up")
            async with runtime.managed(lines, attempts=2) as manager:
                outcomes = await runtime.at_once(*[lambda: manager.call(lambda conn: conn.number)] * 5)
                assert [ConnectionRefusedError] * 5 == [type(outcome) for outcome in outcomes]
                with pytest.raises(ConnectionRefusedError) as late:
                    await manager.call(lambda conn: conn.number)
                assert ["gave up after 2 attempts in 1.00 s: attempts exhausted"] == late.value.__notes__
                assert (State.FAILED, 2) == (manager.state, len(lines.dialled))
                manager.resume()
                manager.resume()
                assert 1 == await manager.call(lambda conn: conn.number)
                manager.resume()
                assert State.READY is manager.state

    runtime.run(main)


@every_runtime
def test_the_traceback_of_a_shared_error_does_not_grow(runtime: Runtime) -> None:
    """However often it is raised."""

    async def main() -> None:
        with FakeClock() as clock:
            async with runtime.managed(Lines(clock, Fatal("no"))) as manager:
                for _ in range(50):
                    with pytest.raises(Fatal) as caught:
                        await manager.call(lambda conn: conn)
                assert len(caught.traceback) < 10

    runtime.run(main)


@every_runtime
def test_reconnect_now_cuts_a_wait_short(runtime: Runtime) -> None:
    """Nor does it wait while a connection is up, and nothing counts as lost; the old one is closed."""

    async def main() -> None:
        lines = Lines(FakeClock(), ConnectionRefusedError(), "up")
        async with runtime.managed(lines, backoff=backoff.constant(1000)) as manager:
            await runtime.comes_to(manager, State.BACKING_OFF)
            manager.reconnect_now()
            assert 1 == await manager.call(lambda conn: conn.number)
            manager.reconnect_now()
            assert 2 == await manager.call(lambda conn: conn.number)
            await runtime.until(lambda: lines.open == [2])
            assert 0 == manager.stats().losses
        assert [1, 1] == [conn.closed for conn in lines.conns]

    runtime.run(main)


@every_runtime
def test_drain_waits_for_what_is_under_way(runtime: Runtime) -> None:
    """Calls and blocks; new operations are turned away; then it closes."""

    async def main() -> None:
        with FakeClock() as clock:
            lines, go_on = Lines(clock), list[int]()

            async def slow(conn: Conn) -> str:
                await runtime.until(lambda: go_on)
                assert not conn.closed
                return "done"

            async def use() -> None:
                async with manager.use() as conn:
                    await slow(conn)

            async def drain() -> bool:
                await runtime.until(lambda: manager.stats().operations == 2 or manager.state is not State.READY)
                return bool(await manager.drain())

            async def late() -> None:
                await runtime.comes_to(manager, State.DRAINING)
                with pytest.raises(ManagerClosed, match="its manager is DRAINING"):
                    await manager.call(slow)
                for ask in (manager.resume, manager.reconnect_now):
                    with pytest.raises(ManagerClosed):
                        ask()
                go_on.append(1)

            async with runtime.managed(lines) as manager:
                await manager.call(lambda conn: None)
                outcomes = await runtime.at_once(lambda: manager.call(slow), use, drain, drain, late)
                assert ["done", None, True, True, None] == outcomes
                assert (State.CLOSED, []) == (manager.state, lines.open)
                assert await manager.drain()

    runtime.run(main)


@every_runtime
def test_drain_has_a_timeout(runtime: Runtime) -> None:
    """Then it closes all the same, and says so."""

    async def main() -> None:
        async def slow(conn: Conn) -> None:
            await runtime.until(lambda: conn.closed)
            raise ConnectionResetError("closed under it")

        async def drain() -> bool:
            await runtime.until(lambda: manager.stats().operations == 1)
            return bool(await manager.drain(0))

        async with runtime.managed(Lines(FakeClock())) as manager:
            await manager.call(lambda conn: None)
            told, in_time = await runtime.at_once(lambda: manager.call(slow, idempotent=True), drain)
            assert (ManagerClosed, False) == (type(told), in_time)

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize("state", [State.CONNECTING, State.READY, State.BACKING_OFF, State.FAILED])
def test_close_from_any_state_twice_and_at_once(runtime: Runtime, state: State) -> None:
    """Whoever waits is told, and connections are closed."""

    async def main() -> None:
        go_on: list[int] = []

        async def hang() -> None:
            await runtime.until(lambda: go_on)

        script: dict[State, object] = {
            State.CONNECTING: hang,
            State.READY: "up",
            State.BACKING_OFF: ConnectionRefusedError(),
            State.FAILED: Fatal(),
        }
        lines = Lines(FakeClock(), script[state])
        async with runtime.managed(lines, connect_timeout=None, backoff=backoff.constant(1e6)) as manager:
            await runtime.comes_to(manager, state)
            waits = state in {State.CONNECTING, State.BACKING_OFF}
            callers = [lambda: manager.call(lambda conn: conn)] * 3 if waits else []

            async def close() -> None:
                await runtime.until(lambda: manager.stats().waiting == len(callers) or manager.state is State.CLOSED)
                await manager.close()

            outcomes = await runtime.at_once(*callers, close, close)
            await manager.close()
            assert [ManagerClosed] * len(callers) + [type(None)] * 2 == [type(outcome) for outcome in outcomes]
            assert (State.CLOSED, []) == (manager.state, lines.open)
            with pytest.raises(ManagerClosed):
                await manager.call(lambda conn: conn)
            go_on.append(1)
        with pytest.raises(ManagerClosed, match="it is closed"):
            async with manager:
                pass

    runtime.run(main)


@every_runtime
def test_close_before_it_began(runtime: Runtime) -> None:
    """It is closed, and never begins."""

    async def main() -> None:
        manager = runtime.managed(Lines(FakeClock()), name="db")
        with pytest.raises(RuntimeError, match="the manager of 'db' does not run: enter it first"):
            await manager.call(lambda conn: conn)
        await manager.close()
        assert ("db", State.CLOSED) == (manager.name, manager.state)
        with pytest.raises(ManagerClosed):
            await manager.call(lambda conn: conn)
        with pytest.raises(ManagerClosed):
            await manager.__aenter__()

    runtime.run(main)


@every_runtime
def test_it_is_entered_once(runtime: Runtime) -> None:
    """While it runs."""

    async def main() -> None:
        async with runtime.managed(Lines(FakeClock())) as manager:
            with pytest.raises(RuntimeError, match="runs already"):
                await manager.__aenter__()

    runtime.run(main)


@every_runtime
def test_waiting_ends_with_the_deadline(runtime: Runtime) -> None:
    """Of the policies around it; with the last error as its cause."""

    async def main() -> None:
        with FakeClock() as clock:
            async with runtime.managed(Lines(clock, ConnectionRefusedError("no"))) as manager:
                await runtime.until(lambda: manager.stats().last_error)
                for seconds in (2.5, 0.0):
                    token = DEADLINE.set(clock.now() + seconds)
                    with pytest.raises(DeadlineExceeded) as caught:
                        await manager.call(lambda conn: conn)
                    DEADLINE.reset(token)
                    assert (seconds, "no") == (pytest.approx(caught.value.seconds), str(caught.value.__cause__))
                assert (0, 0) == (manager.stats().waiting, manager.stats().operations)

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize("hook", ["connect", "probe", "relogin"])
def test_a_hook_that_asks_for_what_it_is_to_bring_about_is_told(runtime: Runtime, hook: str) -> None:
    """It would wait for itself."""

    async def main() -> None:
        with FakeClock() as clock:
            told: list[str] = []

            async def ask(*_: object) -> None:
                with pytest.raises(NotConnected) as caught:
                    await manager.call(lambda conn: conn)
                told.append(str(caught.value))

            lines = Lines(clock, ask if hook == "connect" else Stale() if hook == "relogin" else "up", "up")
            settings: dict[str, Any] = {"probe": ask} if hook == "probe" else {}
            recovery = Recovery(relogin=runtime.hook(ask))
            manager = runtime.managed(lines, recovery=recovery, name="db", **settings)
            async with manager:
                assert 1 == await manager.call(lambda conn: conn.number)
            assert ["not connected to 'db': it was asked for by the very hook that is to bring it about"] == told

    runtime.run(main)


@every_runtime
def test_a_hook_may_close_its_manager(runtime: Runtime) -> None:
    """Without waiting for its own end; whoever waits is told."""

    async def main() -> None:
        async def close() -> None:
            await manager.close()

        lines = Lines(FakeClock(), close)
        manager = runtime.managed(lines)
        async with manager:
            with pytest.raises(ManagerClosed):
                await manager.call(lambda conn: conn)
        assert ([], State.CLOSED) == (lines.open, manager.state)

    runtime.run(main)


@every_runtime
def test_a_loss_may_be_noticed_before_the_connection_is_there(runtime: Runtime) -> None:
    """By a reader that connect has started: the dial has failed."""

    async def main() -> None:
        with FakeClock() as clock:
            conns = [Conn(1), Conn(2), Conn(3)]
            made = iter(conns)

            async def connect() -> Conn:
                conn = next(made)
                if conn.number < 3:
                    manager.lost(ConnectionResetError("early") if conn.number == 1 else None, conn)
                return conn

            manager = runtime.manager(connect, close=Conn.close, on=OSError, backoff=backoff.constant(1))
            async with manager:
                assert 3 == await manager.call(lambda conn: conn.number)
                assert (2.0, 2, 1) == (clock.now(), manager.stats().failures, manager.stats().connects)
            assert [1, 1, 1] == [conn.closed for conn in conns]

    runtime.run(main)


@every_runtime
def test_blocks_notice_losses(runtime: Runtime) -> None:
    """What a block raises is its own, and judged."""

    async def main() -> None:
        with FakeClock() as clock:
            async with runtime.managed(Lines(clock)) as manager:
                with pytest.raises(Fatal):
                    async with manager.use():
                        raise Fatal
                assert State.READY is manager.state
                with pytest.raises(ConnectionResetError):
                    async with manager.use():
                        raise ConnectionResetError
                async with manager.use() as conn:
                    assert 2 == conn.number

    runtime.run(main)


@every_runtime
def test_events_tell_what_happened(runtime: Runtime) -> None:
    """In order, with the time since it was entered; all of them, when it is closed."""
    told: list[str] = []

    async def main() -> None:
        with FakeClock(start=100) as clock:
            lines = Lines(clock, ConnectionRefusedError("no"), "up")

            def listener(event: Any) -> None:
                told.append(f"{event.elapsed} {event}")

            async with runtime.managed(lines, name="db", listeners=listener) as manager:
                async with manager.use() as conn:
                    assert 0.0 == manager.stats().uptime
                manager.lost(None, conn)
                await manager.call(lambda conn: None)

    runtime.run(main)
    assert [
        "0.0 db: CONNECTING (was IDLE)",
        "0.0 db: BACKING_OFF (was CONNECTING): ConnectionRefusedError: no",
        "0.0 db: waiting 1 s before attempt 2",
        "1.0 db: CONNECTING (was BACKING_OFF)",
        "1.0 db: READY (was CONNECTING)",
        "1.0 db: BACKING_OFF (was READY): the connection ended",
        "1.0 db: waiting 1 s before attempt 3",
        "2.0 db: CONNECTING (was BACKING_OFF)",
        "2.0 db: READY (was CONNECTING)",
        "2.0 db: CLOSED (was READY): asked to close",
    ] == told


@every_runtime
def test_errors_leave_no_cycles(runtime: Runtime) -> None:
    """Neither those of dials, nor of operations, nor those that we raise."""

    class Traced(ConnectionResetError):
        pass

    alive: list[weakref.ref[Exception]] = []

    async def fail(conn: object = None) -> None:
        error = Traced("gone")
        alive.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, fail, "up", "up", "up", fail, fail, "up")
            async with runtime.managed(lines, attempts=4) as manager:
                for idempotent in (False, True):
                    try:
                        await manager.call(fail, idempotent=idempotent)
                    except (OutcomeUnknown, Traced):
                        pass
                manager.resume()
                manager.reconnect_now()
                await manager.call(lambda conn: None)
                last = manager.stats().last_error
            del manager
            assert [] == [ref for ref in alive if ref() not in {None, last}]

    gc.collect()
    gc.disable()
    try:
        runtime.run(main)
        assert len(alive) >= 4
    finally:
        gc.enable()


@every_runtime
def test_ready_waits_for_a_connection(runtime: Runtime) -> None:
    """Or gives up in time, with the reason; what is FAILED says why at once."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, ConnectionRefusedError("no"), "up")
            async with runtime.managed(lines) as manager:
                await manager.ready(timeout=5)
                assert (State.READY, 0) == (manager.state, manager.stats().operations)
            async with runtime.managed(Lines(clock, ConnectionRefusedError("no"))) as manager:
                await runtime.until(lambda: manager.stats().last_error)
                with pytest.raises(DeadlineExceeded) as caught:
                    await manager.ready(timeout=0)
                assert "no" == str(caught.value.__cause__)
            async with runtime.managed(Lines(clock, Fatal("no such database"))) as manager:
                with pytest.raises(Fatal):
                    await manager.ready()

    runtime.run(main)


@every_runtime
def test_a_new_connection_is_prepared_before_anybody_gets_it(runtime: Runtime) -> None:
    """What that raises is a failed dial, whose connection is closed."""

    async def main() -> None:
        with FakeClock() as clock:
            lines, prepared = Lines(clock), list[int]()

            async def prepare(conn: Conn) -> None:
                prepared.append(conn.number)
                if conn.number == 1:
                    raise ConnectionResetError("signed in elsewhere")

            async with runtime.managed(lines, on_connect=prepare) as manager:
                assert 2 == await manager.call(lambda conn: conn.number)
                await runtime.until(lambda: lines.open == [2])
                manager.renew()
                assert 3 == await manager.call(lambda conn: conn.number)
            assert ([1, 2, 3], [0.0, 1.0, 1.0]) == (prepared, lines.dialled)

    runtime.run(main)


@every_runtime
def test_a_renewed_connection_serves_those_who_use_it(runtime: Runtime) -> None:
    """To their end; others get the new one, and nothing counts as lost."""

    async def main() -> None:
        lines = Lines(FakeClock())
        async with runtime.managed(lines) as manager:
            async with manager.use() as old:
                manager.renew()
                assert 2 == await manager.call(lambda conn: conn.number)
                assert (0, [1, 2]) == (old.closed, lines.open)
            await runtime.until(lambda: lines.open == [2])
            assert (0, 2) == (manager.stats().losses, manager.stats().connects)

    runtime.run(main)


@every_runtime
def test_an_old_connection_is_renewed(runtime: Runtime) -> None:
    """At its max_age."""

    async def main() -> None:
        lines = Lines(FakeClock())
        async with runtime.managed(lines, max_age=0.01) as manager:
            await manager.ready()
            await runtime.until(lambda: manager.stats().connects > 2)
            assert 0 == manager.stats().losses

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize("on_cancel", ["retire", "keep"])
def test_the_connection_of_a_call_that_was_cut_off(runtime: Runtime, on_cancel: str) -> None:
    """It may still carry the answer: the next caller gets another one, unless it may be kept."""

    class Left(BaseException):
        pass

    async def leave(conn: Conn) -> None:
        raise Left

    async def main() -> None:
        lines = Lines(FakeClock())
        async with runtime.managed(lines, on_cancel=on_cancel) as manager:
            await manager.ready()
            with pytest.raises(Left):
                await manager.call(leave)
            assert (1 if on_cancel == "keep" else 2) == await manager.call(lambda conn: conn.number)
            assert 0 == manager.stats().operations

    runtime.run(main)


@every_runtime
def test_a_limit_of_time_within_a_call_is_such_a_cut(runtime: Runtime) -> None:
    """Where no rule says otherwise: the error is the caller's, the connection is retired."""

    async def late(conn: Conn) -> None:
        raise AttemptTimeout(1.0)

    async def main() -> None:
        async with runtime.managed(Lines(FakeClock()), on=Classifier(Rule(ConnectionError))) as manager:
            await manager.ready()
            for _ in range(2):
                with pytest.raises(AttemptTimeout):
                    await manager.call(late)
            async with manager.use():
                pass
            assert (3, 0) == (await manager.call(lambda conn: conn.number), manager.stats().operations)

    runtime.run(main)


@every_runtime
def test_a_call_may_have_a_timeout(runtime: Runtime) -> None:
    """Its wait for a connection counts."""

    async def main() -> None:
        with FakeClock() as clock:
            async with runtime.managed(Lines(clock, ConnectionRefusedError("no"))) as manager:
                await runtime.until(lambda: manager.stats().last_error)
                with pytest.raises(DeadlineExceeded):
                    await manager.call(lambda conn: conn, timeout=2.5)

    runtime.run(main)


@every_runtime
def test_each_new_connection_can_be_followed(runtime: Runtime) -> None:
    """After a loss the next; until the manager is closed."""

    async def main() -> None:
        lines, seen = Lines(FakeClock()), list[int]()
        async with runtime.managed(lines, backoff=backoff.constant(0)) as manager:
            async for conn in manager:
                seen.append(conn.number)
                if conn.number < 3:
                    manager.lost(ConnectionResetError(), conn)
                else:
                    await manager.close()
        assert [1, 2, 3] == seen

    runtime.run(main)


@every_runtime
@pytest.mark.parametrize(("on", "warned"), [(ConnectionError, True), (OSError, False)])
def test_an_on_that_ends_with_the_network_is_warned_of(
    on: type[Exception], warned: bool, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that survives a restart of its server dies in a tunnel otherwise."""
    runtime.manager(lambda: None, on=on, name="db")
    assert warned is ("db: its 'on' ends the connection for good when the network is out of reach" in caplog.text)
