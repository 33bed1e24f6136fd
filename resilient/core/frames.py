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
from resilient.core.setting_errors import SettingValueError
from resilient.errors import ResilientError

__all__ = ["BEAT", "HEADER", "LARGEST", "MAX_FRAME", "FrameReader", "FrameTooLarge", "checked_limit", "encode"]

LENGTH = Struct("<I")
PACK, UNPACK = LENGTH.pack, LENGTH.unpack_from
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
        raise SettingValueError("max_frame", f"must be <= {LARGEST}, which is all that 4 bytes can say, got {limit!r}")
    return found


def encode(body: bytes | bytearray | memoryview, limit: int = MAX_FRAME, least: int = 0) -> bytes:
    """A frame as it goes over the wire.

    Args:
        body: its bytes.
        limit: the most that there may be.
        least: the fewest, 1 where an empty frame is the heartbeat.

    Raises:
        FrameTooLarge: there are more.
        ValueError: there are fewer.
        TypeError: these are no bytes.
    """
    if type(body) is not bytes:
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"a frame must be bytes, got {body!r}")
        body = bytes(body)
    size = len(body)
    if least <= size <= limit:
        return PACK(size) + body
    if size > limit:
        raise FrameTooLarge(size, limit)
    raise ValueError("a frame must not be empty: that is the heartbeat")


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

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The frames that these bytes complete, in order; after a refusal, none.

        Args:
            data: what came next on the stream, cut anywhere; it may be overwritten afterwards.
        """
        kept = self._kept
        if kept:
            kept += data
            if len(kept) < self._needed:
                return []
            data = bytes(kept)
            kept.clear()
        elif self.refused is not None:
            return []
        else:
            data = bytes(data)
        frames: list[bytes] = []
        start, body, end, size, limit = 0, HEADER, len(data), 0, self._limit
        while body <= end:
            size = UNPACK(data, start)[0]
            if size > limit:
                self.refused = FrameTooLarge(size, limit)
                return frames
            after = body + size
            if after > end:
                break
            frames.append(data[body:after])
            start = after
            body = after + HEADER
        if start < end:
            kept += memoryview(data)[start:]
            self._needed = HEADER if body > end else HEADER + size
        return frames
