"""The locks around the steps of shared states: neither signals nor the collector leave them held."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from threads import together

from resilient import Bulkhead
from resilient.drivers.locks import let_go


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


# In a process of its own: the interrupt would strike in the measuring of coverage, too, which holds locks.
INTERRUPTED = """
import signal, sys, threading
from resilient import Bulkhead, CircuitBreaker, RateLimiter, Retry, RetryBudget

class Interrupt(BaseException):
    pass

def interrupted(number, frame):
    raise Interrupt

def fails():
    raise ValueError

def once():
    try:
        call()
    except ValueError:
        sys.stdout.write("through\\n")

call = {guard}(fails)
signal.signal(signal.SIGALRM, interrupted)
for microseconds in range(5, 405):
    try:
        signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
        for _ in range(1000):  # far longer, and not for ever, should anything swallow the interrupt
            try:
                call()
            except ValueError:
                pass
    except Interrupt:
        pass
signal.signal(signal.SIGALRM, signal.SIG_IGN)
thread = threading.Thread(target=once, daemon=True)
thread.start()
thread.join(10)
"""
GUARDS = [
    "Bulkhead(10**6)",
    "RateLimiter(1e9, burst=10**6)",
    "CircuitBreaker(consecutive=10**6, failure_rate=None)",
    "Retry(on=OSError, budget=RetryBudget.ratio())",
]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_signal_at_any_moment_leaves_no_lock_held(guard: str) -> None:
    """It may come between any two calls; whoever comes afterwards, in another thread, is let through."""
    program = INTERRUPTED.replace("{guard}", guard)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ("through\n", "") == (said.stdout, said.stderr)


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
