"""``resilient proxy``: a fault proxy between any client and any server."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from queue import Empty, SimpleQueue
from random import Random
from threading import TIMEOUT_MAX

import click
from rich.console import Console
from rich.table import Table

from resilient.cli.fault_notation import EXAMPLES, FaultText, read_fault
from resilient.cli.options import DURATION, Text
from resilient.core.addresses import Address, read_address
from resilient.core.duration import seconds
from resilient.settings.notation import read_duration
from resilient.testing.fault_proxy import FaultProxy
from resilient.testing.proxy_stats import ProxyStats

__all__ = ["proxy"]

ENDED_BY = ("SIGINT", "SIGTERM", "SIGHUP")


def _duration(text: str) -> float:
    return seconds("for", read_duration("for", text), above=True)


@click.command()
@click.option(
    "--listen",
    type=Text("address", partial(read_address, "listen")),
    default="tcp://127.0.0.1:0",
    show_default=True,
    help="Where clients connect: tcp://host:port (port 0 takes a free one) or unix:/path.",
)
@click.option(
    "--upstream",
    type=Text("address", partial(read_address, "upstream")),
    required=True,
    help="Where connections are passed on to, in the same forms.",
)
@click.option(
    "--fault",
    "faults",
    type=Text("fault", read_fault),
    multiple=True,
    help=f"May be repeated: {', '.join(EXAMPLES.values())}. @up is client to upstream, @down the other way; "
    "without, both.",
)
@click.option("--seed", type=int, help="Draws the same chances again.")
@click.option("--for", "lasts", type=Text("duration", _duration), help=f"Ends after this time: {DURATION}.")
@click.option("--quiet", "-q", is_flag=True, help="No line for each connection on stderr.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the statistics as JSON.")
def proxy(
    listen: Address,
    upstream: Address,
    faults: tuple[FaultText, ...],
    seed: int | None,
    lasts: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Passes connections on, with faults.

    Clients connect to the proxy instead of the server, on the first line of its output, until Ctrl-C or SIGTERM. Then
    it prints what went through, and what was done to it.

    \b
    Examples:
      resilient proxy --upstream tcp://127.0.0.1:5432 --fault latency:50ms,10ms
      resilient proxy --upstream unix:/run/app.sock --fault limit_data:64KB,average,reset@down
      resilient proxy --listen tcp://127.0.0.1:6380 --upstream tcp://127.0.0.1:6379 \\
          --fault bandwidth:10KB@down --fault latency:200ms,toxicity=0.1

    \b
    Faults, as in Toxiproxy where it has them:
      latency:LATENCY,JITTER        bandwidth:BYTES_PER_SECOND    slow_close:DELAY
      timeout:TIMEOUT               reset_peer:TIMEOUT            limit_data:BYTES,average,reset
      slicer:AVERAGE_SIZE,SIZE_VARIATION,DELAY                    stall
      corrupt:RATE                  half_open:AFTER               accept_then_close:AFTER
      down,accept,keep: connections are accepted and reset; those that are there live on
    """  # noqa: D301  # click wants the character
    made = FaultProxy(upstream, listen=listen, rng=None if seed is None else Random(seed))
    with _ending() as end, _told(quiet):
        for fault, direction, toxicity in faults:
            made.add(fault, direction, toxicity=toxicity)
        try:
            made.start()
        except (OSError, UnicodeError) as error:  # a host name that is none
            raise click.ClickException(f"cannot listen on {listen.url}: {error}") from None
        try:
            _say(f"listening on {made.url}, passing on to {upstream.url}")
            with suppress(Empty):
                end.get(timeout=None if lasts is None else min(lasts, TIMEOUT_MAX))
        finally:
            made.close()
    with suppress(OSError):  # nobody reads our output any more
        _show(made.stats(), as_json)


def _say(text: str) -> None:
    with suppress(OSError):
        click.echo(text)


@contextmanager
def _ending() -> Iterator[SimpleQueue[int]]:
    """Is told of the signals to end."""
    # Not an Event: whoever waits for one holds its lock at times, and so would the handler, in the same thread.
    end: SimpleQueue[int] = SimpleQueue()
    numbers = [getattr(signal, name) for name in ENDED_BY if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, frame: end.put(number))
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Lines(logging.Handler):
    """Writes what the proxy tells, a line each, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes what a record says, as a line on stderr."""
        with suppress(OSError):
            click.echo(f"resilient: {record.getMessage()}", err=True)


@contextmanager
def _told(quiet: bool) -> Iterator[None]:
    """While open, what the proxy tells is on stderr."""
    logger, lines = logging.getLogger("resilient.proxy"), Lines()
    before = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL if quiet else logging.INFO)
    logger.propagate = False
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.level, logger.propagate = before


def _show(stats: ProxyStats, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(stats), indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="left")
    table.add_column(justify="right")
    for what, count in _rows(stats):
        table.add_row(what, f"{count:,}")
    Console(highlight=False).print(table)


def _rows(stats: ProxyStats) -> Iterator[tuple[str, int]]:
    yield "connections", stats.connections
    yield "  reset by the proxy", stats.resets
    yield "  upstream out of reach", stats.unreachable
    yield "bytes up: received", stats.received_up
    yield "bytes up: passed on", stats.passed_up
    yield "bytes down: received", stats.received_down
    yield "bytes down: passed on", stats.passed_down
    for name, count in sorted(stats.injected.items()):
        yield f"injected: {name}", count
