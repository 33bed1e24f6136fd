"""Operations on a managed connection: how many are under way, who waits for a connection, who waits for their end."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from resilient.core.link import State
from resilient.drivers.clock import CLOCK, Clock
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.steps import Join, Steps
from resilient.drivers.loops.waiters import Wakeable
from resilient.errors import DeadlineExceeded
from resilient.net.connection.job import Lease

__all__ = ["Connection", "Waiters"]

C = TypeVar("C")
W = TypeVar("W", bound=Wakeable)

# States in which nobody has to wait any longer: there is a connection, or none to come.
DECIDED = frozenset({State.READY, State.DRAINING, State.FAILED, State.CLOSED})


class Connection(Protocol[C]):
    """What waiters ask of the state of a connection."""

    @property
    def state(self) -> State: ...

    @property
    def ready(self) -> Lease[C] | None:
        """The connection, if operations may begin on it."""
        ...

    @property
    def last_error(self) -> Exception | None: ...

    def release(self, lease: Lease[C]) -> None:
        """Nobody uses a connection any more that is retired."""
        ...

    def lease(self, *, entered: bool) -> Lease[C] | None:
        """The connection, if an operation may use it now; None: there may be one later.

        Args:
            entered: whether that operation has begun before: then it may go on while the manager drains.

        Raises:
            NotConnected, Exception: there will be none: the error that says so, or the one that the link ended with.
        """
        ...


class Waiters(Generic[C]):
    """Who uses a connection, and who waits for one or for the end of all use; for any number of threads and tasks.

    The lock is held for a few assignments, and may be held while the connection's own is taken, never the other way
    round. Whoever waits says so first and looks then; whoever changes the state does so first and wakes then.

    Args:
        connection: which is used and waited for.

    Attributes:
        operations: calls and blocks that are under way.
    """

    __slots__ = ("_connection", "_drainers", "_lock", "_waiting", "operations")

    def __init__(self, connection: Connection[C]) -> None:
        self._connection = connection
        self._lock = Lock()
        self._waiting: dict[Wakeable, None] = {}
        self._drainers: dict[Wakeable, None] = {}
        self.operations = 0

    @property
    def waiting(self) -> int:
        """How many operations wait for a connection."""
        return len(self._waiting)

    def enter(self) -> Lease[C] | None:
        """Begins an operation on the connection that is up; None: none is, see :meth:`granted`."""
        with self._lock:
            lease = self._connection.ready
            if lease is not None:
                self.operations += 1
                lease.users += 1
            return lease

    def leave(self, lease: Lease[C] | None) -> None:
        """Ends an operation, on this connection; None: it was waiting for one."""
        with self._lock:
            self.operations -= 1
            drainers = () if self.operations or not self._drainers else tuple(self._drainers)
        if lease is not None:
            self.part(lease)
        for drainer in drainers:
            drainer.wake()

    def part(self, lease: Lease[C]) -> None:
        """An operation does not use this connection any more."""
        with self._lock:
            lease.users -= 1
            unused = lease.retired and not lease.users
        if unused:
            self._connection.release(lease)

    def granted(self, waiter: Callable[[], W], entered: bool = False, limit: float | None = None) -> Steps[W, Lease[C]]:
        """Steps that wait for a connection, for as long as the policies around the caller leave.

        Args:
            waiter: makes what the caller waits for.
            entered: whether its operation has begun before; otherwise it begins with the connection.
            limit: how long to wait at the most, seconds; None for what the policies leave.

        Raises:
            DeadlineExceeded: no connection came in time.
            NotConnected, Exception: there will be none.
        """
        deadline, clock = DEADLINE.get(), CLOCK.get()
        since = 0.0 if deadline is None and limit is None else clock.now()
        if limit is not None and (deadline is None or since + limit < deadline):
            deadline = since + limit
        while True:
            own = waiter()
            with self._lock:
                self._waiting[own] = None  # first: a connection that comes behind the look is heard of
            try:
                lease = self._given(entered)
                if lease is not None:
                    return lease
                yield Join(own, self._patience(deadline, since), clock)
            finally:
                self._forsake(own)
            self._patience(deadline, since)  # before the connection: what comes too late is not taken

    def following(self, waiter: Callable[[], W], last: int) -> Steps[W, Lease[C]]:
        """Steps that wait for a connection after the one of this generation; nobody begins an operation on it.

        Raises:
            NotConnected, Exception: there will be none.
        """
        while True:
            own = waiter()
            with self._lock:
                self._waiting[own] = None
            try:
                lease = self._connection.lease(entered=False)
                if lease is not None and lease.generation > last:
                    return lease
                yield Join(own)
            finally:
                self._forsake(own)

    def drained(self, waiter: W, limit: float | None, clock: Clock) -> Steps[W, bool]:
        """Steps that wait for the end of all operations; whether all ended in time.

        Args:
            waiter: what the caller waits for.
            limit: how long, seconds, >= 0; None for no limit.
            clock: by which that is limited.
        """
        with self._lock:
            self._drainers[waiter] = None
        try:
            if self.operations and self._connection.state is not State.CLOSED:
                yield Join(waiter, limit, clock)
        finally:
            self._forsake(waiter)
        return self.operations == 0

    def look_again(self) -> None:
        """Wakes those for whom a change of the connection's state has decided something."""
        state = self._connection.state
        with self._lock:
            woken = [*self._waiting] if state in DECIDED else []
            if state is State.CLOSED:
                woken += self._drainers
        for waiter in woken:
            waiter.wake()

    def _given(self, entered: bool) -> Lease[C] | None:
        with self._lock:
            lease = self._connection.lease(entered=entered)
            if lease is not None:
                lease.users += 1
                self.operations += not entered
            return lease

    def _forsake(self, waiter: Wakeable) -> None:
        with self._lock:
            self._waiting.pop(waiter, None)
            self._drainers.pop(waiter, None)

    def _patience(self, deadline: float | None, since: float) -> float | None:
        """How long a caller may go on waiting, seconds; None for ever.

        Args:
            deadline: when the policies around it want it to be over; None if they set no limit.
            since: when it began to wait.

        Raises:
            DeadlineExceeded: not at all.
        """
        if deadline is None:
            return None
        left = deadline - CLOCK.get().now()
        if left <= 0.0:
            raise DeadlineExceeded(max(0.0, deadline - since)) from self._connection.last_error
        return left
