"""Retries without waits, or none at all, for the whole process: for the suites of code that uses policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resilient.drivers.clock import SWITCHES

__all__ = ["fast_retries", "no_retries"]


@contextmanager
def fast_retries() -> Iterator[None]:
    """Within, policies retry as they always do, but wait for nothing."""
    before, SWITCHES.waits = SWITCHES.waits, False
    try:
        yield
    finally:
        SWITCHES.waits = before


@contextmanager
def no_retries() -> Iterator[None]:
    """Within, the first failure is the last: every policy gives its error to the caller at once."""
    before, SWITCHES.retries = SWITCHES.retries, False
    try:
        yield
    finally:
        SWITCHES.retries = before
