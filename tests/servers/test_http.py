"""The HTTP client of docs/examples against nginx, killed, reloaded, frozen, or with another one beside it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from loops import LOOPS, run
from servers.daemons import DRIP, Nginx, serving
from servers.outages import OUTAGES, Client, adds_up, eventually, example, program

from resilient import backoff
from resilient.errors import OutcomeUnknown

httpx = pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.fixture(scope="module")
def daemons() -> Iterator[list[Nginx]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Nginx)) for _ in range(2)]


@pytest.fixture
def servers(daemons: list[Nginx]) -> list[Nginx]:
    """Two servers that run, and tell themselves apart by their versions."""
    for version, daemon in enumerate(daemons, 1):
        daemon.restart(version=version)
    return daemons


def client_of(*servers: Nginx) -> Client:
    """The example, with one server or several."""
    make = example("http_client").http_client
    return Client(
        servers[0],
        lambda **settings: make(*(server.url for server in servers), **settings),
        read=lambda conn: conn.get("/version"),
        write=lambda conn: conn.post("/version"),
        lost=httpx.TransportError,
    )


@pytest.mark.parametrize(("outage", "settings"), [each for each in OUTAGES if adds_up not in each.values])
def test_outages(servers: list[Nginx], outage: Any, settings: dict[str, Any]) -> None:
    """What befalls any client."""
    client_of(servers[0]).run(outage, **settings)


@pytest.mark.parametrize("loop", LOOPS)
def test_it_goes_on_under_every_loop(servers: list[Nginx], loop: str) -> None:
    """Killed and started again between two requests: on asyncio and trio alike."""
    module = example("http_client")

    async def main() -> None:
        async with module.http_client(servers[0].url, backoff=backoff.constant(0.02)) as manager:
            assert "1" == (await module.get(manager, "/version")).text.strip()
            servers[0].restart(version=2)
            assert "2" == (await module.get(manager, "/version")).text.strip()

    run(loop, main)


def test_statuses_leave_the_connection_alone(servers: list[Nginx]) -> None:
    """Whether it is returned or raised, a bad status is an answer."""

    async def statuses(client: Client) -> None:
        assert 404 == (await client.call(lambda conn: conn.get("/nowhere"))).status_code
        for path, status in ("/nowhere", 404), ("/broken", 500):
            with pytest.raises(httpx.HTTPStatusError) as raised:
                await client.call(lambda conn: raising(conn, path))  # noqa: B023  # awaited at once
            assert status == raised.value.response.status_code
        assert 1 == client.manager.stats().generation

    client_of(servers[0]).run(statuses)


async def raising(conn: Any, path: str) -> Any:
    return (await conn.get(path)).raise_for_status()


def test_a_cut_answer_is_unknown(servers: list[Nginx]) -> None:
    """A POST of which half the answer came may have been done."""

    async def cut(client: Client) -> None:
        half: list[bytes] = []

        async def order(conn: Any) -> None:
            async with conn.stream("POST", "/drip") as answer:
                async for part in answer.aiter_raw():
                    half.append(part)

        call = asyncio.create_task(client.call(order))
        await eventually(lambda: half)
        servers[0].restart()
        with pytest.raises(OutcomeUnknown) as raised:
            await call
        assert isinstance(raised.value.__cause__, httpx.RemoteProtocolError)

    client_of(servers[0]).run(cut)


def test_a_reload_costs_nothing(servers: list[Nginx]) -> None:
    """A request that is under way is answered by the old workers, the next one by the new."""
    server = servers[0]

    async def reload(client: Client) -> None:
        drip = asyncio.create_task(client.call(lambda conn: conn.get("/drip")))
        await eventually(lambda: client.manager.stats().operations)
        server.configure(version=7)
        server.tell(signal.SIGHUP)
        async with httpx.AsyncClient() as other:
            while (await other.get(f"{server.url}/version", headers={"Connection": "close"})).text != "7\n":
                await asyncio.sleep(0.01)
        assert "7\n" == (await client.call(client.read, idempotent=True)).text
        assert DRIP == (await drip).text

    client_of(server).run(reload)


def test_the_next_server(servers: list[Nginx]) -> None:
    """When the preferred server is gone the next one is asked, even to do what may be done once only."""
    first, second = servers

    async def failover(client: Client) -> None:
        first.kill()
        assert "2\n" == (await client.call(client.write)).text
        assert second.url == client.manager.stats().endpoint
        first.start(version=1)
        second.kill()
        assert "1\n" == (await client.call(client.write)).text

    client_of(first, second).run(failover)


def test_a_server_that_says_it_is_unwell(servers: list[Nginx]) -> None:
    """The heartbeat moves on to the next server."""
    first, second = servers

    async def unwell(client: Client) -> None:
        first.configure(version=1, health=503)
        first.tell(signal.SIGHUP)
        await eventually(lambda: second.url == client.manager.stats().endpoint)
        assert "2\n" == (await client.call(client.read, idempotent=True)).text

    client_of(first, second).run(unwell, heartbeat=0.02)


def test_it_runs(servers: list[Nginx]) -> None:
    """As a program: it asks the next server."""
    with program("http_client", *(server.url for server in servers)) as lines:
        assert "1\n" == next(lines)
        servers[0].kill()
        assert "2\n" == next(lines)
