"""Real servers on the loopback that behave badly, each in its own way."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

Handle = Callable[[socket.socket], None]
Serve = Callable[[Handle], int]

CERTIFICATE = Path(__file__).parent / "data" / "self_signed.pem"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients go straight to the loopback, whatever the environment says."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, and refuses: nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def stalling_port() -> Iterator[int]:
    """A port where the kernel takes connections, and nobody ever reads them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that gives each connection to a function and then closes it."""
    with ExitStack() as stack:

        def start(handle: Handle) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stop = threading.Event()

            def run() -> None:
                while not stop.is_set():
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        if not stop.is_set():
                            handle(connection)

            thread = threading.Thread(target=run)
            thread.start()

            def end() -> None:
                stop.set()
                socket.create_connection(listener.getsockname()).close()  # wakes accept
                thread.join()

            stack.callback(end)
            return listener.getsockname()[1]

        yield start


@pytest.fixture
def resetting_port(serve: Serve) -> int:
    """A port whose server hears the request and resets the connection."""

    def reset(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return serve(reset)


@pytest.fixture
def closing_port(serve: Serve) -> int:
    """A port whose server hears the request and hangs up."""
    return serve(lambda connection: connection.recv(65536) and None)


@pytest.fixture
def cut_port(serve: Serve) -> int:
    """A port whose server breaks off in the middle of its answer."""

    def cut(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    return serve(cut)


@pytest.fixture
def self_signed_port(serve: Serve) -> int:
    """A port whose server shows a certificate that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def shake_hands(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    return serve(shake_hands)


@pytest.fixture
def plain_port(serve: Serve) -> int:
    """A port whose server answers a TLS handshake in plain text."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    return serve(answer)


class ScriptedServer(ThreadingHTTPServer):
    """Answers with the statuses of its script, then with 200; or with the status that the path names.

    ``/503?Retry-After=7`` is a 503 with that header.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ScriptedHandler)
        self.script: list[str] = []
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class ScriptedHandler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        self.server.requests += 1
        target = self.server.script.pop(0) if self.server.script else self.path.lstrip("/")
        parts = urlsplit(target)
        self.send_response(int(parts.path or 200))
        for name, value in parse_qsl(parts.query):
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def http_server() -> Iterator[ScriptedServer]:
    """An HTTP server that answers as it is told."""
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
