"""The gate of a rate limiter: calls start by a schedule, in the order in which they came.

Threads and tasks of all event loops wait in one queue. Only its head sleeps until its slot; the others sleep until
they are woken, because the head has left. Who would have to wait too long is told so at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import RLock, get_ident
from typing import TypeVar, cast

from resilient.core.rate import SLACK, Rate, RateMetrics
from resilient.drivers.clock import CLOCK, SYSTEM, Clock, is_virtual
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.gate import in_event_loop, reject
from resilient.drivers.locks import let_go
from resilient.drivers.loops.current import current_backend
from resilient.drivers.loops.waiters import ThreadWaiter, Wakeable, await_woken
from resilient.errors import RateLimited
from resilient.observe.listeners import Listener

__all__ = ["AsyncRateLimiterGate", "Place", "RateLimiterGate", "SharedRate"]

T = TypeVar("T")

WOULD_BLOCK = "waiting for a slot would block the event loop; guard a coroutine function, which can be suspended"
OWN_THREAD = "a task that waits ahead runs in this very thread, and could not go on while the thread is blocked"


class Place:
    """A place in the queue.

    Args:
        until: when its owner gives up, a monotonic instant.
        waiter: what its owner sleeps on first.

    Attributes:
        waiter: what its owner sleeps on now, a new one for each sleep.
        thread: where its owner runs.
        queued: whether it is in the queue.
    """

    __slots__ = ("queued", "thread", "until", "waiter")

    def __init__(self, until: float, waiter: Wakeable) -> None:
        self.until = until
        self.waiter = waiter
        self.thread = get_ident()
        self.queued = False

    def wake(self) -> bool:
        """Wakes its owner, from any thread; False if its event loop is gone."""
        return self.waiter.wake()


class SharedRate:
    """The schedule of one rate limiter, for threads and tasks of any event loop.

    The lock is held for a few assignments, never while somebody is woken or a clock is read.

    Args:
        rate: calls per ``per`` seconds, > 0.
        per: seconds, > 0.
        burst: calls at once after idleness, >= 1.
    """

    __slots__ = ("_lock", "_rate", "_threads")

    def __init__(self, rate: float, per: float, burst: int) -> None:
        self._rate = Rate(rate, per, burst)
        self._lock = RLock()
        self._threads: dict[int, int] = {}  # places of each thread

    def take(self, now: float) -> int:
        """Takes a slot that is due; the number of the grant, 0 if it would have to be waited for."""
        with self._lock:
            return 0 if self._rate.take(now) else self._rate.granted

    def entry(self, otherwise: Callable[[], T]) -> Callable[[], int | T]:
        """A function that takes a slot that is due now and gives the number of the grant, or does otherwise.

        Every call passes it: a closure spares it two calls; for the rest see ``let_go``.
        """
        lock, rate, clock = self._lock, self._rate, CLOCK.get
        acquire, release, take = lock.acquire, lock.release, rate.take

        def enter() -> int | T:
            now = clock().now()
            try:
                acquire()
                grant = rate.granted if take(now) == 0.0 else 0
            except BaseException:
                let_go(lock)
                raise
            release()
            return grant or otherwise()

        return enter

    def join(self, place: Place, now: float, longest: float) -> float:
        """Joins the queue; 0.0, or the seconds until its slot if that is not before ``longest``: rejected."""
        with self._lock:
            wait = self._rate.expected_wait(now)
            if wait and wait >= longest:
                self._rate.rejected += 1
                return wait
            self._rate.join(place)
            place.queued = True
            self._threads[place.thread] = self._threads.get(place.thread, 0) + 1
            return 0.0

    def turn(self, place: Place, now: float) -> tuple[int, float]:
        """A caller in the queue asks for its slot.

        Returns:
            The number of the grant, the place is given up then; or 0, and seconds to sleep unless woken before,
            infinite behind the head.
        """
        with self._lock:
            wait = self._rate.turn(place, now)
            if wait:
                return 0, wait
            grant = self._rate.granted
            head = self._left(place)
        self._wake(head)
        return grant, 0.0

    def leave(self, place: Place) -> None:
        """A caller gives up its place, if it has not left already."""
        with self._lock:
            head = self._left(place)
        self._wake(head)

    def rejected(self, now: float) -> float:
        """A call was turned away; the seconds until a slot would come."""
        with self._lock:
            self._rate.rejected += 1
            return self._rate.expected_wait(now)

    def cancelled(self, grant: int) -> None:
        """A granted call never started."""
        with self._lock:
            head = self._rate.cancelled(grant)
        self._wake(head)

    def crossed(self, thread: int) -> bool:
        """Whether a place of this thread is in the queue: one that blocks it would wait for itself."""
        return thread in self._threads

    @property
    def interval(self) -> float:
        """Seconds from slot to slot."""
        return self._rate.interval

    def metrics(self, now: float) -> RateMetrics:
        """The numbers of slots and calls, as of now."""
        with self._lock:
            return self._rate.metrics(now)

    def reset(self) -> None:
        """The schedule and the counts begin anew; calls that wait keep their places."""
        with self._lock:
            head = self._rate.reset()
        self._wake(head)

    def _left(self, place: Place) -> object | None:
        if not place.queued:
            return None
        place.queued = False
        count = self._threads[place.thread] - 1
        if count:
            self._threads[place.thread] = count
        else:
            del self._threads[place.thread]
        return self._rate.leave(place)

    def _wake(self, head: object | None) -> None:
        """Wakes the new head of the queue; one whose event loop is gone makes way for the next."""
        while head is not None and not cast("Place", head).wake():
            with self._lock:
                head = self._left(cast("Place", head))


class RateLimiterGate:
    """The blocking form of a rate limiter.

    Args:
        rate: the schedule, shared with whoever has the same.
        max_wait: longest wait for a slot, seconds; 0: none.
        name: of the policy, for errors and events.
        listeners: told of rejections.
    """

    enter: Callable[..., int]

    def __init__(self, rate: SharedRate, max_wait: float, name: str, listeners: tuple[Listener, ...]) -> None:
        self.max_wait = max_wait
        self._rate = rate
        self.enter = rate.entry(self._wait)
        self._name = name
        self._listeners = listeners
        # The sum of intervals that is the wait may miss the limit by its rounding.
        self._longest = max_wait + SLACK if max_wait else 0.0
        # Whoever was let into the queue is not turned away because the others wake a little late.
        self._grace = rate.interval if max_wait else 0.0
        self._too_late = f"no slot comes within max_wait={max_wait:g} s" if max_wait else ""

    def enter_soon(self) -> int:
        grant = self._rate.take(CLOCK.get().now())
        if grant:
            return grant
        if self.max_wait and in_event_loop():
            raise self.turned_away(WOULD_BLOCK)
        return self._wait()

    def on_success(self, ticket: int, value: object) -> None:
        """A call that was made has used its slot."""

    def on_failure(self, ticket: int, error: BaseException) -> None:
        """A call that was made has used its slot."""

    def release(self, ticket: int) -> None:
        self._rate.cancelled(ticket)

    def _wait(self) -> int:
        clock = CLOCK.get()
        if self._rate.crossed(get_ident()):
            raise self.turned_away(OWN_THREAD)
        waiter = ThreadWaiter()
        place = self.line_up(clock, waiter)
        try:
            while True:
                grant, seconds = self.turn(place, clock)
                if grant:
                    return grant
                # Under a virtual clock, only the head of the queue lets time pass.
                waiter.wait(SYSTEM if seconds is None else clock, seconds)
                place.waiter = waiter = ThreadWaiter()
        except BaseException:
            self._rate.leave(place)
            raise

    def line_up(self, clock: Clock, waiter: Wakeable) -> Place:
        """A place in the queue.

        Raises:
            RateLimited: the slot would come too late.
        """
        now, longest, deadline = clock.now(), self._longest, DEADLINE.get()
        until, why = now + longest + self._grace, self._too_late
        if deadline is not None and deadline < until:
            until = deadline
            if deadline - now < longest:
                longest, why = deadline - now, "no slot comes before the deadline"
        place = Place(until, waiter)
        wait = self._rate.join(place, now, longest)
        if wait:
            raise self._rejection(wait, why)
        return place

    def turn(self, place: Place, clock: Clock) -> tuple[int, float | None]:
        """The number of the grant; or 0, and how long to sleep unless woken before, seconds (None: no limit).

        Raises:
            RateLimited: the slot comes too late after all.
        """
        now = clock.now()
        grant, wait = self._rate.turn(place, now)
        if grant:
            return grant, 0.0
        left = place.until - now
        if left <= 0.0 or left < wait < inf:
            raise self.turned_away("the queue moves more slowly than it should")
        if not is_virtual(clock):
            return 0, min(wait, left)
        if wait == inf:
            return 0, None
        clock.record(wait)
        return 0, wait

    def turned_away(self, why: str = "") -> RateLimited:
        return self._rejection(self._rate.rejected(CLOCK.get().now()), why)

    def _rejection(self, wait: float, why: str) -> RateLimited:
        error = RateLimited(self._name, wait, why)
        reject(error, "RateLimiter", self._listeners)
        return error


class AsyncRateLimiterGate:
    """The async form, on any event loop."""

    ready: Callable[..., int | None]

    def __init__(self, gate: RateLimiterGate, rate: SharedRate) -> None:
        self._gate = gate
        self._rate = rate
        self.ready = rate.entry(self._later)
        self.on_success = gate.on_success
        self.on_failure = gate.on_failure
        self.release = gate.release

    def _later(self) -> None:
        if not self._gate.max_wait:
            raise self._gate.turned_away()

    async def join(self) -> int:
        gate, clock, backend = self._gate, CLOCK.get(), current_backend()
        waiter = backend.waiter()
        place = gate.line_up(clock, waiter)
        try:
            while True:
                grant, seconds = gate.turn(place, clock)
                if grant:
                    return grant
                await await_woken(waiter, clock, seconds)
                place.waiter = waiter = backend.waiter()
        except BaseException:
            self._rate.leave(place)
            raise
