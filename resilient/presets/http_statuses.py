"""What an HTTP status calls for, in an error and in a response that was returned without one.

A status that is in neither table needs a change of the request: an error with it FAILs, a response with it is a
result like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from resilient.core.action import Action
from resilient.core.naming import is_named
from resilient.core.rule import Rule
from resilient.presets.server_hints import retry_after

__all__ = ["REFUSED", "STATUS_ERRORS", "TROUBLED", "Answer", "rules_for"]

STATUS_ERRORS = (
    "httpx.HTTPStatusError",
    "requests.exceptions.HTTPError",
    "aiohttp.ClientResponseError",
    "urllib.error.HTTPError",
)
RESPONSES = ("httpx.Response", "requests.Response", "aiohttp.ClientResponse")


@dataclass(frozen=True, slots=True)
class Answer:
    """A row of the tables: statuses, and what they call for.

    Args:
        statuses: as numbers.
        action: what they call for.
        category: the kind of trouble.
        attempts: calls in all while it lasts, >= 1; None leaves it to the policy.
        timed: only where the server says how long to wait.
    """

    statuses: frozenset[int]
    action: Action
    category: str
    attempts: int | None = None
    timed: bool = False

    def speaks_of(self, subject: object) -> bool:
        """Whether an error's or a response's status is in this row."""
        return status_of(subject) in self.statuses and not (self.timed and asked_wait(subject) is None)

    def judges(self, value: object) -> bool:
        """Whether a returned value is a response whose status is in this row."""
        return _is_response(type(value)) and self.speaks_of(value)  # type: ignore[arg-type]  # classes are hashable


def _of(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


# The server refused the request before it did anything.
REFUSED = (
    Answer(_of(401), Action.RELOGIN, "auth", attempts=2),  # one sign-in: a wrong password is not hammered
    # Some say "too many" or "too large, for now" in these two, and mean it only if they name a time (413: RFC 9110,
    # 15.5.14; 403: GitHub's secondary rate limits).
    Answer(_of(403, 413), Action.WAIT, "rate limit", timed=True),
    Answer(_of(407), Action.ROTATE_PROXY, "proxy"),
    Answer(_of(408), Action.RETRY, "timeout"),  # the server waited in vain for the whole request: RFC 9110, 15.5.9
    Answer(_of(421), Action.RECONNECT, "misdirected", attempts=2),  # another connection may do: RFC 9110, 15.5.20
    Answer(_of(423), Action.RETRY, "locked", attempts=3),  # by somebody else, who may take long: RFC 4918, 11.3
    Answer(_of(425), Action.RETRY, "too early"),  # fine once the handshake is over: RFC 8470, 5.2
    Answer(_of(429), Action.WAIT, "rate limit"),  # RFC 6585, 4
)

# The server, or one on the way to it, is in trouble; the request may have run.
TROUBLED = (
    Answer(_of(503, 529), Action.WAIT, "overloaded", timed=True),  # 529 "site is overloaded" is no standard, but met
    Answer(_of(503, 529), Action.RETRY, "overloaded"),
    Answer(_of(509), Action.WAIT, "rate limit"),  # bandwidth limit exceeded: Apache, cPanel
    Answer(_of(500, 502, 504), Action.RETRY, "server"),
    # Cloudflare's own, about the server behind it: unknown error, down, timed out (twice), unreachable, TLS handshake
    # failed. 526, an invalid certificate, is left to FAIL.
    Answer(_of(520, 521, 522, 523, 524, 525), Action.RETRY, "server"),
)


def rules_for(answers: tuple[Answer, ...]) -> Iterator[Rule]:
    """Two rules a row: one for errors, one for returned responses."""
    for row in answers:
        category, attempts = row.category, row.attempts
        yield Rule(
            STATUS_ERRORS, row.action, category=category, when=row.speaks_of, delay=asked_wait, attempts=attempts
        )
        yield Rule.result(row.judges, row.action, category=category, delay=asked_wait, attempts=attempts)


def asked_wait(subject: object) -> float | None:
    """The wait that the server asks for, if it is one at all.

    "At once" (0, or a date that our clock has passed already) counts as no hint: the backoff then keeps a policy
    without a limit of attempts from calling as fast as the server can refuse.
    """
    return retry_after(subject) or None


def status_of(subject: object) -> object:
    """The status of a response, or of the response to which an error belongs."""
    response = getattr(subject, "response", None)
    carrier = subject if response is None else response  # a response with a bad status may be false
    for name in ("status_code", "status", "code"):
        status = getattr(carrier, name, None)
        if status is not None:
            return status
    return None


@lru_cache(maxsize=1024)  # asked about every value that a guarded call returns
def _is_response(kind: type[BaseException]) -> bool:
    return any(is_named(kind, name) for name in RESPONSES)
