"""The channel of a framed client, without the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from loops import run

from resilient import ManagerClosed
from resilient.core import backoff
from resilient.core.link import State
from resilient.core.outbox_plan import OutboxPlan
from resilient.net import FramedServer
from resilient.net.framed.channel import FramedChannel
from resilient.net.framed.settings import ON, FramedPlan, read_addresses

ASYNCIO = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def channel_to(address: Any, **settings: Any) -> FramedChannel:
    fields: dict[str, Any] = {
        "addresses": read_addresses(address),
        "outbox": OutboxPlan(),
        "max_frame": 2**20,
        "heartbeat": None,
        "misses": 3,
        "on": ON,
        "backoff": backoff.constant(0.01),
        "attempts": None,
        "stable_after": 10,
        "throttle": 0,
        "connect_timeout": 5,
        "name": "x",
        "listeners": (),
    }
    return FramedChannel(FramedPlan(**fields | settings))


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.001)


@ASYNCIO
def test_frames_go_out_and_come_in(loop: str) -> None:
    """Those that were accepted before the connection was up, in order; what comes is delivered."""

    async def main() -> None:
        async with FramedServer("tcp://127.0.0.1:0", lambda frame: frame.upper()) as server:
            async with channel_to(server.url) as channel:
                assert [1, 2] == [channel.send(b"a"), channel.send(b"b")]
                await until(lambda: len(channel.receive_queue.frames) == 2)
                assert [b"A", b"B"] == [channel.receive_queue.take(), channel.receive_queue.take()]
                assert (2, 0, State.READY) == (
                    channel.stats().received,
                    channel.stats().unread,
                    channel.stats().link.state,
                )

    run(loop, main)


@ASYNCIO
def test_a_heartbeat_attaches_the_connection(loop: str) -> None:
    """No frame goes out before it was answered."""

    async def main() -> None:
        async with FramedServer("tcp://127.0.0.1:0", lambda frame: frame, heartbeat=True) as server:
            async with channel_to(server.url, heartbeat=30) as channel:
                channel.send(b"a")
                assert channel.connection is None
                await until(lambda: channel.receive_queue.frames)
                assert channel.connection is not None

    run(loop, main)


@ASYNCIO
def test_what_was_in_the_pipe_of_a_lost_connection_is_told(loop: str) -> None:
    """By number; the next connection goes on with what waits."""

    async def main() -> None:
        told: list[tuple[int, ...]] = []
        async with FramedServer("tcp://127.0.0.1:0", lambda frame: None) as server:
            async with channel_to(server.url) as channel:
                channel.on_unconfirmed = told.append
                await until(lambda: channel.connection)
                channel.send(b"a")
                await until(lambda: channel.stats().in_pipe == 1)
                first = channel.connection
                channel.reconnect_now()
                await until(lambda: channel.connection not in (None, first))
                assert ([(1,)], 1) == (told, channel.stats().unconfirmed)

    run(loop, main)


@ASYNCIO
def test_a_drain_ends_with_the_other_sides_end(loop: str) -> None:
    """Everything has arrived, and nothing is accepted any more."""

    async def main() -> None:
        got: list[bytes] = []
        async with FramedServer("tcp://127.0.0.1:0", got.append) as server:
            async with channel_to(server.url) as channel:
                for _ in range(100):
                    channel.send(b"a")
                assert await channel.drain(10)
                with pytest.raises(ManagerClosed, match="its client is closed"):
                    channel.send(b"b")
            assert (100, 100) == (len(got), channel.stats().delivered)

    run(loop, main)


@ASYNCIO
def test_a_channel_belongs_to_its_loop(loop: str) -> None:
    """Another one is told so; one that was never entered does not run."""

    async def elsewhere(channel: FramedChannel) -> None:
        with pytest.raises(RuntimeError, match="was entered in another event loop"):
            channel.check_loop()

    async def main() -> None:
        channel = channel_to("tcp://127.0.0.1:1")
        with pytest.raises(RuntimeError, match="enter it first"):
            channel.check_loop()
        async with channel:
            assert asyncio.get_running_loop() is channel.check_loop()
            await asyncio.to_thread(asyncio.run, elsewhere(channel))
            assert not channel.origin.forked

    run(loop, main)


def test_a_channel_that_gave_up_wakes_whoever_waits() -> None:
    """For a frame as for room."""

    async def main() -> None:
        plan = OutboxPlan("block", max_items=1)
        async with channel_to("tcp://127.0.0.1:1", attempts=1, outbox=plan) as channel:
            woken: list[str] = []
            assert 1 == channel.send(b"a")
            assert channel.send_or_wait(b"b", lambda: woken.append("room")) is None
            assert channel.receive_queue.await_frame(lambda: woken.append("frame"))
            await until(lambda: len(woken) == 2)
            assert (State.FAILED, True) == (channel.manager.state, channel.receive_queue.hopeless)

    asyncio.run(main())
