"""Code that blows up, in a call and in a thread: both are reported, and the program goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from demo.report import Report
from demo.scene import Scene
from resilient import Event, catch, events, listen, panic_hooks

__all__ = ["PANICS", "quiet_threads"]

CONFIGURATION = {"interval": "0"}


def panic_in_call(report: Report) -> None:
    """Applies a configuration that blows up, under ``catch``."""
    with _panic(report, "apply configuration", "call", "an interval of 0"):
        catch.call("apply configuration", apply, CONFIGURATION)


def panic_in_thread(report: Report) -> None:
    """Lets a thread die of it, under ``panic_hooks``."""
    with _panic(report, "background loop", "thread", "dies of an exception"), quiet_threads(), panic_hooks():
        thread = threading.Thread(target=apply, args=(CONFIGURATION,), name="background loop")
        thread.start()
        thread.join()


PANICS: tuple[Callable[[Report], None], ...] = (panic_in_call, panic_in_thread)


def apply(configuration: dict[str, str]) -> float:
    """Beats a second, as the configuration has it."""
    return 1 / float(configuration["interval"])


@contextmanager
def _panic(report: Report, name: str, where: str, injected: str) -> Iterator[None]:
    heard: list[Event] = []
    with Scene(report, where, name, injected) as scene, listen(heard.append):
        yield
        panics = [event for event in heard if isinstance(event, events.Panic)]
        scene.recovered = f"caught {type(panics[0].error).__name__}" if panics else ""
        scene.expect([(panic.name, panic.where) for panic in panics] == [(name, where)], f"heard {heard}")


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Within, Python prints no traceback of a thread that dies."""
    before, threading.excepthook = threading.excepthook, lambda args: None
    try:
        yield
    finally:
        threading.excepthook = before
