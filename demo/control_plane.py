"""The plugin host's control plane: a process of its own that hands out a configuration over HTTP.

Orders come on standard input: ``configuration {"version": 2}`` is what it hands out from now on, ``503 3`` lets the
next three requests fail, as all do before there is a configuration. Each is answered on standard output by its
counters, as JSON. Standard input ends with whoever started this process, and this process ends with it.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock, Thread

__all__ = ["ControlPlane", "main"]


class ControlPlane(ThreadingHTTPServer):
    """Answers every request by the configuration, or by 503."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self._configuration = b""
        self._unspent = 0
        self._answered = 0
        self._lock = Lock()
        super().__init__(("127.0.0.1", port), Session)

    def server_bind(self) -> None:
        """Takes the port, without asking anybody for the name of this machine, as its base class would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def order(self, name: str, argument: str) -> str:
        """Does what the demo tells it; gives the counters as JSON."""
        with self._lock:
            if name == "503":
                self._unspent = int(argument)
            else:
                self._configuration = argument.encode()
            return json.dumps({"answered": self._answered, "unspent": self._unspent})

    def answer(self) -> tuple[int, bytes]:
        """Status and body for a request."""
        with self._lock:
            if self._unspent or not self._configuration:
                self._unspent = max(0, self._unspent - 1)
                return 503, b""
            self._answered += 1
            return 200, self._configuration


class Session(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Answers it."""
        assert isinstance(self.server, ControlPlane)
        status, body = self.server.answer()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
        """Says nothing of it."""


def main(port: int = 0) -> None:
    """Serves until standard input ends; says its port on standard output first."""
    with ControlPlane(port) as plane:
        Thread(target=plane.serve_forever, daemon=True).start()
        print(plane.server_port, flush=True)
        for line in sys.stdin:
            name, _, argument = line.strip().partition(" ")
            print(plane.order(name, argument), flush=True)
        plane.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
