"""Output on its way through: searched by lines, passed on without blocking."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.cli.output import LONGEST_LINE, OVERLAP, LineSearch, Pump

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")

alphabet = st.sampled_from([b"a", b"b", b" ", b"\r", b"\n"])


def search(pattern: str, *chunks: bytes) -> bytes | None:
    found = LineSearch(re.compile(pattern.encode()))
    for chunk in chunks:
        found.feed(chunk)
    found.end()
    return found.found


@given(
    chunks=st.lists(st.lists(alphabet).map(b"".join)),
    pattern=st.sampled_from(["ab", "^a", "b$", "^$", "a(?! )", r"\bb\b", "^a.*b$"]),
)
def test_a_match_does_not_depend_on_the_chunks(chunks: list[bytes], pattern: str) -> None:
    """It is there if grep would find it in the whole."""
    lines = b"".join(chunks).split(b"\n")
    if not lines[-1]:
        lines.pop()
    expected = any(re.search(pattern.encode(), line.removesuffix(b"\r")) for line in lines)
    assert (search(pattern, *chunks) is not None) == expected


def test_the_first_match_is_kept() -> None:
    """And nothing after it is looked at."""
    assert search("[0-9]+", b"a1", b"2\n3\n") == b"12"


def test_an_unfinished_line_counts() -> None:
    """A prompt without a newline is output too."""
    assert search("login:$", b"log", b"in:") == b"login:"


def test_a_line_without_end_is_searched_in_pieces() -> None:
    """What is kept of it is bounded, and a match across two pieces is found."""
    found = LineSearch(re.compile(b"needle"))
    found.feed(b"x" * LONGEST_LINE + b"need")
    assert len(found._rest) == OVERLAP
    found.feed(b"le")
    found.end()
    assert found.found == b"needle"


@pytest.fixture
def pipes() -> Iterator[tuple[IO[bytes], int, int, int]]:
    """A source with its writing end, and a sink with its reading end."""
    from_child, child = os.pipe()
    reader, sink = os.pipe()
    os.set_blocking(sink, False)
    source = os.fdopen(from_child, "rb", buffering=0)
    yield source, child, sink, reader
    source.close()
    for fd in (child, sink, reader):
        with suppress(OSError):  # a test may have closed it
            os.close(fd)


def pump_of(pipes: tuple[IO[bytes], int, int, int]) -> Pump:
    return Pump(pipes[0], pipes[2], LineSearch(re.compile(b"x")))


def test_the_next_chunk_waits_for_the_last(pipes: tuple[IO[bytes], int, int, int]) -> None:
    """So that a slow reader slows the command down, and memory stays bounded."""
    pump, (source, child, sink, reader) = pump_of(pipes), pipes
    assert (pump.reads, pump.writes) == (source.fileno(), None)
    os.write(child, b"hello")
    pump.read()
    assert (pump.reads, pump.writes) == (None, sink)
    pump.write()
    assert (pump.reads, pump.writes, os.read(reader, 10)) == (source.fileno(), None, b"hello")
    os.close(child)
    pump.read()
    assert (pump.reads, pump.done) == (None, True)


def test_a_full_sink_is_tried_again(pipes: tuple[IO[bytes], int, int, int]) -> None:
    """Where somebody who shares it has made it non-blocking."""
    pump, (_, child, sink, reader) = pump_of(pipes), pipes
    with pytest.raises(BlockingIOError):
        while True:
            os.write(sink, b"." * 4096)
    os.write(child, b"hello")
    pump.read()
    pump.write()
    assert (pump.writes, pump.done) == (sink, False)
    while not os.read(reader, 1 << 20).endswith(b"hello"):
        pump.write()
    assert pump.writes is None


def test_a_sink_that_nobody_reads_closes_the_source(pipes: tuple[IO[bytes], int, int, int]) -> None:
    """The command is told in the way it would be without us."""
    pump, (_, child, _, reader) = pump_of(pipes), pipes
    os.close(reader)
    os.write(child, b"hello")
    pump.read()
    pump.write()
    assert pump.done
    with pytest.raises(BrokenPipeError):
        os.write(child, b"more")


def test_a_pipe_that_outlives_the_child_is_read_so_far(
    pipes: tuple[IO[bytes], int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than what it could hold when the child ended."""
    monkeypatch.setattr("resilient.cli.output.LEFT_IN_PIPE", 8)
    pump, (_, child, _, reader) = pump_of(pipes), pipes
    pump.child_ended()
    for chunk in (b"hello", b"world"):
        os.write(child, chunk)
        pump.read()
        pump.write()
    assert os.read(reader, 100) == b"hellowor"
    os.write(child, b"more")
    pump.read()
    assert pump.done
