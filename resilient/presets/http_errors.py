"""``presets.http``: statuses and transport errors of httpx, requests, aiohttp and urllib.

A timeout or a reset while the answer was awaited leaves open whether the request ran, and so does a 5xx. Trying it
again is right for requests that are idempotent (GET, PUT, DELETE: RFC 9110, 9.2.2). For others ``presets.http_once``
tries again only what certainly did not run: no connection was made, or the server refused (4xx).

Lost connections are RETRY and not RECONNECT: these clients keep a pool, from which a broken connection is gone
already. A client that must be made anew wants ``Rule("httpx.TransportError", Action.RECONNECT)`` first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.rule import Rule
from resilient.presets.causes import CausedBy
from resilient.presets.http_statuses import REFUSED, STATUS_ERRORS, TROUBLED, rules_for
from resilient.presets.socket_errors import HANDSHAKES, LONG_SHOT, SOCKETS, is_temporary

__all__ = ["HTTP", "HTTP_ONCE"]


@dataclass(frozen=True, slots=True)
class HasReason:
    """A predicate: the reason of urllib's URLError is a network error of one of these categories of ``SOCKETS``.

    The reason may as well be a text, or a missing file.
    """

    categories: tuple[str, ...]

    def __call__(self, error: Exception) -> bool:
        reason = getattr(error, "reason", None)
        return isinstance(reason, Exception) and SOCKETS(reason).category in self.categories


RETRY, FAIL, ROTATE_PROXY = Action.RETRY, Action.FAIL, Action.ROTATE_PROXY

TRANSPORT = (
    "httpx.TransportError",
    "requests.exceptions.RequestException",
    "aiohttp.ClientError",
    "urllib.error.URLError",
)

PROXY = Rule(
    (
        "httpx.ProxyError",
        "requests.exceptions.ProxyError",
        "aiohttp.ClientProxyConnectionError",
        "aiohttp.ClientHttpProxyError",  # has a status, but it is the proxy's: it goes before the statuses
    ),
    ROTATE_PROXY,
    category="proxy",
)

OTHER_STATUS = Rule(STATUS_ERRORS, FAIL, category="status")

# No connection was made, so the request did not run.
UNSENT = (
    Rule(TRANSPORT, FAIL, category="certificate", when=CausedBy("ssl.SSLCertVerificationError")),
    Rule("aiohttp.ServerFingerprintMismatch", FAIL, category="certificate"),
    Rule(TRANSPORT, RETRY, category="dns", when=CausedBy("socket.gaierror", is_temporary)),
    Rule(TRANSPORT, RETRY, category="dns", when=CausedBy("socket.gaierror"), attempts=LONG_SHOT),
    Rule("aiohttp.ClientConnectorDNSError", RETRY, category="dns", attempts=LONG_SHOT),  # another resolver's
    Rule(
        ("httpx.ConnectError", "aiohttp.ClientConnectorError"),
        RETRY,
        category="tls",
        when=CausedBy("ssl.SSLError"),
        attempts=HANDSHAKES,
    ),
    Rule(
        (
            "httpx.ConnectError",
            "httpx.ConnectTimeout",
            "httpx.PoolTimeout",
            "requests.exceptions.ConnectTimeout",
            "aiohttp.ClientConnectorError",
            "aiohttp.ConnectionTimeoutError",
        ),
        RETRY,
        category="connect",
    ),
    Rule(
        "requests.exceptions.ConnectionError",
        RETRY,
        category="connect",
        when=CausedBy("urllib3.exceptions.NewConnectionError"),
    ),
    Rule("urllib.error.URLError", RETRY, category="connect", when=HasReason(("refused", "unreachable", "exhausted"))),
)

# The connection broke, or the answer did not come: the request may have run.
MAY_HAVE_RUN = (
    Rule("requests.exceptions.SSLError", RETRY, category="tls", attempts=HANDSHAKES),
    Rule("urllib.error.URLError", RETRY, category="tls", when=HasReason(("tls",)), attempts=HANDSHAKES),
    Rule(
        (
            "httpx.TimeoutException",
            "requests.exceptions.Timeout",
            "aiohttp.ServerTimeoutError",
            TimeoutError,  # aiohttp's total timeout, urllib's read timeout
        ),
        RETRY,
        category="timeout",
    ),
    Rule("urllib.error.URLError", RETRY, category="timeout", when=HasReason(("timeout",))),
    Rule(
        (
            "httpx.NetworkError",
            "httpx.RemoteProtocolError",
            "requests.exceptions.ConnectionError",
            "requests.exceptions.ChunkedEncodingError",
            "aiohttp.ClientConnectionError",
            "aiohttp.ClientPayloadError",
            "http.client.RemoteDisconnected",
            "http.client.IncompleteRead",
        ),
        RETRY,
        category="reset",
    ),
    Rule("urllib.error.URLError", RETRY, category="reset", when=HasReason(("reset",))),
)

HTTP = Classifier(PROXY, *rules_for(REFUSED), *rules_for(TROUBLED), OTHER_STATUS, *UNSENT, *MAY_HAVE_RUN)

# What may have run is said to FAIL, for silence would not do: an attempt that a policy cuts off itself is tried again
# unless a rule speaks of it.
HTTP_ONCE = Classifier(
    PROXY,
    *rules_for(REFUSED),
    OTHER_STATUS,
    *UNSENT,
    *(replace(rule, action=FAIL, attempts=None) for rule in MAY_HAVE_RUN),
)
