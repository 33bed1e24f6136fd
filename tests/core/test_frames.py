"""Frames on a stream: whatever the cuts, the same messages; and never more memory than what came."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis.strategies import binary, data, integers, lists

from resilient.core.frames import BEAT, LARGEST, MAX_FRAME, FrameReader, FrameTooLarge, checked_limit, encode


@given(bodies=lists(binary(max_size=300), max_size=20), drawn=data())
def test_cuts_change_nothing(bodies: list[bytes], drawn: object) -> None:
    """However the stream is cut, the frames are those that were sent."""
    stream, reader, found = b"".join(map(encode, bodies)), FrameReader(), []
    while stream:
        size = drawn.draw(integers(1, len(stream)))  # type: ignore[attr-defined]
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert (bodies, 0) == (found, reader.kept)


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 1 << 20])
def test_a_thousand_frames(piece: int) -> None:
    """A byte at a time, or all in one read: the same messages."""
    bodies = [bytes([n % 256]) * (n % 7) for n in range(1000)]
    stream, reader, found = b"".join(map(encode, bodies)), FrameReader(), []
    for start in range(0, len(stream), piece):
        found += reader.feed(stream[start : start + piece])
    assert bodies == found


def test_frames_are_bytes() -> None:
    """Immutable, whether they were cut or came in one piece."""
    reader, wire = FrameReader(), encode(b"body")
    assert [bytes] * 2 == [type(frame) for frame in reader.feed(wire + wire[:5]) + reader.feed(wire[5:])]


def test_the_format() -> None:
    """4 bytes, little-endian, then the body."""
    assert (b"\x03\x00\x00\x00abc", b"\x00\x00\x00\x00") == (encode(b"abc"), BEAT)
    assert encode(b"ab") == encode(bytearray(b"ab")) == encode(memoryview(b"ab"))


def test_a_length_above_the_limit_ends_the_stream() -> None:
    """What came before it counts, what comes after it does not."""
    reader = FrameReader(3)
    assert [b"abc"] == reader.feed(encode(b"abc") + b"\x04\x00\x00\x00ab")
    assert "frame too large: 4 bytes, the limit is 3" == str(reader.refused)
    assert ([], 0) == (reader.feed(encode(b"abc")), reader.kept)


def test_it_is_refused_with_its_fourth_byte() -> None:
    """Also when the length itself comes in pieces."""
    reader = FrameReader(3)
    for byte in b"\xff\xff\xff":
        assert ([], None) == (reader.feed(bytes([byte])), reader.refused)
    assert [] == reader.feed(b"\xff")
    assert (LARGEST, 0) == (reader.refused and reader.refused.size, reader.kept)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", (2**24).to_bytes(4, "little")])
def test_a_length_costs_no_memory(length: bytes) -> None:
    """Neither one that is refused nor one that is only announced."""
    reader = FrameReader(MAX_FRAME)
    tracemalloc.start()
    try:
        reader.feed(length)
        reader.feed(b"abc")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000


def test_a_large_frame_in_small_pieces_is_kept_once() -> None:
    """No more than what has come, and nothing once it is whole."""
    reader, body = FrameReader(), bytes(200_000)
    wire = encode(body)
    found = [frame for start in range(0, len(wire), 7) for frame in reader.feed(wire[start : start + 7])]
    assert ([body], 0) == (found, reader.kept)


def test_what_is_sent_has_the_same_limit() -> None:
    """Before anything is copied to a wire."""
    with pytest.raises(FrameTooLarge, match="frame too large: 4 bytes, the limit is 3") as caught:
        encode(b"abcd", 3)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (4, 3) == (copy.size, copy.limit)


def test_an_empty_frame_may_be_something_else() -> None:
    """Where it is the heartbeat, nobody else may send one."""
    assert BEAT == encode(b"")
    assert encode(b"a") == encode(b"a", least=1)
    with pytest.raises(ValueError, match="a frame must not be empty: that is the heartbeat"):
        encode(b"", least=1)


def test_what_was_fed_may_be_overwritten() -> None:
    """A buffer is read into again and again."""
    reader, buffer = FrameReader(), bytearray(encode(b"one") + b"\x03")
    found = reader.feed(memoryview(buffer))
    buffer[:6] = b"\0\0\0two"
    found += reader.feed(memoryview(buffer)[:6])
    assert [b"one", b"two"] == found


@pytest.mark.parametrize("body", ["text", None, 3])
def test_frames_are_bytes_only(body: object) -> None:
    """Text has no length of its own."""
    with pytest.raises(TypeError, match="a frame must be bytes, got"):
        encode(body)  # type: ignore[arg-type]


def test_the_limit_is_checked() -> None:
    """As any setting."""
    assert LARGEST == checked_limit(LARGEST)
    with pytest.raises(ValueError, match="max_frame must be <= 4294967295"):
        checked_limit(2**32)
    with pytest.raises(ValueError, match="max_frame"):
        checked_limit(0)
