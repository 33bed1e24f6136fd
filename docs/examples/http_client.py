"""An HTTP client that outlives its server, or moves to the next one: requests wait while none is well.

httpx keeps a pool for each server, from which broken connections go by themselves; the manager knows which server is
well, and what becomes of the requests. Run as ``python http_client.py http://127.0.0.1:8080 http://127.0.0.1:8081``,
with servers that answer ``/health`` and ``/version``, then restart one. Needs httpx (``resilient-toolkit[http]``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx

from resilient import Action, Classifier, Retry, Rule, presets
from resilient.net import ConnectionManager


class Unwell(Exception):
    """A server says itself that it should not be used."""


def was_not_sent(error: httpx.TransportError) -> bool:
    """Whether no connection was made: then even an order may go to the next server."""
    return presets.http(error).category in {"connect", "dns"}


ON = (
    Classifier(
        Rule("httpx.PoolTimeout", Action.WAIT, category="full"),
        Rule("httpx.TransportError", Action.ROTATE_PROXY, category="connect", when=was_not_sent),
        Rule("httpx.HTTPStatusError", Action.FAIL, category="status"),  # an answer, so the connection is well
        Rule(Unwell, Action.RECONNECT, category="unwell"),
    )
    | presets.http
)

SETTINGS: dict[str, Any] = {"on": ON, "heartbeat": 5, "probe_when_busy": True, "name": "http"}

# Around the calls, for the statuses.
STEADY = Retry(on=presets.http, attempts=5)


@asynccontextmanager
async def http_client(*origins: str, **settings: Any) -> AsyncIterator[ConnectionManager[httpx.AsyncClient]]:
    """A client of the first of several equal servers that is well.

    Args:
        origins: such as ``"http://127.0.0.1:8080"``, the preferred one first.
        settings: of the manager, instead of those above.
    """

    async def probe(client: httpx.AsyncClient) -> None:
        answer = await client.get("/health")
        if answer.is_error:
            raise Unwell(f"{client.base_url} answers {answer.status_code}")

    async with AsyncExitStack() as stack:
        clients: dict[str, httpx.AsyncClient] = {}
        for origin in origins:
            clients[origin] = await stack.enter_async_context(httpx.AsyncClient(base_url=origin, timeout=5))
        manager = ConnectionManager(clients.__getitem__, probe=probe, endpoints=origins, **SETTINGS | settings)
        yield await stack.enter_async_context(manager)


async def get(manager: ConnectionManager[httpx.AsyncClient], path: str) -> httpx.Response:
    """What a server answers, in the end."""
    return await STEADY.call(manager.call, lambda client: client.get(path), idempotent=True)


async def watch(*origins: str) -> None:
    """Asks for the version once a second."""
    async with http_client(*origins) as manager:
        while True:
            print((await get(manager, "/version")).text.strip())
            await asyncio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with suppress(KeyboardInterrupt):
        asyncio.run(watch(*sys.argv[1:]))
