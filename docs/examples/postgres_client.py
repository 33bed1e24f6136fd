"""A PostgreSQL client that outlives its server: statements wait while it is away, and none runs twice unless it may.

Run as ``python postgres_client.py postgresql://postgres@127.0.0.1/postgres``, then restart the server: it goes on
telling the time. Needs psycopg 3.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import psycopg

from resilient import presets
from resilient.net import ConnectionManager, sync

# A heartbeat waits for the statement before it, so the server has to end any before three heartbeats are missed.
SESSION: dict[str, Any] = {"autocommit": True, "connect_timeout": 5, "options": "-c statement_timeout=10s"}
SETTINGS: dict[str, Any] = {"on": presets.postgres, "heartbeat": 5, "probe_when_busy": True, "name": "postgres"}


def postgres_client(conninfo: str, **settings: Any) -> ConnectionManager[psycopg.AsyncConnection]:
    """A client for tasks: one connection, one statement at a time.

    Args:
        conninfo: such as ``"postgresql://postgres@127.0.0.1/postgres"``.
        settings: of the manager, instead of those above.
    """

    async def connect() -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(conninfo, **SESSION)

    async def close(conn: psycopg.AsyncConnection) -> None:
        hang_up(conn)
        async with conn.lock:
            await conn.close()

    async def probe(conn: psycopg.AsyncConnection) -> None:
        await conn.execute("select 1")

    return ConnectionManager(connect, close=close, probe=probe, **SETTINGS | settings)


def blocking_postgres_client(conninfo: str, **settings: Any) -> sync.ConnectionManager[psycopg.Connection]:
    """The same for threads."""

    def connect() -> psycopg.Connection:
        return psycopg.Connection.connect(conninfo, **SESSION)

    def close(conn: psycopg.Connection) -> None:
        hang_up(conn)
        with conn.lock:
            conn.close()

    def probe(conn: psycopg.Connection) -> None:
        conn.execute("select 1")

    return sync.ConnectionManager(connect, close=close, probe=probe, **SETTINGS | settings)


def hang_up(conn: psycopg.AsyncConnection | psycopg.Connection) -> None:
    """Ends whoever still waits for an answer on this connection; to be done before it is closed.

    Closed under a statement that waits, a connection leaves it to wait on a number that the next socket may be given.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


async def tell_the_time(conninfo: str) -> None:
    """Asks for it once a second."""
    async with postgres_client(conninfo) as manager:
        while True:
            cursor = await manager.call(lambda conn: conn.execute("select now()"), idempotent=True)
            print(await cursor.fetchone())
            await asyncio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with suppress(KeyboardInterrupt):
        asyncio.run(tell_the_time(sys.argv[1]))
