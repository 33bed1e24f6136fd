"""What is done to the server, and what it must take to get over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from demo.process import ServerProcess
from resilient import Action

__all__ = ["CROWD", "FAULTS", "Fault"]

WAIT, RECONNECT, RELOGIN, RETRY = Action.WAIT, Action.RECONNECT, Action.RELOGIN, Action.RETRY
TASKS = 50
BACK_FROM_THE_DEAD = {RECONNECT: 1, RELOGIN: 1}  # its tokens died with it


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble.

    Attributes:
        name: what the server does.
        injected: how it was brought to do so.
        inject: does it; gives the server's counters right after.
        takes: how often each action must be seen. RECONNECT and RELOGIN count recoveries that worked: exactly so
            many, however many calls were hit. WAIT and RETRY count failed attempts, and more of them may be needed.
        callers: calls that are under way at once.
        returns_after: failed reconnects after which a killed server is started again.
    """

    name: str
    injected: str
    inject: Callable[[ServerProcess], Mapping[str, int]]
    takes: Mapping[Action, int]
    callers: int = 1
    returns_after: int = 0


def ordered(*orders: str) -> Callable[[ServerProcess], Mapping[str, int]]:
    """Injects a fault by orders to the server."""
    return lambda server: server.order(*orders)


FAULTS = (
    Fault("fails twice", "503 to 2 requests", ordered("503 2"), {RETRY: 2}),
    Fault("names a wait", "429, come back in 0.2 s", ordered("429"), {WAIT: 1}),
    Fault("stalls", "1 request not answered", ordered("stall"), {RETRY: 1}),
    Fault("signs out", "its token revoked: 401", ordered("forget"), {RELOGIN: 1}),
    Fault("hangs up", "closed in mid-answer", ordered("cut"), {RECONNECT: 1}),
    Fault("dies", "SIGKILL, 2 dials refused", ServerProcess.kill, BACK_FROM_THE_DEAD, returns_after=2),
    Fault(
        "fails in four ways",
        "503, 429, closed, 401",
        ordered("503", "429", "cut", "forget"),
        {RETRY: 1, WAIT: 1, RECONNECT: 1, RELOGIN: 1},
    ),
)

CROWD = (
    Fault(
        f"hangs up on {TASKS} tasks",
        f"closed, {TASKS} requests open",
        ordered(f"stall {TASKS - 1}", "cut"),
        {RECONNECT: 1},
        callers=TASKS,
    ),
    Fault(f"signs out {TASKS} tasks", f"401 to {TASKS} requests", ordered("forget"), {RELOGIN: 1}, callers=TASKS),
    Fault(
        f"dies under {TASKS} tasks",
        "SIGKILL, 2 dials refused",
        ServerProcess.kill,
        BACK_FROM_THE_DEAD,
        callers=TASKS,
        returns_after=2,
    ),
)
