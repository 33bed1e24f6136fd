"""``presets.http`` and ``presets.http_once`` against real clients on real sockets."""

from __future__ import annotations

import asyncio
import errno
import pickle
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from http.client import IncompleteRead, RemoteDisconnected
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resilient import Action, Classifier, Recovery, Retry, Rule, backoff, presets
from resilient.presets.http_statuses import REFUSED, TROUBLED
from resilient.presets.socket_errors import LONG_SHOT
from resilient.testing import FakeClock, Script

FAIL, RECONNECT, RELOGIN = Action.FAIL, Action.RECONNECT, Action.RELOGIN
RETRY, ROTATE_PROXY, WAIT = Action.RETRY, Action.ROTATE_PROXY, Action.WAIT

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "presets.md"


# Clients: each fetches one address, and raises for a bad status if asked to


def library(name: str) -> Any:
    """A client library, or a skipped test."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


TLS = ssl.create_default_context()  # made once: it reads all the system's authorities


def by_httpx(url: str, *, raising: bool = False, timeout: float = 5, proxy: str | None = None) -> Any:
    httpx = library("httpx")
    with httpx.Client(timeout=timeout, proxy=proxy, verify=TLS) as client:
        response = client.get(url)
        return response.raise_for_status() if raising else response


async def by_async_httpx(url: str, *, raising: bool = False, timeout: float = 5, proxy: str | None = None) -> Any:
    httpx = library("httpx")
    async with httpx.AsyncClient(timeout=timeout, proxy=proxy, verify=TLS) as client:
        response = await client.get(url)
        return response.raise_for_status() if raising else response


def by_requests(url: str, *, raising: bool = False, timeout: float = 5, proxy: str | None = None) -> Any:
    requests = library("requests")
    with requests.Session() as session:
        response = session.get(url, timeout=timeout, proxies={"http": proxy, "https": proxy} if proxy else None)
        if raising:
            response.raise_for_status()
        return response


async def by_aiohttp(url: str, *, raising: bool = False, timeout: float = 5, proxy: str | None = None) -> Any:
    aiohttp = library("aiohttp")
    limits = aiohttp.ClientTimeout(sock_read=timeout)
    async with aiohttp.ClientSession(timeout=limits, raise_for_status=raising) as session:
        async with session.get(url, proxy=proxy) as response:
            await response.read()
            return response


def by_urllib(url: str, *, raising: bool = True, timeout: float = 5) -> Any:
    assert raising, "urllib always raises for a bad status"
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read()


BLOCKING: dict[str, Callable[..., Any]] = {"httpx": by_httpx, "requests": by_requests}
ASYNC: dict[str, Callable[..., Awaitable[Any]]] = {"async httpx": by_async_httpx, "aiohttp": by_aiohttp}


def fetch(client: str, url: str, **options: Any) -> Any:
    """Fetches by the client of this name."""
    if client in ASYNC:
        return asyncio.run(ASYNC[client](url, **options))  # type: ignore[arg-type]
    return {**BLOCKING, "urllib": by_urllib}[client](url, **options)


def error_of(client: str, url: str, **options: Any) -> Exception:
    """What a client raises."""
    with pytest.raises(Exception) as raised:
        fetch(client, url, **options)
    if isinstance(raised.value, urllib.error.HTTPError):
        raised.value.close()
    return raised.value


def judged(error: Exception, classifier: Classifier = presets.http) -> tuple[Action, str]:
    """A verdict, in short."""
    verdict = classifier(error)
    return verdict.action, verdict.category


returning = pytest.mark.parametrize("client", [*BLOCKING, *ASYNC])
every_client = pytest.mark.parametrize("client", [*BLOCKING, *ASYNC, "urllib"])


# Statuses


STATUSES = [
    ("401", RELOGIN, "auth"),
    ("403?Retry-After=7", WAIT, "rate limit"),
    ("407", ROTATE_PROXY, "proxy"),
    ("408", RETRY, "timeout"),
    ("413?Retry-After=7", WAIT, "rate limit"),
    ("421", RECONNECT, "misdirected"),
    ("423", RETRY, "locked"),
    ("425", RETRY, "too early"),
    ("429", WAIT, "rate limit"),
    ("429?Retry-After=7", WAIT, "rate limit"),
    ("500", RETRY, "server"),
    ("502", RETRY, "server"),
    ("503", RETRY, "overloaded"),
    ("503?Retry-After=7", WAIT, "overloaded"),
    ("504", RETRY, "server"),
    ("509", WAIT, "rate limit"),
    ("520", RETRY, "server"),
    ("525", RETRY, "server"),
    ("529", RETRY, "overloaded"),
]

HOPELESS = ["400", "403", "403?Retry-After=soon", "404", "404?Retry-After=7", "409", "410", "413", "422", "451"]
HOPELESS += ["501", "505", "511", "526", "530"]


@pytest.mark.parametrize(("target", "action", "category"), STATUSES)
@every_client
def test_raised_status(client: str, target: str, action: Action, category: str, http_server: Any) -> None:
    """A bad status that a client raises has its action, its category and the server's delay."""
    verdict = presets.http(error_of(client, http_server.url + target, raising=True))

    assert (action, category) == (verdict.action, verdict.category)
    assert (7.0 if "Retry-After" in target else None) == verdict.delay


@pytest.mark.parametrize(("target", "action", "category"), STATUSES)
@returning
def test_returned_status(client: str, target: str, action: Action, category: str, http_server: Any) -> None:
    """A response that a client returns is judged like the error that it would have raised."""
    verdict = presets.http.match_result(fetch(client, http_server.url + target))

    assert verdict is not None
    assert (action, category) == (verdict.action, verdict.category)
    assert (7.0 if "Retry-After" in target else None) == verdict.delay


@pytest.mark.parametrize("target", HOPELESS)
@every_client
def test_hopeless_status_raised(client: str, target: str, http_server: Any) -> None:
    """Any other bad status fails, whatever header comes with it."""
    assert (FAIL, "status") == judged(error_of(client, http_server.url + target, raising=True))


@pytest.mark.parametrize("target", ["200", "204", *HOPELESS])
@returning
def test_other_status_returned(client: str, target: str, http_server: Any) -> None:
    """A response that no retry would mend is a result like any other."""
    assert None is presets.http.match_result(fetch(client, http_server.url + target))


@pytest.mark.parametrize("status", [401, 421])
def test_one_recovery_for_a_status_that_may_stay(status: int) -> None:
    """A wrong password is tried once more after one sign-in, and so is another connection."""
    requests = library("requests")
    script = Script(*[response_of(requests, status)] * 3)
    handler = Script(*[None] * 3)
    with FakeClock():
        returned = Retry(on=presets.http, recovery=Recovery(relogin=handler, reconnect=handler)).call(script)

    assert status == returned.status_code
    assert (2, 1) == (script.calls, handler.calls)


def response_of(requests: Any, status: int, **headers: str) -> Any:
    """A response of requests, made by hand."""
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


@pytest.mark.parametrize("header", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_at_once_is_no_hint(header: str) -> None:
    """A server that says "at once" gets the backoff all the same, so that an endless policy does not spin."""
    response = response_of(library("requests"), 429, Retry_After=header)

    assert None is presets.http.match_result(response).delay  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        None,
        503,
        {"status": 503},
        SimpleNamespace(status_code=503),
        SimpleNamespace(status=503, headers={"Retry-After": "7"}),
        SimpleNamespace(response=SimpleNamespace(status_code=503)),
    ],
    ids=repr,
)
def test_other_values_are_never_judged(value: object) -> None:
    """A returned value that is no response of a known library is none of the preset's business."""
    assert None is presets.http.match_result(value)


def test_values_are_not_even_touched() -> None:
    """Nor is any attribute of it asked for: a lazy object stays lazy."""

    class Lazy:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"asked for {name}")

    assert None is presets.http.match_result(Lazy())


def test_subclass_of_a_response() -> None:
    """A response of a user's own subclass is one."""
    requests = library("requests")

    class Ours(requests.Response):  # type: ignore[misc]
        pass

    response = Ours()
    response.status_code = 503

    assert "overloaded" == presets.http.match_result(response).category  # type: ignore[union-attr]


def test_status_error_without_a_response() -> None:
    """requests' HTTPError may come without a response, and then nothing is known."""
    assert (FAIL, "status") == judged(library("requests").HTTPError("made by hand"))


# Through a policy


FLAKY = ["503?Retry-After=7", "429?Retry-After=2", "503", "500?Retry-After=4"]
FLAKY_WAITS = [7.0, 2.0, 0.5, 4.0]


@pytest.mark.parametrize("raising", [True, False], ids=["raising", "returning"])
@pytest.mark.parametrize("client", BLOCKING)
def test_waits_as_the_server_asks(client: str, raising: bool, http_server: Any) -> None:
    """``Retry-After`` decides the waits, the backoff where there is none, and the call succeeds."""
    http_server.script += FLAKY
    retry = Retry(on=presets.http, backoff=backoff.constant(0.5))
    with FakeClock() as clock:
        response = retry.call(BLOCKING[client], http_server.url, raising=raising)

    assert 200 == response.status_code
    assert FLAKY_WAITS == clock.sleeps


@pytest.mark.parametrize("raising", [True, False], ids=["raising", "returning"])
@pytest.mark.parametrize("client", ASYNC)
def test_async_waits_as_the_server_asks(client: str, raising: bool, http_server: Any) -> None:
    """The same in coroutines."""
    http_server.script += FLAKY
    retry = Retry(on=presets.http, backoff=backoff.constant(0.5))

    async def main() -> Any:
        return await retry.call(ASYNC[client], http_server.url, raising=raising)

    with FakeClock() as clock:
        response = asyncio.run(main())

    assert 200 == getattr(response, "status", getattr(response, "status_code", None))
    assert FLAKY_WAITS == clock.sleeps


@returning
def test_decorated(client: str, http_server: Any) -> None:
    """As a decorator, on a function that returns its responses."""
    http_server.script += ["429?Retry-After=3", "200"]
    with FakeClock() as clock:
        if client in ASYNC:
            guarded = Retry(on=presets.http)(ASYNC[client])

            async def main() -> Any:
                return await guarded(http_server.url)

            asyncio.run(main())
        else:
            Retry(on=presets.http)(BLOCKING[client])(http_server.url)

    assert [3.0] == clock.sleeps
    assert 2 == http_server.requests


def test_last_response_is_returned(http_server: Any) -> None:
    """When attempts run out, the caller gets the last response and not an error of ours."""
    with FakeClock():
        response = Retry(on=presets.http, attempts=3).call(by_httpx, http_server.url + "503")

    assert 503 == response.status_code
    assert 3 == http_server.requests


def test_not_found_is_asked_once(http_server: Any) -> None:
    """A 404 is the caller's at once."""
    with FakeClock():
        response = Retry(on=presets.http).call(by_httpx, http_server.url + "404")

    assert 404 == response.status_code
    assert 1 == http_server.requests


def test_a_wait_that_is_too_long_stops_the_call(http_server: Any) -> None:
    """An hour is more than ``max_wait``: the call stops, and says when to come back."""
    with FakeClock() as clock:
        outcome = Retry(on=presets.http).execute(by_httpx, http_server.url + "429?Retry-After=3600", raising=True)

    assert "max_wait" == outcome.stopped_by
    assert [] == clock.sleeps


# Transport errors, real


@every_client
def test_refused(client: str, refused_port: int) -> None:
    """Nobody listens: the request was never sent."""
    error = error_of(client, f"http://127.0.0.1:{refused_port}/")

    assert (RETRY, "connect") == judged(error) == judged(error, presets.http_once)


@returning
def test_reset(client: str, resetting_port: int) -> None:
    """The connection is reset before the answer: the request may have run."""
    error = error_of(client, f"http://127.0.0.1:{resetting_port}/")

    assert (RETRY, "reset") == judged(error)
    assert (FAIL, "reset") == judged(error, presets.http_once)


def test_urllib_reset(resetting_port: int) -> None:
    """urllib lets a socket's own error out, which is for ``presets.sockets``."""
    error = error_of("urllib", f"http://127.0.0.1:{resetting_port}/")

    assert (RECONNECT, "reset") == judged(error, presets.http | presets.sockets)


@every_client
def test_hung_up(client: str, closing_port: int) -> None:
    """The server hangs up instead of answering."""
    error = error_of(client, f"http://127.0.0.1:{closing_port}/")

    assert (RETRY, "reset") == judged(error)
    assert (FAIL, "reset") == judged(error, presets.http_once)


@every_client
def test_cut_off_answer(client: str, cut_port: int) -> None:
    """The connection ends in the middle of the answer."""
    error = error_of(client, f"http://127.0.0.1:{cut_port}/")

    assert (RETRY, "reset") == judged(error)
    assert (FAIL, "reset") == judged(error, presets.http_once)


@every_client
def test_stalled(client: str, stalling_port: int) -> None:
    """No answer in time: the request may have run."""
    error = error_of(client, f"http://127.0.0.1:{stalling_port}/", timeout=0.1)

    assert (RETRY, "timeout") == judged(error)
    assert (FAIL, "timeout") == judged(error, presets.http_once)


def test_aiohttp_total_timeout(stalling_port: int) -> None:
    """aiohttp's total timeout is a bare ``TimeoutError``."""
    aiohttp = library("aiohttp")

    async def hasty() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
            await session.get(f"http://127.0.0.1:{stalling_port}/")

    with pytest.raises(TimeoutError) as raised:
        asyncio.run(hasty())

    assert (RETRY, "timeout") == judged(raised.value)


@every_client
def test_name_not_found(client: str) -> None:
    """A name that cannot exist (RFC 2606) is tried again, but not for ever."""
    error = error_of(client, "http://nonexistent.invalid/")

    assert (RETRY, "dns") == judged(error) == judged(error, presets.http_once)


@every_client
def test_self_signed_certificate(client: str, self_signed_port: int) -> None:
    """A certificate that does not verify fails, however deep the client buries it."""
    error = error_of(client, f"https://localhost:{self_signed_port}/")

    assert (FAIL, "certificate") == judged(error) == judged(error, presets.http_once)


@every_client
def test_server_without_tls(client: str, plain_port: int) -> None:
    """A handshake that fails is tried a few times."""
    verdict = presets.http(error_of(client, f"https://localhost:{plain_port}/"))

    assert (RETRY, "tls", 3) == (verdict.action, verdict.category, verdict.attempts)


@pytest.mark.parametrize("client", ["requests", "aiohttp"])
def test_dead_proxy(client: str, refused_port: int) -> None:
    """A proxy that refuses is rotated (httpx cannot tell it from a server that does)."""
    error = error_of(client, "http://127.0.0.1:9/", proxy=f"http://127.0.0.1:{refused_port}")

    assert (ROTATE_PROXY, "proxy") == judged(error) == judged(error, presets.http_once)


@pytest.mark.parametrize("client", ["httpx", "async httpx", "requests", "aiohttp"])
@pytest.mark.parametrize("status", [407, 502])
def test_proxy_that_refuses_to_connect(client: str, status: int, serve: Any) -> None:
    """A proxy that answers CONNECT with an error is rotated, whatever its status."""

    def refuse(connection: Any) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    error = error_of(client, "https://localhost:9/", proxy=f"http://127.0.0.1:{serve(refuse)}")

    assert (ROTATE_PROXY, "proxy") == judged(error) == judged(error, presets.http_once)


# Transport errors, made by hand


def made(library_name: str, kind: str, *arguments: Any) -> Exception:
    """An error of a library, made by hand."""
    error: Exception = getattr(library(library_name), kind)(*arguments)
    return error


@pytest.mark.parametrize(
    ("name", "kind", "action", "category", "safe"),
    [
        ("httpx", "ConnectError", RETRY, "connect", True),
        ("httpx", "ConnectTimeout", RETRY, "connect", True),
        ("httpx", "PoolTimeout", RETRY, "connect", True),
        ("httpx", "ReadTimeout", RETRY, "timeout", False),
        ("httpx", "WriteTimeout", RETRY, "timeout", False),
        ("httpx", "ReadError", RETRY, "reset", False),
        ("httpx", "WriteError", RETRY, "reset", False),
        ("httpx", "CloseError", RETRY, "reset", False),
        ("httpx", "RemoteProtocolError", RETRY, "reset", False),
        ("httpx", "ProxyError", ROTATE_PROXY, "proxy", True),
        ("httpx", "LocalProtocolError", FAIL, "", True),
        ("httpx", "UnsupportedProtocol", FAIL, "", True),
        ("httpx", "TooManyRedirects", FAIL, "", True),
        ("httpx", "DecodingError", FAIL, "", True),
        ("requests", "ConnectTimeout", RETRY, "connect", True),
        ("requests", "ReadTimeout", RETRY, "timeout", False),
        ("requests", "ConnectionError", RETRY, "reset", False),
        ("requests.exceptions", "ChunkedEncodingError", RETRY, "reset", False),
        ("requests.exceptions", "SSLError", RETRY, "tls", False),
        ("requests.exceptions", "ProxyError", ROTATE_PROXY, "proxy", True),
        ("requests.exceptions", "InvalidURL", FAIL, "", True),
        ("requests.exceptions", "ContentDecodingError", FAIL, "", True),
        ("requests.exceptions", "RetryError", FAIL, "", True),
        ("requests.exceptions", "JSONDecodeError", FAIL, "", True),
        ("aiohttp", "ConnectionTimeoutError", RETRY, "connect", True),
        ("aiohttp", "ServerTimeoutError", RETRY, "timeout", False),
        ("aiohttp", "SocketTimeoutError", RETRY, "timeout", False),
        ("aiohttp", "ServerDisconnectedError", RETRY, "reset", False),
        ("aiohttp", "ClientOSError", RETRY, "reset", False),
        ("aiohttp", "ClientPayloadError", RETRY, "reset", False),
        ("aiohttp", "InvalidURL", FAIL, "", True),
    ],
)
def test_transport_table(name: str, kind: str, action: Action, category: str, safe: bool) -> None:
    """Each kind of error has its action; what may have run fails where it must not run twice."""
    arguments = ("text", "document", 0) if kind == "JSONDecodeError" else ("text",)
    error = made(name, kind, *arguments)

    assert (action, category) == judged(error)
    assert (action if safe else FAIL, category) == judged(error, presets.http_once)


@pytest.mark.parametrize(
    ("reason", "action", "category"),
    [
        (ConnectionRefusedError(111, "refused"), RETRY, "connect"),
        (OSError(errno.ENETUNREACH, "no route"), RETRY, "connect"),
        (TimeoutError("timed out"), RETRY, "timeout"),
        (ConnectionResetError(104, "reset"), RETRY, "reset"),
        (ssl.SSLEOFError(8, "eof"), RETRY, "tls"),
        (ssl.SSLCertVerificationError(1, "expired"), FAIL, "certificate"),
        (FileNotFoundError(2, "missing", "/missing"), FAIL, ""),
        ("unknown url type: gopher", FAIL, ""),
    ],
    ids=repr,
)
def test_urllib_reasons(reason: Exception | str, action: Action, category: str) -> None:
    """urllib wraps everything in one class, and the reason decides."""
    assert (action, category) == judged(urllib.error.URLError(reason))


@pytest.mark.parametrize("error", [RemoteDisconnected("no response"), IncompleteRead(b"half")], ids=repr)
def test_http_client(error: Exception) -> None:
    """The standard library's own client says so when the answer breaks off."""
    assert (RETRY, "reset") == judged(error)


def test_fingerprint_mismatch() -> None:
    """A server that is not the one whose fingerprint is known stays another."""
    error = made("aiohttp", "ServerFingerprintMismatch", b"expected", b"got", "host", 443)

    assert (FAIL, "certificate") == judged(error)


def test_dns_by_another_resolver() -> None:
    """aiohttp may resolve by aiodns, whose errors are plain OSErrors."""
    aiohttp = library("aiohttp")
    key = SimpleNamespace(host="host", port=80, ssl=True, is_ssl=False)
    verdict = presets.http(aiohttp.ClientConnectorDNSError(key, OSError("no answer")))

    assert (RETRY, "dns", LONG_SHOT) == (verdict.action, verdict.category, verdict.attempts)


@pytest.mark.parametrize(("code", "attempts"), [("EAI_AGAIN", None), ("EAI_NONAME", LONG_SHOT)])
def test_temporary_dns_trouble_has_no_limit(code: str, attempts: int | None) -> None:
    """The resolver's word that its trouble is temporary is believed; a missing name is tried for a while."""
    error = made("httpx", "ConnectError", "no address")
    error.__cause__ = socket.gaierror(getattr(socket, code), "no address")

    assert attempts == presets.http(error).attempts


def test_what_was_handled_before_is_no_cause() -> None:
    """The error of an earlier attempt, still being handled, does not colour the next one."""
    error = made("httpx", "ConnectError", "refused")
    error.__context__ = ssl.SSLCertVerificationError(1, "expired")

    assert (RETRY, "connect") == judged(error)


def test_causes_in_a_circle() -> None:
    """Errors that name each other as causes are each looked at once."""
    error, other = made("httpx", "ConnectError", "refused"), OSError("refused")
    error.__cause__, other.__cause__ = other, error

    assert (RETRY, "connect") == judged(error)


# The presets as wholes


@pytest.mark.parametrize(("on", "calls"), [(presets.http, 3), (presets.http_once, 1)], ids=["http", "http_once"])
def test_an_attempt_that_the_policy_cuts_off(on: Classifier, calls: int) -> None:
    """It may have run: it is tried again, but not where it must not run twice."""
    begun = []

    async def hang() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    async def main() -> None:
        await Retry(on=on, attempts=3, attempt_timeout=1).call(hang)

    with FakeClock(), pytest.raises(TimeoutError):
        asyncio.run(main())

    assert calls == len(begun)


@pytest.mark.parametrize("row", TROUBLED, ids=lambda row: f"{sorted(row.statuses)}")
def test_trouble_is_not_tried_twice(row: Any) -> None:
    """After a 5xx the request may have run: it fails, or is returned, where it must not run twice."""
    requests = library("requests")
    for status in row.statuses:
        response = response_of(requests, status, Retry_After="7")

        assert (FAIL, "status") == judged(requests.HTTPError(response=response), presets.http_once)
        assert None is presets.http_once.match_result(response)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{sorted(row.statuses)}")
def test_a_refusal_is_safe(row: Any) -> None:
    """A 4xx says that nothing ran: both presets agree."""
    requests = library("requests")
    for status in row.statuses:
        response = response_of(requests, status, Retry_After="7")

        assert presets.http.match_result(response) == presets.http_once.match_result(response)
        assert (row.action, row.category) == judged(requests.HTTPError(response=response), presets.http_once)


@pytest.mark.parametrize("chained", [presets.http | presets.sockets, presets.sockets | presets.http])
@pytest.mark.parametrize("client", ["requests", "aiohttp"])
def test_chained_with_sockets(chained: Classifier, client: str, refused_port: int, http_server: Any) -> None:
    """In either order each preset speaks of its own errors only."""
    proxy = f"http://127.0.0.1:{refused_port}"

    assert (RECONNECT, "refused") == judged(ConnectionRefusedError(111, "refused"), chained)
    assert (RETRY, "connect") == judged(error_of(client, f"{proxy}/"), chained)
    assert (ROTATE_PROXY, "proxy") == judged(error_of(client, "http://127.0.0.1:9/", proxy=proxy), chained)
    assert (WAIT, "rate limit") == judged(error_of(client, f"{http_server.url}429", raising=True), chained)


def test_own_rules_first(http_server: Any) -> None:
    """A rule of the user's decides before the preset: this service's 404 comes and goes."""
    requests = library("requests")
    mine = Classifier(Rule(requests.HTTPError, when=lambda error: error.response.status_code == 404, category="lag"))
    chained = mine | presets.http

    assert (RETRY, "lag") == judged(error_of("requests", http_server.url + "404", raising=True), chained)
    assert (FAIL, "status") == judged(error_of("requests", http_server.url + "410", raising=True), chained)


def test_pickles() -> None:
    """The presets go to another process and mean the same there."""
    copy = pickle.loads(pickle.dumps(presets.http))
    error = made("httpx", "ReadTimeout", "slow")

    assert presets.http(error) == copy(error)
    assert len(presets.http.rules) == len(copy.rules)


def test_the_guide_says_what_the_preset_does() -> None:
    """The table of statuses in the guide is that of the code."""
    requests = library("requests")
    rows = re.findall(r"^\| ([\d, ]+?)( with a hint)? \| ([A-Z_]+) \| ([\w ]+) \|", GUIDE.read_text("utf-8"), re.M)
    said = {
        (int(status), bool(hint), action, category)
        for statuses, hint, action, category in rows
        for status in statuses.split(",")
    }
    done = set()
    for status, hint, *_ in said:
        verdict = presets.http.match_result(response_of(requests, status, **({"Retry_After": "7"} if hint else {})))
        if verdict is not None:
            done.add((status, hint, verdict.action.name, verdict.category))

    assert said == done
    assert {status for row in (*REFUSED, *TROUBLED) for status in row.statuses} == {row[0] for row in said}
