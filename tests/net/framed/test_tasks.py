"""The framed client: frames kept, in order, whole, counted; over real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loops import run

import resilient
from resilient import backoff, events
from resilient.core.frames import encode
from resilient.core.link import State
from resilient.errors import AttemptTimeout, ManagerClosed, NotConnected
from resilient.net import FramedClient, FramedServer, FrameTooLarge, OutboxFull, OutboxPlan
from resilient.testing import FakeClock, FaultProxy
from resilient.testing.faults import Bandwidth, LimitData, Slicer, Stall

LOOPS = ["asyncio", "uvloop"]
QUICK = backoff.constant(0.001)


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s"


def echo(frame: bytes) -> bytes:
    return frame


async def until(what: Callable[[], object]) -> None:
    """Yields to others until something is so."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.001)


def adds_up(client: FramedClient) -> bool:
    stats = client.stats()
    return stats.accepted == stats.delivered + stats.pending + stats.dropped + stats.unconfirmed


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_frames_come_back_whole_and_in_order(loop: str, where: str, place: str) -> None:
    """Of any size, empty ones and large ones too; drained means read by the other side."""

    async def main() -> None:
        bodies = [Random(n).randbytes(n * 7 % 300) for n in range(2000)] + [bytes(3_000_000), b""]
        async with FramedServer(place if where == "unix" else "tcp://127.0.0.1:0", echo) as server:
            async with FramedClient(server.url) as client:
                sending = asyncio.create_task(send_all(client, bodies))
                assert bodies == [await client.receive() for _ in bodies]
                await sending
                assert await client.drain(20)
        stats = client.stats()
        assert (2002, 2002, 0, 2002) == (stats.accepted, stats.delivered, stats.unread, stats.received)
        assert (1, 0, State.CLOSED) == (stats.link.connects, stats.link.losses, client.state)

    run(loop, main)


async def send_all(client: FramedClient, bodies: list[bytes]) -> None:
    for body in bodies:
        await client.send_when_room(body)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_sent_offline_goes_out_in_order(loop: str, place: str) -> None:
    """From the first moment on, from any thread."""

    async def main() -> None:
        got: list[bytes] = []
        async with FramedClient(place, backoff=QUICK) as client:
            assert [1, 2, 3] == [client.send(b"%d" % n) for n in range(3)]
            thread = threading.Thread(target=lambda: client.send(b"3"))
            thread.start()
            thread.join()
            assert 4 == client.stats().pending
            async with FramedServer(place, lambda frame: got.append(frame)):
                await until(lambda: len(got) == 4)
        assert [b"0", b"1", b"2", b"3"] == got

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_answers_a_frame_goes_at_once(loop: str, place: str) -> None:
    """Others wait for the event loop, which hands them over together; the order is theirs."""

    async def main() -> None:
        async with FramedServer(place, echo) as server, FramedClient(server.url) as client:
            client.send(b"a")
            assert b"a" == await client.receive()
            client.send(b"b")
            assert (0, 2) == (client.stats().waiting_bytes, client.stats().accepted)
            client.send(b"c")
            client.send(b"d")
            assert (10, 4) == (client.stats().waiting_bytes, client.stats().accepted)
            assert [b"b", b"c", b"d"] == [await client.receive() for _ in range(3)]
            assert adds_up(client)

    run(loop, main)


def test_many_threads_send(place: str) -> None:
    """Each one's frames keep their order."""

    async def main() -> None:
        got: list[bytes] = []
        async with FramedServer(place, got.append) as server, FramedClient(server.url) as client:

            def work(n: int) -> None:
                for k in range(100):
                    client.send(b"%d %d" % (n, k))

            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            await until(lambda: len(got) == 800)
        for n in range(8):
            assert [b"%d %d" % (n, k) for k in range(100)] == [frame for frame in got if frame.split()[0] == b"%d" % n]

    asyncio.run(main())


@pytest.mark.parametrize("resend", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_messages_through_resets(loop: str, resend: bool, place: str) -> None:
    """A reset every 200 on average: order kept, none torn, none doubled unless asked for, and the counts add up."""
    count = 10_000

    async def main() -> None:
        got: list[int] = []
        doubtful: list[int] = []

        def handler(frame: bytes) -> None:
            number, filling = frame.split(b":")
            assert filling == b"x" * (int(number) % 90)
            got.append(int(number))

        plan = OutboxPlan(resend=resend)
        async with FramedServer(place, handler) as server:
            with FaultProxy(server.url, rng=Random(7)) as proxy:
                proxy.add(LimitData(200 * 60, average=True, reset=True), "up")
                async with FramedClient(
                    proxy.url, outbox=plan, backoff=QUICK, on_unconfirmed=doubtful.extend, stable_after=0
                ) as client:
                    for n in range(count):
                        await client.send_when_room(b"%d:" % (n + 1) + b"x" * ((n + 1) % 90))
                        if n % 20 == 0:  # or all of it would be in one pipe
                            await asyncio.sleep(0.001)
                    await until(lambda: client.stats().pending == client.stats().in_pipe)
                    proxy.clear()
                    assert await client.drain(20)
        stats = client.stats()
        assert (count, 0, 0) == (stats.accepted, stats.pending, stats.dropped)
        assert stats.accepted == stats.delivered + stats.unconfirmed
        assert stats.link.losses > 10
        assert stats.unconfirmed == len(doubtful)
        if resend:
            assert (0, set(range(1, count + 1))) == (stats.unconfirmed, set(got))
        else:
            assert sorted(set(got)) == got
            assert set(range(1, count + 1)) - set(got) <= set(doubtful)
            assert stats.resent == 0

    run(loop, main)


@pytest.mark.parametrize("resend", [False, True])
def test_a_frame_that_the_server_refuses_is_given_up(
    resend: bool, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its number, with the reason in the log; those behind it arrive, those before it do not again and again."""

    async def main() -> None:
        got: list[bytes] = []
        dropped: list[int] = []
        plan = OutboxPlan(resend=resend)
        async with (
            FramedServer(place, got.append, max_frame=1_000_000) as server,
            FramedClient(server.url, outbox=plan, backoff=QUICK, on_dropped=dropped.extend) as client,
        ):
            client.send(b"good")
            big = client.send(bytes(8_000_000))
            client.send(b"small")
            await until(lambda: b"small" in got)
            assert [big] == dropped
            assert got.count(b"good") <= 6
        assert f"frame {big} is given up: 5 connections in a row were lost while it was sent" in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize("heartbeat", [None, 100])
def test_a_goodbye_that_crosses_ours_confirms_nothing(heartbeat: float | None, place: str) -> None:
    """The server had ended its stream before it could read what we sent; with heartbeats it says what it has read."""

    async def main() -> None:
        unconfirmed: list[int] = []
        gone, go = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if heartbeat is not None:
                writer.write(await reader.readexactly(4))
            await go.wait()
            writer.write_eof()
            gone.set()
            await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_unix_server(serve, place.removeprefix("unix:"))
        async with (
            server,
            FramedClient(
                place, heartbeat=heartbeat, backoff=QUICK, on_unconfirmed=unconfirmed.extend, attempts=1
            ) as client,
        ):
            await until(lambda: client.state == "READY")
            go.set()
            for _ in range(20):
                client.send(b"x" * 100)
            await gone.wait()
            await client.drain(5)
        stats = client.stats()
        assert (20, 0) == (stats.accepted, stats.delivered)

    asyncio.run(main())


def test_slices_of_the_network_change_nothing(place: str) -> None:
    """A few bytes at a time, in both directions."""

    async def main() -> None:
        bodies = [bytes([n]) * n for n in range(100)]
        async with FramedServer(place, echo) as server:
            with FaultProxy(server.url, rng=Random(1)) as proxy:
                proxy.add(Slicer(3, 2))
                async with FramedClient(proxy.url) as client:
                    await send_all(client, bodies)
                    assert bodies == [await client.receive() for _ in bodies]

    asyncio.run(main())


def test_the_schedule_of_system_1(place: str) -> None:
    """1, 2, 2, 2, 2 s, then it gives up and says why."""

    async def main() -> None:
        with FakeClock() as clock:  # nobody listens: virtual time must not race a real server
            async with FramedClient(place, attempts=6, backoff=backoff.linear(1, cap=2), stable_after=0) as client:
                client.send(b"kept")
                with pytest.raises(NotConnected, match="it gave up, until it is resumed") as caught:
                    await client.receive()
                assert isinstance(caught.value.__cause__, OSError)
                assert ([1, 2, 2, 2, 2], State.FAILED) == (clock.sleeps, client.state)

    asyncio.run(main())


def test_resume_sends_what_was_kept(place: str) -> None:
    """A client that gave up begins anew, and nothing it accepted is lost."""

    async def main() -> None:
        got: list[bytes] = []
        async with FramedClient(place, attempts=2, backoff=QUICK) as client:
            client.send(b"kept")
            with pytest.raises(NotConnected):
                await client.receive()
            assert (State.FAILED, 1) == (client.state, client.stats().pending)
            async with FramedServer(place, got.append):
                client.resume()
                await until(lambda: got)
                assert State.READY == client.state
        assert [b"kept"] == got

    asyncio.run(main())


def test_a_success_resets_the_schedule(place: str) -> None:
    """The next outage begins with the first wait, and has all its attempts again."""

    async def main() -> None:
        waits: list[float] = []

        def listen(event: events.Event) -> None:
            if isinstance(event, events.Waiting):
                waits.append(event.seconds)

        async with FramedServer(place) as server:
            async with FramedClient(
                place, attempts=3, backoff=backoff.linear(0.001, cap=0.1), stable_after=0, listeners=listen
            ) as client:
                for outage in range(1, 7):
                    await until(lambda: client.state is State.READY and server.connections)
                    server.connections[0].abort()
                    await until(lambda outage=outage: len(waits) == outage)
        assert [0.001] * 6 == waits

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_stops_answering_is_noticed(loop: str, place: str) -> None:
    """By heartbeats; the frames of the stalled connection are unconfirmed, later ones go out by the next."""

    async def main() -> None:
        doubtful: list[int] = []
        got: list[bytes] = []
        lost: list[events.Event] = []
        async with FramedServer(place, got.append, heartbeat=True) as server:
            with FaultProxy(server.url) as proxy:
                async with FramedClient(
                    proxy.url, heartbeat=0.05, backoff=QUICK, on_unconfirmed=doubtful.extend, listeners=lost.append
                ) as client:
                    client.send(b"before")
                    await until(lambda: client.stats().delivered == 1)  # the answer to a beat says so
                    stall = proxy.add(Stall())
                    client.send(b"lost")
                    await until(lambda: doubtful)
                    proxy.remove(stall)
                    client.send(b"after")
                    await until(lambda: client.stats().delivered == 2)
        assert ([2], b"before", b"after") == (doubtful, got[0], got[-1])  # "lost" may have come late, after all
        assert any("peer silent" in str(event) for event in lost)

    run(loop, main)


def test_a_peer_that_was_just_heard_is_asked_all_the_same() -> None:
    """Else its silence would last an interval longer; and the answer says what arrived."""

    async def main() -> None:
        async with FramedServer("tcp://127.0.0.1:0", heartbeat=True) as server:
            async with FramedClient(server.url, heartbeat=60) as client:
                await until(lambda: client.state is State.READY)  # by the first beat, which was answered
                client.send(b"x")
                await until(lambda: client.stats().in_pipe == 1)
                channel = client._channel
                assert channel.connection is not None
                await channel._probe(channel.connection)
                assert (1, 0) == (client.stats().delivered, client.stats().in_pipe)

    asyncio.run(main())


def test_beats_are_nobody_elses_business(place: str) -> None:
    """Neither side's user sees them, and no user may send one."""

    async def main() -> None:
        seen: list[bytes] = []
        async with FramedServer(place, seen.append, heartbeat=True) as server:
            async with FramedClient(server.url, heartbeat=0.01, on_frame=seen.append) as client:
                with pytest.raises(ValueError, match="a frame must not be empty: that is the heartbeat"):
                    client.send(b"")
                await asyncio.sleep(0.1)
                server.broadcast(b"x")
                await until(lambda: seen)
                assert (1, 0) == (client.stats().link.connects, client.stats().link.losses)
        assert [b"x"] == seen

    asyncio.run(main())


def test_a_peer_that_never_answers_is_no_connection(place: str) -> None:
    """With heartbeats on, the first one decides: nothing is poured into a pipe that nobody reads."""

    async def main() -> None:
        async with FramedServer(place):  # takes empty frames for frames
            async with FramedClient(place, heartbeat=1, connect_timeout=0.05, attempts=2, backoff=QUICK) as client:
                client.send(b"kept")
                with pytest.raises(NotConnected) as caught:
                    await client.receive()
                assert isinstance(caught.value.__cause__, AttemptTimeout)
                assert (1, 0) == (client.stats().pending, client.stats().in_pipe)

    asyncio.run(main())


def test_a_slow_reader_is_no_dead_peer(place: str) -> None:
    """A large frame over a slow line takes many intervals: bytes that leave are a sign of life."""

    async def main() -> None:
        got: list[int] = []
        async with FramedServer(place, lambda frame: got.append(len(frame)), heartbeat=True) as server:
            with FaultProxy(server.url) as proxy:
                proxy.add(Bandwidth(8_000_000), "up")
                async with FramedClient(proxy.url, heartbeat=0.25) as client:
                    client.send(bytes(16_000_000))
                    await until(lambda: got)
                    assert 0 == client.stats().link.losses
        assert [16_000_000] == got

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_length_out_of_bounds_ends_the_connection(loop: str) -> None:
    """0xFFFFFFFF: closed, and memory hardly grows; frames before it count."""

    async def main() -> None:
        closed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(encode(b"good") + b"\xff\xff\xff\xff" + bytes(1000))
            await reader.read()
            closed.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        tracemalloc.start()
        try:
            async with FramedClient(server.sockets[0].getsockname()[:2], attempts=1) as client:
                assert b"good" == await client.receive()
                with pytest.raises(NotConnected) as caught:
                    await client.receive()
                assert isinstance(caught.value.__cause__, FrameTooLarge)
                await asyncio.wait_for(closed.wait(), 10)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            server.close()
            await server.wait_closed()
        assert most < 1_000_000

    run(loop, main)


@pytest.mark.parametrize(
    ("overflow", "expected"), [("drop_oldest", ([1], [b"1", b"2"])), ("drop_newest", ([3], [b"0", b"1"]))]
)
def test_overflows_that_drop(overflow: Any, expected: tuple[list[int], list[bytes]], place: str) -> None:
    """By number, and counted."""

    async def main() -> tuple[list[int], list[bytes]]:
        dropped: list[int] = []
        got: list[bytes] = []
        plan = OutboxPlan(overflow, max_items=2)
        async with FramedClient(place, outbox=plan, on_dropped=dropped.extend, backoff=QUICK) as client:
            assert [1, 2, 3] == [client.send(b"%d" % n) for n in range(3)]
            async with FramedServer(place, got.append):
                await until(lambda: len(got) == 2)
            assert adds_up(client)
        return dropped, got

    assert expected == asyncio.run(main())


@pytest.mark.parametrize("overflow", ["block", "error"])
def test_overflows_that_refuse(overflow: Any, place: str) -> None:
    """An error says why; send_when_room waits, if the rule is to."""

    async def main() -> None:
        got: list[bytes] = []
        plan = OutboxPlan(overflow, max_items=2, max_bytes=100)
        async with FramedClient(place, outbox=plan, backoff=QUICK) as client:
            with pytest.raises(OutboxFull, match="frame not accepted by 'unix:.*': it is larger than the whole outbox"):
                await client.send_when_room(bytes(97))
            client.send(b"0")
            client.send(b"1")
            with pytest.raises(OutboxFull, match="the outbox is full"):
                client.send(b"2")
            if overflow == "error":
                with pytest.raises(OutboxFull):
                    await client.send_when_room(b"2")
                return
            waiting = asyncio.create_task(client.send_when_room(b"2"))
            given_up = asyncio.create_task(client.send_when_room(b"never"))
            await asyncio.sleep(0)
            given_up.cancel()
            async with FramedServer(place, got.append):
                assert 3 == await waiting
                await until(lambda: len(got) == 3)
        assert [b"0", b"1", b"2"] == got

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_takes_the_frames(loop: str, place: str) -> None:
    """Then the peer has to wait: memory stays bounded, the peer is not accused, and nothing is lost."""

    async def main() -> None:
        async with FramedServer(place, heartbeat=True, max_pending=2**26) as server:
            async with FramedClient(server.url, heartbeat=0.02) as client:
                await until(lambda: client.state is State.READY)
                for n in range(5000):
                    server.broadcast(b"%5d" % n * 200)
                await asyncio.sleep(0.2)
                assert client.stats().unread < 3000
                assert 0 == client.stats().link.losses
                assert [b"%5d" % n * 200 for n in range(5000)] == [await client.receive() for _ in range(5000)]

    run(loop, main)


async def raises(frame: bytes) -> None:
    raise ValueError(frame)


def raises_at_once(frame: bytes) -> None:
    raise ValueError(frame)


@pytest.mark.parametrize("on_frame", [raises, raises_at_once, lambda frame: raises(frame)])
def test_a_hook_that_raises_harms_nothing(on_frame: Callable[[bytes], Any], place: str) -> None:
    """One call for each frame, a Panic for each error, and the connection stays."""

    async def main() -> None:
        heard: list[events.Event] = []
        async with FramedServer(place, echo) as server:
            async with FramedClient(server.url, on_frame=on_frame, listeners=heard.append) as client:
                for n in range(3):
                    client.send(b"%d" % n)
                await until(lambda: len(panics(heard)) == 3)
                assert 0 == client.stats().link.losses
                with pytest.raises(RuntimeError, match="go to its on_frame"):
                    await client.receive()

    asyncio.run(main())


def panics(heard: list[events.Event]) -> list[events.Panic]:
    return [event for event in heard if isinstance(event, events.Panic)]


@pytest.mark.parametrize("late", [False, True])
def test_a_hook_that_hangs_harms_nothing(late: bool, place: str) -> None:
    """Reading pauses at some point; the connection lives on its heartbeats, and closing ends the hook."""

    async def main() -> None:
        begun = 0

        async def hang(frame: bytes) -> None:
            nonlocal begun
            begun += 1
            await asyncio.Event().wait()

        hook: Any = (lambda frame: hang(frame)) if late else hang
        async with FramedServer(place, echo, heartbeat=True) as server:
            async with FramedClient(server.url, on_frame=hook, heartbeat=0.02) as client:
                await send_all(client, [bytes(100)] * 5000)
                await asyncio.sleep(0.2)
                assert (1, 0) == (begun, client.stats().link.losses)

    asyncio.run(main())


def test_hooks_call_back(place: str) -> None:
    """Whatever they call: sending, asking, reconnecting, closing."""

    async def main() -> None:
        got: list[bytes] = []

        async def on_frame(frame: bytes) -> None:
            got.append(frame)
            client.stats()
            if len(got) < 3:
                client.send(frame + b"!")
            elif len(got) == 3:
                client.reconnect_now()
                client.send(b"by the next")
            else:
                await client.close()

        async with FramedServer(place, echo) as server:
            async with FramedClient(server.url, on_frame=on_frame, backoff=QUICK) as client:
                client.send(b"a")
                await until(lambda: client.state is State.CLOSED)
        assert [b"a", b"a!", b"a!!", b"by the next"] == got
        assert 2 == client.stats().link.connects

    asyncio.run(main())


def test_hooks_of_numbers_may_raise(place: str) -> None:
    """They are called once for each step, a Panic tells what they raised, and the client goes on sending."""

    async def main() -> None:
        heard: list[events.Event] = []
        got: list[bytes] = []

        def broken(numbers: tuple[int, ...]) -> None:
            raise ValueError(numbers)

        plan = OutboxPlan("drop_newest", max_items=1)
        async with FramedClient(
            place, outbox=plan, on_dropped=broken, on_unconfirmed=broken, listeners=heard.append, backoff=QUICK
        ) as client:
            client.send(b"1")
            client.send(b"2")
            await until(lambda: panics(heard))
            async with FramedServer(place, got.append) as server:
                await until(lambda: got)
                server.connections[0].abort()
                await until(lambda: len(panics(heard)) == 2)
                client.send(b"3")
                await until(lambda: len(got) == 2)
                assert (1, 1) == (client.stats().dropped, client.stats().unconfirmed)
        assert ["(2,)", "(1,)"] == [str(event.error) for event in panics(heard)][:2]
        assert [b"1", b"3"] == got

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_asking_for_a_new_connection(loop: str, place: str) -> None:
    """What was in the pipe of the old one is unconfirmed; on_event hears of it."""

    async def main() -> None:
        states: list[str] = []
        async with FramedServer(place, echo) as server, FramedClient(server.url) as client:

            @client.on_event
            def hear(event: events.Event) -> None:
                if isinstance(event, events.LinkChanged):
                    states.append(event.after)

            client.reconnect_now()  # nothing to be ended yet
            await until(lambda: client.state is State.READY)
            states.clear()
            client.reconnect_now()
            await until(lambda: client.stats().link.connects == 2)
            await asyncio.to_thread(client.reconnect_now)
            await until(lambda: client.stats().link.connects == 3)
            client.send(b"x")
            assert b"x" == await client.receive()
            assert "READY" == states[-1]
            assert "<FramedClient" in repr(client)

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_are_iterated_until_the_end(loop: str, place: str) -> None:
    """What came before the end is still taken."""

    async def main() -> None:
        async with FramedServer(place, echo) as server, FramedClient(server.url) as client:
            client.send(b"1")
            client.send(b"2")
            got = []
            async for frame in client:
                got.append(frame)
                if len(got) == 2:
                    ending = asyncio.create_task(client.disconnect())
            await ending
            await client.close()
            assert [b"1", b"2"] == got
            with pytest.raises(ManagerClosed, match="its client is closed"):
                client.send(b"3")

    run(loop, main)


def test_draining_without_hope(place: str) -> None:
    """In vain, it says so; what was kept is dropped, by number."""

    async def main() -> None:
        dropped: list[int] = []
        async with FramedClient(place, attempts=1, on_dropped=dropped.extend) as client:
            client.send(b"1")
            assert not await client.drain()
        assert ([1], 1) == (dropped, client.stats().dropped)

        async with FramedClient(place, on_dropped=dropped.extend) as client:
            client.send(b"1")
            draining = asyncio.create_task(client.drain(0.02))
            await asyncio.sleep(0)
            with pytest.raises(ManagerClosed, match="its client drains"):
                client.send(b"2")
            assert not await draining
        assert [1, 1] == dropped

        async with FramedClient(place) as client:  # nothing to be sent, nobody there
            assert await client.drain()

    asyncio.run(main())


def test_draining_waits_for_a_new_connection(place: str) -> None:
    """What waits goes out before the end."""

    async def main() -> None:
        got: list[bytes] = []
        async with FramedClient(place, backoff=QUICK) as client:
            client.send(b"1")
            draining = asyncio.create_task(client.drain(20))
            await asyncio.sleep(0.01)
            async with FramedServer(place, got.append):
                assert await draining
        assert ([b"1"], 1) == (got, client.stats().delivered)

    asyncio.run(main())


def test_draining_a_connection_that_breaks_at_the_last_moment(place: str) -> None:
    """With resend, what was in the pipe goes out again before the end."""

    async def main() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place.removeprefix("unix:"))
        listener.listen()
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        async with FramedClient(place, outbox=OutboxPlan(resend=True), backoff=QUICK, stable_after=0) as client:
            client.send(b"twice")
            first, _ = await loop.sock_accept(listener)
            await until(lambda: client.stats().in_pipe == 1)
            draining = asyncio.create_task(client.drain(20))
            await asyncio.sleep(0.01)
            first.close()  # with the frame unread: a reset
            second, _ = await loop.sock_accept(listener)
            assert encode(b"twice") == await loop.sock_recv(second, 100)
            assert b"" == await loop.sock_recv(second, 100)
            second.close()
            assert await draining
        listener.close()
        assert (1, 1) == (client.stats().delivered, client.stats().resent)

    asyncio.run(main())


def test_a_stalled_peer_does_not_hold_up_the_end(place: str) -> None:
    """What was handed over has a second to leave."""

    async def main() -> None:
        async with asyncio.timeout(8):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(place.removeprefix("unix:"))
            listener.listen()
            async with FramedClient(place) as client:
                client.send(bytes(5_000_000))
                client.send(b"second")
                await until(lambda: client.state is State.READY)
                await asyncio.sleep(0.05)
            listener.close()
        stats = client.stats()
        assert (2, 0, 2) == (stats.accepted, stats.pending, stats.dropped)

    asyncio.run(main())


def test_a_killed_server_comes_back(tmp_path: Path) -> None:
    """kill -9, and a new process on the same socket: frames flow again."""
    program = (
        "import asyncio, sys\nfrom resilient.net import FramedServer\n"
        "async def main():\n"
        "    async with FramedServer(sys.argv[1], lambda frame: frame):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    url = f"unix:{tmp_path}/s"

    def server() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert b"up\n" == process.stdout.readline()
        return process

    def kill(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    async def main() -> None:
        first = await asyncio.to_thread(server)
        async with FramedClient(url, backoff=QUICK, stable_after=0) as client:
            client.send(b"1")
            assert b"1" == await client.receive()
            kill(first)
            await until(lambda: client.state is not State.READY)
            client.send(b"2")
            second = await asyncio.to_thread(server)
            assert b"2" == await asyncio.wait_for(client.receive(), 20)
            kill(second)

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_is_down_is_passed_over(loop: str, place: str) -> None:
    """The next of the list is used; the name is that of the first."""

    async def main() -> None:
        async with FramedServer("tcp://127.0.0.1:0", echo) as server:
            async with FramedClient([place, server.url], backoff=QUICK) as client:
                client.send(b"x")
                assert b"x" == await client.receive()
                link = client.stats().link
                assert (place, server.address, 1) == (client.name, link.endpoint, link.failures)

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_goes_down_comes_last(loop: str, place: str) -> None:
    """What was kept meanwhile goes to the other one; if that goes down as well, the first has its turn again."""

    async def main() -> None:
        first, second = FramedServer(f"{place}1", b"1%b".__mod__), FramedServer(f"{place}2", b"2%b".__mod__)
        await first.start()
        await second.start()
        async with FramedClient([first.url, second.url], backoff=QUICK, stable_after=0) as client:
            client.send(b"a")
            assert b"1a" == await client.receive()
            await first.close(0)
            await until(lambda: client.state is not State.READY or client.stats().link.connects == 2)
            client.send(b"b")
            assert b"2b" == await client.receive()
            await first.start()
            await second.close(0)
            await until(lambda: client.stats().link.losses == 2)
            client.send(b"c")
            assert b"1c" == await client.receive()
        await first.close()

    run(loop, main)


def test_hooks_are_not_bound_by_a_deadline_of_the_connection(place: str) -> None:
    """That of the attempt, and that of whoever entered the client or started the server, are none of their business."""

    async def main() -> None:
        found: list[object] = []

        def look(*_: object) -> bytes:
            found.append(resilient.current_deadline())
            return b"x"

        async def enter() -> tuple[FramedServer, FramedClient]:
            server = FramedServer(place, look)
            await server.start()
            client = FramedClient(place, on_frame=look)
            return server, await client.__aenter__()

        server, client = await resilient.Timeout(10).call(enter)
        client.send(b"a")
        await until(lambda: len(found) == 2)
        await client.close()
        await server.close()
        assert [None, None] == found

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left_behind(loop: str, place: str) -> None:
    """After faults of many kinds: sockets, tasks and threads are where they were."""

    async def main() -> None:
        async def once() -> None:
            async with FramedServer(place, echo, heartbeat=True) as server:
                with FaultProxy(server.url) as proxy:
                    async with FramedClient(proxy.url, heartbeat=0.05, backoff=QUICK) as client:
                        client.send(b"1")
                        await client.receive()
                        proxy.cut()
                        await until(lambda: client.stats().link.connects == 2)
                        client.send(b"2")

        await once()
        before = len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await once()
        after = len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))
        assert before == after

    run(loop, main)


def test_cancelled_tasks_leave_nothing(place: str) -> None:
    """A receive, a send for room and a drain that are cancelled; another gets the frame."""

    async def main() -> None:
        async with FramedServer(place, echo) as server, FramedClient(server.url) as client:
            for work in (client.receive(), client.receive()):
                task = asyncio.create_task(work)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            client.send(b"1")
            assert b"1" == await client.receive()
            task = asyncio.create_task(client.drain())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert State.CLOSED is client.state

    asyncio.run(main())


def test_errors_leave_no_cycles(place: str) -> None:
    """What a failed client raises is freed with the last reference."""

    async def main() -> None:
        async with FramedClient(place, attempts=1) as client:
            with pytest.raises(NotConnected):
                await client.receive()
            gc.collect()
            gc.disable()
            try:
                with pytest.raises(NotConnected):
                    await client.receive()
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                assert [] == [thing for thing in gc.garbage if isinstance(thing, NotConnected)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()

    asyncio.run(main())


def test_an_entered_client_is_for_one_loop(place: str) -> None:
    """Before it is entered, and elsewhere, it says so."""
    client = FramedClient(place)
    with pytest.raises(RuntimeError, match="enter it first"):
        client.send(b"x")

    async def not_entered() -> None:
        with pytest.raises(RuntimeError, match="enter it first"):
            await client.receive()

    asyncio.run(not_entered())

    async def main() -> None:
        async with client:

            async def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="another event loop"):
                    await client.receive()

            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))

    asyncio.run(main())


def test_trio_is_told_what_to_use(place: str) -> None:
    """Early, and in words."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use resilient.net.sync.FramedClient"):
            async with FramedClient(place):
                pass

    run("trio", main)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"outbox": "block"}, TypeError, "outbox must be an OutboxPlan"),
        ({"max_frame": 0}, ValueError, "max_frame"),
        ({"heartbeat": 0}, ValueError, "heartbeat"),
        ({"on_frame": 3}, TypeError, "on_frame"),
        ({"on_unconfirmed": raises}, TypeError, "on_unconfirmed must be a blocking function"),
        ({"listeners": 3}, TypeError, "listeners"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """Where the client is made."""
    with pytest.raises(error, match=text):
        FramedClient("tcp://127.0.0.1:1", **settings)
    with pytest.raises(ValueError, match="address must be"):
        FramedClient("localhost")
