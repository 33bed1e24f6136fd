"""One direction of a connection, between two socket pairs."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from resilient.testing.effects import ROOM, Effect
from resilient.testing.faults import Latency
from resilient.testing.pipe import Pipe, Traffic


class Witness(Effect):
    """Changes nothing, and notes from when on each piece might have gone."""

    def __init__(self) -> None:
        super().__init__("witness", Counter())
        self.ready: list[float] = []

    def reserve(self, now: float, size: int, waited: float = 0.0) -> None:
        self.ready.append(now - waited)


@pytest.mark.parametrize("latency", [0.0, 0.01])
def test_a_piece_that_we_are_late_to_send_says_for_how_long(latency: float) -> None:
    """Counted from when it might have gone: the delays of its faults are not our lateness."""
    witness, late = Witness(), Latency(latency).effect(0.0, Random(7), "up", Counter())

    async def main() -> None:
        pipe = Pipe({1: witness, 2: late}, Traffic(), lambda resets: None, "up")
        client, source = socket.socketpair()
        sink, upstream = socket.socketpair()
        with client, source, sink, upstream:
            for each in (source, sink):
                each.setblocking(False)
            client.sendall(b"x")
            client.close()
            loop = asyncio.get_running_loop()
            before = loop.time()
            await pipe.fill(source)
            after = loop.time()
            await asyncio.sleep(0.05)
            await pipe.drain(sink)
            assert b"x" == upstream.recv(2)
            assert before + latency <= witness.ready[0] + 1e-6 <= after + latency + 2e-6

    asyncio.run(main())


def test_many_small_chunks_find_no_more_room_than_few_large_ones() -> None:
    """What they take beside their bytes counts."""
    traffic = Traffic()

    async def main() -> None:
        pipe = Pipe({}, traffic, lambda resets: None, "up")
        client, source = socket.socketpair()
        with client, source:
            for each in (client, source):
                each.setblocking(False)
            filling = asyncio.create_task(pipe.fill(source))
            with suppress(BlockingIOError):  # so much is never read
                while traffic.received < 2 * ROOM:
                    client.send(b"x")
                    for _ in range(10):
                        await asyncio.sleep(0)
            filling.cancel()

    asyncio.run(main())
    assert ROOM // 1024 < traffic.received < 1000
