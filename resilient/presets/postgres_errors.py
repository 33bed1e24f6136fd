"""``presets.postgres``: the errors of psycopg 3.

PostgreSQL names its errors by a SQLSTATE of five characters (its manual, appendix A). What ends a dial has only a text,
which psycopg hands on from libpq: it is known by phrases, in English. A server that speaks another language is simply
dialled again.

A connection that broke, or that the server ended, leaves open whether the statement ran: RECONNECT. A transaction that
another one came in the way of was rolled back: WAIT for a moment, then run the whole of it again. A server that starts,
or is full, will not be so for ever: WAIT. A statement that is wrong, or was cancelled by its timeout, FAILs.
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.core import backoff
from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.rule import Rule
from resilient.presets.socket_errors import LONG_SHOT

__all__ = ["BRIEFLY", "CONFLICTS", "POSTGRES"]

# What is in the way is another transaction, which mostly takes milliseconds; full jitter parts two that met.
BRIEFLY = backoff.exponential(0.01, cap=1).jitter("full")
CONFLICTS = 10  # in a row: then it is no chance


@dataclass(frozen=True, slots=True)
class Told:
    """A predicate: the server said so, by its SQLSTATE if there is one, else in words.

    Args:
        states: SQLSTATEs.
        phrases: of which one is in the text, lower case.
    """

    states: frozenset[str]
    phrases: tuple[str, ...] = ()

    def __call__(self, error: Exception) -> bool:
        state = getattr(error, "sqlstate", None)
        if state is not None:
            return state in self.states
        text = str(error).lower()
        return any(phrase in text for phrase in self.phrases)


def is_last(error: Exception) -> bool:
    """Whether the server ended the session by this error: its severity is FATAL or PANIC."""
    return getattr(getattr(error, "diag", None), "severity_nonlocalized", None) in {"FATAL", "PANIC"}


def has_no_state(error: Exception) -> bool:
    """Whether the client found it out by itself: the server said nothing, or nothing that is known."""
    return getattr(error, "sqlstate", None) is None


CONFLICT = Told(frozenset({"40001", "40P01"}))  # serialization_failure, deadlock_detected
# cannot_connect_now: it starts, shuts down or recovers, or is a standby that lets nobody in
STARTING = Told(frozenset({"57P03"}), ("the database system is ",))
FULL = Told(  # too_many_connections
    frozenset({"53300"}), ("too many clients already", "too many connections for", "remaining connection slots are ")
)
STRANGER = Told(frozenset({"28P01"}), ("authentication failed", "no password supplied"))  # invalid_password
SHUTDOWN = Told(frozenset({"57P01", "57P02"}))  # admin_shutdown, crash_shutdown
# A person has to set it right. The last is no connection's fault, but of the same class: psycopg's C code tells it so.
WRONG = Told(
    frozenset(),
    (
        "does not exist",
        "no pg_hba.conf entry",
        "permission denied",
        "not permitted to log in",
        "does not support ssl",
        "certificate verify failed",
        "does not match host name",
        "number of parameters must be between",
    ),
)
NAMELESS = Told(frozenset(), ("failed to resolve host",))

TROUBLE = "psycopg.OperationalError"
RECONNECT, WAIT, FAIL = Action.RECONNECT, Action.WAIT, Action.FAIL

POSTGRES = Classifier(
    Rule(TROUBLE, WAIT, category="conflict", when=CONFLICT, attempts=CONFLICTS, backoff=BRIEFLY),
    Rule(TROUBLE, WAIT, category="starting", when=STARTING),
    Rule(TROUBLE, WAIT, category="full", when=FULL),
    # A wrong password is not hammered: one sign-in, as for status 401.
    Rule(TROUBLE, Action.RELOGIN, category="auth", when=STRANGER, attempts=2),
    Rule(TROUBLE, RECONNECT, category="ended", when=SHUTDOWN),
    # Mostly a session that idled or a transaction that took too long, which may do so each time.
    Rule("psycopg.Error", RECONNECT, category="ended", when=is_last, attempts=LONG_SHOT),
    Rule(TROUBLE, FAIL, category="setup", when=WRONG),
    Rule(TROUBLE, RECONNECT, category="dns", when=NAMELESS, attempts=LONG_SHOT),
    Rule(TROUBLE, RECONNECT, category="connection", when=has_no_state),
)
