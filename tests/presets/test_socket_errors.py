"""``presets.sockets`` against errors that real sockets raise, and against those that are hard to provoke."""

from __future__ import annotations

import asyncio
import errno
import pickle
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from http.client import RemoteDisconnected
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resilient import Action, Classifier, Retry, Rule, presets
from resilient.presets.socket_errors import LONG_SHOT, HasErrno
from resilient.testing import FakeClock, Script

FAIL, RECONNECT, RETRY = Action.FAIL, Action.RECONNECT, Action.RETRY

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")


def caught(call: Callable[[], object]) -> Exception:
    """What a call raises."""
    with pytest.raises(Exception) as raised:
        call()
    return raised.value


def caught_in(coroutine: Any) -> Exception:
    """What a coroutine raises."""
    return caught(lambda: asyncio.run(coroutine))


def judged(error: Exception) -> tuple[Action, str]:
    """The preset's verdict, in short."""
    verdict = presets.sockets(error)
    return verdict.action, verdict.category


def dial(port: int, timeout: float = 5.0) -> socket.socket:
    """A blocking connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def talk(port: int, timeout: float = 5.0) -> bytes:
    """Sends something and waits for an answer."""
    with dial(port, timeout) as connection:
        connection.sendall(b"hello")
        return connection.recv(100)


def shake_hands(port: int, host: str = "localhost") -> None:
    """A TLS handshake that trusts only the system's authorities."""
    context = ssl.create_default_context()
    with dial(port) as connection, context.wrap_socket(connection, server_hostname=host):
        pass


# Real errors, blocking


def test_refused(refused_port: int) -> None:
    """Nobody listens."""
    assert (RECONNECT, "refused") == judged(caught(lambda: dial(refused_port)))


def test_reset(resetting_port: int) -> None:
    """The server resets the connection."""
    assert (RECONNECT, "reset") == judged(caught(lambda: talk(resetting_port)))


def test_broken_pipe() -> None:
    """The other end is closed while this one still writes."""
    near, far = socket.socketpair()
    with near:
        far.close()

        def write() -> None:
            while True:
                near.send(b"hello")

        assert (RECONNECT, "reset") == judged(caught(write))


def test_not_connected() -> None:
    """A socket that never was connected, or no longer is."""
    with socket.socket() as stray:
        error = caught(lambda: stray.shutdown(socket.SHUT_RDWR))

    assert (RECONNECT, "reset") == judged(error)


def test_stalled(stalling_port: int) -> None:
    """No answer within the socket's timeout: the connection may be well."""
    assert (RETRY, "timeout") == judged(caught(lambda: talk(stalling_port, timeout=0.05)))


def test_would_block() -> None:
    """A socket that does not block has nothing yet."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        assert (RETRY, "busy") == judged(caught(lambda: near.recv(1)))


def test_name_not_found() -> None:
    """A name that cannot exist (RFC 2606) is tried again, but not for ever, unless the resolver itself is down."""
    error = caught(lambda: socket.getaddrinfo("nonexistent.invalid", 80))
    verdict = presets.sockets(error)
    temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN

    assert (RETRY, "dns", None if temporary else LONG_SHOT) == (verdict.action, verdict.category, verdict.attempts)


def test_unknown_service() -> None:
    """A question to the resolver that makes no sense never will."""
    assert (FAIL, "dns") == judged(caught(lambda: socket.getaddrinfo("127.0.0.1", "no-such-service")))


def test_self_signed_certificate(self_signed_port: int) -> None:
    """A certificate that does not verify is nothing to try again."""
    assert (FAIL, "certificate") == judged(caught(lambda: shake_hands(self_signed_port)))


def test_server_without_tls(plain_port: int) -> None:
    """A handshake that fails is tried a few times: servers are rolled out."""
    verdict = presets.sockets(caught(lambda: shake_hands(plain_port)))

    assert (RECONNECT, "tls", 3) == (verdict.action, verdict.category, verdict.attempts)


def test_server_hangs_up_in_the_handshake(closing_port: int) -> None:
    """A handshake that is cut off is a lost connection."""
    verdict = presets.sockets(caught(lambda: shake_hands(closing_port)))

    assert (RECONNECT, None) == (verdict.action, verdict.attempts)
    assert verdict.category in {"tls", "reset"}


@unix_only
def test_missing_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket that is not there yet is a server that is not up yet."""
    monkeypatch.chdir(tmp_path)  # such addresses are short: 104 bytes on some systems
    with socket.socket(socket.AF_UNIX) as connection:
        error = caught(lambda: connection.connect("app.sock"))

    assert (RECONNECT, "refused") == judged(error)


@unix_only
def test_dead_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket whose server is gone refuses."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("app.sock")
    with socket.socket(socket.AF_UNIX) as connection:
        assert (RECONNECT, "refused") == judged(caught(lambda: connection.connect("app.sock")))


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is no missing server."""
    assert (FAIL, "") == judged(caught((tmp_path / "missing").open))


def test_missing_program() -> None:
    """Nor is a missing program."""
    assert (FAIL, "") == judged(caught(lambda: subprocess.run(["/missing/program"])))


def test_address_in_use(refused_port: int) -> None:
    """A port of another program does not become free by asking again."""
    with socket.socket() as late:
        error = caught(lambda: late.bind(("127.0.0.1", refused_port)))

    assert (FAIL, "") == judged(error)


# Real errors, asyncio


async def atalk(port: int, **options: Any) -> bytes:
    """The same conversation with asyncio's streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        writer.write(b"hello")
        return await reader.readexactly(100)
    finally:
        writer.close()


def test_asyncio_refused(refused_port: int) -> None:
    """Nobody listens."""
    assert (RECONNECT, "refused") == judged(caught_in(atalk(refused_port)))


def test_asyncio_reset(resetting_port: int) -> None:
    """The server resets the connection."""
    assert (RECONNECT, "reset") == judged(caught_in(atalk(resetting_port)))


def test_asyncio_end_of_stream(closing_port: int) -> None:
    """The server hangs up before its answer is complete (``IncompleteReadError``)."""
    assert (RECONNECT, "reset") == judged(caught_in(atalk(closing_port)))


def test_asyncio_timeout(stalling_port: int) -> None:
    """A timeout of the program's own."""

    async def hasty() -> None:
        async with asyncio.timeout(0.05):
            await atalk(stalling_port)

    assert (RETRY, "timeout") == judged(caught_in(hasty()))


def test_asyncio_self_signed_certificate(self_signed_port: int) -> None:
    """A certificate that does not verify."""
    options = {"ssl": ssl.create_default_context(), "server_hostname": "localhost"}

    assert (FAIL, "certificate") == judged(caught_in(atalk(self_signed_port, **options)))


def test_asyncio_several_addresses(refused_port: int) -> None:
    """asyncio reports several addresses that fail in different words as one OSError without a number."""

    async def connect(other_port: int) -> None:
        loop = asyncio.get_running_loop()

        async def two_addresses(*_: object, **__: object) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, ("127.0.0.1", port)) for port in (refused_port, other_port)]

        loop.getaddrinfo = two_addresses  # type: ignore[method-assign]
        await loop.create_connection(asyncio.Protocol, "two.addresses", 80)

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        error = caught_in(connect(holder.getsockname()[1]))

    assert "Multiple exceptions: " in str(error)
    assert (RECONNECT, "unreachable") == judged(error)


# Real errors, trio and anyio


def test_trio_refused(refused_port: int) -> None:
    """trio reports a host that refuses as one OSError without a number."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    error = caught(lambda: trio.run(trio.open_tcp_stream, "127.0.0.1", refused_port))

    assert (RECONNECT, "unreachable") == judged(error)


def test_trio_reset(resetting_port: int) -> None:
    """trio has its own name for a connection that broke."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def talk() -> None:
        async with await trio.open_tcp_stream("127.0.0.1", resetting_port) as stream:
            await stream.send_all(b"hello")
            await stream.receive_some(100)

    assert (RECONNECT, "reset") == judged(caught(lambda: trio.run(talk)))


def test_trio_timeout() -> None:
    """trio has its own name for a timeout."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def slow() -> None:
        with trio.fail_after(0):
            await trio.sleep_forever()

    assert (RETRY, "timeout") == judged(caught(lambda: trio.run(slow)))


def test_anyio_refused(refused_port: int) -> None:
    """anyio reports a host that refuses as one OSError without a number."""
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")

    error = caught(lambda: anyio.run(anyio.connect_tcp, "127.0.0.1", refused_port))

    assert (RECONNECT, "unreachable") == judged(error)


@pytest.mark.parametrize("port", ["resetting_port", "closing_port"])
def test_anyio_lost(port: str, request: pytest.FixtureRequest) -> None:
    """anyio has its own names for a reset and for the end of a stream."""
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")

    async def talk() -> None:
        async with await anyio.connect_tcp("127.0.0.1", request.getfixturevalue(port)) as stream:
            await stream.send(b"hello")
            await stream.receive()

    assert (RECONNECT, "reset") == judged(caught(lambda: anyio.run(talk)))


# Errors that are hard to provoke


class OfALibrary(OSError):
    """A library's own kind of OSError."""


@pytest.mark.parametrize(
    ("error", "action", "category"),
    [
        (ConnectionAbortedError(errno.ECONNABORTED, "aborted"), RECONNECT, "reset"),
        (ConnectionError("lost"), RECONNECT, "reset"),
        (RemoteDisconnected("no response"), RECONNECT, "reset"),
        (EOFError(), RECONNECT, "reset"),
        (asyncio.IncompleteReadError(b"", 4), RECONNECT, "reset"),
        (OSError(errno.ENETRESET, "keep-alive lost"), RECONNECT, "reset"),
        (OSError(errno.ETIMEDOUT, "connection timed out"), RECONNECT, "timeout"),
        (TimeoutError("timed out"), RETRY, "timeout"),
        (TimeoutError(), RETRY, "timeout"),
        (OSError(errno.EBADF, "closed by another caller"), RECONNECT, "closed"),
        (OSError(errno.ENETUNREACH, "no route"), RECONNECT, "unreachable"),
        (OSError(errno.EHOSTUNREACH, "no route"), RECONNECT, "unreachable"),
        (OSError(errno.ENETDOWN, "down"), RECONNECT, "unreachable"),
        (OSError(errno.EHOSTDOWN, "down"), RECONNECT, "unreachable"),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), RETRY, "exhausted"),
        (OSError(errno.ENOBUFS, "no buffer left"), RETRY, "exhausted"),
        (OSError(errno.EMFILE, "too many files"), RETRY, "exhausted"),
        (OSError(errno.ENFILE, "too many files"), RETRY, "exhausted"),
        (OSError(errno.EAGAIN, "again"), RETRY, "busy"),
        (ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "read"), RETRY, "busy"),
        (ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "eof"), RECONNECT, "tls"),
        (ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "closed"), RECONNECT, "tls"),
        (ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "syscall"), RECONNECT, "tls"),
        (ssl.SSLError(ssl.SSL_ERROR_SSL, "bad record mac"), RECONNECT, "tls"),
        (ssl.SSLCertVerificationError(1, "expired"), FAIL, "certificate"),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure"), RETRY, "dns"),
        (socket.gaierror(socket.EAI_NONAME, "not known"), RETRY, "dns"),
        (socket.gaierror(socket.EAI_FAIL, "server failure"), RETRY, "dns"),
        (socket.gaierror(socket.EAI_FAMILY, "no such family"), FAIL, "dns"),
        (socket.gaierror("no number"), RETRY, "dns"),
        (socket.herror(2, "try again"), RETRY, "dns"),
        (PermissionError(errno.EACCES, "denied"), FAIL, ""),
        (PermissionError(errno.EPERM, "not permitted"), FAIL, ""),
        (OSError(errno.EADDRINUSE, "in use"), FAIL, ""),
        (OSError(errno.ENOSPC, "disk full"), FAIL, ""),
        (FileNotFoundError("settings.toml"), FAIL, ""),
        (FileNotFoundError(errno.ENOENT, "missing", "settings.toml"), FAIL, ""),
        (OSError("who knows"), FAIL, ""),
        (OfALibrary(errno.ENETUNREACH, "no route"), FAIL, ""),
        (OfALibrary("all connection attempts failed"), FAIL, ""),
        (ValueError("connection refused"), FAIL, ""),
    ],
    ids=repr,
)
def test_table(error: Exception, action: Action, category: str) -> None:
    """Each kind of error has its action and its category."""
    assert (action, category) == judged(error)


def test_temporary_dns_trouble_has_no_limit() -> None:
    """The resolver's word that its trouble is temporary is believed."""
    assert None is presets.sockets(socket.gaierror(socket.EAI_AGAIN, "temporary failure")).attempts


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "?"), OSError(errno.EADDRNOTAVAIL, "?")], ids=repr
)
def test_long_shots_are_limited(error: Exception) -> None:
    """A policy without a limit does not try for ever what may never work."""
    retry = Retry(on=presets.sockets, attempts=None)
    script = Script(*[error] * (LONG_SHOT + 1))
    with FakeClock(), pytest.raises(type(error)):
        retry.call(script)

    assert LONG_SHOT == script.calls


def test_a_number_that_the_platform_lacks_is_left_out() -> None:
    """Tables may name numbers that only some platforms have."""
    assert HasErrno("ENETDOWN") == HasErrno("ENETDOWN", "ENOSUCHNUMBER")


def test_an_own_rule_goes_first() -> None:
    """A stream that must not be used after a timeout is made anew by one rule of the user's."""
    chained = Classifier(Rule(TimeoutError, RECONNECT, category="stream")) | presets.sockets

    assert "stream" == chained(TimeoutError()).category
    assert "refused" == chained(ConnectionRefusedError()).category


def test_groups() -> None:
    """An exception group is as bad as its worst leaf."""
    group = ExceptionGroup("two", [ConnectionResetError(), PermissionError()])

    assert FAIL is presets.sockets(group).action


def test_pickles() -> None:
    """The preset goes to another process and means the same there."""
    assert presets.sockets == pickle.loads(pickle.dumps(presets.sockets))


def test_recovers_a_real_connection(serve: Callable[[Callable[[socket.socket], None]], int]) -> None:
    """Through a policy: two resets, then an answer."""
    answers = [b"", b"", b"at last"]

    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answers.pop(0))

    port = serve(answer)

    def ask() -> bytes:
        reply = talk(port)
        if not reply:
            raise EOFError("hung up")
        return reply

    with FakeClock() as clock:
        assert b"at last" == Retry(on=presets.sockets).call(ask)

    assert 2 == len(clock.sleeps)


def test_attributes_are_classifiers_not_modules() -> None:
    """The presets' names do not clash with those of the modules that hold them."""
    assert all(isinstance(getattr(presets, name), Classifier) for name in presets.__all__)
    assert isinstance(sys.modules["resilient.presets.socket_errors"], ModuleType)


def test_settings_files_find_every_preset_by_its_name() -> None:
    """A preset is public if, and only if, it is found by name."""
    assert {name: getattr(presets, name) for name in presets.__all__} == presets.BY_NAME
