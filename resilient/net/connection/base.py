"""What the connection managers for tasks and for threads share: the settings, and all that neither waits nor awaits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Generic, Literal, TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds, seconds, whole
from resilient.core.link import State
from resilient.core.link_plan import BACKOFF, MAX_WAIT, STABLE_AFTER, link_plan
from resilient.core.setting_errors import checked_name
from resilient.drivers.loops.steps import Steps
from resilient.drivers.loops.waiters import Wakeable
from resilient.net.connection.job import Lease
from resilient.net.connection.settings import (
    CONNECT_TIMEOUT,
    FAILBACK_AFTER,
    MISSES,
    ManagerPlan,
    ManagerStats,
    checked_bool,
    checked_endpoints,
    checked_function,
    checked_heartbeat,
    checked_on_cancel,
    checked_recovery,
)
from resilient.net.connection.state import ConnectionState
from resilient.net.connection.waiters import Waiters
from resilient.observe.listeners import Listener, checked_listeners
from resilient.observe.log import caution
from resilient.policies.recovery import Recovery

__all__ = ["BaseConnectionManager"]

C = TypeVar("C")
H = TypeVar("H", bound=Listener)
W = TypeVar("W", bound=Wakeable)


class BaseConnectionManager(Generic[C]):
    """The side of a connection manager that is the same for tasks and for threads."""

    def __init__(
        self,
        connect: Callable[..., C],
        *,
        close: Callable[[C], object] | None = None,
        probe: Callable[[C], object] | None = None,
        on: object,
        backoff: Backoff = BACKOFF,
        attempts: int | None = None,
        stable_after: Duration = STABLE_AFTER,
        throttle: Duration = 0,
        connect_timeout: Duration | None = CONNECT_TIMEOUT,
        heartbeat: Duration | None = None,
        misses: int = MISSES,
        recovery: Recovery | None = None,
        endpoints: Iterable[Hashable] = (),
        on_connect: Callable[[C], object] | None = None,
        on_cancel: Literal["retire", "keep"] = "retire",
        max_age: Duration | None = None,
        max_wait: Duration = MAX_WAIT,
        failback_after: Duration = FAILBACK_AFTER,
        probe_when_busy: bool = False,
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        """The settings; nothing is begun before the manager is entered.

        Args:
            connect: makes a connection; called with an endpoint if ``endpoints`` are given. ``current_deadline()``
                tells it how long it may take. One that took too long is given up; otherwise one runs at a time.
            close: ends a connection; called once for each that was made, errors ignored, and waited for 10 s at most.
            probe: asks a connection whether it lives: after connect, and at each heartbeat. If it raises, it does not.
            on: what trouble calls for: classes of errors, a predicate or a classifier. FAIL ends the link.
            backoff: waits between connections that fail.
            attempts: connections that may fail in a row, the lost one included; None for ever. Also the most times
                that an operation is tried.
            stable_after: uptime that resets the backoff, seconds, >= 0.
            throttle: least time between the starts of two dials, seconds, >= 0.
            connect_timeout: for connect and the first probe, and for a recovery handler, seconds, > 0; None for no
                limit.
            heartbeat: interval of probes while nothing else is heard, seconds, > 0; None for none.
            misses: intervals of silence after which the connection counts as lost, >= 2.
            recovery: handlers for ROTATE_PROXY and RELOGIN, run before the next dial, once for all. Whether they
                return, raise or take too long, the dial follows. (RECONNECT is connect.)
            endpoints: where to connect, in order of preference: those that failed come last. All are asked in turn
                before the backoff waits.
            on_connect: called with each new connection, to sign in or subscribe, before anybody gets it; within the
                ``connect_timeout``. What it raises is a failed dial.
            on_cancel: what becomes of a connection whose call was cancelled or cut off by a limit of time: its answer
                may still come, and is not the next caller's. "retire": new calls get a new connection, those that run
                on the old one end there. "keep": for clients that match answers to calls.
            max_age: how long a connection is used before it is renewed, seconds, > 0; None for ever.
            max_wait: longest delay named by the other side that is waited for, seconds, >= 0; beyond it the link ends.
            failback_after: how long a failure is held against a preferred endpoint, seconds, >= 0.
            probe_when_busy: whether a connection is probed while calls run on it. For exclusive connections, which do
                one thing at a time, that would end the call; a call notices by itself that its connection is lost.
            name: for events and errors.
            listeners: plain functions of an event.

        Raises:
            TypeError, ValueError: an argument is of the wrong type or out of range.
        """
        hears = checked_listeners(listeners, plain=True)
        plan = ManagerPlan(
            checked_function("connect", connect, "that makes a connection"),
            close if close is None else checked_function("close", close, "of the connection"),
            probe if probe is None else checked_function("probe", probe, "of the connection"),
            link_plan(
                on,
                backoff=backoff,
                attempts=attempts,
                stable_after=stable_after,
                throttle=throttle,
                max_wait=max_wait,
            ),
            optional_seconds("connect_timeout", connect_timeout, above=True),
            checked_heartbeat(heartbeat, probe),
            whole("misses", misses, least=2),
            checked_recovery(recovery),
            checked_endpoints(endpoints),
            on_connect if on_connect is None else checked_function("on_connect", on_connect, "of the connection"),
            checked_on_cancel(on_cancel),
            optional_seconds("max_age", max_age, above=True),
            seconds("failback_after", failback_after),
            checked_bool("probe_when_busy", probe_when_busy),
            checked_name(name),
            hears,
        )
        if plan.link.ends_without_network():
            caution(
                f"{plan.name}: its 'on' ends the connection for good when the network is out of reach, which is an"
                " OSError but no ConnectionError: on=presets.sockets does not"
            )
        self._state: ConnectionState[C] = ConnectionState(plan)
        self._waiters = Waiters(self._state)
        self._state.watch(self._driven(self._state))
        self._state.watch(self._waiters.look_again)

    def _driven(self, state: ConnectionState[C]) -> Callable[[], object]:
        """Makes the driver of the connection; gives what wakes it, from any thread."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name that the manager was given."""
        return self._state.plan.name

    @property
    def state(self) -> State:
        """What the manager is doing: IDLE before it is entered."""
        return self._state.state

    def stats(self) -> ManagerStats:
        """The numbers of connections and operations, as of now."""
        waiters = self._waiters
        return self._state.stats(operations=waiters.operations, waiting=waiters.waiting)

    def on_event(self, listener: H) -> H:
        """Tells a function of every event from now on; a decorator, too. What it raises is logged, nothing more.

        Raises:
            TypeError: it cannot be called, or is async: nobody would await it.
        """
        self._state.hear(listener)
        return listener

    def heard(self) -> None:
        """Says that the connection gave a sign of life which the user saw itself, such as a push; from any thread.

        It counts as an answered heartbeat: the next probe is put off. (What ``call`` and ``use`` do is seen anyway.)
        """
        self._state.heard()

    def lost(self, error: BaseException | None, conn: C) -> None:
        """Says that a connection has ended, for readers that notice; from any thread. Of an old one it changes nothing.

        Args:
            error: how it is known; None for an orderly end.
            conn: which one: the very object that connect gave.
        """
        self._state.lost(error, conn)

    def resume(self) -> None:
        """Lets a FAILED link begin anew; from any thread. In any other state it does nothing.

        Raises:
            ManagerClosed: the manager is closed, or drains.
        """
        self._state.resume()

    def renew(self) -> None:
        """Asks for a new connection without ending what runs on the old one; from any thread.

        New operations wait for it; the old connection is closed when the last operation on it has ended.

        Raises:
            ManagerClosed: the manager is closed, or drains.
        """
        self._state.check()
        self._state.renew()

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle; from any thread.

        Raises:
            ManagerClosed: the manager is closed, or drains.
        """
        self._state.reconnect()

    def _using(self, lease: Lease[C]) -> Use[C]:
        return Use(self._state, self._waiters, lease)

    def _drained(self, waiter: W, limit: float | None) -> Steps[W, bool]:
        """Steps that take no more operations and wait for those under way; whether all of them ended in time."""
        self._state.drain()
        return self._waiters.drained(waiter, limit, self._state.clock)


class Use(Generic[C]):
    """A block that uses a connection: what it raises may tell that the connection is lost.

    Args:
        state: told how the block ended.
        waiters: among which it is counted until then.
        lease: the connection, which was granted to it.
    """

    __slots__ = ("_lease", "_state", "_waiters")

    def __init__(self, state: ConnectionState[C], waiters: Waiters[C], lease: Lease[C]) -> None:
        self._state = state
        self._waiters = waiters
        self._lease = lease

    def __enter__(self) -> C:
        return self._lease.conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._state.heard()
            elif isinstance(error, Exception):
                self._state.noticed(error, self._lease)
            elif not isinstance(error, GeneratorExit):  # which comes between two calls
                self._state.cut_off(self._lease)
        finally:
            self._waiters.leave(self._lease)
            del error, traceback  # a frame that holds the error it raised is a cycle
