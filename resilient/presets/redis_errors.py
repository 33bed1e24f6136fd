"""``presets.redis``: the errors of redis-py.

A connection that breaks, or an answer that does not come in time, leaves open whether the command ran: RECONNECT and
RETRY. What the server refuses for now (it loads its data, runs a script, is full) was not done: WAIT. A replica that
cannot be written to is the wrong server: ROTATE_PROXY. A command that is wrong FAILs.

redis-py tries lost commands again by itself, ten times by default and INCR no less than GET. Whoever decides here says
so when making the client: ``retry=Retry(NoBackoff(), 0)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.rule import Rule
from resilient.presets.postgres_errors import BRIEFLY, CONFLICTS
from resilient.presets.socket_errors import HANDSHAKES, LONG_SHOT

__all__ = ["REDIS"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A predicate: the server's answer began with this word, for which redis-py has no class of its own."""

    word: str

    def __call__(self, error: Exception) -> bool:
        return str(error).partition(" ")[0] == self.word


RECONNECT, RETRY, WAIT, FAIL = Action.RECONNECT, Action.RETRY, Action.WAIT, Action.FAIL

CONNECTION = "redis.exceptions.ConnectionError"

# Most classes derive from redis-py's ConnectionError, which therefore comes last.
REDIS = Classifier(
    Rule("redis.exceptions.BusyLoadingError", WAIT, category="loading"),
    Rule("redis.exceptions.ResponseError", WAIT, category="busy", when=Answered("BUSY")),
    Rule(("redis.exceptions.ClusterDownError", "redis.exceptions.TryAgainError"), WAIT, category="cluster"),
    Rule("redis.exceptions.WatchError", WAIT, category="conflict", attempts=CONFLICTS, backoff=BRIEFLY),
    Rule("redis.exceptions.ReadOnlyError", Action.ROTATE_PROXY, category="read only", attempts=LONG_SHOT),
    # A wrong password is not hammered: one sign-in, as for status 401.
    Rule("redis.exceptions.AuthenticationError", Action.RELOGIN, category="auth", attempts=2),
    Rule("redis.exceptions.AuthorizationError", FAIL, category="certificate"),  # what answers for it, by OCSP, refuses
    Rule(CONNECTION, FAIL, category="certificate", message="certificate verify failed"),
    Rule(CONNECTION, WAIT, category="full", message="max number of clients reached"),
    Rule("redis.exceptions.MaxConnectionsError", WAIT, category="full"),  # the client's own pool: nothing was sent
    Rule(CONNECTION, RECONNECT, category="connection"),
    Rule("redis.exceptions.TimeoutError", RETRY, category="timeout"),
    Rule("redis.exceptions.InvalidResponse", RECONNECT, category="protocol", attempts=HANDSHAKES),
)
