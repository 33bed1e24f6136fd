"""The loopback message client: one TCP connection, frames in order, settings from TOML.

Frames are a 4-byte little-endian length and a body. What is sent while there is no connection is kept, and goes out in
order. Reconnecting follows five keys: ``enable_auto_reconnect``, ``reconnect_interval_ms``, ``max_reconnect_attempts``,
``reconnect_backoff_ms`` and ``enable_reconnect_backoff``; by default 1, 2, 2, 2 and 2 s, then the client gives up until
somebody calls ``resume``. A success resets that.

Run as ``python loopback_client.py tcp://127.0.0.1:9000 settings.toml``: each line that you type is sent as a frame.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import resilient
from resilient.net.sync import FramedClient

# What the table of a policy has of its own: here nothing else is read but the five keys.
TABLE = "loopback"


def loopback_client(
    address: str, settings: str | Path | Mapping[str, Any], on_frame: Callable[[bytes], object] | None = None
) -> FramedClient:
    """A client as the settings say.

    Args:
        address: such as ``"tcp://127.0.0.1:9000"``.
        settings: a TOML file with a table ``[policies.loopback]``, or a mapping like it.
        on_frame: called with each frame that comes.
    """
    schedule = resilient.load(settings).retries[TABLE]
    return FramedClient(
        address,
        on_frame=on_frame,
        backoff=schedule.backoff,
        attempts=schedule.attempts,
        stable_after=0,  # a mere connect is a success, as it always was for this client
        name=TABLE,
    )


if __name__ == "__main__":
    with loopback_client(sys.argv[1], sys.argv[2], lambda frame: print("<", frame.decode())) as client:
        client.on_event(lambda event: print("*", event))
        for line in sys.stdin:
            client.send(line.strip().encode())
        client.drain(10)
