"""What happens to a command, told on stderr: a line for each event, and a countdown where there is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from resilient.cli.failures import CommandExited, CommandNotStarted
from resilient.cli.spans import spoken
from resilient.core.events import AttemptFailed, Event, GaveUp, Succeeded, Waiting

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

__all__ = ["Progress"]

BAR = 24  # characters
REFRESHES = 10  # a second: tenths of a second are what the countdown shows


class Progress:
    """A listener for one command's policy.

    Args:
        attempts: the policy's limit, or None.
        quiet: says only why a command could not be run.
    """

    def __init__(self, attempts: int | None, *, quiet: bool = False) -> None:
        self._of = "" if attempts is None else f" of {attempts}"
        self._quiet = quiet
        self._failure = ""
        self._countdown: Live | None = None

    def __call__(self, event: Event) -> None:
        """Tells of one event."""
        match event:
            case AttemptFailed(attempt=number, error=error):
                self._failure = f"attempt {number}{self._of} failed: {error}"
            case Waiting(attempt=number, seconds=seconds):
                self._say(f"{self._failure}; next in {spoken(seconds)}")
                self._count_down(number, seconds)
            case Succeeded(attempts=attempts, elapsed=elapsed):
                self._say(f"succeeded at attempt {attempts}{self._of} after {spoken(elapsed)}")
            case GaveUp():
                self._tell_end(event)
            case _:
                pass  # nothing else happens to a command

    def resume(self) -> None:
        """The wait is over: clears the countdown, so that the terminal is the command's."""
        if self._countdown is not None:
            countdown, self._countdown = self._countdown, None
            countdown.stop()

    def _tell_end(self, end: GaveUp) -> None:
        if isinstance(end.error, CommandNotStarted):
            self._say(str(end.error), always=True)
        elif isinstance(end.error, CommandExited) and end.error.unread:
            pass  # as quiet as a shell is about `... | head`
        elif end.stopped_by == "fail":
            self._say(f"{end.error}: not tried again")
        else:
            self._say(f"{end.reason} ({end.error})")

    def _say(self, text: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            with suppress(OSError):  # nobody reads our stderr: the command matters more
                print(f"resilient: {text}", file=sys.stderr, flush=True)

    def _count_down(self, attempt: int, seconds: float) -> None:
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        if console.is_dumb_terminal:
            return
        draw = partial(_remaining, f"attempt {attempt}{self._of}", seconds, time.monotonic() + seconds)
        self._countdown = Live(
            console=console,
            get_renderable=partial(draw, "#-" if console.options.ascii_only else "━━"),
            refresh_per_second=REFRESHES,
            transient=True,  # cleared when it is over
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._countdown.start(refresh=True)


def _remaining(what: str, seconds: float, ends: float, line: str) -> Text:
    from rich.text import Text

    left = max(0.0, ends - time.monotonic())
    filled = round(BAR * (1 - left / seconds)) if seconds else BAR
    return Text.assemble(
        (line[0] * filled, "green"),
        (line[1] * (BAR - filled), "bright_black"),
        f" {what} in ",
        (spoken(left, tenths=True), "bold"),
    )
