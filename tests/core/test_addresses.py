"""Addresses in each form that people write."""

from __future__ import annotations

import pytest

from resilient.core.addresses import TcpAddress, UnixAddress, read_address


@pytest.mark.parametrize(
    ("given", "expected", "url"),
    [
        ("tcp://127.0.0.1:80", TcpAddress("127.0.0.1", 80), "tcp://127.0.0.1:80"),
        ("tcp://[::1]:0", TcpAddress("::1", 0), "tcp://[::1]:0"),
        (("localhost", 65535), TcpAddress("localhost", 65535), "tcp://localhost:65535"),
        (("::1", 80, 0, 0), TcpAddress("::1", 80), "tcp://[::1]:80"),
        (TcpAddress("a", 1), TcpAddress("a", 1), "tcp://a:1"),
        ("unix:/run/a.sock", UnixAddress("/run/a.sock"), "unix:/run/a.sock"),
        ("unix:///run/a.sock", UnixAddress("/run/a.sock"), "unix:/run/a.sock"),
        ("unix:a.sock", UnixAddress("a.sock"), "unix:a.sock"),
        (UnixAddress("/x"), UnixAddress("/x"), "unix:/x"),
    ],
)
def test_forms(given: object, expected: object, url: str) -> None:
    """TCP is a pair, a Unix socket is its path: what ``socket.connect`` takes."""
    found = read_address("listen", given)
    assert (expected, type(expected), url) == (found, type(found), found.url)


@pytest.mark.parametrize(
    "given",
    [
        "",
        UnixAddress(""),
        "tcp:",
        "tcp://",
        "tcp://a",
        "tcp://:80",
        "tcp:a:80",
        "tcp://a:b",
        "unix:",
        "unix://",
        "http://a:80",
        "a:80",
    ],
)
def test_other_texts_teach(given: str) -> None:
    """With examples."""
    with pytest.raises(ValueError, match=r'upstream must be "tcp://127.0.0.1:8000", "unix:/run/app.sock" or \("127'):
        read_address("upstream", given)


@pytest.mark.parametrize("given", [None, 80, ("a", "80"), ("a", True), ("a",), b"unix:/x"])
def test_other_things_are_refused(given: object) -> None:
    """By type."""
    with pytest.raises(TypeError, match="listen must be"):
        read_address("listen", given)


@pytest.mark.parametrize("given", ["tcp://a:65536", ("a", -1), TcpAddress("a", 65536)])
def test_ports_have_a_range(given: object) -> None:
    """16 bits."""
    with pytest.raises(ValueError, match="listen must have a port from 0 to 65535, got"):
        read_address("listen", given)


@pytest.mark.parametrize("given", ["unix:" + "x" * 108, UnixAddress("/" + "é" * 54)])
def test_paths_are_of_a_length(given: str) -> None:
    """The system has room for so many bytes; elsewhere a dial would fail for ever."""
    with pytest.raises(ValueError, match="listen must have a path of at most 10[37] bytes, got 10[89]"):
        read_address("listen", given)
    assert "x" * 103 == read_address("listen", "unix:" + "x" * 103)


@pytest.mark.parametrize("given", ["unix:@a", "unix:\0a", UnixAddress("\0a"), UnixAddress("@a")])
def test_abstract_sockets_are_refused(given: str) -> None:
    """By name: they have no file that could be looked after."""
    with pytest.raises(ValueError, match=r"listen must be the path of a file, not .* abstract Unix socket.*'\./@?a'"):
        read_address("listen", given)
