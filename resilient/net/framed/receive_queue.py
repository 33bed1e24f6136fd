"""What has come over a framed client's connection, and nobody has taken yet.

It needs no lock: each end of a deque is moved in one step, and whoever waits says so before a last look at it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from resilient.core.link import State
from resilient.errors import ManagerClosed, NotConnected
from resilient.net.connection.settings import ManagerStats
from resilient.net.framed.settings import MOST_BYTES, MOST_FRAMES
from resilient.net.framed.wakers import wake_all

__all__ = ["ReceiveQueue"]


class ReceiveQueue:
    """Frames that came: kept by the event loop, taken by any thread.

    Args:
        name: of the client, for errors.
        link: asked for the connection's state and last error.
        resume: called, by whoever took enough, when reading may go on.

    Attributes:
        frames: those that nobody has taken.
        full: whether they are so many that reading pauses.
        received: how many came in all.
        fresh: whether some came since this was last set.
        hopeless: whether the link seems to be FAILED.
    """

    __slots__ = (
        "_bytes", "_enough", "_link", "_name", "_over", "_readers", "_resume",
        "frames", "fresh", "full", "hopeless", "received",
    )  # fmt: skip

    def __init__(self, name: str, link: Callable[[], ManagerStats], resume: Callable[[], object]) -> None:
        self.frames: deque[bytes] = deque()
        self.full = self.fresh = self.hopeless = False
        self.received = 0
        self._name = name
        self._link = link
        self._resume = resume
        self._bytes = 0  # of the frames at most
        self._enough = 0  # so few of them let reading go on
        self._over = False
        self._readers: deque[Callable[[], object]] = deque()

    def keep(self, frames: list[bytes]) -> bool:
        """Frames came, in this order; whether there is room for more. For the event loop only."""
        kept = self.frames
        if not kept:
            self._bytes = 0
        kept.extend(frames)
        self.fresh = True
        self.received += len(frames)
        self._bytes += sum(map(len, frames))
        if self._readers:
            wake_all(self._readers)
        if len(kept) < MOST_FRAMES and self._bytes < MOST_BYTES and not self.full:
            return True
        self._bytes = sum(map(len, kept.copy()))  # many may have been taken
        if len(kept) >= MOST_FRAMES or self._bytes >= MOST_BYTES:
            self._enough = min(len(kept), MOST_FRAMES) // 2
            self.full = True
        return self._eased() or not self.full  # other threads may have taken them just now

    def take(self) -> bytes | None:
        """The oldest frame; None if there is none."""
        try:
            frame = self.frames.popleft() if self.frames else None
        except IndexError:  # another thread was quicker
            return None
        if self.full and self._eased():
            self._resume()
        return frame

    def await_frame(self, wake: Callable[[], object], *, patient: bool = False) -> bool:
        """Whether to wait until ``wake`` is called, and to look again then; if not, there is a frame.

        Args:
            wake: to be forgotten by the caller if nobody called it.
            patient: whether to wait even for somebody to resume a client that gave up.

        Raises:
            ManagerClosed: there will be none.
            NotConnected: there will be none before somebody calls ``resume``.
        """
        self._readers.append(wake)  # first: a frame that comes behind the look must be heard
        if not (self.frames or self._over or (self.hopeless and not patient)):
            return True
        if self.frames:
            self.forget(wake)
            return False
        if self._over:
            self.forget(wake)
            raise ManagerClosed(self._name, "its client is closed")
        link = self._link()
        if link.state is not State.FAILED:
            return True
        self.forget(wake)
        raise NotConnected(self._name, "it gave up, until it is resumed") from link.last_error

    def forget(self, wake: Callable[[], object]) -> None:
        """Somebody waits no more."""
        with suppress(ValueError):  # it was woken
            self._readers.remove(wake)

    def wake(self) -> None:
        """Wakes everybody who waits, to look again."""
        wake_all(self._readers)

    def end(self) -> None:
        """No more will come."""
        self._over = True
        self.wake()

    def _eased(self) -> bool:
        """Whether so much has been taken that reading, which had paused, may go on; says so once."""
        if not self.full or len(self.frames) > self._enough:
            return False
        self.full = False
        return True
