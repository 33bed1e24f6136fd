"""The plugin host of docs/examples, against a real control plane: down, broken, mistaken, well again."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import events, listen
from resilient.drivers.clock import SYSTEM
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import current_backend
from resilient.net import Supervisor

pytest.importorskip("httpx", reason="the example fetches with httpx, the extra named http")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plugin_host.py"


class ControlPlane:
    """A real server on the loopback, which answers as it is told; at first it does not listen."""

    def __init__(self) -> None:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = plane.answer
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.answer = 500, b""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.server_bind()  # connections are refused from here on: the port is taken, but nobody listens
        self.url = f"http://127.0.0.1:{self._server.server_port}/configuration"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def says(self, status: int, configuration: object = None) -> None:
        self.answer = status, json.dumps(configuration).encode()

    def up(self) -> None:
        self._server.server_activate()
        self._thread.start()

    def down(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class Heard:
    """A listener that tasks can wait on."""

    def __init__(self) -> None:
        self._new: list[events.Event] = []
        self._waiter: Waiter | None = None

    def __call__(self, event: events.Event) -> None:
        self._new.append(event)
        self.changed()

    def changed(self) -> None:
        if self._waiter is not None:
            self._waiter.wake()

    async def until(self, matches: Callable[[Any], bool]) -> None:
        """Waits for an event that is new."""
        while True:
            while self._new:
                if matches(self._new.pop(0)):
                    return
            await self._change()

    async def is_true(self, says: Callable[[], bool]) -> None:
        """Waits until something is so."""
        while not says():
            await self._change()

    async def _change(self) -> None:
        self._waiter = current_backend().waiter()
        await self._waiter.wait()


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    yield plane
    plane.down()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    spec = spec_from_file_location("plugin_host", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plugin_host", module)
    spec.loader.exec_module(module)
    return module


def failed(what: str, event: events.Event) -> bool:
    """Whether a fetch failed so."""
    return isinstance(event, events.AttemptFailed) and what in str(event)


def panicked(name: str, event: events.Event) -> bool:
    """Whether this blew up."""
    return isinstance(event, events.Panic) and event.name == name


@pytest.mark.parametrize("loop", LOOPS)
def test_the_host_survives_everything(loop: str, plane: ControlPlane, example: Any) -> None:
    """Down, 500, a good one, one that blows up, a better one, down again; and a loop that dies."""
    heard, everywhere = Heard(), Heard()
    applied: list[int] = []
    starts: list[int] = []

    def apply(configuration: dict[str, int]) -> None:
        applied.append(configuration["version"])
        heard.changed()

    async def dying() -> None:
        starts.append(1)
        if len(starts) < 3:
            raise ValueError("a loop that dies")

    async def main() -> None:
        host = example.PluginHost(plane.url, apply, interval=0.01, listener=heard)
        host.background("dying", dying)
        with listen(everywhere), current_backend().cutoff(60, SYSTEM) as cutoff:
            async with Supervisor() as others:
                others.add("host", host.run)
                await heard.until(partial(failed, "Connect"))
                assert host.configuration is None
                plane.up()
                await heard.until(partial(failed, "status 500"))
                plane.says(200, {"version": 1})
                await heard.is_true(lambda: applied[-2:] == [1, 1])  # the first of them is in force by now
                assert {"version": 1} == host.configuration
                plane.says(200, {"vision": 2})
                await heard.until(partial(panicked, "configuration: apply"))
                plane.says(404)
                await heard.until(partial(failed, "status 404"))
                assert {"version": 1} == host.configuration
                plane.says(200, {"version": 3})
                await heard.is_true(lambda: applied[-1] == 3)
                plane.down()
                await heard.until(partial(failed, "Connect"))
                assert {"version": 3} == host.configuration

                assert host.safe_execute("broken plugin", lambda: 1 // 0) is None
                await everywhere.until(partial(panicked, "broken plugin"))
                assert 3 == host.safe_execute("good plugin", len, "abc")
                assert ("host",) == others.stats().running
        assert not cutoff.expired
        assert {"dying": 2} == host.panics

    run(loop, main)
    assert (3, {1, 3}) == (len(starts), set(applied))
