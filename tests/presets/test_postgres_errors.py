"""``presets.postgres``: what psycopg makes of a server's errors, and of a connection."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from resilient import Action, Retry, presets
from resilient.presets.postgres_errors import BRIEFLY, CONFLICTS
from resilient.presets.socket_errors import LONG_SHOT
from resilient.testing import FakeClock, Script

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)

FAIL, RECONNECT, RELOGIN, WAIT = Action.FAIL, Action.RECONNECT, Action.RELOGIN, Action.WAIT

STATES = [
    ("40001", WAIT, "conflict", CONFLICTS),
    ("40P01", WAIT, "conflict", CONFLICTS),
    ("57P03", WAIT, "starting", None),
    ("53300", WAIT, "full", None),
    ("28P01", RELOGIN, "auth", 2),
    ("57P01", RECONNECT, "ended", None),
    ("57P02", RECONNECT, "ended", None),
    ("08P01", FAIL, "", None),  # protocol_violation
    ("23505", FAIL, "", None),  # unique_violation
    ("25P02", FAIL, "", None),  # in_failed_sql_transaction
    ("28000", FAIL, "", None),  # invalid_authorization_specification
    ("42601", FAIL, "", None),  # syntax_error
    ("53100", FAIL, "", None),  # disk_full
    ("55P03", FAIL, "", None),  # lock_not_available
    ("57014", FAIL, "", None),  # query_canceled
    ("XX000", FAIL, "", None),  # internal_error
]


@pytest.mark.parametrize(("state", "action", "category", "attempts"), STATES)
def test_states(state: str, action: Action, category: str, attempts: int | None) -> None:
    """The server's own word decides, whatever its text."""
    verdict = presets.postgres(psycopg.errors.lookup(state)("etwas ging schief"))
    assert (action, category, attempts) == (verdict.action, verdict.category, verdict.attempts)


SERVER = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '

# As libpq 15 and PostgreSQL 15 word them.
TEXTS = [
    ("consuming input failed: server closed the connection unexpectedly", RECONNECT, "connection", None),
    ("the connection is lost", RECONNECT, "connection", None),
    ("the connection is closed", RECONNECT, "connection", None),
    (SERVER + "Connection refused\n\tIs the server running on that host?", RECONNECT, "connection", None),
    (SERVER + "No such file or directory", RECONNECT, "connection", None),
    ("failed to resolve host 'db': [Errno -2] Name or service not known", RECONNECT, "dns", LONG_SHOT),
    (SERVER + "FATAL:  the database system is starting up", WAIT, "starting", None),
    (SERVER + "FATAL:  the database system is shutting down", WAIT, "starting", None),
    (SERVER + "FATAL:  the database system is not accepting connections", WAIT, "starting", None),
    (SERVER + "FATAL:  sorry, too many clients already", WAIT, "full", None),
    (SERVER + "FATAL:  remaining connection slots are reserved for superusers", WAIT, "full", None),
    (SERVER + 'FATAL:  too many connections for role "app"', WAIT, "full", None),
    (SERVER + 'FATAL:  password authentication failed for user "app"', RELOGIN, "auth", 2),
    (SERVER + "fe_sendauth: no password supplied", RELOGIN, "auth", 2),
    (SERVER + 'FATAL:  role "app" does not exist', FAIL, "setup", None),
    (SERVER + 'FATAL:  database "app" does not exist', FAIL, "setup", None),
    (SERVER + 'FATAL:  no pg_hba.conf entry for host "127.0.0.1"', FAIL, "setup", None),
    (SERVER + "server does not support SSL, but SSL was required", FAIL, "setup", None),
    (SERVER + "SSL error: certificate verify failed", FAIL, "setup", None),
    ("sending query and params failed: number of parameters must be between 0 and 65535", FAIL, "setup", None),
]


@pytest.mark.parametrize(("text", "action", "category", "attempts"), TEXTS, ids=[each[0][-24:] for each in TEXTS])
def test_texts(text: str, action: Action, category: str, attempts: int | None) -> None:
    """A dial has nothing but a text to tell."""
    verdict = presets.postgres(psycopg.OperationalError(text))
    assert (action, category, attempts) == (verdict.action, verdict.category, verdict.attempts)


def told(state: str, severity: str) -> Any:
    """An error as the server sends it."""
    field = psycopg.pq.DiagnosticField
    fields = {field.SEVERITY_NONLOCALIZED: severity.encode(), field.SQLSTATE: state.encode()}
    return psycopg.errors.lookup(state)("told", info={each: fields.get(each) for each in field})


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
@pytest.mark.parametrize("state", ["25P03", "57P05", "XX000", "08P01"])
def test_what_ends_a_session(state: str, severity: str) -> None:
    """After a fatal error there is no connection any more, whatever it was; not for ever, if it comes each time."""
    verdict = presets.postgres(told(state, severity))
    assert (RECONNECT, "ended", LONG_SHOT) == (verdict.action, verdict.category, verdict.attempts)


def test_what_does_not() -> None:
    """An error of a statement leaves the session alone."""
    assert FAIL is presets.postgres(told("XX000", "ERROR")).action


def test_other_classes_of_errors() -> None:
    """A mistake that psycopg finds fails, even if its text looks like trouble."""
    assert FAIL is presets.postgres(psycopg.ProgrammingError("the connection is closed")).action
    assert FAIL is presets.postgres(psycopg.InterfaceError("the cursor is closed")).action
    assert None is presets.postgres.match(OSError("the connection is closed"))


def test_a_conflict_is_tried_again_soon() -> None:
    """Not by the waits of a policy that are meant for a server in trouble."""
    clash = psycopg.errors.SerializationFailure("could not serialize access")
    script = Script(clash, clash, "committed")
    with FakeClock() as clock:
        assert "committed" == Retry(on=presets.postgres).call(script)
    assert all(wait <= limit for wait, limit in zip(clock.sleeps, [BRIEFLY.delay(1), BRIEFLY.delay(2)], strict=True))


def test_it_can_be_pickled() -> None:
    """As any classifier that goes to another process."""
    assert presets.postgres == pickle.loads(pickle.dumps(presets.postgres))
