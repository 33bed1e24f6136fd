"""A command's output on its way through us: passed on as it comes, and searched."""

from __future__ import annotations

import os
import re
import select
from typing import IO

__all__ = ["LineSearch", "Pump"]

CHUNK = 65_536  # bytes: what a pipe holds on Linux
LONGEST_LINE = 65_536  # bytes kept of an unfinished line; beyond it, it is searched in pieces
OVERLAP = 4_096  # bytes that two such pieces share, so that a match of this size is in one of them
LEFT_IN_PIPE = 1_048_576  # bytes: the most that a pipe can hold on Linux (/proc/sys/fs/pipe-max-size)


class LineSearch:
    """Looks for a pattern in each line of a stream, however the stream is cut into chunks.

    By lines, as grep does, because only then do ``^`` and ``$`` mean the same wherever a chunk happens to end.

    Attributes:
        found: the first match; None so far.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._rest = b""
        self.found: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        """The stream goes on."""
        if self.found is not None:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._search(line)
        if len(self._rest) > LONGEST_LINE:
            self._search(self._rest)
            self._rest = self._rest[-OVERLAP:]

    def end(self) -> None:
        """The stream is over: an unfinished line is one too."""
        if self._rest:
            self._search(self._rest)
        self._rest = b""

    def _search(self, line: bytes) -> None:
        if self.found is None and (match := self._pattern.search(line.removesuffix(b"\r"))):
            self.found = match[0]


class Pump:
    """Moves one stream of a child to the same stream of ours, without ever blocking.

    The next chunk is read when the last is written: a slow reader slows the command down, as it would
    without us.

    Args:
        source: our end of the child's pipe.
        sink: our own file descriptor.
    """

    def __init__(self, source: IO[bytes], sink: int, search: LineSearch) -> None:
        self._source = source
        self._sink = sink
        self._search = search
        self._pending = memoryview(b"")
        self._allowance: int | None = None

    @property
    def reads(self) -> int | None:
        """The file descriptor to read from next, or None."""
        return None if self._source.closed or self._pending else self._source.fileno()

    @property
    def writes(self) -> int | None:
        """The file descriptor to write to next, or None."""
        return self._sink if self._pending else None

    @property
    def done(self) -> bool:
        """Whether all is written, and nothing more will come."""
        return self._source.closed and not self._pending

    def read(self) -> None:
        """Takes what is there; the source must be readable."""
        chunk = os.read(self._source.fileno(), CHUNK)
        if self._allowance is not None:
            chunk = chunk[: self._allowance]
            self._allowance -= len(chunk)
        if not chunk:
            self.close()
            return
        self._search.feed(chunk)
        self._pending = memoryview(chunk)

    def write(self) -> None:
        """Passes on a piece; the sink must be writable."""
        try:
            # No more than this is sure not to block on a pipe that is writable.
            written = os.write(self._sink, self._pending[: select.PIPE_BUF])
        except BlockingIOError:  # whoever shares our stream has made it so
            return
        except OSError:  # nobody reads it any more: the child shall notice, as it would without us
            self._pending = memoryview(b"")
            self.close()
            return
        self._pending = self._pending[written:]

    def child_ended(self) -> None:
        """What is in the pipe is all that the child wrote; a grandchild that holds it could go on for ever."""
        self._allowance = LEFT_IN_PIPE

    def close(self) -> None:
        """Stops reading what the command prints."""
        self._source.close()
        self._search.end()
