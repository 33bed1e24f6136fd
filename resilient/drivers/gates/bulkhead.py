"""The gate of a bulkhead: a permit for each call, handed from call to call.

Whoever finds no permit waits in one queue, threads and tasks of all event loops alike, and whoever gives a permit
back wakes the one that holds it now. A call that stops waiting asks the machine which came first, the permit or the
end of its patience; a permit that nobody will use goes on to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Literal, TypeVar, cast

from resilient.core.permits import Permits, PermitsMetrics
from resilient.drivers.clock import CLOCK, Clock
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.gate import in_event_loop, reject
from resilient.drivers.locks import let_go
from resilient.drivers.loops.current import current_backend
from resilient.drivers.loops.waiters import ThreadWaiter, Wakeable, await_woken
from resilient.errors import BulkheadFull
from resilient.observe.listeners import Listener

__all__ = ["AsyncBulkheadGate", "BulkheadGate", "SharedPermits"]

T = TypeVar("T")

WOULD_BLOCK = "waiting for a permit would block the event loop; guard a coroutine function, which can be suspended"


class SharedPermits:
    """The permits of one bulkhead, for threads and tasks of any event loop.

    The lock is held for a few assignments, never while somebody is woken.

    Args:
        limit: calls at once, >= 1.
        queue: most calls that may wait; None: no limit.
    """

    __slots__ = ("_gone", "_lock", "_permits")

    def __init__(self, limit: int, queue: int | None) -> None:
        self._permits = Permits(limit, queue)
        self._lock = RLock()
        self._gone: set[Wakeable] = set()  # those that a permit could not be given to, until they leave by themselves

    def acquire(self) -> bool:
        """Takes a permit, if one is free and nobody waits for it."""
        with self._lock:
            return self._permits.acquire()

    def entry(self, otherwise: Callable[[], T]) -> Callable[[], Literal[True] | T]:
        """A function that takes a permit as ``acquire`` does, or does otherwise.

        Every call passes it: a closure spares it two calls; for the rest see ``let_go``.
        """
        acquire, release, take = self._lock.acquire, self._lock.release, self._permits.acquire

        def enter() -> Literal[True] | T:
            try:
                acquire()
                taken = take()
            except BaseException:
                let_go(self._lock)
                raise
            release()
            return True if taken else otherwise()

        return enter

    def on_success(self, ticket: object, value: object) -> None:
        """A permit comes back, and goes to the first who waits."""
        lock = self._lock
        try:
            lock.acquire()
            woken = self._permits.release()
        except BaseException:
            let_go(lock)
            raise
        lock.release()
        while woken is not None and not cast("Wakeable", woken).wake():
            woken = self._handed_on(cast("Wakeable", woken))

    on_failure = on_success

    def _handed_on(self, gone: Wakeable) -> object | None:
        """Takes a permit back from a waiter whose event loop is gone; who has it now."""
        with self._lock:
            self._gone.add(gone)
            return self._permits.release()

    def release(self, ticket: object) -> None:
        """A permit comes back from a call that was not made."""
        self.on_success(ticket, None)

    def join(self, waiter: Wakeable) -> bool | None:
        """Asks for a permit; True: it has one, None: it waits in the queue, False: the queue is full."""
        with self._lock:
            if self._permits.acquire():
                return True
            return None if self._permits.join(waiter) else False

    def leave(self, waiter: Wakeable) -> bool:
        """Stops waiting; whether it has been given a permit."""
        with self._lock:
            if waiter in self._gone:  # it was, but could not be woken
                self._gone.discard(waiter)
                return False
            return self._permits.leave(waiter)

    def rejected(self) -> None:
        """A call was turned away that could not wait."""
        with self._lock:
            self._permits.rejected += 1

    def metrics(self) -> PermitsMetrics:
        """The numbers of permits and calls, as of now."""
        with self._lock:
            return self._permits.metrics()

    def reset(self) -> None:
        """Counts from zero again; calls that run keep their permits, and those that wait their places."""
        with self._lock:
            self._permits.reset()


class BulkheadGate:
    """The blocking form of a bulkhead.

    Args:
        permits: the permits, shared with whoever has the same.
        max_wait: longest wait for one, seconds; 0: none; None: no limit.
        limit: calls at once, for errors.
        queue: most calls that may wait, for errors.
        name: of the policy, for errors and events.
        listeners: told of rejections.
    """

    enter: Callable[..., Literal[True]]

    def __init__(
        self,
        permits: SharedPermits,
        max_wait: float | None,
        *,
        limit: int,
        queue: int | None,
        name: str = "",
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        self.max_wait = max_wait
        self._permits = permits
        self.enter = permits.entry(self._wait)
        self.on_success = permits.on_success
        self.on_failure = permits.on_failure
        self.release = permits.release
        self.busy = f"limit={limit} is reached"
        self._full = f"limit={limit} and queue={queue} are reached"
        self._name = name
        self._listeners = listeners

    def enter_soon(self) -> Literal[True]:
        if self._permits.acquire():
            return True
        if self.max_wait != 0.0 and in_event_loop():
            raise self.turned_away(WOULD_BLOCK)
        return self._wait()

    def _wait(self) -> Literal[True]:
        clock = CLOCK.get()
        patience = self.patience(clock)
        waiter = ThreadWaiter()
        if not self.joined(waiter):
            try:
                waiter.wait(clock, patience)
            except BaseException:
                self.forsaken(waiter)
                raise
            self.waited(waiter, patience)
        return True

    def patience(self, clock: Clock) -> float | None:
        """How long this call may wait, seconds; None: without a limit.

        Raises:
            BulkheadFull: not at all.
        """
        patience, deadline = self.max_wait, DEADLINE.get()
        if patience == 0.0:
            raise self.turned_away(self.busy)
        if deadline is not None:
            left = deadline - clock.now()
            if left <= 0.0:
                raise self.turned_away(f"{self.busy}, and no time is left to wait")
            patience = left if patience is None or left < patience else patience
        return patience

    def joined(self, waiter: Wakeable) -> bool:
        """Whether the call got a permit after all, and does not wait in the queue.

        Raises:
            BulkheadFull: the queue is full.
        """
        got = self._permits.join(waiter)
        if got is False:
            raise self._rejection(self._full)
        return got is True

    def forsaken(self, waiter: Wakeable) -> None:
        """The call was cancelled while it waited: a permit that it has just been given goes on to the next."""
        if self._permits.leave(waiter):
            self.release(True)

    def waited(self, waiter: Wakeable, patience: float | None) -> None:
        """The wait is over: the call has been given a permit, or its time is up.

        Raises:
            BulkheadFull: time was up before a permit came.
        """
        if not self._permits.leave(waiter):
            raise self._rejection(f"{self.busy}, and no call ended within {patience:g} s")

    def turned_away(self, why: str) -> BulkheadFull:
        """The error of a call that did not even join the queue, counted."""
        self._permits.rejected()
        return self._rejection(why)

    def _rejection(self, why: str) -> BulkheadFull:
        error = BulkheadFull(self._name, None, why)
        reject(error, "Bulkhead", self._listeners)
        return error


class AsyncBulkheadGate:
    """The async form, on any event loop."""

    ready: Callable[..., Literal[True] | None]

    def __init__(self, gate: BulkheadGate, permits: SharedPermits) -> None:
        self._gate = gate
        self.ready = permits.entry(self._later)
        self.on_success = gate.on_success
        self.on_failure = gate.on_failure
        self.release = gate.release

    def _later(self) -> None:
        if self._gate.max_wait == 0.0:
            raise self._gate.turned_away(self._gate.busy)

    async def join(self) -> Literal[True]:
        gate, clock = self._gate, CLOCK.get()
        patience = gate.patience(clock)
        waiter = current_backend().waiter()
        if not gate.joined(waiter):
            try:
                await await_woken(waiter, clock, patience)
            except BaseException:
                gate.forsaken(waiter)
                raise
            gate.waited(waiter, patience)
        return True
