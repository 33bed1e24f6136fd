"""What can go wrong with one attempt at running a command, and which of it is worth another.

::

    CommandFailed
    ├── CommandExited      it ended with a status other than 0
    ├── OutputMatched      it wrote what --on-output looks for
    ├── CommandTimedOut    it was cut off
    └── CommandNotStarted  it could not be run at all
"""

from __future__ import annotations

import re
import signal
from collections.abc import Container
from enum import IntEnum

from resilient.cli.spans import spoken
from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.rule import Rule

__all__ = [
    "CommandExited",
    "CommandFailed",
    "CommandNotStarted",
    "CommandTimedOut",
    "Ended",
    "OutputMatched",
    "classifier",
    "read_statuses",
    "status_of",
]


class Ended(IntEnum):
    """Exit statuses that shells and coreutils' ``timeout`` and ``env`` have made customary."""

    TIMED_OUT = 124
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    BY_SIGNAL = 128  # plus the signal's number


class CommandFailed(Exception):
    """A command, or its check, failed.

    Attributes:
        status: what ``resilient run`` ends with if this was the last attempt.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class CommandExited(CommandFailed):
    """The command ended with a status other than 0, or was killed by a signal (128 + its number).

    Args:
        returncode: as ``subprocess`` has it: minus the signal's number if one killed it.
    """

    def __init__(self, returncode: int) -> None:
        reason = f"exit status {returncode}" if returncode > 0 else f"killed by {_signal_name(-returncode)}"
        super().__init__(reason, status_of(returncode))
        # Whoever read the output has left, as in `... | head`: nobody would see another attempt.
        self.unread = returncode == -signal.SIGPIPE


class OutputMatched(CommandFailed):
    """The command wrote what must not be there; its status is never 0 then."""

    def __init__(self, found: str, status: int) -> None:
        super().__init__(f"its output matched, at {found!r}", status or 1)


class CommandTimedOut(CommandFailed):
    """The command was cut off."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"timed out after {spoken(round(seconds, 2))}", Ended.TIMED_OUT)


class CommandNotStarted(CommandFailed):
    """There is no such command, or it cannot be executed."""

    def __init__(self, word: str, error: OSError) -> None:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = "command not found" if missing else (error.strerror or str(error)).lower()
        super().__init__(f"{word}: {reason}", Ended.NOT_FOUND if missing else Ended.NOT_EXECUTABLE)


def classifier(statuses: Container[int] | None) -> Classifier:
    """Which failures call for another attempt.

    Args:
        statuses: the exit statuses that do; None takes all but 0 and the end of a command whose reader left.
    """

    def is_retried(error: CommandExited) -> bool:
        return not error.unread if statuses is None else error.status in statuses

    return Classifier(
        Rule((CommandTimedOut, OutputMatched), Action.RETRY), Rule(CommandExited, Action.RETRY, when=is_retried)
    )


def read_statuses(text: str) -> frozenset[int]:
    """Exit statuses from text such as ``1,75,100-110``; the word ``none`` is none at all.

    Raises:
        ValueError: it is not written like that, or a status is not in 1..255.
    """
    if text.strip() == "none":
        return frozenset()
    return frozenset(status for part in text.split(",") for status in _range(part.strip(), text))


def status_of(returncode: int) -> int:
    """The exit status that a shell would show."""
    return returncode if returncode >= 0 else Ended.BY_SIGNAL - returncode


def _range(part: str, text: str) -> range:
    found = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part)
    if found is not None:
        first, last = int(found[1]), int(found[2] or found[1])
        if 1 <= first <= last <= 255:
            return range(first, last + 1)
    raise ValueError(f"exit statuses must be from 1 to 255, written like 1,75,100-110, or none, got {text!r}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
