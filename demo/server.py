"""The demo's server: a process of its own that squares numbers, and misbehaves when told to.

Requests and answers are lines; an answer carries the number of its request::

    1 LOGIN ada       1 200 5f3a...    a token, good until it is forgotten, or this process ends
    2 GET 12 5f3a...  2 200 144
                      2 401            sign in again
                      2 429 0.2        come back in 0.2 s
                      2 503            not now
                      (nothing)        it stalls
                      2 20             half an answer, and the connection is closed

Orders come on standard input: ``503 2`` spoils the next two answers to GETs, ``behave`` spoils no more, ``forget``
forgets all tokens, ``counters`` does nothing. Each is answered on standard output by the counters, as JSON. Standard
input ends with whoever started this process, and this process ends with it.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter, deque
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Lock, Thread

__all__ = ["Server", "main"]

STALL, CUT = "stall", "cut"
SPOILED = {"503": "503", "429": "429 0.2", STALL: STALL, CUT: CUT}


class Server(ThreadingTCPServer):
    """Answers requests, or spoils them.

    Attributes:
        counters: connections and logins so far.
    """

    allow_reuse_address = True  # it comes back on the port on which it was killed
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.counters = Counter(connections=0, logins=0)
        self._tokens: set[str] = set()
        self._spoiled: deque[str] = deque()
        self._lock = Lock()
        super().__init__(("127.0.0.1", port), Session)

    def count(self, what: str) -> None:
        """One more of these."""
        with self._lock:
            self.counters[what] += 1

    def order(self, name: str, times: str = "1") -> str:
        """Does what the demo tells it; gives the counters as JSON."""
        with self._lock:
            match name:
                case "forget":
                    self._tokens.clear()
                case "behave":
                    self._spoiled.clear()
                case "counters":
                    pass
                case _:
                    self._spoiled.extend([SPOILED[name]] * int(times))
            return json.dumps({**self.counters, "unspent": len(self._spoiled)})

    def answer(self, request: list[str]) -> str:
        """The answer to a request."""
        match request:
            case ["LOGIN", _]:
                return f"200 {self._sign_in()}"
            case ["GET", number, *token]:
                return self._square(int(number), token)
            case _:
                return "400"

    def _sign_in(self) -> str:
        self.count("logins")
        token = secrets.token_hex(8)
        with self._lock:
            self._tokens.add(token)
        return token

    def _square(self, number: int, token: list[str]) -> str:
        with self._lock:
            if self._spoiled:
                return self._spoiled.popleft()
            known = token and token[0] in self._tokens
            return f"200 {number * number}" if known else "401"


class Session(StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Answers line by line, until one of both has enough."""
        server = self.server
        assert isinstance(server, Server)
        server.count("connections")
        with suppress(ConnectionError):  # clients may hang up too
            for line in self.rfile:
                number, *request = line.decode().split()
                answer = server.answer(request)
                if answer == CUT:
                    self.wfile.write(f"{number} 20".encode())
                    return
                if answer != STALL:
                    self.wfile.write(f"{number} {answer}\n".encode())


def main(port: int = 0) -> None:
    """Serves until standard input ends; says its port on standard output first."""
    with Server(port) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        for line in sys.stdin:
            print(server.order(*line.split()), flush=True)
        server.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
