"""The PostgreSQL client of docs/examples against a server that is killed, shut down, frozen, starting and full."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers.daemons import Postgres, serving
from servers.outages import OUTAGES, Client, eventually, example, program

from resilient.core.link import State
from resilient.errors import OutcomeUnknown

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Postgres]:
    with serving(Postgres) as daemon:
        daemon.start()
        with psycopg.connect(daemon.url, autocommit=True) as admin:
            admin.execute("create table written (number int)")
            admin.execute("create table account (owner text primary key, balance int)")
        yield daemon


@pytest.fixture
def server(daemon: Postgres) -> Postgres:
    """A server that runs, with empty tables."""
    daemon.restart()
    with psycopg.connect(daemon.url, autocommit=True) as admin:
        admin.execute("truncate written, account")
    return daemon


@pytest.fixture
def admin(server: Postgres) -> Iterator[Any]:
    """Another connection, without any manager."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        yield admin


async def total(conn: Any) -> int:
    """The rows that were written."""
    cursor = await conn.execute("select count(*) from written")
    return int((await cursor.fetchone())[0])


def blocking_total(conn: Any) -> int:
    return int(conn.execute("select count(*) from written").fetchone()[0])


def client_of(server: Postgres, name: str = "postgres_client") -> Client:
    """A form of the example."""
    make = getattr(example("postgres_client"), name)
    return Client(
        server,
        lambda **settings: make(server.url, **settings),
        read=lambda conn: conn.execute("select 1"),
        write=lambda conn: conn.execute("insert into written values (1)"),
        lost=psycopg.OperationalError,
        total=blocking_total if "blocking" in name else total,
    )


@pytest.mark.parametrize(("outage", "settings"), OUTAGES)
@pytest.mark.parametrize("name", ["postgres_client", "blocking_postgres_client"])
def test_outages(server: Postgres, name: str, outage: Any, settings: dict[str, Any]) -> None:
    """What befalls any client."""
    client_of(server, name).run(outage, **settings)


def test_wrong_statements_fail(server: Postgres) -> None:
    """What the server says about a statement comes back as it is, and the connection stays."""

    async def wrong(client: Client) -> None:
        for statement, error in [
            ("selec 1", psycopg.errors.SyntaxError),
            ("select * from nowhere", psycopg.errors.UndefinedTable),
            ("select 1/0", psycopg.errors.DivisionByZero),
            ("set statement_timeout = 1; select pg_sleep(10)", psycopg.errors.QueryCanceled),
        ]:
            with pytest.raises(error):
                await client.call(lambda conn: conn.execute(statement))  # noqa: B023  # awaited at once
        assert 1 == client.manager.stats().generation

    client_of(server).run(wrong)


@pytest.mark.parametrize("name", ["postgres_client", "blocking_postgres_client"])
def test_a_frozen_server_is_let_go(server: Postgres, name: str) -> None:
    """What hangs at a server that stands still ends when the heartbeat has found out."""

    async def frozen(client: Client) -> None:
        server.freeze()
        call = await client.sent(client.write)
        with pytest.raises(OutcomeUnknown):
            await call
        server.thaw()
        await client.call(client.write)

    client_of(server, name).run(frozen, heartbeat=0.1, connect_timeout=0.5)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_fast_shutdown(server: Postgres, admin: Any, idempotent: bool) -> None:
    """A statement that the server ends, to be shut down, is run again by the next one, or is told to be unknown."""

    async def shutdown(client: Client) -> None:
        slow = "select pg_sleep(case when pg_postmaster_start_time() = %s then 100 else 0 end)"
        [started] = admin.execute("select pg_postmaster_start_time()").fetchone()
        call = asyncio.create_task(client.call(lambda conn: conn.execute(slow, [started]), idempotent=idempotent))
        running = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        await eventually(lambda: admin.execute(running).fetchone())
        server.stop(signal.SIGINT)
        server.start()
        if idempotent:
            await call
            return
        with pytest.raises(OutcomeUnknown) as raised:
            await call
        assert isinstance(raised.value.__cause__, client.lost)  # AdminShutdown, if psycopg got to read it

    client_of(server).run(shutdown)


def test_a_starting_server(server: Postgres) -> None:
    """A server that lets nobody in yet is waited for: here a standby, until it is promoted."""
    standby = server.home / "data" / "standby.signal"

    async def starting(client: Client) -> None:
        server.kill()
        standby.touch()
        server.start(wait=False, hot_standby="off")
        call = asyncio.create_task(client.call(client.read, idempotent=True))
        await eventually(lambda: any("the database system is" in str(event) for event in client.events))
        server.promote()
        await call

    client_of(server).run(starting)


def test_a_full_server(server: Postgres) -> None:
    """A server that takes no more connections is waited for."""

    async def full(client: Client) -> None:
        server.restart(max_connections=3)
        with ExitStack() as crowd:
            for _ in range(3):
                crowd.enter_context(psycopg.connect(server.url))
            call = asyncio.create_task(client.call(client.read, idempotent=True))
            await eventually(lambda: any("too many clients" in str(event) for event in client.events))
        await call

    client_of(server).run(full)


def test_a_conflict(server: Postgres, admin: Any) -> None:
    """A transaction that another one came in the way of is run again on the same connection, idempotent or not."""
    admin.execute("insert into account values ('alice', 0)")
    tries: list[int] = []

    async def deposit(conn: Any) -> None:
        tries.append(len(tries))
        async with conn.transaction():
            await conn.execute("set transaction isolation level serializable")
            await conn.execute("select * from account")
            if len(tries) == 1:
                admin.execute("update account set balance = balance + 1")
            await conn.execute("update account set balance = balance + 10")

    async def conflict(client: Client) -> None:
        await client.call(deposit)
        assert [(11,)] == admin.execute("select balance from account").fetchall()
        assert (2, 1) == (len(tries), client.manager.stats().generation)

    client_of(server).run(conflict)


def test_a_deadlock(server: Postgres, admin: Any) -> None:
    """Of two transactions that wait for each other the server ends one, which is run again."""
    admin.execute("insert into account values ('alice', 0), ('bob', 0)")
    admin.execute("alter system set deadlock_timeout = '10ms'")
    admin.execute("select pg_reload_conf()")
    met = asyncio.Barrier(2)
    tries: list[str] = []

    async def deposit(conn: Any, first: str, second: str) -> None:
        tries.append(first)
        async with conn.transaction():
            await conn.execute("update account set balance = balance + 1 where owner = %s", [first])
            if len(tries) <= 2:
                await met.wait()
            await conn.execute("update account set balance = balance + 1 where owner = %s", [second])

    async def deadlock(client: Client) -> None:
        async with client.make(listeners=()) as other:
            await asyncio.gather(
                client.call(lambda conn: deposit(conn, "alice", "bob")),
                other.call(lambda conn: deposit(conn, "bob", "alice")),
            )
        assert [(2,), (2,)] == admin.execute("select balance from account").fetchall()
        assert (3, 1) == (len(tries), client.manager.stats().generation)

    client_of(server).run(deadlock)


@pytest.mark.parametrize(
    ("conninfo", "dials"), [("user=nobody", 1), ("dbname=nothing", 1), ("user=stranger password=wrong", 2)]
)
def test_what_no_dial_mends(server: Postgres, admin: Any, conninfo: str, dials: int) -> None:
    """A missing user or database is told at once, a wrong password when it was tried again."""
    admin.execute("drop role if exists stranger")
    admin.execute("create role stranger login password 'right'")
    rules = server.home / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all stranger all scram-sha-256\n" + before)
    admin.execute("select pg_reload_conf()")

    async def mistaken(client: Client) -> None:
        with pytest.raises(psycopg.OperationalError) as raised:
            await client.call(client.read)
        assert f"gave up after {dials} attempt" in "".join(raised.value.__notes__)
        assert State.FAILED is client.manager.state

    client = client_of(server)
    address = psycopg.conninfo.make_conninfo(server.url, **psycopg.conninfo.conninfo_to_dict(conninfo))
    client.make = lambda **settings: example("postgres_client").postgres_client(address, **settings)
    client.run(mistaken, up=False)
    rules.write_text(before)


def test_it_runs(server: Postgres) -> None:
    """As a program: it goes on telling the time."""
    with program("postgres_client", server.url) as lines:
        assert "datetime" in next(lines)
        server.restart()
        assert "datetime" in next(lines)
