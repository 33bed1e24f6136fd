"""``resilient proxy``: faults as text, and the command as a real process."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest
from click.testing import CliRunner

from resilient.cli.app import app
from resilient.cli.fault_notation import EXAMPLES, read_fault, read_size
from resilient.cli.proxy import Lines, _ending
from resilient.testing.faults import (
    FAULTS,
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

Resilient = Callable[..., "CompletedProcess[bytes]"]
Start = Callable[..., "Popen[bytes]"]

HANG = 120


# Faults as text


@pytest.mark.parametrize(
    ("text", "fault", "direction", "toxicity"),
    [
        ("latency:50ms", Latency(0.05), "both", 1),
        ("latency:50ms@down", Latency(0.05), "down", 1),
        (" latency: 50ms , 10ms @up", Latency(0.05, 0.01), "up", 1),
        ("latency:jitter=1,latency=2", Latency(2, 1), "both", 1),
        ("latency:jitter=1,2", Latency(2, 1), "both", 1),
        ("latency:1,toxicity=0.25@both", Latency(1), "both", 0.25),
        ("bandwidth:10KB/s", Bandwidth(10_000), "both", 1),
        ("slow_close:2m", SlowClose(120), "both", 1),
        ("timeout", Timeout(), "both", 1),
        ("timeout:5s@up", Timeout(5), "up", 1),
        ("stall@down", Stall(), "down", 1),
        ("stall:toxicity=0", Stall(), "both", 0),
        ("reset_peer", ResetPeer(), "both", 1),
        ("reset_peer:1", ResetPeer(1), "both", 1),
        ("slicer:64,16,5ms", Slicer(64, 16, 0.005), "both", 1),
        ("slicer:1KiB,delay=1s", Slicer(1024, 0, 1), "both", 1),
        ("limit_data:1MB", LimitData(1_000_000), "both", 1),
        ("limit_data:100,reset,average", LimitData(100, average=True, reset=True), "both", 1),
        ("corrupt:1e-3", Corrupt(0.001), "both", 1),
        ("half_open:0@down", HalfOpen(0), "down", 1),
        ("accept_then_close", AcceptThenClose(), "both", 1),
        ("down:accept,keep", Down(accept=True, keep=True), "both", 1),
    ],
)
def test_faults_as_text(text: str, fault: Fault, direction: str, toxicity: float) -> None:
    """Settings in their order or by name, switches by their bare name."""
    assert (fault, direction, toxicity) == read_fault(text)


def test_every_fault_has_an_example_that_reads() -> None:
    """In the order of the table."""
    assert list(FAULTS) == sorted(EXAMPLES, key=list(FAULTS).index)
    assert all(FAULTS[name] is type(read_fault(text).fault) for name, text in EXAMPLES.items())


@pytest.mark.parametrize(
    ("text", "lesson"),
    [
        ("latncy:1", "fault 'latncy' is not known; did you mean 'latency'? There are: accept_then_close, bandwidth, "),
        ("", "fault '' is not known; there are: "),
        ("latency", "latency: latency is missing; it takes latency, jitter, toxicity (in 'latency'; write it like "),
        ("latency:soon", "latency: latency must be seconds or a time such as 250ms, 5s, 2m or 1h, got 'soon' (in "),
        ("latency:1,2,3", "there is no setting left for '3'; it takes latency, jitter, toxicity"),
        ("latency:1,latency=2", "latency: latency is given twice"),
        ("latency:1,delay=2", "latency: delay is not one of its settings; it takes latency, jitter, toxicity"),
        ("latency:1@left", "latency: direction must be up, down or both, got 'left' (in 'latency:1@left'; write it"),
        ("latency:1@", "latency: direction must be up, down or both, got ''"),
        ("down@up", "down: works on whole connections, so that it takes no direction, got 'up'"),
        ("down:toxicity=0.5", "down: toxicity must be 1, as the whole service is down, got 0.5"),
        ("stall:1", "stall: there is no setting left for '1'; it takes toxicity"),
        ("stall:toxicity=2", "stall: toxicity must be a number from 0 to 1, got '2'"),
        ("corrupt:2", "corrupt: rate must be a number from 0 to 1, got '2'"),
        ("corrupt:0", "corrupt: rate must be > 0 and <= 1, got 0.0"),
        ("bandwidth:fast", "bandwidth: rate must be bytes or a size such as 64, 10KB or 1MiB, got 'fast'"),
        ("bandwidth:0", "bandwidth: rate must be > 0, got 0"),
        ("limit_data:1.5", "limit_data: bytes must be bytes or a size such as 64, 10KB or 1MiB, got '1.5'"),
        ("limit_data:9,reset=no", "limit_data: reset is a switch that takes no value, got 'no'"),
        ("slicer:5,5", "slicer: size_variation must be smaller than average_size (5), got 5"),
    ],
)
def test_wrong_faults_teach(text: str, lesson: str) -> None:
    """They name the fault, the value, the limit, and what there is; on the command line as well."""
    with pytest.raises(ValueError) as caught:
        read_fault(text)
    assert lesson in str(caught.value)
    done = CliRunner().invoke(app, ["proxy", "--upstream", "tcp://127.0.0.1:1", "--fault", text])
    assert 2 == done.exit_code
    assert "Invalid value for '--fault'" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("64", 64), ("64B", 64), ("1.5KB", 1500), ("2kb", 2000), ("1KiB", 1024), ("3 MiB", 3 << 20), ("1GB", 10**9)],
)
def test_sizes(text: str, expected: int) -> None:
    """Powers of 1,000, or of 1,024 where it says so."""
    assert expected == read_size("size", text)


@pytest.mark.parametrize("text", ["", "KB", "1.5", "-1", "1TB", "1e400", "1 0"])
def test_other_sizes_are_refused(text: str) -> None:
    """Bytes are whole."""
    with pytest.raises(ValueError, match=f"size must be bytes or a size such as 64, 10KB or 1MiB, got '{text}'"):
        read_size("size", text)


# The command


class Mirror(threading.Thread):
    """A server that sends back what it gets, one connection after another."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            with accepted:
                try:
                    while data := accepted.recv(65536):
                        accepted.sendall(data)
                except OSError:
                    pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    server.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.join(HANG)
    server.listener.close()


def address(process: Popen[bytes]) -> tuple[str, int]:
    """Where it says that it listens."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("listening on tcp://127.0.0.1:"), line
    return "127.0.0.1", int(line.partition(",")[0].rpartition(":")[2])


def talk(where: tuple[str, int], said: bytes) -> bytes:
    got = b""
    with socket.create_connection(where, HANG) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        try:
            while data := client.recv(65536):
                got += data
        except ConnectionResetError:
            pass
    return got


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_passes_on_with_faults_until_a_signal(started: Start, mirror: Mirror, number: signal.Signals) -> None:
    """Then it tells what went through; the lines for connections are on stderr."""
    faults = ("--fault", "latency:1ms", "--fault", "limit_data:3@down")
    process = started("proxy", "--upstream", mirror.url, *faults, "--seed", "7")
    assert b"abc" == talk(address(process), b"abcdef")
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG)
    assert 0 == process.returncode, err
    told = {" ".join(line.split()[:-1]): line.split()[-1] for line in out.decode().splitlines()}
    assert ("1", "6", "6", "3") == tuple(
        told[name] for name in ("connections", "bytes up: passed on", "bytes down: received", "bytes down: passed on")
    )
    assert "1" == told["injected: limit_data"]
    assert b"resilient: Latency(latency=0.001, jitter=0.0) works\n" in err
    assert b"resilient: connection 1 is opened\n" in err
    assert b"resilient: connection 1 is closed: 6 bytes passed up, 3 down\n" in err


def test_statistics_as_json(started: Start, mirror: Mirror) -> None:
    """For scripts; quietly."""
    process = started("proxy", "--upstream", mirror.url, "--fault", "corrupt:1@down", "--json", "--quiet")
    assert b"aaa" != talk(address(process), b"aaa")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=HANG)
    assert (0, b"") == (process.returncode, err)
    told = json.loads(out)
    assert (1, 3, {"corrupt": 3}) == (told["connections"], told["passed_down"], told["injected"])


def test_it_may_end_by_itself(resilient: Resilient, tmp_path: Path) -> None:
    """After its time; a Unix socket is gone then."""
    done = resilient(
        "proxy", "--listen", "unix:p.sock", "--upstream", "unix:nobody", "--for", "10ms", "--fault", "down"
    )
    assert (0, b"resilient: Down(accept=False, keep=False) works\n") == (done.returncode, done.stderr)
    assert done.stdout.startswith(b"listening on unix:p.sock, passing on to unix:nobody\nconnections")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("lasts", ["1e10", "1e300"])
def test_it_may_last_as_long_as_it_likes(started: Start, lasts: str) -> None:
    """Also for longer than the system can count; a signal ends it."""
    process = started("proxy", "--upstream", "tcp://127.0.0.1:1", "--for", lasts)
    address(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=HANG)
    assert (0, b"") == (process.returncode, err)


def test_a_signal_is_heard_at_any_moment() -> None:
    """Before the wait for it, too; each once."""
    with _ending() as end:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert [signal.SIGTERM, signal.SIGINT] == [end.get(timeout=HANG) for _ in range(2)]


@pytest.mark.parametrize("where", ["the mirror's", "tcp://a..b:1"])
def test_where_it_cannot_listen(mirror: Mirror, where: str) -> None:
    """One line, and status 1; a name that is none is such a place."""
    where = mirror.url if where == "the mirror's" else where
    done = CliRunner().invoke(app, ["proxy", "--listen", where, "--upstream", mirror.url])
    assert 1 == done.exit_code
    assert f"Error: cannot listen on {where}: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "lesson"),
    [
        ((), "Missing option '--upstream'"),
        (("--upstream", "here"), 'upstream must be "tcp://127.0.0.1:8000", "unix:/run/app.sock"'),
        (("--upstream", "unix:x", "--listen", "80"), 'listen must be "tcp://127.0.0.1:8000"'),
        (("--upstream", "unix:x", "--for", "0"), "for must be > 0 s, got 0.0"),
        (("--upstream", "unix:x", "--seed", "x"), "'x' is not a valid integer"),
    ],
)
def test_wrong_usage_is_taught(arguments: tuple[str, ...], lesson: str) -> None:
    """Status 2."""
    done = CliRunner().invoke(app, ["proxy", *arguments])
    assert 2 == done.exit_code
    assert lesson in " ".join(done.stderr.split())


def test_handlers_and_the_logger_are_put_back(mirror: Mirror) -> None:
    """Whatever they were."""
    logger = logging.getLogger("resilient.proxy")
    before = signal.getsignal(signal.SIGTERM), logger.level, logger.propagate
    done = CliRunner().invoke(app, ["proxy", "--upstream", mirror.url, "--for", "1ms"])
    assert 0 == done.exit_code, done.output
    assert before == (signal.getsignal(signal.SIGTERM), logger.level, logger.propagate)
    assert not any(isinstance(handler, Lines) for handler in logger.handlers)
