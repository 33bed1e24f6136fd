"""The fault proxy between real sockets on loopback."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import socket
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient.cli.fault_notation import EXAMPLES, FaultText, read_fault
from resilient.core.addresses import TcpAddress
from resilient.testing import FaultProxy
from resilient.testing.connection import Connection
from resilient.testing.faults import (
    AcceptThenClose,
    Bandwidth,
    Corrupt,
    Down,
    Fault,
    HalfOpen,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stall,
    Timeout,
)

Upstreams = Callable[..., Any]

HANG = 60  # seconds: only a guard, nothing here takes long
NEVER = 3600  # seconds: longer than any test


def connect(proxy: FaultProxy) -> socket.socket:
    family = socket.AF_INET if isinstance(proxy.address, TcpAddress) else socket.AF_UNIX
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(HANG)
    try:
        client.connect(proxy.address)
    except OSError:
        client.close()
        raise
    return client


def read(client: socket.socket, size: int) -> bytes:
    """So many bytes, or what comes before the end."""
    got = b""
    while len(got) < size and (data := client.recv(size - len(got))):
        got += data
    return got


def end_of(client: socket.socket) -> str:
    """How a connection ends, whatever comes before."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    return "closed"


def fate(proxy: FaultProxy) -> str:
    """How a new connection ends; a reset may come as early as in the connect."""
    try:
        with connect(proxy) as client:
            return end_of(client)
    except ConnectionResetError:
        return "reset"


def descriptors() -> int:
    """How many files this process has open, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def silent(client: socket.socket) -> bool:
    """Whether nothing comes, for a little while."""
    client.settimeout(0.05)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(HANG)
    return False


def until(condition: Callable[[], object]) -> None:
    """Waits for something that happens by itself."""
    limit = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.fixture
def talk(echo: Upstreams) -> Iterator[tuple[FaultProxy, socket.socket, Any]]:
    """A proxy, a client that has talked through it, and the upstream."""
    upstream = echo()
    with FaultProxy(upstream.address, rng=Random(7)) as proxy, connect(proxy) as client:
        client.sendall(b"hi")
        assert b"hi" == read(client, 2)
        yield proxy, client, upstream


# Without faults


@pytest.mark.parametrize("listen", ["tcp", "unix"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bytes_pass_unchanged_both_ways(echo: Upstreams, tmp_path: Path, listen: str, kind: str) -> None:
    """Either side of either kind; more than all buffers hold; a half-closed connection goes on the other way."""
    upstream, sent = echo(kind), Random(1).randbytes(3_000_000)
    where = "tcp://127.0.0.1:0" if listen == "tcp" else f"unix:{tmp_path / 'p.sock'}"
    with FaultProxy(upstream.url, listen=where) as proxy, connect(proxy) as client:

        def send() -> None:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert sent == read(client, len(sent) + 1)
        sender.join()
        until(lambda: not proxy.connections)
        stats = proxy.stats()
    assert [sent] == [bytes(got) for got in upstream.got]
    assert "closed" == upstream.ends.get(timeout=HANG)
    assert {len(sent)} == {stats.received_up, stats.passed_up, stats.received_down, stats.passed_down}
    assert (1, 0, 0, 0, {}) == (stats.connections, stats.open, stats.resets, stats.unreachable, stats.injected)


def test_the_ends_of_both_sides_are_passed_on(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """The upstream hangs up: the client sees it."""
    proxy, client, upstream = talk
    upstream.sockets[0].shutdown(socket.SHUT_WR)
    assert "closed" == end_of(client)


@pytest.mark.parametrize("by", ["client", "upstream"])
def test_a_reset_of_one_side_resets_the_other(echo: Upstreams, by: str) -> None:
    """As without a proxy; shown by two of them in a row."""
    upstream = echo()
    with FaultProxy(upstream.address) as inner, FaultProxy(inner.address) as outer, connect(outer) as client:
        client.sendall(b"hi")
        read(client, 2)
        (outer if by == "client" else inner).add(ResetPeer(), "up" if by == "client" else "down")
        if by == "client":
            assert "reset" == upstream.ends.get(timeout=HANG)
        else:
            assert "reset" == end_of(client)


def test_a_peer_that_is_gone_is_told_to_the_writer(echo: Upstreams) -> None:
    """Who only writes to an upstream that hung up sees its connection end."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, FaultProxy(listener.getsockname()) as proxy, connect(proxy) as client:
        accepted, _ = listener.accept()
        accepted.close()
        assert b"" == client.recv(1)
        with pytest.raises(OSError):
            while True:
                client.sendall(bytes(65536))


def test_what_was_received_is_passed_on_though_the_writer_is_cut_off(echo: Upstreams) -> None:
    """The upstream answers and is gone; the client writes on in vain, ends, and reads its answer all the same."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy(listener.getsockname()) as proxy,
        connect(proxy) as client,
    ):
        late = proxy.add(Latency(NEVER), "down")
        with listener.accept()[0] as accepted:
            accepted.sendall(b"answer")
        until(lambda: proxy.connections[0].received_down == 6)

        def in_vain() -> bool:
            client.sendall(b"x")
            return proxy.connections[0].received_up > proxy.connections[0].passed_up + 3

        until(in_vain)
        client.shutdown(socket.SHUT_WR)
        until(lambda: not late.remove() and not proxy.connections)
        assert b"answer" == read(client, 6)


@pytest.mark.parametrize("loop", LOOPS)
def test_async_tests_use_it_alike(echo: Upstreams, loop: str) -> None:
    """With any event loop, as a plain or an async context manager."""
    upstream = echo()

    async def asyncio_talk(proxy: FaultProxy) -> bytes:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"hello")
        got = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return got

    async def trio_talk(proxy: FaultProxy) -> bytes:
        import trio

        async with await trio.open_tcp_stream(proxy.host, proxy.port) as stream:
            await stream.send_all(b"hello")
            return bytes(await stream.receive_some(5))

    async def main() -> list[bytes]:
        said = trio_talk if loop == "trio" else asyncio_talk
        got = []
        async with FaultProxy(upstream.address) as proxy:
            proxy.add(Latency(0.001))
            got.append(await said(proxy))
        with FaultProxy(upstream.address) as proxy:
            got.append(await said(proxy))
        return got

    assert [b"hello", b"hello"] == run(loop, main)


# Faults


def test_latency_delays_both_ways(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Not before its time; at once again when it is removed."""
    proxy, client, _ = talk
    with proxy.add(Latency(0.06)):
        began = time.monotonic()
        client.sendall(b"x")
        assert b"x" == client.recv(1)
        assert time.monotonic() - began >= 0.12
    assert {"latency": 2} == proxy.stats().injected


def test_latency_does_not_hold_up_what_follows(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Later bytes are read while the first ones wait; removing the fault lets all go, in order."""
    proxy, client, _ = talk
    slow = proxy.add(Latency(NEVER), "up")
    for n in range(5):
        client.sendall(b"%d" % n)
        until(lambda: proxy.connections[0].received_up == 3 + n)
    assert 2 == proxy.connections[0].passed_up
    slow.remove()
    slow.remove()
    assert b"01234" == read(client, 5)


def test_a_long_line_holds_much(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Latency is no limit of bandwidth: megabytes may be under way."""
    proxy, client, _ = talk
    slow, sent = proxy.add(Latency(NEVER), "up"), bytes(3_000_000)
    client.sendall(sent)
    until(lambda: proxy.connections[0].received_up == 2 + len(sent))
    assert 2 == proxy.connections[0].passed_up
    slow.remove()
    assert sent == read(client, len(sent))


def test_bandwidth_takes_its_time(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """5,000 bytes at 50,000 a second."""
    proxy, client, _ = talk
    proxy.add(Bandwidth(50_000), "down")
    began = time.monotonic()
    client.sendall(bytes(5000))
    assert bytes(5000) == read(client, 5000)
    assert time.monotonic() - began >= 0.095


def test_a_slow_line_made_fast_again(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """What waited for it goes."""
    proxy, client, _ = talk
    with proxy.add(Bandwidth(0.01)):
        client.sendall(b"slow")
        until(lambda: proxy.stats().injected == {"bandwidth": 1})
    assert b"slow" == read(client, 4)


def test_a_slow_close_is_late(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Data is not."""
    proxy, client, upstream = talk
    slow = proxy.add(SlowClose(NEVER), "up")
    client.sendall(b"x")
    assert b"x" == client.recv(1)
    client.shutdown(socket.SHUT_WR)
    until(lambda: proxy.stats().injected == {"slow_close": 1})
    assert upstream.ends.empty()
    slow.remove()
    assert "closed" == upstream.ends.get(timeout=HANG) == end_of(client)


def test_a_timeout_loses_data_and_closes(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """In good order, after its time."""
    proxy, client, upstream = talk
    began = time.monotonic()
    proxy.add(Timeout(0.1), "up")
    client.sendall(b"lost")
    assert "closed" == end_of(client)
    assert time.monotonic() - began >= 0.1
    assert b"hi" == bytes(upstream.got[0])


def test_a_lifted_timeout_closes_what_has_a_hole(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """And leaves the others alone."""
    proxy, client, upstream = talk
    with connect(proxy) as other:
        until(lambda: len(proxy.connections) == 2)
        with proxy.add(Timeout()):
            client.sendall(b"lost")
            until(lambda: proxy.stats().injected == {"timeout": 1})
            other.shutdown(socket.SHUT_WR)
            assert silent(other)
        assert "closed" == end_of(client) == end_of(other)
    assert b"hi" == bytes(upstream.got[0])


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_stall_holds_everything_and_loses_nothing(
    talk: tuple[FaultProxy, socket.socket, Any], direction: Any
) -> None:
    """Either way, the end included; it goes on as if nothing had happened."""
    proxy, client, upstream = talk
    with proxy.add(Stall(), direction):
        client.sendall(b"later")
        client.shutdown(socket.SHUT_WR)
        until(lambda: "stall" in proxy.stats().injected)
        assert silent(client)
        assert (b"hi" if direction == "up" else b"hilater") == bytes(upstream.got[0])
    assert b"later" == read(client, 6)
    assert 1 <= proxy.stats().injected["stall"] <= 2


def test_a_stall_in_the_middle_of_a_piece(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """What was about to be sent waits as well."""
    proxy, client, _ = talk
    slow = proxy.add(Bandwidth(0.01))
    client.sendall(b"slow")
    until(lambda: proxy.stats().injected == {"bandwidth": 1})
    stalled = proxy.add(Stall())
    slow.remove()
    assert silent(client)
    stalled.remove()
    assert b"slow" == read(client, 4)


def test_a_stalled_reader_stops_the_writer(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """The proxy's room is bounded: the rest stays with the sender."""
    proxy, client, _ = talk
    proxy.add(Stall(), "up")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(50_000_000))
    assert proxy.connections[0].received_up < 400_000


def test_a_reset_meets_old_connections_and_new_ones(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Both sides see it, unless a direction says who; later, if told so."""
    proxy, client, upstream = talk
    with proxy.add(ResetPeer()):
        assert (0, 1) == (proxy.stats().open, proxy.stats().resets)
        assert "reset" == end_of(client)
        assert "reset" == fate(proxy)
    assert "reset" == upstream.ends.get(timeout=HANG)
    with proxy.add(ResetPeer(0.05), "down"), connect(proxy) as other:
        began = time.monotonic()
        assert "reset" == end_of(other)
        assert time.monotonic() - began >= 0.02
    assert {"reset_peer": 3} == proxy.stats().injected


@pytest.mark.parametrize(("direction", "ends"), [("down", ["reset", "closed"]), ("up", ["closed", "reset"])])
def test_the_direction_says_who_sees_a_reset(
    talk: tuple[FaultProxy, socket.socket, Any], direction: Any, ends: list[str]
) -> None:
    """The client, or the upstream; the other one sees an orderly close."""
    proxy, client, upstream = talk
    proxy.add(ResetPeer(), direction)
    assert ends == [end_of(client), upstream.ends.get(timeout=HANG)]


def test_a_slicer_writes_small_pieces(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Each by itself: with a pause between them they come one by one, and in order."""
    proxy, client, _ = talk
    proxy.add(Slicer(4, 2, 0.02), "down")
    sent = bytes(range(40))
    client.sendall(sent)
    got = []
    while sum(map(len, got)) < len(sent):
        got.append(client.recv(65536))
    assert sent == b"".join(got)
    assert len(got) > 1
    assert 7 <= proxy.stats().injected["slicer"] <= 20


@pytest.mark.parametrize(("reset", "end"), [(False, "closed"), (True, "reset")])
def test_a_limit_cuts_at_its_byte(talk: tuple[FaultProxy, socket.socket, Any], reset: bool, end: str) -> None:
    """In good order, or by a reset; both sides are cut."""
    proxy, client, upstream = talk
    proxy.add(LimitData(6, reset=reset), "up")
    client.sendall(b"123456789")
    assert end == upstream.ends.get(timeout=HANG) == end_of(client)
    assert b"hi123456" == bytes(upstream.got[0])
    assert {"limit_data": 1} == proxy.stats().injected


def test_a_limit_that_is_reached_exactly_cuts_at_once(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Not at the next byte; a limit of nothing at the first."""
    proxy, client, upstream = talk
    with proxy.add(LimitData(3), "up"):
        client.sendall(b"abc")
        assert "closed" == end_of(client)
    with proxy.add(LimitData(0), "up"), connect(proxy) as other:
        other.sendall(b"abc")
        assert "closed" == end_of(other)
    assert ["closed"] * 2 == [upstream.ends.get(timeout=HANG) for _ in range(2)]
    assert [b"hiabc", b""] == [bytes(got) for got in upstream.got]


def test_limits_on_average_are_seeded(echo: Upstreams) -> None:
    """The same seed cuts each connection at the same byte, whatever the timing."""

    def cuts(seed: int) -> list[int]:
        upstream = echo()
        with FaultProxy(upstream.address, rng=Random(seed)) as proxy:
            proxy.add(LimitData(100, average=True), "up")
            for _ in range(8):
                with connect(proxy) as client:
                    client.sendall(bytes(2000))
                    end_of(client)
                upstream.ends.get(timeout=HANG)
        return [len(got) for got in upstream.got]

    first = cuts(3)
    assert first == cuts(3) != cuts(4)
    assert len(set(first)) > 4


def test_corruption_changes_bytes_and_keeps_their_number(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """All of them at a rate of 1, by one bit each."""
    proxy, client, _ = talk
    with proxy.add(Corrupt(1), "down"):
        client.sendall(b"abc")
        got = read(client, 3)
    assert [1, 1, 1] == [(a ^ b).bit_count() for a, b in zip(b"abc", got, strict=True)]
    client.sendall(b"abc")
    assert b"abc" == read(client, 3)


@pytest.mark.parametrize("after", [None, 0])
def test_half_open_the_client_is_never_told(talk: tuple[FaultProxy, socket.socket, Any], after: Any) -> None:
    """The upstream hangs up, or is hung up on; what the client still sends vanishes, until the fault is removed."""
    proxy, client, upstream = talk
    half = proxy.add(HalfOpen(after), "down")
    if after is None:
        upstream.sockets[0].shutdown(socket.SHUT_RDWR)
    assert "closed" == upstream.ends.get(timeout=HANG)
    assert silent(client)
    for _ in range(20):
        client.sendall(bytes(10_000))
    assert silent(client)
    half.remove()
    assert b"" == client.recv(1)


def test_half_open_ends_with_the_side_that_was_never_told(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """When it gives up by itself, nothing is left."""
    proxy, client, _ = talk
    proxy.add(HalfOpen(0), "down")
    client.close()
    until(lambda: not proxy.connections)


@pytest.mark.parametrize("after", [None, 0])
def test_half_open_in_both_directions_ends_with_both_sides(echo: Upstreams, after: Any) -> None:
    """Neither waits for the other to be told."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy(listener.getsockname()) as proxy,
        connect(proxy) as client,
        listener.accept()[0] as accepted,
    ):
        proxy.add(HalfOpen(after))
        client.close()
        accepted.close()
        until(lambda: not proxy.connections)


def test_half_open_the_upstream_is_never_told(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """The client is gone; the upstream goes on."""
    proxy, client, upstream = talk
    half = proxy.add(HalfOpen(), "up")
    client.close()
    until(lambda: "half_open" in proxy.stats().injected)
    assert upstream.ends.empty()
    half.remove()
    assert "closed" == upstream.ends.get(timeout=HANG)


def test_accept_then_close(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """New connections only, in good order; the upstream never hears of them."""
    proxy, client, upstream = talk
    with proxy.add(AcceptThenClose()), connect(proxy) as other:
        other.sendall(b"anybody?")
        assert "closed" == end_of(other)
    client.sendall(b"still")
    assert b"still" == read(client, 5)
    assert 1 == len(upstream.got)
    with proxy.add(AcceptThenClose(NEVER)), connect(proxy) as other:
        other.sendall(b"hello")
        until(lambda: len(proxy.connections) == 2)
        assert 1 == len(upstream.got)
    with connect(proxy) as other:
        other.sendall(b"hello")
        assert b"hello" == read(other, 5)


def test_an_accept_whose_close_is_lifted_goes_on(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """As if it had only been slow."""
    proxy, _, _ = talk
    slow = proxy.add(AcceptThenClose(NEVER))
    with connect(proxy) as other:
        other.sendall(b"hello")
        until(lambda: len(proxy.connections) == 2)
        slow.remove()
        assert b"hello" == read(other, 5)


@pytest.mark.parametrize("listen", ["tcp", "unix"])
def test_down_refuses_and_comes_back(echo: Upstreams, tmp_path: Path, listen: str) -> None:
    """Existing connections are cut; then the same address works again. Several are one."""
    where = "tcp://127.0.0.1:0" if listen == "tcp" else f"unix:{tmp_path / 'p.sock'}"
    with FaultProxy(echo().address, listen=where) as proxy:
        before = proxy.address
        with connect(proxy) as client:
            with proxy.add(Down()), proxy.add(Down()):
                assert ("reset" if listen == "tcp" else "closed") == end_of(client)
                for _ in range(2):
                    with pytest.raises(ConnectionRefusedError):
                        connect(proxy)
        assert before == proxy.address
        with connect(proxy) as client:
            client.sendall(b"back")
            assert b"back" == read(client, 4)
    assert not (tmp_path / "p.sock").exists()


def test_down_in_its_other_forms(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """Accepted and reset; and with the connections that are there living on."""
    proxy, client, _ = talk
    with proxy.add(Down(accept=True, keep=True)):
        assert "reset" == fate(proxy)
        client.sendall(b"alive")
        assert b"alive" == read(client, 5)
    with proxy.add(Down(accept=True)):
        assert "reset" == end_of(client)


def test_faults_add_up(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """All of them at once, and nothing is lost that should not be."""
    proxy, client, upstream = talk
    sent = Random(2).randbytes(3000)
    for fault in (Latency(0.001, 0.001), Latency(0.001), Bandwidth(1_000_000), Slicer(100, 50), Slicer(70)):
        proxy.add(fault)
    client.sendall(sent)
    assert sent == read(client, len(sent))
    assert {"latency", "bandwidth", "slicer"} == set(proxy.stats().injected)
    assert 5 == len(proxy.faults)
    proxy.clear()
    assert () == proxy.faults


def test_a_share_of_connections(echo: Upstreams) -> None:
    """Drawn for each: none, some, all."""
    with FaultProxy(echo().address, rng=Random(7)) as proxy:
        for toxicity, low, high in ((0, 0, 0), (0.5, 3, 17), (1, 20, 20)):
            hit = 0
            with proxy.add(ResetPeer(), toxicity=toxicity):
                for _ in range(20):
                    try:
                        with connect(proxy) as client:
                            client.sendall(b"x")
                            hit += not client.recv(1)
                    except OSError:
                        hit += 1
            assert low <= hit <= high


# The upstream


def test_an_upstream_can_come_later_and_change(echo: Upstreams) -> None:
    """For new connections; the client of none is reset, and counted."""
    first, second = echo(), echo("unix")
    with FaultProxy() as proxy:
        assert "reset" == fate(proxy)
        proxy.upstream = first.address
        with connect(proxy) as old:
            old.sendall(b"1")
            assert b"1" == old.recv(1)
            proxy.upstream = second.url
            with connect(proxy) as new:
                new.sendall(b"2")
                assert b"2" == new.recv(1)
                old.sendall(b"3")
                assert b"3" == old.recv(1)
        assert (1, 1) == (proxy.stats().unreachable, proxy.stats().resets)
    assert (b"13", b"2") == (bytes(first.got[0]), bytes(second.got[0]))


@pytest.mark.parametrize("fault", [Timeout(), Stall()])
def test_a_silence_needs_no_upstream(fault: Fault, echo: Upstreams) -> None:
    """The client is not told that there is nobody; when the fault is taken away, somebody is called."""
    with FaultProxy() as proxy:
        silence = proxy.add(fault)
        with connect(proxy) as client, pytest.raises(TimeoutError):
            client.settimeout(0.05)
            client.sendall(b"anybody?")
            client.recv(1)
        with connect(proxy) as late:
            proxy.upstream = echo().address
            proxy.remove(silence)
            late.sendall(b"1")
            assert b"1" == late.recv(1)
        assert 0 == proxy.stats().unreachable


def test_an_upstream_may_be_asked_for(echo: Upstreams, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each connection; what the function raises is an upstream out of reach."""
    upstream, asked = echo(), []

    def where() -> tuple[str, int]:
        asked.append(1)
        if len(asked) == 1:
            raise LookupError("not registered")
        return upstream.address

    with FaultProxy(where) as proxy:
        assert "reset" == fate(proxy)
        with connect(proxy) as client:
            client.sendall(b"x")
            assert b"x" == client.recv(1)
    assert 2 == len(asked)
    assert "upstream cannot be reached: not registered" in caplog.text


def test_host_names_are_looked_up_for_each_connection(echo: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """And every address of a name is tried."""
    upstream, looked_up = echo(), []
    port = upstream.address[1]
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **named: Any) -> Any:
        if host == "db.internal" and not named.get("flags") and not (len(rest) > 4 and rest[4]):
            looked_up.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            ]
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with FaultProxy(("db.internal", port)) as proxy:
        for _ in range(2):
            with connect(proxy) as client:
                client.sendall(b"x")
                assert b"x" == client.recv(1)
    assert ["db.internal"] * 2 == looked_up


def test_an_upstream_out_of_reach(echo: Upstreams) -> None:
    """Its client is reset."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()
    with FaultProxy(nobody) as proxy:
        assert "reset" == fate(proxy)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_a_unix_upstream_whose_queue_is_full_is_waited_for(tmp_path: Path) -> None:
    """As a blocking client would: every connection is served in the end, none is reset."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "u.sock"))
        listener.listen(0)
        with FaultProxy(f"unix:{tmp_path / 'u.sock'}") as proxy:
            clients = [connect(proxy) for _ in range(5)]
            until(lambda: len(proxy.connections) == 5)
            for client in clients:
                client.sendall(b"x")
            for _ in clients:
                with listener.accept()[0] as accepted:
                    assert b"x" == accepted.recv(1)
            assert ["closed"] * 5 == [end_of(client) for client in clients]
            for client in clients:
                client.close()
        assert (5, 0, 0) == (proxy.stats().connections, proxy.stats().resets, proxy.stats().unreachable)


# Cuts, scripts


def test_cut_ends_connections_now(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """All, or one by its number; by a reset, or in good order. It is done when it returns."""
    proxy, client, _ = talk
    with connect(proxy) as second, connect(proxy) as third:
        until(lambda: len(proxy.connections) == 3)
        assert 0 == proxy.cut(99)
        assert 1 == proxy.cut(2)
        assert [1, 3] == [each.number for each in proxy.connections]
        assert "reset" == end_of(second)
        assert 2 == proxy.cut(reset=False)
        assert () == proxy.connections
        assert "closed" == end_of(client) == end_of(third)


def test_a_list_of_changes_is_played(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """At their times, in order: faults and functions of the proxy."""
    proxy, client, _ = talk
    began = time.monotonic()
    played = proxy.play([(0, Stall()), (0.05, FaultProxy.clear), (0.1, lambda proxy: proxy.cut())])
    played.wait(HANG)
    assert played.done
    assert time.monotonic() - began >= 0.1
    assert "reset" == end_of(client)


def test_an_async_function_drives_it(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """In the proxy's own loop; it is cancelled when the proxy closes."""
    proxy, client, _ = talk
    ended = threading.Event()

    async def drive(proxy: FaultProxy) -> None:
        try:
            await asyncio.sleep(0)
            with proxy.add(ResetPeer()):
                await asyncio.sleep(NEVER)
        finally:
            ended.set()

    played = proxy.play(drive)
    assert "reset" == end_of(client)
    with pytest.raises(TimeoutError, match=r"the script still goes on after 0.01 s"):
        played.wait(0.01)
    proxy.close()
    assert ended.wait(HANG)
    played.wait()


def test_a_blocking_function_drives_it(talk: tuple[FaultProxy, socket.socket, Any]) -> None:
    """In a thread; its waits say when the proxy closes."""
    proxy, client, _ = talk
    said: list[bool] = []

    def drive(proxy: FaultProxy) -> None:
        said.append(proxy.wait(0.001))
        proxy.cut()
        said.append(proxy.wait(NEVER))

    proxy.play(drive)
    assert "reset" == end_of(client)
    proxy.close()
    assert [True, False] == said


def test_a_script_may_close_the_proxy(echo: Upstreams) -> None:
    """From within its loop."""
    with FaultProxy(echo().address) as proxy, connect(proxy) as client:
        proxy.play([(0, FaultProxy.close)])
        assert "closed" == end_of(client)
    assert () == proxy.connections


def failing(proxy: FaultProxy) -> None:
    raise KeyError("mine")


@pytest.mark.parametrize("script", [[(0, failing)], failing])
def test_what_a_script_raises_is_not_lost(script: Any) -> None:
    """Who waits for it gets it; else whoever closes the proxy; but the block's own error comes first."""
    with pytest.raises(KeyError, match="mine"), FaultProxy() as proxy:
        until(lambda played=proxy.play(script): played.done)
    with FaultProxy() as proxy:
        with pytest.raises(KeyError, match="mine"):
            proxy.play(script).wait(HANG)
    with pytest.raises(LookupError, match="the block"), FaultProxy() as proxy:
        until(lambda played=proxy.play(script): played.done)
        raise LookupError("the block")


def test_an_async_function_in_disguise_is_refused() -> None:
    """Rather than never run."""

    async def drive(proxy: FaultProxy) -> None:
        raise AssertionError

    with FaultProxy() as proxy, pytest.raises(TypeError, match="give play\\(\\) the async function itself"):
        proxy.play(lambda proxy: drive(proxy)).wait(HANG)


def test_a_script_that_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread cannot be stopped."""
    monkeypatch.setattr("resilient.testing.play.GRACE", 0.01)
    go = threading.Event()
    proxy = FaultProxy()
    proxy.start()
    proxy.play(lambda proxy: go.wait(HANG))
    with pytest.raises(RuntimeError, match=r"the script did not end within 0.01 s: wait by proxy.wait\(seconds\)"):
        proxy.close()
    go.set()


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (7, TypeError, r"script must be a list of \(after, change\), or a function of the proxy, got 7"),
        ("down", TypeError, "script must be a list"),
        (
            [(1, "down")],
            TypeError,
            r"each step must be \(after, a fault or a function of the proxy\), got \(1, 'down'\)",
        ),
        ([Down()], TypeError, "each step must be"),
        ([(1, Down()), (0.5, Down())], ValueError, "after must be >= 1 s, got 0.5"),
    ],
)
def test_other_scripts_are_refused(script: Any, error: type[Exception], message: str) -> None:
    """And nothing of them is played."""
    with FaultProxy() as proxy:
        with pytest.raises(error, match=message):
            proxy.play(script)
        assert () == proxy.faults


# Its life


def test_nothing_is_left_behind(echo: Upstreams) -> None:
    """No socket, no thread, no task: whatever was under way."""
    upstream = echo("unix")
    before = descriptors()
    threads = set(threading.enumerate())
    clients = []
    with FaultProxy(upstream.url, faults=[Latency(NEVER)]) as proxy:
        for fault in (
            Stall(),
            Timeout(),
            AcceptThenClose(NEVER),
            HalfOpen(0),
            SlowClose(NEVER),
            Bandwidth(0.1),
            Down(),
        ):
            if not isinstance(fault, Down):
                clients.append(connect(proxy))
                clients[-1].sendall(bytes(1000))
            proxy.add(fault, toxicity=1)
        proxy.play(lambda proxy: proxy.wait(NEVER))
        proxy.play([(NEVER, Down())])
    proxy.close()
    for client in clients:
        client.close()
    until(lambda: set(threading.enumerate()) <= threads)  # those of the upstream end when they have seen the end
    until(lambda: descriptors() <= before)
    assert 0 == proxy.stats().open


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_each_fault_leaves_everything_as_it_was(echo: Upstreams, text: str) -> None:
    """While the proxy goes on: sockets, tasks, threads and memory, after connections that met it in every way."""

    def left() -> tuple[int, int, int]:
        gc.collect()
        kinds = [type(each) for each in gc.get_objects()]
        ours = sum(issubclass(kind, (Connection, asyncio.Task)) for kind in kinds)
        return descriptors(), threading.active_count(), ours

    def meets(fault: FaultText) -> None:
        with suppress(OSError), connect(proxy) as client:  # there before it
            client.sendall(b"x")
            with proxy.add(*fault[:2]), suppress(OSError), connect(proxy) as other:  # there after it
                for each in (client, other):
                    each.sendall(b"x" * 100)
        until(lambda: not proxy.connections)
        until(lambda: threading.active_count() == threads)

    upstream, fault = echo(), read_fault(text)
    with FaultProxy(upstream.address, rng=Random(7)) as proxy:
        threads = threading.active_count()
        meets(fault)  # what is loaded and cached once
        before = left()
        tracemalloc.start()
        try:
            for _ in range(5):
                meets(fault)
            upstream.got.clear()
            upstream.sockets.clear()
            assert all(now <= earlier for now, earlier in zip(left(), before, strict=True))
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size < 100_000


def test_a_cancelled_test_closes_it(echo: Upstreams) -> None:
    """Cancellation passes, and leaves nothing."""
    made = []

    async def main() -> None:
        async with FaultProxy(echo().address) as proxy:
            made.append(proxy)
            reader, writer = await asyncio.open_connection(*proxy.address)
            proxy.add(Stall())
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()

    async def cancelling() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await main()

    asyncio.run(cancelling())
    with pytest.raises(ConnectionRefusedError):
        connect(made[0])


def test_a_crowd_changes_it_at_once(echo: Upstreams) -> None:
    """Threads that connect, add, remove, cut and read statistics: no error, nothing lost in the counts."""
    with FaultProxy(echo().address, rng=Random(1)) as proxy:

        def work(n: int) -> None:
            for round in range(10):
                with proxy.add((Latency(0.0005), Slicer(3), Corrupt(0.5))[n % 3]):
                    try:
                        with connect(proxy) as client:
                            client.sendall(b"hello")
                            read(client, 5)
                    except OSError:
                        pass
                    if n == 0 and round % 3 == 0:
                        proxy.cut()
                    proxy.stats()

        assert [] == together(6, work)
        until(lambda: not proxy.connections)
        stats = proxy.stats()
    assert (60, 0, ()) == (stats.connections, stats.open, proxy.faults)
    assert stats.passed_up <= stats.received_up == stats.connections * 5 or stats.resets


def test_messages_under_random_resets_arrive_as_prefixes(echo: Upstreams) -> None:
    """10,000 bytes in order, with a reset every 500 on average: of each connection the upstream has a prefix."""
    upstream, sent = echo(), []
    with FaultProxy(upstream.address, rng=Random(5)) as proxy:
        proxy.add(LimitData(500, average=True, reset=True), "up")
        numbers = iter(range(2500))
        for number in numbers:
            with connect(proxy) as client:
                sent.append(bytearray())
                try:
                    while number is not None:
                        client.sendall(b"%04d" % number)
                        sent[-1] += b"%04d" % number
                        assert read(client, 4)
                        number = next(numbers, None)  # type: ignore[assignment]
                except (OSError, AssertionError):
                    continue
        until(lambda: not proxy.connections)
        resets = proxy.stats().resets
    assert 8 <= resets <= 50
    assert all(said.startswith(got) for said, got in zip(sent, map(bytes, upstream.got), strict=True))


@pytest.mark.parametrize("by", ["its owner", "a script"])
def test_a_crowd_may_still_use_it_while_it_closes(echo: Upstreams, by: str) -> None:
    """What comes too late waits for the end, and is as good as nothing."""
    upstream = echo()
    for _ in range(10):
        proxy, over = FaultProxy(upstream.address), threading.Event()
        proxy.start()
        clients = [connect(proxy) for _ in range(10)]

        def work(n: int, proxy: FaultProxy = proxy, over: threading.Event = over) -> None:
            if n == 0:
                if by == "a script":
                    proxy.play([(0.001, FaultProxy.close)]).wait(HANG)
                proxy.close()
                over.set()
            while not over.is_set():
                proxy.add(Latency(0)).remove()
                proxy.cut(len(proxy.connections))
                proxy.stats()

        assert [] == together(3, work)
        assert (0, ()) == (proxy.stats().open, proxy.faults)
        for client in clients:
            client.close()


def test_an_interrupted_start_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it looks up where to listen: nothing is left running."""
    threads, real, asked = set(threading.enumerate()), socket.getaddrinfo, []

    def look_up(*args: Any, **named: Any) -> Any:
        asked.append(args)
        if len(asked) == 1:
            _thread.interrupt_main()
        return real(*args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(KeyboardInterrupt):
        with FaultProxy():
            time.sleep(HANG)
    assert threads == set(threading.enumerate())


def test_a_start_that_fails_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is gone with its handler."""
    kept: list[weakref.ref[BaseException]] = []

    class Nowhere(OSError):
        def __init__(self) -> None:
            kept.append(weakref.ref(self))

    def look_up(*args: Any, **named: Any) -> Any:
        raise Nowhere

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    gc.collect()
    gc.disable()
    try:
        try:
            FaultProxy().start()
        except Nowhere:
            pass
        assert [None] == [ref() for ref in kept]
    finally:
        gc.enable()


def test_waits_have_no_longest(echo: Upstreams) -> None:
    """What the system cannot count is waited for as well as it can."""
    with FaultProxy(echo().address) as proxy:
        played = proxy.play([(0, FaultProxy.clear)])
        played.wait(1e300)
        waiting = threading.Thread(target=proxy.wait, args=(1e300,))
        waiting.start()
    waiting.join(HANG)
    assert not waiting.is_alive()


def test_settings_before_it_runs_hold(echo: Upstreams) -> None:
    """Faults, and their removal; statistics are empty, and there are no connections."""
    proxy = FaultProxy(echo().address, faults=[Down(), Latency(0)])
    proxy.faults[0].remove()
    assert (0, (), 0) == (proxy.stats().connections, proxy.connections, proxy.cut())
    assert "<FaultProxy on tcp://127.0.0.1:0, 0 connections, 1 faults>" == repr(proxy)
    with proxy, connect(proxy) as client:
        client.sendall(b"x")
        assert b"x" == client.recv(1)
        assert f"<FaultProxy on {proxy.url}, 1 connections, 1 faults>" == repr(proxy)
    assert 1 == proxy.stats().connections
    proxy.add(Down())
    assert 2 == len(proxy.faults)


def test_it_may_begin_down(echo: Upstreams) -> None:
    """The address is known, and refuses."""
    with FaultProxy(echo().address, faults=[Down()]) as proxy:
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.clear()
        connect(proxy).close()


def test_addresses_in_every_form(tmp_path: Path) -> None:
    """For clients that want them so."""
    with FaultProxy() as proxy:
        assert (proxy.host, proxy.port) == tuple(proxy.address)
        assert f"tcp://127.0.0.1:{proxy.port}" == proxy.url
        with pytest.raises(TypeError, match=r"the proxy listens on tcp://127.0.0.1:\d+, which has no path"):
            _ = proxy.path
    with FaultProxy(listen=f"unix:{tmp_path / 'p'}") as proxy:
        assert str(tmp_path / "p") == proxy.path == proxy.address
        assert f"unix:{tmp_path / 'p'}" == proxy.url
        with pytest.raises(TypeError, match="which has no host and port"):
            _ = proxy.port
    with pytest.raises(RuntimeError, match="the proxy has no address before it is entered"):
        _ = FaultProxy().address


def test_an_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    """Of whoever enters it; a live Unix socket is never stolen, nor is a file; a dead one is replaced."""
    with FaultProxy() as first, pytest.raises(OSError), FaultProxy(listen=first.url):
        pass
    path = tmp_path / "p.sock"
    with FaultProxy(listen=f"unix:{path}") as first:
        with pytest.raises(OSError, match=f"somebody listens on unix:{path}"), FaultProxy(listen=first.url):
            pass
        assert path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with FaultProxy(listen=f"unix:{path}") as first:
        connect(first).close()
        path.unlink()  # somebody else tidies up
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="there is a file that is no socket"), FaultProxy(listen=f"unix:{path}"):
        pass
    assert "mine" == path.read_text()


def test_a_proxy_runs_once() -> None:
    """Closing twice is fine, also before it ran."""
    proxy = FaultProxy()
    proxy.close()
    with FaultProxy() as proxy:
        with pytest.raises(RuntimeError, match="a proxy runs once"):
            proxy.start()
    proxy.close()
    with pytest.raises(RuntimeError, match="a script can be played while the proxy runs"):
        proxy.play([])


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda proxy: FaultProxy(7), TypeError, "upstream must be"),
        (lambda proxy: FaultProxy("a:1"), ValueError, "upstream must be"),
        (lambda proxy: FaultProxy(listen="a:1"), ValueError, "listen must be"),
        (lambda proxy: FaultProxy(rng=7), TypeError, r"rng must have a random\(\) method"),
        (lambda proxy: FaultProxy(faults=["latency"]), TypeError, "fault must be one of resilient.testing.faults"),
        (lambda proxy: setattr(proxy, "upstream", 7), TypeError, "upstream must be"),
        (lambda proxy: proxy.add(Latency), TypeError, "fault must be one of resilient.testing.faults"),
        (
            lambda proxy: proxy.add(Stall(), "left"),
            ValueError,
            'direction must be "up", "down" or "both", got \'left\'',
        ),
        (lambda proxy: proxy.add(Down(), "up"), ValueError, "direction must be left out: down works on whole"),
        (lambda proxy: proxy.add(Stall(), toxicity=2), ValueError, "toxicity must be >= 0 and <= 1, got 2"),
        (lambda proxy: proxy.add(Down(), toxicity=0.5), ValueError, "toxicity must be 1 for down"),
        (lambda proxy: proxy.wait(-1), ValueError, "duration must be >= 0 s"),
    ],
)
def test_bad_settings_say_which(act: Callable[[FaultProxy], Fault], error: type[Exception], message: str) -> None:
    """The argument, the value and the limit."""
    with pytest.raises(error, match=message):
        act(FaultProxy())


def test_the_fixture_makes_and_closes(echo: Upstreams, fault_proxy: Callable[..., FaultProxy]) -> None:
    """As many as a test wants."""
    first = fault_proxy(echo().address, rng=Random(7))
    second = fault_proxy(first.address, faults=[Latency(0.001)])
    with connect(second) as client:
        client.sendall(b"x")
        assert b"x" == client.recv(1)
