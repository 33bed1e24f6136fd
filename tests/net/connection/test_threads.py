"""The connection manager for threads: one table with that for tasks, then what only threads can show."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from net.hand_clocks import ThreadClock, answered, until
from net.manager_scenarios import ON, SCENARIOS, After, Fatal, Low, Scenario, Stale, of_ours

from resilient import Action, Classifier, Recovery, Rule, backoff, current_deadline
from resilient.core.events import LinkChanged, RecoveryFailed
from resilient.core.link import State
from resilient.drivers.clock import Timer
from resilient.errors import AttemptTimeout, ManagerClosed
from resilient.net.sync import ConnectionManager
from resilient.testing import FakeClock

PATIENCE = 30.0  # real seconds, for threads: nothing takes so long unless it is broken


class Conn:
    """A connection, and how often it was closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Lines:
    """Makes connections by a script: errors are raised, a function is called, the rest is a connection."""

    def __init__(self, clock: FakeClock, *script: object) -> None:
        self.clock = clock
        self.script = script or ("up",)
        self.dialled: list[float] = []
        self.endpoints: list[object] = []
        self.conns: list[Conn] = []

    def connect(self, *endpoint: object) -> Conn:
        outcome = self.script[min(len(self.dialled), len(self.script) - 1)]
        self.dialled.append(self.clock.now())
        self.endpoints.extend(endpoint)
        if isinstance(outcome, Exception):
            raise outcome
        if callable(outcome):
            outcome()
        conn = Conn(len(self.conns) + 1)
        self.conns.append(conn)
        return conn


class WatchedClock(FakeClock):
    """A fake clock that shows when somebody has begun to wait for its time."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.waits: SimpleQueue[float] = SimpleQueue()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
        timer: Timer = super().call_later(seconds, callback)
        self.waits.put(seconds)
        return timer

    def tick(self, awaited: float | None = None) -> None:
        """Lets pass what somebody has begun to wait for; if so told, just so many seconds."""
        seconds = self.waits.get(timeout=PATIENCE)
        while awaited not in {None, seconds}:
            seconds = self.waits.get(timeout=PATIENCE)
        self.advance(seconds)


def managed(lines: Lines, **settings: Any) -> ConnectionManager[Conn]:
    """A manager of these connections."""
    return ConnectionManager(lines.connect, close=Conn.close, **{"on": ON, "backoff": backoff.constant(1)} | settings)


def bound(clock: FakeClock, script: Any, done: list[int]) -> Callable[..., object]:
    """An operation that plays a script."""

    def operation(conn: object) -> object:
        done.append(1)
        outcome = script[min(len(done), len(script)) - 1]
        if isinstance(outcome, After):
            clock.advance(outcome.seconds)
            outcome = outcome.then
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return operation


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """After each test."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name.startswith("connection")]
    for thread in left:
        thread.join(PATIENCE)
    assert [] == [thread.name for thread in left if thread.is_alive()]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenarios(scenario: Scenario) -> None:
    """The table."""
    play(scenario)


def play(scenario: Scenario) -> None:
    """One line of it."""
    scenario.forget()
    waiting = threading.Event()  # for the one scenario that ends before its link does
    with FakeClock(rng=Low()) as clock:
        lines, handled = Lines(clock, *scenario.dials), list[str]()
        probe = bound(clock, scenario.probes, []) if scenario.probes else None
        recovery = Recovery(
            relogin=lambda: handled.append("relogin"), rotate_proxy=lambda: handled.append("rotate_proxy")
        )
        value: object = None
        notes: list[str] = []
        dial = lines.connect

        def connect(*endpoint: object) -> Conn:
            if scenario.state is State.BACKING_OFF and lines.dialled:
                waiting.set()
                raise Fatal
            return dial(*endpoint)

        settings = {"on": ON, "recovery": recovery} | scenario.settings
        with ConnectionManager(connect, close=Conn.close, probe=probe, **settings) as manager:
            try:
                value = manager.call(bound(clock, scenario.operation, []), idempotent=scenario.idempotent)
            except Exception as error:
                value = type(error)
                notes += getattr(error, "__notes__", [])
            assert (scenario.comes_to, list(scenario.notes)) == (value, notes)
            state = manager.state
            if scenario.state is State.BACKING_OFF:  # virtual time passes in another thread
                assert waiting.wait(PATIENCE)
            else:
                assert scenario.state is state
        assert list(scenario.dialled) == lines.dialled
        assert list(scenario.waits) == clock.sleeps
        assert list(scenario.endpoints) == lines.endpoints
        assert list(scenario.handled) == handled
        assert [1] * len(lines.conns) == [conn.closed for conn in lines.conns]
        assert State.CLOSED is manager.state
    scenario.forget()


def test_after_every_scenario_memory_is_where_it_was() -> None:
    """No manager, link, lease or job is left."""

    def play_all() -> None:
        for scenario in SCENARIOS:
            play(scenario)
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("connection")])

    play_all()
    before = of_ours()
    play_all()
    assert Counter() == of_ours() - before


def test_a_handler_that_hangs_is_left_behind() -> None:
    """At the connect timeout, which it can read; and the dial comes all the same."""
    with WatchedClock() as clock:
        remaining, go_on, told = list[object](), threading.Event(), list[object]()

        def hang() -> None:
            deadline = current_deadline()
            remaining.append(deadline and deadline.remaining)
            clock.tick(4.0)
            go_on.wait(PATIENCE)

        lines, recovery = Lines(clock, Stale(), "up"), Recovery(relogin=hang)
        with managed(lines, recovery=recovery, connect_timeout=4, listeners=told.append) as manager:
            assert 1 == manager.call(lambda conn: conn.number)
            go_on.set()
        assert ([4.0], [0.0, 5.0], 1) == (remaining, lines.dialled, recovery.flight.generation)
        failures = [event.error for event in told if isinstance(event, RecoveryFailed)]
        assert [AttemptTimeout] == [type(error) for error in failures]


def test_handlers_that_hang_are_limited() -> None:
    """Each is a thread that nobody can stop; dials are not held up by them."""
    with WatchedClock() as clock:
        go_on, handled = threading.Event(), list[int]()

        def hang() -> None:
            handled.append(1)
            clock.tick(5.0)
            go_on.wait(PATIENCE)

        lines = Lines(clock, *[Stale()] * 9, "up")
        told: SimpleQueue[str] = SimpleQueue()
        recovery = Recovery(relogin=hang)
        with managed(
            lines, recovery=recovery, connect_timeout=5, listeners=lambda event: told.put(str(event))
        ) as manager:
            assert manager.call(lambda conn: conn.number)
            while "still hang" not in told.get(timeout=PATIENCE):
                pass
            assert (8, 10) == (len(handled), len(lines.dialled))
            go_on.set()


def test_a_manager_closes_while_its_recovery_waits() -> None:
    """For another manager's, or for its throttle: neither handler nor thread is left."""
    with FakeClock() as clock:
        go_on, begun, handled = threading.Event(), threading.Event(), list[int]()

        def handler() -> None:
            handled.append(1)
            begun.set()
            go_on.wait(PATIENCE)

        recovery = Recovery(relogin=handler)
        with managed(Lines(clock, Stale(), "up"), recovery=recovery) as leader:
            assert begun.wait(PATIENCE)
            with managed(Lines(clock, Stale(), "up"), recovery=recovery) as other:
                while other.stats().recoveries == 0:
                    threading.Event().wait(0.001)
            assert State.CLOSED is other.state
            go_on.set()
            assert 1 == leader.call(lambda conn: conn.number)
    assert [1] == handled


def test_a_connect_that_hangs_is_left_behind() -> None:
    """At its timeout, which it can read; what it makes later is closed."""
    with WatchedClock() as clock:
        remaining, go_on, closed = list[object](), threading.Event(), threading.Event()

        def hang() -> None:
            deadline = current_deadline()
            remaining.append(deadline and deadline.remaining)
            clock.tick(4.0)
            go_on.wait(PATIENCE)

        lines = Lines(clock, hang, "up")

        def close(conn: Conn) -> None:
            conn.close()
            if conn.number == 2:
                closed.set()

        with ConnectionManager(
            lines.connect, close=close, on=ON, connect_timeout=4, backoff=backoff.constant(1)
        ) as manager:
            assert 1 == manager.call(lambda conn: conn.number)
            assert isinstance(manager.stats().last_error, AttemptTimeout)
            go_on.set()
            assert closed.wait(PATIENCE)
            assert 1 == manager.call(lambda conn: conn.number)
        assert ([0.0, 5.0], [4.0]) == (lines.dialled, remaining)


def test_dials_that_hang_are_limited() -> None:
    """Each is a thread that nobody can stop."""
    with WatchedClock() as clock:
        go_on = threading.Event()

        def hang() -> None:
            clock.tick(5.0)
            go_on.wait(PATIENCE)

        lines = Lines(clock, *[hang] * 8, "up")
        told: SimpleQueue[str] = SimpleQueue()
        with managed(lines, connect_timeout=5, listeners=lambda event: told.put(str(event))) as manager:
            while "still hang" not in told.get(timeout=PATIENCE):
                pass
            assert 8 == len(lines.dialled)
            go_on.set()
            assert manager.call(lambda conn: conn.number)


def test_a_probe_that_fails_is_a_loss() -> None:
    """At once."""
    with ThreadClock() as clock:
        asked: list[float] = []

        def probe(conn: Conn) -> None:
            asked.append(clock.now())
            if len(asked) == 2:
                raise ConnectionResetError("gone")

        lines = Lines(clock)
        with managed(lines, probe=probe, heartbeat=5, connect_timeout=None) as manager:
            while len(asked) < 2:
                clock.step()
                until(lambda: clock.due() is not None and answered())
            until(lambda: manager.stats().losses)
            while len(lines.dialled) < 2:
                clock.step()
            assert 2 == manager.call(lambda conn: conn.number)
        assert [0.0, 5.0, 6.0] == asked


def test_an_interrupted_caller_leaves_nothing_behind() -> None:
    """An exit passes, and is counted out."""
    with FakeClock() as clock:
        with managed(Lines(clock)) as manager:

            def leave(conn: Conn) -> None:
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                manager.call(leave)
            with pytest.raises(KeyboardInterrupt), manager.use():
                raise KeyboardInterrupt
            assert (0, 3) == (manager.stats().operations, manager.call(lambda conn: conn.number))


@pytest.mark.parametrize("hurts", ["raises", "hangs", "reconnects", "calls", "closes"])
def test_a_listener_harms_nothing(hurts: str, caplog: pytest.LogCaptureFixture) -> None:
    """One dial per attempt, and the loop goes on."""
    go_on = threading.Event()
    with FakeClock() as clock, caplog.at_level("CRITICAL", "resilient"):
        lines = Lines(clock, ConnectionRefusedError(), ConnectionRefusedError(), "up")

        def listener(event: object) -> None:
            if hurts == "raises":
                raise ValueError("a bug")
            if hurts == "hangs":
                go_on.wait(PATIENCE)
            if hurts == "reconnects" and isinstance(event, LinkChanged) and event.after == "CONNECTING":
                manager.reconnect_now()
            if hurts == "calls" and isinstance(event, LinkChanged) and event.before == "IDLE":
                manager.call(lambda conn: conn)
            if hurts == "closes" and isinstance(event, LinkChanged) and event.after == "CLOSED":
                manager.close()

        manager = managed(lines)
        assert listener is manager.on_event(listener)
        with manager:
            assert 1 == manager.call(lambda conn: conn.number)
            if hurts != "reconnects":
                assert [0.0, 1.0, 2.0] == lines.dialled
            go_on.set()


def test_without_a_close_connections_are_let_go() -> None:
    """Whatever became of them; and one that raises hurts nobody."""
    with FakeClock() as clock:
        probed = iter([OSError("dead"), None])

        def probe(conn: int) -> None:
            error = next(probed)
            if error is not None:
                raise error

        with ConnectionManager(lambda: 1, probe=probe, on=OSError, backoff=backoff.constant(1)) as manager:
            assert 1 == manager.call(lambda conn: conn)
            assert 1.0 == clock.now()

        def close(conn: int) -> None:
            raise OSError("not connected")

        with ConnectionManager(lambda: 1, close=close, on=OSError) as manager:
            assert 1 == manager.call(lambda conn: conn)


def test_coroutines_are_refused() -> None:
    """Nobody would await them."""

    async def connect() -> int:
        return 1

    with ConnectionManager(connect, on=OSError) as manager:
        with pytest.raises(TypeError, match="a coroutine cannot be awaited by threads"):
            manager.call(lambda conn: conn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_refused() -> None:
    """The connection belongs to the parent."""
    closed: list[int] = []
    with ConnectionManager(lambda: 1, close=closed.append, on=OSError, name="connection") as manager:
        manager.call(lambda conn: conn)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            told = "nothing"
            try:
                manager.call(lambda conn: conn)
            except RuntimeError as error:
                told = str(error)
            manager.__exit__(None, None, None)
            os.write(writer, f"{told}; closed {closed}".encode())
            os._exit(0)
        os.close(writer)
        told = os.read(reader, 1000).decode()
        os.close(reader)
        os.waitpid(child, 0)
        assert f"was started in process {os.getpid()}, of which {child} is a fork" in told
        assert told.endswith("; closed []")
        assert 1 == manager.call(lambda conn: conn)
    assert [1] == closed


@pytest.mark.parametrize("hook", ["connect", "relogin"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exit_in_a_hook_ends_the_manager(hook: str) -> None:
    """Whoever waits is told."""

    def leave() -> None:
        raise SystemExit

    with FakeClock() as clock:
        lines = Lines(clock, leave if hook == "connect" else Stale())
        with managed(lines, recovery=Recovery(relogin=leave)) as manager:
            with pytest.raises(ManagerClosed):
                manager.call(lambda conn: conn)


def test_a_thread_that_cannot_be_started_is_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and the manager is closed."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    manager = ConnectionManager(lambda: 1, on=OSError)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            manager.__enter__()
    assert State.CLOSED is manager.state


def test_a_rule_may_reject_an_operation_without_losing_the_connection() -> None:
    """WAIT: the other side asks for time."""
    with FakeClock() as clock:
        on = Classifier(Rule(KeyError, Action.WAIT, delay=7))
        lines = Lines(clock)
        with managed(lines, on=on) as manager:
            played = iter([KeyError(1), None])

            def operation(conn: Conn) -> int:
                error = next(played)
                if error is not None:
                    raise error
                return conn.number

            assert (1, 7.0) == (manager.call(operation), clock.now())


def descriptors() -> int:
    """How many files and sockets this process has open, where that can be seen."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


class Echo:
    """Lines of five bytes, sent and given back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def close(self) -> None:
        self.socket.close()

    def send(self) -> bytes:
        self.socket.sendall(b"hello")
        data = b""
        while len(data) < 5:
            more = self.socket.recv(5)
            if not more:
                raise ConnectionResetError("closed by the peer")
            data += more
        return data


SERVER = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(listener.getsockname()[1], flush=True)
def echo(conn):
    while data := conn.recv(100):
        conn.sendall(data)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
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
    """The manager serves again; connections are made, and ended, once each."""
    before = descriptors()
    process, port = served()

    def connect() -> Echo:
        return Echo(port)

    with ConnectionManager(
        connect, close=Echo.close, on=OSError, backoff=backoff.constant(0.01), probe=Echo.send, heartbeat=0.05
    ) as manager:
        try:
            for _ in range(3):
                assert b"hello" == manager.call(Echo.send)
                killed(process)
                while manager.state is State.READY:  # the heartbeat finds out
                    threading.Event().wait(0.001)
                process, port = served(port)
                assert b"hello" == manager.call(Echo.send, idempotent=True)
        finally:
            killed(process)
        assert manager.stats().connects >= 4
    assert descriptors() <= before


@pytest.mark.parametrize("what", ["dial", "probe", "close", "listeners"])
def test_a_thread_that_cannot_be_started_ends_nothing(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again: the system may have one later."""
    start, left = threading.Thread.start, [0]

    def refuse(self: threading.Thread) -> None:
        if left[0] and self.name.startswith(f"db: {what}"):
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    conns: list[Conn] = []

    def connect() -> Conn:
        conns.append(Conn(len(conns) + 1))
        return conns[-1]

    heard: list[Any] = []
    manager = ConnectionManager(
        connect, close=Conn.close, probe=lambda conn: None, heartbeat=0.01, on=OSError,
        backoff=backoff.constant(0.01), name="db", listeners=(heard.append,),
    )  # fmt: skip
    with manager:
        assert manager.call(lambda conn: conn.number) == 1
        left[0] = 1
        manager.lost(OSError("gone"), conns[0])
        assert manager.call(lambda conn: conn.number) > 1
        if what != "listeners":
            until(lambda: not left[0])
    assert manager.state is State.CLOSED
