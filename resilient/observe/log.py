"""Events as lines on the logger ``resilient``.

Silent unless the program configures logging, as libraries are. A program that never imported ``logging``
cannot have configured it, so it is not imported here for its sake either.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resilient.core.events import CallRejected, Entered, Event, GaveUp, LinkChanged, Panic, RecoveryFailed, StateChanged

if TYPE_CHECKING:
    import logging

__all__ = ["DEBUG", "ERROR", "INFO", "LOG", "WARNING", "caution", "level_of", "report", "write"]

# The numbers of the logging module, which may not be loaded.
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40


class Log:
    """The logger, once it is found.

    Attributes:
        logger: None until then.
    """

    __slots__ = ("logger",)

    def __init__(self) -> None:
        self.logger: logging.Logger | None = None

    def find(self) -> logging.Logger | None:
        """The logger, with the handler that keeps an unconfigured program silent; None without ``logging``."""
        loaded = sys.modules.get("logging")
        # Another thread may be importing it at this moment, and has not come to its end.
        if loaded is None or getattr(loaded.__spec__, "_initializing", False):
            return None
        found: logging.Logger = loaded.getLogger("resilient")
        found.addHandler(loaded.NullHandler())
        self.logger = found
        return found


LOG = Log()


def write(event: Event) -> None:
    """Writes one event as one line; a panic with its traceback."""
    found = LOG.logger or LOG.find()
    if found is None:
        return
    panic = event.error if isinstance(event, Panic) else None
    # The text, not the event: handlers that keep records must not keep errors, and every frame they hold.
    found.log(level_of(event), "%s", str(event), exc_info=panic)


def report(listener: object, error: Exception) -> None:
    """Says that a listener failed."""
    found = LOG.logger or LOG.find()
    if found is not None:
        found.error("the listener %r raised", listener, exc_info=error)


def caution(text: str) -> None:
    """Says that something was set up that will disappoint."""
    found = LOG.logger or LOG.find()
    if found is not None:
        found.warning("%s", text)


def level_of(event: Event) -> int:
    """Panics are errors; calls given up after retries, handlers that raised, circuits that opened and connections that
    were lost or given up are warnings; the rest is news, except for what comes by the thousand: rejected calls are for
    debugging.
    """
    if isinstance(event, Panic):
        return ERROR
    if isinstance(event, RecoveryFailed):
        return INFO if event.error is None else WARNING
    if isinstance(event, (CallRejected, Entered)):
        return DEBUG
    if isinstance(event, StateChanged):
        return WARNING if event.after == "open" else INFO
    if isinstance(event, LinkChanged):
        return WARNING if event.after == "FAILED" or (event.before, event.after) == ("READY", "BACKING_OFF") else INFO
    return WARNING if isinstance(event, GaveUp) and event.attempts > 1 else INFO
