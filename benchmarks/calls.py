"""What a guarded call costs: beside the loop one would write by hand, and beside other libraries.

Run as ``python -m benchmarks.calls``; with ``--gate`` it exits 1 if a ratio is beyond 1.5 times its mark.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine
from time import sleep
from typing import Any

import backoff as backoff_library
import stamina
import tenacity

from benchmarks.harness import Mark, measure, report
from resilient import backoff, retry

Case = Callable[[int], None]

NO_WAIT = backoff.constant(0)


def plain(a: int, b: int) -> int:
    return a


async def plain_async(a: int, b: int) -> int:
    return a


def by_hand(a: int, b: int) -> int:
    for n in range(3):
        try:
            return plain(a, b)
        except OSError:
            if n == 2:
                raise
            sleep(0)
    raise AssertionError


async def by_hand_async(a: int, b: int) -> int:
    for n in range(3):
        try:
            return await plain_async(a, b)
        except OSError:
            if n == 2:
                raise
            sleep(0)
    raise AssertionError


def failing() -> Callable[[int, int], int]:
    calls = 0

    def fails_twice(a: int, b: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise OSError
        return a

    return fails_twice


def failing_by_hand() -> Callable[[int, int], int]:
    call = failing()

    # No sleep(0) here, as it costs a system call: the loop that we are compared with is the fastest there is.
    def loop(a: int, b: int) -> int:
        for n in range(3):
            try:
                return call(a, b)
            except OSError:
                if n == 2:
                    raise
        raise AssertionError

    return loop


class ByHand:
    def plain(self, a: int, b: int) -> int:
        return a

    def method(self, a: int, b: int) -> int:
        for n in range(3):
            try:
                return self.plain(a, b)
            except OSError:
                if n == 2:
                    raise
                sleep(0)
        raise AssertionError


class Guarded:
    @retry(on=OSError, attempts=3)
    def method(self, a: int, b: int) -> int:
        return a


def closure(call: Callable[..., int]) -> Callable[..., int]:
    def wrapper(*args: Any, **kwargs: Any) -> int:
        try:
            return call(*args, **kwargs)
        except OSError:
            raise

    return wrapper


def repeat(call: Callable[[int, int], object]) -> Case:
    def case(count: int) -> None:
        for _ in range(count):
            call(1, 2)

    return case


def repeat_async(call: Callable[[int, int], Coroutine[Any, Any, object]]) -> Case:
    # Awaited inside one coroutine, which nothing ever suspends: no event loop is measured along.
    async def awaited(count: int) -> None:
        for _ in range(count):
            await call(1, 2)

    def case(count: int) -> None:
        with contextlib.suppress(StopIteration):
            awaited(count).send(None)

    return case


def success_cases() -> dict[str, Case]:
    guarded = retry(on=OSError, attempts=3)
    by_tenacity = tenacity.retry(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError))
    by_backoff = backoff_library.on_exception(backoff_library.expo, OSError, max_tries=3)
    return {
        "by hand": repeat(by_hand),
        "guarded": repeat(guarded(plain)),
        "guarded .call": repeat(lambda a, b: guarded.call(plain, a, b)),
        "guarded, with a timeout": repeat(guarded.with_(timeout=60)(plain)),
        "closure": repeat(closure(plain)),
        "by hand, method": repeat(ByHand().method),
        "guarded, method": repeat(Guarded().method),
        "by hand, async": repeat_async(by_hand_async),
        "guarded, async": repeat_async(guarded(plain_async)),
        "tenacity": repeat(by_tenacity(plain)),
        "stamina": repeat(stamina.retry(on=OSError, attempts=3)(plain)),
        "backoff": repeat(by_backoff(plain)),
    }


SUCCESS = [
    Mark("function / by hand", "guarded", "by hand", at_most=0.5),
    Mark("method / by hand", "guarded, method", "by hand, method", at_most=0.5),
    Mark("async / by hand", "guarded, async", "by hand, async", at_most=0.8),
    Mark("tenacity / function", "guarded", "tenacity", at_least=50),
    Mark("stamina / function", "guarded", "stamina", at_least=50),
    Mark("backoff / function", "guarded", "backoff", at_least=10),
]


def failure_cases() -> dict[str, Case]:
    guarded = retry(on=OSError, attempts=3, backoff=NO_WAIT)
    by_tenacity = tenacity.retry(
        stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError), wait=tenacity.wait_none()
    )
    without_sleep = tenacity.retry(
        stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError), sleep=lambda seconds: None
    )
    return {
        "two failures, by hand": repeat(failing_by_hand()),
        "two failures, guarded": repeat(guarded(failing())),
        "two failures, tenacity": repeat(by_tenacity(failing())),
        "two failures, tenacity, its sleep stubbed": repeat(without_sleep(failing())),
    }


FAILURE = [
    Mark("two failures / by hand", "two failures, guarded", "two failures, by hand", at_most=2.5),
    Mark("tenacity / two failures", "two failures, guarded", "two failures, tenacity", at_least=20),
]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gate", action="store_true", help="exit 1 if a ratio is beyond 1.5 times its mark")
    options.add_argument("--rounds", type=int, default=25)
    chosen = options.parse_args()
    logging.getLogger("backoff").disabled = True
    stamina.instrumentation.set_on_retry_hooks([])
    seconds = measure(success_cases(), rounds=chosen.rounds)
    passed = report("success", seconds, SUCCESS, gate=chosen.gate)
    seconds = measure(failure_cases(), rounds=chosen.rounds)
    return 0 if report("failure", seconds, FAILURE, gate=chosen.gate) and passed else 1


if __name__ == "__main__":
    sys.exit(main())
