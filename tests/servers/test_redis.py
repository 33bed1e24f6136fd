"""The Redis client of docs/examples against a redis-server that is killed, stopped, frozen, busy, loading and full."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers.daemons import HOST, Redis, serving
from servers.outages import OUTAGES, Client, eventually, example, program

from resilient.core.link import State

redis = pytest.importorskip("redis", reason="redis-py is not installed")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Redis]:
    with serving(Redis) as daemon:
        yield daemon


@pytest.fixture
def server(daemon: Redis) -> Redis:
    """A server that runs, and has nothing in it."""
    daemon.restart()
    with redis.Redis.from_url(daemon.url) as admin:
        admin.flushall()
    return daemon


@pytest.fixture
def admin(server: Redis) -> Iterator[Any]:
    """Another client of the server, without any manager."""
    with redis.Redis.from_url(server.url) as admin:
        yield admin


def client_of(server: Redis, name: str = "redis_client") -> Client:
    """A form of the example."""
    make = getattr(example("redis_client"), name)
    return Client(
        server,
        lambda **settings: make(server.url, **settings),
        read=lambda conn: conn.get("count"),
        write=lambda conn: conn.incr("count"),
        lost=redis.ConnectionError,
        total=lambda conn: conn.incrby("count", 0),
    )


@pytest.mark.parametrize(("outage", "settings"), OUTAGES)
@pytest.mark.parametrize("name", ["redis_client", "blocking_redis_client"])
def test_outages(server: Redis, name: str, outage: Any, settings: dict[str, Any]) -> None:
    """What befalls any client."""
    client_of(server, name).run(outage, **settings)


def test_wrong_commands_fail(server: Redis) -> None:
    """What the server says about a command comes back as it is, and the connection stays."""

    async def wrong(client: Client) -> None:
        await client.call(lambda conn: conn.set("text", "some"))
        for command in ["LPUSH", "text", "more"], ["INCR", "text"], ["NONSENSE"]:
            with pytest.raises(redis.ResponseError):
                await client.call(lambda conn: conn.execute_command(*command))  # noqa: B023  # awaited at once
        assert 1 == client.manager.stats().generation

    client_of(server).run(wrong)


def test_a_stopped_server(server: Redis, admin: Any) -> None:
    """A command that waits at a server which stops in good order waits at the next one."""

    async def stopped(client: Client) -> None:
        call = asyncio.create_task(client.call(lambda conn: conn.blpop("queue", timeout=0), idempotent=True))
        await eventually(lambda: admin.info("clients")["blocked_clients"])
        server.stop(signal.SIGTERM)
        server.start()
        admin.rpush("queue", "some")
        assert (b"queue", b"some") == tuple(await call)

    client_of(server).run(stopped)


def test_a_busy_server(server: Redis, admin: Any) -> None:
    """While a script runs for too long commands wait, on the same connection; none of them was done."""
    admin.config_set("busy-reply-threshold", 1)

    async def busy(client: Client) -> None:
        script = asyncio.create_task(asyncio.to_thread(run_for_ever, server))
        await eventually(lambda: is_busy(admin))
        call = asyncio.create_task(client.call(client.write))
        await eventually(lambda: client.manager.stats().operations)
        admin.script_kill()
        await script
        assert 1 == await call
        assert 1 == client.manager.stats().generation

    client_of(server).run(busy)


def run_for_ever(server: Redis) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=None) as admin:
        with pytest.raises(redis.ResponseError, match="SCRIPT KILL"):
            admin.eval("while true do end", 0)


def is_busy(admin: Any) -> bool:
    try:
        admin.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def test_a_loading_server(server: Redis, admin: Any) -> None:
    """A server that loads its data is waited for."""
    with admin.pipeline() as pipeline:
        for number in range(2000):
            pipeline.set(f"key {number}", number)
        pipeline.execute()
    admin.save()

    async def loading(client: Client) -> None:
        # From its snapshot; 400 ms, in which it answers every 100 ms that it loads.
        server.restart(wait=False, appendonly="no", key_load_delay=200, loading_process_events_interval_bytes=1024)
        assert b"1" == await client.call(lambda conn: conn.get("key 1"), idempotent=True)
        assert any("BusyLoadingError" in str(event) for event in client.events)

    client_of(server).run(loading)


def test_a_full_server(server: Redis, admin: Any) -> None:
    """A server that takes no more clients is waited for."""
    admin.config_set("maxclients", 10)

    with ExitStack() as crowd:
        for _ in range(10):
            crowd.enter_context(socket.create_connection((HOST, server.port)))

        async def full(client: Client) -> None:
            await eventually(lambda: any("max number of clients" in str(event) for event in client.events))
            crowd.close()
            await client.call(client.write)

        client_of(server).run(full, up=False)


def test_a_wrong_password(server: Redis, admin: Any) -> None:
    """It is tried twice, then told."""
    admin.config_set("requirepass", "secret")

    async def barred(client: Client) -> None:
        with pytest.raises(redis.AuthenticationError) as raised:
            await client.call(client.read)
        assert ["gave up after 2 attempts"] == [note.split(" in ")[0] for note in raised.value.__notes__]
        assert State.FAILED is client.manager.state

    client_of(server).run(barred, up=False)


def test_a_replica(server: Redis, admin: Any) -> None:
    """What a replica refuses was not done, and is asked again on a new connection: to its master's successor."""

    async def replica(client: Client) -> None:
        admin.replicaof(HOST, 1)
        call = asyncio.create_task(client.call(client.write))
        await eventually(lambda: any("ReadOnlyError" in str(event) for event in client.events))
        admin.replicaof("NO", "ONE")
        await call

    client_of(server).run(replica)


def test_it_runs(server: Redis) -> None:
    """As a program: it counts on."""
    with program("redis_client", server.url) as lines:
        assert "1\n" == next(lines)
        server.restart()
        assert "2\n" in lines
