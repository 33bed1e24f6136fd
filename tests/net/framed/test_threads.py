"""The framed client for threads: the same promises, blocking."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from threads import together

from resilient import backoff, events
from resilient.core.link import State
from resilient.errors import DeadlineExceeded, ManagerClosed, NotConnected
from resilient.net import FramedServer, OutboxFull, OutboxPlan
from resilient.net.sync import FramedClient
from resilient.testing import FakeClock

QUICK = backoff.constant(0.001)


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s"


@contextmanager
def serving(place: str, handler: Callable[[bytes], Any] | None = lambda frame: frame, **settings: Any) -> Iterator[str]:
    """A server in a thread."""
    begun, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    urls: list[str] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with FramedServer(place, handler, **settings) as server:
            urls.append(server.url)
            begun.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert begun.wait(10)
    try:
        yield urls[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_frames_come_back_whole_and_in_order(where: str, place: str) -> None:
    """And are iterated until the end; drained means read by the other side."""
    bodies = [bytes([n % 256]) * n for n in range(1500)]
    with serving(place if where == "unix" else "tcp://127.0.0.1:0") as url, FramedClient(url) as client:

        def send() -> None:
            for body in bodies:
                client.send(body)  # waits for room

        thread = threading.Thread(target=send)
        thread.start()
        assert bodies == [client.receive(20) for _ in bodies]
        thread.join()
        assert client.drain(20)
        assert [] == list(client)
        client.close()
        stats = client.stats()
    assert (1500, 1500, State.CLOSED) == (stats.accepted, stats.delivered, client.state)
    assert "CLOSED" in repr(client)


def test_a_crowd_sends_and_receives(place: str) -> None:
    """Each frame once."""
    got: list[bytes] = []
    with serving(place) as url, FramedClient(url) as client:

        def work(n: int) -> None:
            for k in range(50):
                client.send(b"%d %d" % (n, k))
            for _ in range(50):
                got.append(client.receive(20))

        assert [] == together(6, work)
    assert sorted(b"%d %d" % (n, k) for n in range(6) for k in range(50)) == sorted(got)


def test_what_is_sent_offline_is_kept(place: str) -> None:
    """And goes out in order; a new connection may be asked for."""
    got: list[bytes] = []
    changes: list[str] = []
    with FramedClient(place, backoff=QUICK) as client:

        @client.on_event
        def hear(event: events.Event) -> None:
            changes.append(str(event))

        for n in range(3):
            client.send(b"%d" % n)
        with serving(place, got.append):
            until(lambda: len(got) == 3)
            client.reconnect_now()
            until(lambda: client.stats().link.connects == 2)
            client.send(b"3")
            until(lambda: len(got) == 4)
    assert [b"0", b"1", b"2", b"3"] == got
    assert any("asked to reconnect" in change for change in changes)


def test_room_is_waited_for(place: str) -> None:
    """For so long; by the other rules it is not."""
    with FramedClient(place, outbox=OutboxPlan(max_items=1)) as client:
        client.send(b"1")
        with pytest.raises(DeadlineExceeded):
            client.send(b"2", timeout=0.01)
        with pytest.raises(DeadlineExceeded):
            client.send(b"2", timeout=0)
        with pytest.raises(DeadlineExceeded):
            client.receive(0.01)
        raised: list[BaseException] = []
        thread = threading.Thread(target=lambda: raised.extend(together(1, lambda _: client.send(b"2"))))
        thread.start()
        client.disconnect()
        thread.join()
        assert [ManagerClosed] == [type(error) for error in raised]
    with FramedClient(place, outbox=OutboxPlan("error", max_items=1)) as client:
        client.send(b"1")
        with pytest.raises(OutboxFull):
            client.send(b"2")


def test_the_schedule_of_system_1(place: str) -> None:
    """By the fake clock, with nobody listening: virtual time must not race a real server."""
    with FakeClock() as clock:
        with FramedClient(place, attempts=6, backoff=backoff.linear(1, cap=2), stable_after=0) as client:
            with pytest.raises(NotConnected):
                client.receive()
            assert [1, 2, 2, 2, 2] == clock.sleeps


def test_resume_sends_what_was_kept(place: str) -> None:
    """A client that gave up begins anew."""
    got: list[bytes] = []
    with FramedClient(place, attempts=2, backoff=backoff.constant(0.001)) as client:
        client.send(b"kept")
        with pytest.raises(NotConnected):
            client.receive()
        with serving(place, got.append):
            client.resume()
            until(lambda: got)
    assert [b"kept"] == got


def test_hooks_run_elsewhere(place: str) -> None:
    """One that hangs or raises holds nothing up; one may close its own client."""
    go, threads, heard, dropped = threading.Event(), set[str](), list[events.Event](), list[int]()

    def on_frame(frame: bytes) -> None:
        threads.add(threading.current_thread().name)
        if frame == b"raise":
            raise ValueError
        if frame == b"hang":
            go.wait(20)
        if frame == b"close":
            client.close()

    def hear(event: events.Event) -> None:
        heard.append(event)
        raise ValueError

    def on_dropped(numbers: tuple[int, ...]) -> None:
        dropped.extend(numbers)
        raise ValueError

    plan = OutboxPlan("drop_newest", max_items=100)
    with serving(place, heartbeat=True) as url:
        with FramedClient(
            url, on_frame=on_frame, listeners=hear, on_dropped=on_dropped, heartbeat=0.02, outbox=plan, name="link"
        ) as client:
            client.send(b"raise")
            client.send(b"hang")
            time.sleep(0.15)
            assert 0 == client.stats().link.losses
            with pytest.raises(RuntimeError, match="go to its on_frame"):
                client.receive()
            go.set()
            until(lambda: any(isinstance(event, events.Panic) for event in heard))
            for _ in range(3000):
                client.send(bytes(10_000))
            until(lambda: dropped)
            until(lambda: client.stats().pending == 0 or client.stats().in_pipe == client.stats().pending)
            client.send(b"close")
            until(lambda: client.state is State.CLOSED)
    assert {"link: frames"} == threads


def test_it_is_entered_once(place: str) -> None:
    """And before it is used."""
    client = FramedClient(place)
    client.close()
    for use in (lambda: client.send(b"x"), client.receive, client.drain):
        with pytest.raises(RuntimeError, match="enter it first"):
            use()
    with client, pytest.raises(RuntimeError, match="runs already"):
        client.__enter__()
    with pytest.raises(RuntimeError, match="runs already, or did"):
        client.__enter__()


def test_an_address_that_is_down_is_passed_over(place: str) -> None:
    """The next of the list is used."""
    with serving("tcp://127.0.0.1:0") as url, FramedClient([place, url], backoff=QUICK) as client:
        client.send(b"x")
        assert b"x" == client.receive(20)
        assert (place, 1) == (client.name, client.stats().link.failures)


def test_an_address_that_goes_down_comes_last(place: str) -> None:
    """What was kept meanwhile goes to the other one."""
    with ExitStack() as first, serving(f"{place}2", lambda frame: b"2" + frame) as second:
        url = first.enter_context(serving(f"{place}1", lambda frame: b"1" + frame))
        with FramedClient([url, second], backoff=QUICK, stable_after=0) as client:
            client.send(b"a")
            assert b"1a" == client.receive(20)
            first.close()
            until(lambda: client.stats().link.losses)
            client.send(b"b")
            assert b"2b" == client.receive(20)


def test_nothing_is_left_behind(place: str) -> None:
    """Threads and descriptors are where they were."""

    def once() -> None:
        with serving(place) as url, FramedClient(url, on_frame=lambda frame: None) as client:
            client.send(b"x")

    once()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        once()
    assert before == (threading.active_count(), len(os.listdir("/proc/self/fd")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_it_alone(place: str) -> None:
    """What is open belongs to the parent."""
    with serving(place) as url, FramedClient(url) as client:
        client.send(b"x")
        assert b"x" == client.receive(20)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover  # another process
            try:
                client.send(b"y")
            except RuntimeError as error:
                os.write(writing, str(error).encode())
            client.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert b"is a fork" in os.read(reading, 1000)
        os.close(reading)
        os.close(writing)
        client.send(b"z")
        assert b"z" == client.receive(20)


async def of_no_use(anything: object) -> None: ...


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"on_frame": of_no_use}, "on_frame must be a blocking function"),
        ({"on_dropped": of_no_use}, "on_dropped must be a blocking function"),
        ({"listeners": of_no_use}, "a listener must be a plain function"),
    ],
)
def test_hooks_are_plain_functions(settings: dict[str, Any], text: str) -> None:
    """Nobody would await them."""
    with pytest.raises(TypeError, match=text):
        FramedClient("tcp://127.0.0.1:1", **settings)
    with pytest.raises(TypeError, match="plain function"):
        FramedClient("tcp://127.0.0.1:1").on_event(of_no_use)  # type: ignore[arg-type]


INTERRUPTED = """
import asyncio, signal, threading
from resilient.net.sync import FramedClient

main, run, out = threading.main_thread().ident, asyncio.run, threading.Event()

def late(work):
    signal.pthread_kill(main, signal.SIGINT)
    out.wait(0.2)  # it has been heard by then, or is a moment later: either way the client has to end
    return run(work)

asyncio.run = late
try:
    with FramedClient("tcp://127.0.0.1:1"):
        threading.Event().wait(60)
except KeyboardInterrupt:
    print(threading.active_count())
"""


def test_an_interrupt_while_it_begins_leaves_nothing() -> None:
    """Ctrl-C before its event loop runs: the thread ends, and so does the program."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert ("1\n", "", 0) == (done.stdout, done.stderr, done.returncode)
