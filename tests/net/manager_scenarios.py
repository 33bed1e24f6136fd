"""What befalls a managed connection, and what must come of it: one table for tasks and for threads."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resilient import Action, Classifier, Rule, backoff
from resilient.core.link import State
from resilient.errors import OutcomeUnknown

__all__ = ["ON", "SCENARIOS", "After", "Fatal", "Low", "Scenario", "Stale", "of_ours"]


class Fatal(Exception):
    """What no new connection mends."""


class Stale(Exception):
    """The credentials ran out."""


class Blocked(Exception):
    """This way is barred."""


class Busy(Exception):
    """Not now."""


class Low:
    """Chance that always draws its least."""

    def random(self) -> float:
        return 0.0


@dataclass(frozen=True)
class After:
    """Something that comes of an operation after so many seconds."""

    seconds: float
    then: object


ON = Classifier(
    Rule(ConnectionError, Action.RECONNECT),
    Rule(TimeoutError, Action.RETRY),
    Rule(Stale, Action.RELOGIN),
    Rule(Blocked, Action.ROTATE_PROXY),
    Rule(Busy, Action.WAIT, delay=3),
)


@dataclass(frozen=True)
class Scenario:
    """One operation on a manager, at 0 s, with the shortest waits that chance allows.

    Attributes:
        name: what it shows.
        dials: what each dial comes to: an error, or anything else for a connection; the last repeats.
        operation: what each call on a connection comes to: an error, a value, or one of them later; the last repeats.
        settings: of the manager.
        idempotent: of the operation.
        probes: what each probe comes to; without any, there is none.
        comes_to: the value, or the class of the error, that the operation ends with.
        dialled: when dials were made, seconds.
        waits: every wait, in order, seconds.
        state: of the manager, in the end.
        endpoints: those that were dialled.
        handled: the recovery handlers that were run.
        notes: the notes on the error.
    """

    name: str
    dials: Sequence[object] = ("up",)
    operation: Sequence[object] = ("done",)
    settings: dict[str, Any] = field(default_factory=dict)
    idempotent: bool = False
    probes: Sequence[object] = ()
    comes_to: object = "done"
    dialled: Sequence[float] = (0.0,)
    waits: Sequence[float] = ()
    state: State = State.READY
    endpoints: Sequence[object] = ()
    handled: Sequence[str] = ()
    notes: Sequence[str] = ()

    def forget(self) -> None:
        """Takes off its errors, which are raised again and again, what was hung on them."""
        for outcome in (*self.dials, *self.operation, *self.probes):
            error = outcome.then if isinstance(outcome, After) else outcome
            if isinstance(error, Exception):
                error.__traceback__ = error.__context__ = error.__cause__ = None
                vars(error).pop("__notes__", None)


REFUSED = ConnectionRefusedError("nobody listens")
RESET = ConnectionResetError("gone")


def broken_predicate(error: Exception) -> bool:
    raise ZeroDivisionError("who asks?")


SCENARIOS = [
    Scenario("a connection that comes at once"),
    Scenario("refused twice", dials=(REFUSED, REFUSED, "up"), dialled=(0.0, 0.5, 1.5), waits=(0.5, 1.0)),
    Scenario(
        "refused as often as may be",
        dials=(ConnectionRefusedError("nobody listens"),),
        settings={"attempts": 3},
        comes_to=ConnectionRefusedError,
        dialled=(0.0, 0.5, 1.5),
        waits=(0.5, 1.0),
        state=State.FAILED,
        notes=("gave up after 3 attempts in 1.50 s: attempts exhausted",),
    ),
    Scenario(
        "refused for ever: every wait within its bounds",
        dials=(*[REFUSED] * 8, "up"),
        dialled=(0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5, 45.5, 60.5),
        waits=(0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0),
    ),
    Scenario(
        "accepts and closes: six dials in half a minute",
        operation=(*[RESET] * 6, "done"),
        idempotent=True,
        dialled=(0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5),
        waits=(0.5, 1.0, 2.0, 4.0, 8.0, 15.0),
    ),
    Scenario(
        "uptime, not a connect, resets the waits",
        operation=(After(20.0, RESET), After(20.0, RESET), After(2.0, RESET), "done"),
        idempotent=True,
        dialled=(0.0, 20.5, 41.0, 44.0),
        waits=(0.5, 0.5, 1.0),
    ),
    Scenario(
        "an error that no dial mends",
        dials=(Fatal("no such database"),),
        comes_to=Fatal,
        state=State.FAILED,
        notes=("gave up after 1 attempt in 0.00 s: classified as FAIL",),
    ),
    Scenario("an operation's own error", operation=(Fatal("bad query"),), comes_to=Fatal),
    Scenario(
        "lost under an operation that may have been done",
        operation=(ConnectionResetError("gone"),),
        settings={"backoff": backoff.constant(1)},
        comes_to=OutcomeUnknown,
        state=State.BACKING_OFF,
        waits=(1.0,),
    ),
    Scenario("idempotent: tried again", operation=(RESET, "done"), idempotent=True, dialled=(0.0, 0.5), waits=(0.5,)),
    Scenario(
        "a timeout of its own, likewise",
        operation=(TimeoutError("slow"), "done"),
        idempotent=True,
        dialled=(0.0, 0.5),
        waits=(0.5,),
    ),
    Scenario("refused for now: the connection is kept", operation=(Busy("not now"), "done"), waits=(3.0,)),
    Scenario(
        "an operation has its attempts, too",
        operation=(Busy("not now"),),
        settings={"attempts": 2},
        comes_to=Busy,
        waits=(3.0,),
        notes=("gave up after 2 attempts in 3.00 s: attempts exhausted",),
    ),
    Scenario(
        "an error of its own after a wait",
        operation=(Busy("not now"), Fatal("bad query")),
        comes_to=Fatal,
        waits=(3.0,),
        notes=("gave up after 2 attempts in 3.00 s: classified as FAIL",),
    ),
    Scenario(
        "signed in again, and tried again",
        operation=(Stale("token"), "done"),
        dialled=(0.0, 0.5),
        waits=(0.5,),
        handled=("relogin",),
    ),
    Scenario(
        "another proxy, and tried again",
        operation=(Blocked("403"), "done"),
        dialled=(0.0, 0.5),
        waits=(0.5,),
        handled=("rotate_proxy",),
    ),
    Scenario(
        "no handler: dialled all the same",
        operation=(Stale("token"), "done"),
        settings={"recovery": None},
        dialled=(0.0, 0.5),
        waits=(0.5,),
    ),
    Scenario(
        "another endpoint is another way",
        operation=(Blocked("403"), "done"),
        settings={"recovery": None, "endpoints": ["a", "b"]},
        dialled=(0.0, 0.5),
        waits=(0.5,),
        endpoints=("a", "b"),
    ),
    Scenario(
        "a dial that needs a sign-in first",
        dials=(Stale("token"), "up"),
        dialled=(0.0, 0.5),
        waits=(0.5,),
        handled=("relogin",),
    ),
    Scenario(
        "endpoints: those that failed come last",
        dials=(REFUSED, REFUSED, "up", "up"),
        operation=(After(20.0, RESET), "done"),
        idempotent=True,
        settings={"endpoints": ["a", "b", "c"]},
        dialled=(0.0, 0.0, 0.0, 20.5),
        waits=(0.5,),
        endpoints=("a", "b", "c", "a"),
    ),
    Scenario(
        "dials are a throttle apart",
        dials=(REFUSED, "up"),
        operation=(RESET, "done"),
        idempotent=True,
        settings={"throttle": 5},
        dialled=(0.0, 5.0, 10.0),
        waits=(5.0, 5.0),
    ),
    Scenario(
        "a first probe that fails is a dial that fails",
        probes=(RESET, "alive"),
        dialled=(0.0, 0.5),
        waits=(0.5,),
    ),
    Scenario(
        "what a predicate raises about a dial ends the link",
        dials=(OSError("down"),),
        settings={"on": broken_predicate},
        comes_to=ZeroDivisionError,
        state=State.FAILED,
        notes=("gave up after 1 attempt in 0.00 s: classified as FAIL",),
    ),
    Scenario(
        "what a predicate raises about an operation is the caller's",
        operation=(OSError("down"),),
        settings={"on": broken_predicate},
        comes_to=ZeroDivisionError,
    ),
    Scenario(
        "a loss that is not to be mended",
        operation=(ConnectionResetError("gone"),),
        idempotent=True,
        settings={"attempts": 1},
        comes_to=ConnectionResetError,
        state=State.FAILED,
        notes=("gave up after 1 attempt in 0.00 s: attempts exhausted",),
    ),
]


def of_ours() -> Counter[str]:
    """How many objects of each class of the library there are."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("resilient."))
