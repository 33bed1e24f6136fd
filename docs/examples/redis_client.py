"""A Redis client that outlives its server: commands wait while it is away, and none runs twice unless it may.

redis-py keeps a pool, from which broken connections go by themselves; the manager knows whether there is a server, and
what becomes of the commands. Run as ``python redis_client.py redis://127.0.0.1:6379/0``, then restart the server: it
counts on. Needs redis-py.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.retry import Retry as BlockingRetry

from resilient import presets
from resilient.errors import OutcomeUnknown
from resilient.net import ConnectionManager, sync

# Left alone, redis-py tries what it lost again up to ten times, and an INCR may count twice.
ONCE, BLOCKING_ONCE = Retry(NoBackoff(), 0), BlockingRetry(NoBackoff(), 0)
TIMEOUT = 5  # seconds, more than any command takes: what hangs ends by it

SETTINGS: dict[str, Any] = {"on": presets.redis, "heartbeat": 5, "probe_when_busy": True, "name": "redis"}


@asynccontextmanager
async def redis_client(url: str, **settings: Any) -> AsyncIterator[ConnectionManager[redis.asyncio.Redis]]:
    """A client for tasks.

    Args:
        url: such as ``"redis://127.0.0.1:6379/0"``.
        settings: of the manager, instead of those above.
    """
    async with (
        redis.asyncio.Redis.from_url(url, retry=ONCE, socket_timeout=TIMEOUT) as client,
        ConnectionManager(lambda: client, probe=redis.asyncio.Redis.ping, **SETTINGS | settings) as manager,
    ):
        yield manager


@contextmanager
def blocking_redis_client(url: str, **settings: Any) -> Iterator[sync.ConnectionManager[redis.Redis]]:
    """The same for threads."""
    with (
        redis.Redis.from_url(url, retry=BLOCKING_ONCE, socket_timeout=TIMEOUT) as client,
        sync.ConnectionManager(lambda: client, probe=redis.Redis.ping, **SETTINGS | settings) as manager,
    ):
        yield manager


async def count(url: str) -> None:
    """Counts once a second."""
    async with redis_client(url) as manager:
        while True:
            try:
                print(await manager.call(lambda client: client.incr("ticks")))
            except OutcomeUnknown as error:
                print("counted or not?", error)
            await asyncio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with suppress(KeyboardInterrupt):
        asyncio.run(count(sys.argv[1]))
