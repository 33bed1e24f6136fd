"""``presets.redis``: what redis-py makes of a server's answers, and of a connection."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Action, presets
from resilient.presets.postgres_errors import CONFLICTS
from resilient.presets.socket_errors import HANDSHAKES, LONG_SHOT

redis = pytest.importorskip("redis", reason="redis-py is not installed")

FAIL, RECONNECT, RELOGIN = Action.FAIL, Action.RECONNECT, Action.RELOGIN
RETRY, ROTATE_PROXY, WAIT = Action.RETRY, Action.ROTATE_PROXY, Action.WAIT

# As Redis 7.0 words them.
ANSWERS = [
    ("LOADING Redis is loading the dataset in memory", WAIT, "loading", None),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", WAIT, "busy", None),
    ("CLUSTERDOWN The cluster is down", WAIT, "cluster", None),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", WAIT, "cluster", None),
    ("TRYAGAIN Multiple keys request during rehashing of slot", WAIT, "cluster", None),
    ("READONLY You can't write against a read only replica.", ROTATE_PROXY, "read only", LONG_SHOT),
    ("NOAUTH Authentication required.", RELOGIN, "auth", 2),
    ("WRONGPASS invalid username-password pair or user is disabled.", RELOGIN, "auth", 2),
    ("ERR max number of clients reached", WAIT, "full", None),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", FAIL, "", None),
    ("ERR value is not an integer or out of range", FAIL, "", None),
    ("NOPERM this user has no permissions to run the 'get' command", FAIL, "", None),
    ("OOM command not allowed when used memory > 'maxmemory'.", FAIL, "", None),
    ("BUSYGROUP Consumer Group name already exists", FAIL, "", None),
    ("BUSYKEY Target key name already exists.", FAIL, "", None),
    ("MOVED 3999 127.0.0.1:6381", FAIL, "", None),
]


@pytest.mark.parametrize(("answer", "action", "category", "attempts"), ANSWERS, ids=[each[0][:12] for each in ANSWERS])
def test_answers(answer: str, action: Action, category: str, attempts: int | None) -> None:
    """What the server refuses for now is asked again later; what is wrong fails."""
    from redis._parsers.base import BaseParser

    verdict = presets.redis(BaseParser.parse_error(answer))
    assert (action, category, attempts) == (verdict.action, verdict.category, verdict.attempts)


def errors() -> list[Any]:
    raised = redis.exceptions
    return [
        (raised.ConnectionError("Connection closed by server."), RECONNECT, "connection", None),
        (raised.ConnectionError("Error 111 connecting to a:6379. Connection refused."), RECONNECT, "connection", None),
        (raised.ConnectionError("Error 1. certificate verify failed: self-signed"), FAIL, "certificate", None),
        (raised.AuthorizationError("you are not authorized to view this ocsp certificate"), FAIL, "certificate", None),
        (raised.MaxConnectionsError("Too many connections"), WAIT, "full", None),
        (raised.TimeoutError("Timeout reading from socket"), RETRY, "timeout", None),
        (raised.InvalidResponse("Protocol Error: b'x'"), RECONNECT, "protocol", HANDSHAKES),
        (raised.WatchError("Watched variable changed."), WAIT, "conflict", CONFLICTS),
        (raised.DataError("Invalid input of type"), FAIL, "", None),
        (raised.LockError("Cannot release an unlocked lock"), FAIL, "", None),
    ]


@pytest.mark.parametrize(("error", "action", "category", "attempts"), errors(), ids=lambda each: type(each).__name__)
def test_errors(error: Exception, action: Action, category: str, attempts: int | None) -> None:
    """What redis-py finds out by itself."""
    verdict = presets.redis(error)
    assert (action, category, attempts) == (verdict.action, verdict.category, verdict.attempts)


def test_others_errors_are_none_of_its_business() -> None:
    """The standard library's errors, which redis-py wraps, are left to ``presets.sockets``."""
    assert None is presets.redis.match(ConnectionResetError("reset"))
    assert RECONNECT is (presets.redis | presets.sockets)(ConnectionResetError("reset")).action


def test_nothing_is_imported() -> None:
    """The preset knows redis-py by name: a class of the same name elsewhere is another."""
    stranger = type("BusyLoadingError", (Exception,), {"__module__": "another.exceptions"})
    assert None is presets.redis.match(stranger())
