"""The server of the loopback client: a process of its own that keeps a record of every message it receives.

Each line of the record is the label of a message, written as soon as that was received; so the record outlives a
server that is killed. Standard input ends with whoever started this process, and this process ends with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from demo.messages import label_of
from resilient.net import FramedServer

__all__ = ["main", "serve"]


async def serve(port: int, receive: Callable[[bytes], None]) -> None:
    """Serves until standard input ends; says its port on standard output first."""
    async with FramedServer(("127.0.0.1", port), receive, heartbeat=True) as server:
        print(server.url.rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main(port: str, record: str) -> None:
    """Serves, and writes down what it receives."""
    with open(record, "ab", buffering=0) as book:

        def write_down(received: bytes) -> None:
            book.write(f"{label_of(received)}\n".encode())

        asyncio.run(serve(int(port), write_down))


if __name__ == "__main__":
    main(*sys.argv[1:])
