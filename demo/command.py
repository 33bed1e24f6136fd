"""``python -m demo``: real faults, and what became of them."""

from __future__ import annotations

import click

from demo.report import Report
from demo.stage import PARTS, WITHOUT, play

__all__ = ["demo"]

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended: 128 + SIGINT


@click.command()
@click.option("--only", "parts", type=click.Choice(tuple(PARTS)), multiple=True, help="This part; may be repeated.")
@click.option(
    "--without",
    type=click.Choice(WITHOUT),
    help="Leave this recovery out everywhere, to see what the demo makes of one that is not there.",
)
@click.pass_context
def demo(ctx: click.Context, parts: tuple[str, ...], without: str | None) -> None:
    """Shows recoveries from real faults.

    Starts a small TCP server in a process of its own, on the loopback interface. It fails, names a wait, stalls,
    revokes tokens, hangs up in the middle of an answer, and is killed; for a while it refuses connections. Clients
    (blocking, asyncio and trio) meet each of these with one policy that waits, reconnects, signs in again and
    retries; fifty tasks that lose one connection together reconnect once. Then a flaky command runs under
    `resilient run`, and code blows up, in a call and in a thread.

    The loopback part sends messages by a framed client through a proxy that refuses, resets and falls silent, to a
    server that is killed; what became of each message says that server's own record. The plugins part has a plugin
    host whose control plane fails and dies, and whose configuration, loops and plugins blow up.

    Exits with 0 if everything that was injected was recovered, with 1 if something was not (the last lines say
    what), with 130 if it was interrupted.
    """
    status = 1
    try:
        status = 0 if play(Report(), parts or PARTS, without) else 1
    except* KeyboardInterrupt:  # trio wraps it in a group
        click.echo("interrupted", err=True)
        status = INTERRUPTED
    ctx.exit(status)
