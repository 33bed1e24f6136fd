"""What connection managers are built to show, of tasks and of threads alike."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from loops import LOOPS, run
from net.at_once import at_once
from net.hand_clocks import PATIENCE, ThreadClock, answered, until
from net.manager_scenarios import ON
from threads import together

from resilient import DeadlineExceeded, Pipeline, Retry, Timeout, backoff
from resilient.core.events import LinkChanged
from resilient.core.link import State
from resilient.errors import OutcomeUnknown, PeerSilent
from resilient.net import ConnectionManager
from resilient.net.sync import ConnectionManager as ThreadManager
from resilient.testing import FakeClock

every_loop = pytest.mark.parametrize("loop", LOOPS)


POOLED = ("asyncio", "Trio")  # threads of event loops, which look names up


class Conn:
    """A connection, with what it takes to talk to its peer until it is closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0
        self.cut = threading.Event()

    def close(self) -> None:
        self.closed += 1
        self.cut.set()


class Lines:
    """Makes connections, or refuses to for so many times."""

    def __init__(self, clock: FakeClock, refuses: float = 0) -> None:
        self.clock = clock
        self.refuses = refuses
        self.dialled: list[float] = []
        self.conns: list[Conn] = []

    def connect(self) -> Conn:
        self.dialled.append(self.clock.now())
        if len(self.dialled) <= self.refuses:
            raise ConnectionRefusedError
        self.conns.append(Conn(len(self.conns) + 1))
        return self.conns[-1]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """After each test."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith(POOLED)]
    for thread in left:
        thread.join(PATIENCE)
    assert [] == [thread.name for thread in left if thread.is_alive()]


# A peer that accepts and closes


class Closing:
    """Hears of connections, and reports each as closed by its peer, for half a minute."""

    def __init__(self, lines: Lines, manager: Any) -> None:
        self.lines = lines
        self.manager = manager
        self.over = False
        manager.on_event(self.hear)

    def hear(self, event: object) -> None:
        if isinstance(event, LinkChanged) and event.after == "READY":
            self.over = self.lines.clock.now() >= 30
            if not self.over:
                self.manager.lost(None, self.lines.conns[-1])


@every_loop
def test_a_peer_that_accepts_and_closes_is_left_in_peace_by_tasks(loop: str) -> None:
    """With the default settings and any chance: at most 6 connects in half a minute."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)
            manager = ConnectionManager(lines.connect, on=OSError)
            closing = Closing(lines, manager)
            async with manager:
                while not closing.over:
                    await clock.asleep(1)
            assert len([at for at in lines.dialled if at <= 30]) <= 6

    run(loop, main)


def test_a_peer_that_accepts_and_closes_is_left_in_peace_by_threads() -> None:
    """The same."""
    with FakeClock() as clock:
        lines = Lines(clock)
        manager = ThreadManager(lines.connect, on=OSError)
        closing = Closing(lines, manager)
        with manager:
            until(lambda: closing.over)
        assert len([at for at in lines.dialled if at <= 30]) <= 6


# Refused for ever


def in_bounds(waits: list[list[float]]) -> None:
    """Every wait is within those of the default backoff, and two clients are never in step."""
    for n, (one, other) in enumerate(zip(*waits, strict=True)):
        assert one != other
        assert 0 <= min(one, other) <= max(one, other) <= min(30.0, 2.0**n)


@every_loop
def test_tasks_that_are_refused_are_never_in_step(loop: str) -> None:
    """However often."""

    async def main() -> None:
        waits = []
        for _ in range(2):
            with FakeClock() as clock:
                async with ConnectionManager(Lines(clock, refuses=200).connect, on=OSError) as manager:
                    await manager.call(lambda conn: conn)
                    waits.append(clock.sleeps)
        in_bounds(waits)

    run(loop, main)


def test_threads_that_are_refused_are_never_in_step() -> None:
    """However often."""
    waits = []
    for _ in range(2):
        with FakeClock() as clock:
            with ThreadManager(Lines(clock, refuses=200).connect, on=OSError) as manager:
                manager.call(lambda conn: conn)
                waits.append(clock.sleeps)
    in_bounds(waits)


# Reader, writer and heartbeat


@every_loop
def test_reader_writer_and_heartbeat_of_a_task_fail_together(loop: str) -> None:
    """At the same instant: one reconnect."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def probe(conn: Conn) -> None:
                if conn.number == 1 and clock.now() >= 5:
                    raise ConnectionResetError("heartbeat")

            async def write(conn: Conn) -> int:
                await clock.asleep(5)
                if conn.number == 1:
                    raise ConnectionResetError("writer")
                return conn.number

            async def read(manager: ConnectionManager[Conn]) -> None:
                await clock.asleep(5)
                manager.lost(ConnectionResetError("reader"), lines.conns[0])

            async with ConnectionManager(
                lines.connect, on=ON, probe=probe, heartbeat=5, close=Conn.close, probe_when_busy=True
            ) as manager:
                await manager.call(lambda conn: None)
                for outcome in await at_once(
                    lambda: read(manager), lambda: manager.call(write, idempotent=True), lambda: clock.asleep(60)
                ):
                    assert outcome in {None, 2}
                stats = manager.stats()
                assert (2, 1, State.READY) == (len(lines.dialled), stats.losses, stats.state)

    run(loop, main)


def test_reader_writer_and_heartbeat_of_threads_fail_together() -> None:
    """At the same instant: one reconnect."""
    with ThreadClock() as clock:
        lines, all_there = Lines(clock), threading.Barrier(3)

        def probe(conn: Conn) -> None:
            if conn.number == 1 and clock.now() >= 5:
                all_there.wait(PATIENCE)
                raise ConnectionResetError("heartbeat")

        def write(conn: Conn) -> int:
            if conn.number == 1:
                all_there.wait(PATIENCE)
                raise ConnectionResetError("writer")
            return conn.number

        def read() -> None:
            all_there.wait(PATIENCE)
            manager.lost(ConnectionResetError("reader"), lines.conns[0])

        with ThreadManager(
            lines.connect, on=ON, probe=probe, heartbeat=5, close=Conn.close, probe_when_busy=True
        ) as manager:
            numbers: list[int] = []
            until(lambda: manager.state is State.READY)
            threads = [
                threading.Thread(target=read),
                threading.Thread(target=lambda: numbers.append(manager.call(write, idempotent=True))),
            ]
            for thread in threads:
                thread.start()
            while manager.stats().losses == 0 or manager.state is not State.READY:
                clock.step()
            for thread in threads:
                thread.join(PATIENCE)
            assert ([2], 2, 1) == (numbers, len(lines.dialled), manager.stats().losses)


# Silence, stalls and clocks


def test_a_peer_of_threads_that_falls_silent_is_lost() -> None:
    """Three intervals after its last sign of life."""
    with ThreadClock() as clock:
        lines, asked, go_on = Lines(clock), list[float](), threading.Event()
        told: list[object] = []

        def probe(conn: Conn) -> None:
            asked.append(clock.now())
            if conn.number == 1 and len(asked) > 2:
                go_on.wait(PATIENCE)

        with ThreadManager(
            lines.connect, on=ON, probe=probe, heartbeat=5, connect_timeout=None, listeners=told.append
        ) as manager:
            while manager.stats().losses == 0:
                clock.step()
                until(lambda: answered() or len(asked) > 2)
            assert isinstance(manager.stats().last_error, PeerSilent)
            go_on.set()
        assert [0.0, 5.0, 10.0] == asked[:3]
        assert [20.0] == [
            event.elapsed for event in told if isinstance(event, LinkChanged) and event.before == "READY"
        ][:1]


def test_our_own_stall_accuses_no_peer_of_threads() -> None:
    """The process stood still for 20 s, four intervals, while a probe was under way."""
    with ThreadClock() as clock:
        lines, asked, go_on = Lines(clock), list[float](), threading.Event()

        def probe(conn: Conn) -> None:
            asked.append(clock.now())
            if len(asked) == 2:
                go_on.wait(PATIENCE)

        with ThreadManager(lines.connect, on=ON, probe=probe, heartbeat=5, connect_timeout=None) as manager:
            while len(asked) < 2:
                clock.step()
                until(lambda: answered() or len(asked) == 2)
            until(lambda: clock.due() is not None)
            clock.advance(20)
            until(lambda: clock.due() is not None)
            go_on.set()
            while clock.now() < 60:
                until(answered)
                clock.step()
            assert (0, [0.0]) == (manager.stats().losses, lines.dialled)


class MovedClock(FakeClock):
    """Its wall clock is put forward or back by an hour whenever somebody looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def wall(self) -> float:
        self.looks += 1
        return super().wall() + (-3600) ** self.looks


@every_loop
def test_a_wall_clock_that_is_moved_changes_nothing(loop: str) -> None:
    """Neither waits nor heartbeats nor limits ask it."""

    async def main() -> None:
        with MovedClock() as clock:
            lines, asked = Lines(clock, refuses=2), list[float]()
            async with ConnectionManager(
                lines.connect,
                on=ON,
                backoff=backoff.constant(1),
                probe=lambda conn: asked.append(clock.now()),
                heartbeat=5,
            ) as manager:
                assert 1 == await manager.call(lambda conn: conn.number)
                await clock.asleep(16)
                assert (0, State.READY) == (manager.stats().losses, manager.state)
            assert ([0.0, 1.0, 2.0], [2.0, 7.0, 12.0, 17.0]) == (lines.dialled, asked)
            assert 0 == clock.looks

    run(loop, main)


def test_a_wall_clock_that_is_moved_changes_nothing_for_threads() -> None:
    """The same."""
    with MovedClock() as clock:
        lines = Lines(clock, refuses=2)
        with ThreadManager(lines.connect, on=ON, backoff=backoff.constant(1)) as manager:
            assert 1 == manager.call(lambda conn: conn.number)
        assert ([0.0, 1.0, 2.0], 0) == (lines.dialled, clock.looks)


# Signs of life that the user sees


@every_loop
def test_what_its_user_heard_counts_as_a_heartbeat(loop: str) -> None:
    """Nobody is asked while pushes come."""

    async def main() -> None:
        with FakeClock() as clock:
            asked: list[float] = []
            async with ConnectionManager(
                lambda: 1, on=ON, probe=lambda conn: asked.append(clock.now()), heartbeat=5
            ) as manager:
                manager.heard()
                for _ in range(10):
                    await clock.asleep(4)
                    manager.heard()
                await clock.asleep(6)
            assert [0.0, 45.0] == asked
            manager.heard()

    run(loop, main)


def test_what_its_user_heard_counts_as_a_heartbeat_for_threads() -> None:
    """From any of them."""
    with ThreadClock() as clock:
        asked: list[float] = []
        with ThreadManager(
            lambda: 1, on=ON, probe=lambda conn: asked.append(clock.now()), heartbeat=5, connect_timeout=None
        ) as manager:
            until(lambda: manager.state is State.READY)
            while clock.now() < 40:
                clock.step()
                assert [] == together(1, lambda n: manager.heard())
            until(answered)
            assert [0.0] == asked


# An operation whose connection is lost


@every_loop
def test_an_operation_of_a_task_ends_when_its_connection_is_closed_under_it(loop: str) -> None:
    """It is told, or done on the next one."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def read(conn: Conn) -> int:
                while conn.number == 1:
                    await clock.asleep(0.5)
                    if conn.closed:
                        raise ConnectionResetError("closed")
                return conn.number

            async def lose() -> None:
                await clock.asleep(2)
                manager.lost(None, lines.conns[0])

            async with ConnectionManager(lines.connect, close=Conn.close, on=ON) as manager:
                await manager.call(lambda conn: None)
                told, number, _ = await at_once(
                    lambda: manager.call(read), lambda: manager.call(read, idempotent=True), lose
                )
                assert (OutcomeUnknown, 2) == (type(told), number)

    run(loop, main)


def test_an_operation_of_a_thread_ends_when_its_connection_is_closed_under_it() -> None:
    """It is told, or done on the next one."""
    with FakeClock() as clock:
        lines = Lines(clock)

        def read(conn: Conn) -> int:
            if conn.number == 1:
                assert conn.cut.wait(PATIENCE)
                raise ConnectionResetError("closed")
            return conn.number

        with ThreadManager(lines.connect, close=Conn.close, on=ON) as manager:
            manager.call(lambda conn: None)
            outcomes: list[object] = []

            def work(n: int) -> None:
                try:
                    if n == 2:
                        until(lambda: manager.stats().operations == 2)
                        manager.lost(None, lines.conns[0])
                    else:
                        outcomes.append(manager.call(read, idempotent=bool(n)))
                except OutcomeUnknown as error:
                    outcomes.append(str(error.__cause__))

            assert [] == together(3, work)
            assert {"closed", 2} == set(outcomes)


@every_loop
def test_an_operation_that_is_deaf_is_bounded_by_a_timeout(loop: str) -> None:
    """Its connection is lost and closed, it hangs on: the policy around it ends it, and it may be tried again."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock)

            async def deaf(conn: Conn) -> int:
                if conn.number == 1:
                    manager.lost(None, conn)
                    await clock.asleep(1e6)
                return conn.number

            async with ConnectionManager(lines.connect, close=Conn.close, on=ON) as manager:
                with pytest.raises(DeadlineExceeded):
                    await Timeout(7).call(manager.call, deaf)
                assert (0, 0) == (manager.stats().operations, manager.stats().waiting)
                manager.reconnect_now()
                assert 3 == await Retry(on=OSError, attempt_timeout=7).call(manager.call, deaf)

            lines.conns.clear()
            async with ConnectionManager(lines.connect, close=Conn.close, on=ON) as manager:
                again = Retry(on=OSError, attempts=2, attempt_timeout=7, backoff=backoff.constant(0))
                assert 2 == await again.call(manager.call, deaf)

    run(loop, main)


# Limits of time around it

BOUNDED = {
    "timeout": Timeout(2.5),
    "retry": Retry(on=OSError, attempts=None, timeout=2.5),
    "timeout around a retry": Pipeline(Timeout(2.5), Retry(on=KeyError)),
    "retry around a timeout": Pipeline(Retry(on=KeyError, attempts=1), Timeout(2.5)),
}
bounded = pytest.mark.parametrize("policy", BOUNDED.values(), ids=BOUNDED)


@every_loop
@bounded
def test_a_policy_around_it_bounds_the_wait_of_a_task(loop: str, policy: Any) -> None:
    """For a connection that never comes."""

    async def main() -> None:
        with FakeClock() as clock:
            lines = Lines(clock, refuses=float("inf"))
            async with ConnectionManager(lines.connect, on=ON, backoff=backoff.constant(1)) as manager:

                async def use() -> None:
                    async with manager.use():
                        pass

                for use_it in (lambda: manager.call(lambda conn: conn), use):
                    before = clock.now()
                    with pytest.raises(TimeoutError):
                        await policy.call(use_it)
                    assert clock.now() == before + 2.5 or loop == "uvloop"  # it does not show when nothing can run
                    assert (0, 0) == (manager.stats().waiting, manager.stats().operations)

    run(loop, main)


@bounded
def test_a_policy_around_it_bounds_the_wait_of_a_thread(policy: Any) -> None:
    """For a connection that never comes."""
    with FakeClock() as clock:
        lines = Lines(clock, refuses=float("inf"))
        with ThreadManager(lines.connect, on=ON, backoff=backoff.constant(1)) as manager:

            def use() -> None:
                with manager.use():
                    pass

            for use_it in (lambda: manager.call(lambda conn: conn), use):
                with pytest.raises(TimeoutError):
                    policy.call(use_it)
                assert (0, 0) == (manager.stats().waiting, manager.stats().operations)


# Names, and what is left


def count_lookups(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every name that is looked up from now on."""
    looked_up: list[object] = []
    usual = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(host)
        return usual(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return looked_up


def nobody_listens() -> int:
    """A port where that is so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("loop", ["asyncio", "trio"])  # uvloop asks the C library, which nobody can count
def test_names_are_looked_up_at_every_dial_of_a_task(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address may have moved."""

    async def main() -> None:
        async def connect(host: str) -> object:
            if loop == "trio":
                import trio

                return await trio.open_tcp_stream(host, port)
            return await asyncio.open_connection(host, port)

        async with ConnectionManager(
            connect, on=OSError, attempts=4, backoff=backoff.constant(0.001), endpoints=["localhost"]
        ) as manager:
            with pytest.raises(OSError):
                await manager.call(lambda conn: conn)

    port = nobody_listens()
    looked_up = count_lookups(monkeypatch)
    run(loop, main)
    assert 4 == looked_up.count("localhost")


def test_names_are_looked_up_at_every_dial_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same."""
    port = nobody_listens()
    looked_up = count_lookups(monkeypatch)
    with ThreadManager(
        lambda host: socket.create_connection((host, port), timeout=PATIENCE),
        on=OSError,
        attempts=4,
        backoff=backoff.constant(0.001),
        endpoints=["localhost"],
    ) as manager:
        with pytest.raises(OSError):
            manager.call(lambda conn: conn)
    assert ["localhost"] * 4 == looked_up
