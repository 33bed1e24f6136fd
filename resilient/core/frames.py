"""Opaque frames on a stream of bytes: a length, then as many bytes.

::

    frame    length (4 bytes, little-endian, unsigned), body (that many bytes, any)

The length does not count itself. A body may be empty. What arrives is cut anywhere: a :class:`FrameReader` is fed
pieces as they come and gives back whole bodies. It refuses a length above its limit as soon as it has read it, before
any of that body is kept; since nobody can tell where the next frame begins then, the stream is over. It keeps no more
than one unfinished frame, and that only as far as it has come, whatever its length announced.
"""

from __future__ import annotations

from struct import Struct

from resilient.core.duration import whole
from resilient.errors import ResilientError

__all__ = ["BEAT", "HEADER", "LARGEST", "MAX_FRAME", "FrameReader", "FrameTooLarge", "checked_limit", "encode"]

LENGTH = Struct("<I")
HEADER = LENGTH.size
LARGEST = 2**32 - 1
MAX_FRAME = 16 * 2**20  # bytes

BEAT = bytes(HEADER)  # the empty frame


class FrameTooLarge(ResilientError, ValueError):
    """A frame is larger than the limit.

    Attributes:
        size: of its body, bytes.
        limit: bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"frame too large: {self.size} bytes, the limit is {self.limit}"


def checked_limit(limit: object) -> int:
    """A limit for frames, as a setting called ``max_frame``.

    Raises:
        TypeError, ValueError: it is no whole number from 1 to 4294967295.
    """
    found = whole("max_frame", limit, least=1)
    if found > LARGEST:
        raise ValueError(f"max_frame must be <= {LARGEST}, which is all that 4 bytes can say, got {limit!r}")
    return found


def encode(body: bytes | bytearray | memoryview, limit: int = MAX_FRAME) -> bytes:
    """A frame as it goes over the wire.

    Args:
        body: its bytes.
        limit: the most that there may be.

    Raises:
        FrameTooLarge: there are more.
        TypeError: these are no bytes.
    """
    if not isinstance(body, bytes):
        if not isinstance(body, (bytearray, memoryview)):
            raise TypeError(f"a frame must be bytes, got {body!r}")
        body = bytes(body)
    if len(body) > limit:
        raise FrameTooLarge(len(body), limit)
    return LENGTH.pack(len(body)) + body


class FrameReader:
    """Finds the frames of one stream. Not thread-safe.

    Args:
        limit: most bytes of a body.

    Attributes:
        refused: why the stream is over; None while it goes on.
    """

    __slots__ = ("_kept", "_limit", "_needed", "refused")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._needed = HEADER
        self.refused: FrameTooLarge | None = None

    @property
    def kept(self) -> int:
        """Bytes of an unfinished frame, its length included."""
        return len(self._kept)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that these bytes complete, in order; after a refusal, none.

        Args:
            data: what came next on the stream, cut anywhere.
        """
        if self.refused is not None:
            return []
        kept = self._kept
        if not kept:
            frames, used = self._cut(data)
            if used < len(data) and self.refused is None:
                kept += memoryview(data)[used:]
            return frames
        kept += data
        if len(kept) < self._needed:
            return []
        frames, used = self._cut(kept)
        del kept[:used]
        return frames

    def _cut(self, data: bytes | bytearray) -> tuple[list[bytes], int]:
        """The frames that are whole, and how many bytes they are; notes how many the next one needs."""
        frames: list[bytes] = []
        start, end, limit = 0, len(data), self._limit
        whole = type(data) is bytes
        while end - start >= HEADER:
            (size,) = LENGTH.unpack_from(data, start)
            if size > limit:
                self.refused = FrameTooLarge(size, limit)
                self._kept = bytearray()
                return frames, end
            after = start + HEADER + size
            if after > end:
                self._needed = HEADER + size
                return frames, start
            body = data[start + HEADER : after]
            frames.append(body if whole else bytes(body))  # type: ignore[arg-type]  # bytes, says ``whole``
            start = after
        self._needed = HEADER
        return frames, start
