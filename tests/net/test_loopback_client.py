"""The loopback client of docs/examples: its keys, its schedule, and what it keeps."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from resilient.core.link import State
from resilient.errors import NotConnected
from resilient.net import FramedServer
from resilient.testing import FakeClock

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "loopback_client.py"


@contextmanager
def serving(place: str, handler: Callable[[bytes], Any] | None = lambda frame: frame, **settings: Any) -> Iterator[str]:
    """A server in a thread."""
    begun, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    urls: list[str] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with FramedServer(place, handler, **settings) as server:
            urls.append(server.url)
            begun.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert begun.wait(10)
    try:
        yield urls[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


def loopback_client(address: str, keys: dict[str, Any], **settings: Any) -> Any:
    spec = spec_from_file_location("loopback_client", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.loopback_client(address, {"policies": {"loopback": keys}}, **settings)


@pytest.mark.parametrize(
    ("keys", "waits"),
    [
        ({"max_reconnect_attempts": 5}, [1, 2, 2, 2, 2]),
        ({"enable_reconnect_backoff": False}, [1, 1, 1, 1, 1]),
        ({"reconnect_interval_ms": 500, "reconnect_backoff_ms": 1200}, [0.5, 1, 1.2, 1.2, 1.2]),
        ({"enable_auto_reconnect": False}, []),
    ],
)
def test_its_schedules(keys: dict[str, Any], waits: list[float], tmp_path: Path) -> None:
    """By the keys; then it gives up. (Nobody listens: virtual time must not race a real server.)"""
    with FakeClock() as clock, loopback_client(f"unix:{tmp_path}/s", keys) as client:
        client.send(b"kept")
        with pytest.raises(NotConnected):
            client.receive()
        assert (waits, State.FAILED) == (clock.sleeps, client.state)


def test_resume_sends_what_was_kept(tmp_path: Path) -> None:
    """A client that gave up begins anew."""
    got: list[bytes] = []
    url = f"unix:{tmp_path}/s"
    with loopback_client(url, {"max_reconnect_attempts": 1, "reconnect_interval_ms": 1}) as client:
        client.send(b"kept")
        with pytest.raises(NotConnected):
            client.receive()
        with serving(url, got.append):
            client.resume()
            until(lambda: got)
    assert [b"kept"] == got


def test_it_runs(tmp_path: Path) -> None:
    """As a program: lines are frames."""
    got: list[bytes] = []
    settings = tmp_path / "settings.toml"
    settings.write_text("[policies.loopback]\nreconnect_interval_ms = 100\n")
    with serving("tcp://127.0.0.1:0", got.append) as url:
        command = [sys.executable, str(EXAMPLE), url, str(settings)]
        subprocess.run(command, input=b"one\ntwo\n", check=True, capture_output=True, timeout=60)
    assert [b"one", b"two"] == got
