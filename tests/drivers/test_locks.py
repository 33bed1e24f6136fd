"""The locks around the steps of shared states: neither signals nor the collector leave them held."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from threads import together

from resilient import Bulkhead, CircuitBreaker, Policy, RateLimiter, Retry, RetryBudget
from resilient.drivers.locks import let_go


class Interrupt(BaseException):
    """What a signal raises."""


def lock_is_free(lock: Any) -> bool:
    """Whether another thread could take it."""
    free: list[bool] = []
    together(1, lambda _: free.append(lock.acquire(blocking=False)))
    return free[0]


def test_a_held_lock_is_released() -> None:
    """By the thread that holds it."""
    lock = threading.RLock()
    lock.acquire()
    let_go(lock)
    assert lock_is_free(lock)


def test_the_lock_of_another_thread_is_left_alone() -> None:
    """As by a thread that was interrupted while it waited for it."""
    lock = threading.RLock()
    with lock:
        assert [] == together(1, lambda _: let_go(lock))
        assert not lock_is_free(lock)


GUARDS: dict[str, Callable[[], Policy]] = {
    "bulkhead": lambda: Bulkhead(10**6),
    "rate limiter": lambda: RateLimiter(1e9, burst=10**6),
    "breaker": lambda: CircuitBreaker(consecutive=10**6, failure_rate=None),
    "budget": lambda: Retry(on=OSError, budget=RetryBudget.ratio()),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_a_signal_at_any_moment_leaves_no_lock_held(guard: str) -> None:
    """It may come between any two calls; whoever comes afterwards is let through."""

    def interrupted(number: int, frame: object) -> None:
        raise Interrupt

    def fails() -> None:
        raise ValueError

    call = GUARDS[guard]()(fails)
    usual = signal.signal(signal.SIGALRM, interrupted)
    try:
        for microseconds in range(5, 105):
            try:
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                for _ in range(1000):  # far longer, and not for ever, should anything swallow the interrupt
                    try:
                        call()
                    except ValueError:
                        pass
            except Interrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    over: list[bool] = []

    def once() -> None:
        try:
            call()
        except ValueError:
            over.append(True)

    thread = threading.Thread(target=once, daemon=True)
    thread.start()
    thread.join(10)
    assert [True] == over


def test_the_end_of_an_abandoned_block_may_come_in_the_middle_of_a_step() -> None:
    """The collector runs where it likes; the step that it interrupts holds the lock already."""
    bulkhead = Bulkhead(10**6)

    def block() -> Iterator[None]:
        with bulkhead:
            yield

    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what there is already is not looked at again and again
    gc.disable()
    try:
        for threshold in range(1, 100):
            gc.collect()
            abandoned = block()
            next(abandoned)
            box: list[Any] = [abandoned]
            box.append(box)
            del abandoned, box
            gc.set_threshold(threshold)
            gc.enable()
            for _ in range(20):
                bulkhead.metrics()
                bulkhead.call(int)
            gc.disable()
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
        gc.enable()
    gc.collect()
    assert 0 == bulkhead.metrics().inflight
