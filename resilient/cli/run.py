"""``resilient run``: a command under a retry policy."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click

from resilient.cli.command import Command
from resilient.cli.failures import CommandFailed, classifier
from resilient.cli.options import command_options, policy_of, policy_options
from resilient.cli.progress import Progress
from resilient.cli.signals import Interrupted, Signals
from resilient.policies.retry import Retry

__all__ = ["run"]


# Options end at the command's name, so that its own are left alone even without a `--`.
@click.command(context_settings={"allow_interspersed_args": False})
@policy_options
@command_options(needed=True)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    on_exit: frozenset[int] | None,
    on_output: re.Pattern[bytes] | None,
    kill_after: float,
    quiet: bool,
    command: tuple[str, ...],
    **policy_settings: object,
) -> None:
    """Runs COMMAND, and again if it fails.

    Its output and its exit status are passed through; progress goes to stderr. It is run again after any
    exit status but 0 (or those of --on-exit), after a timeout, and if its output matches --on-output.

    \b
    Examples:
      resilient run -- curl -fsS https://example.org
      resilient run --attempts 8 --backoff exponential:1..60/full -- ./deploy.sh
      resilient run --on-exit 75 --attempt-timeout 30 -- ./send-mail
      resilient run --on-output 'connection reset' -- ./sync.sh
      resilient run --settings resilient.toml --policy nightly -- ./backup

    \b
    Exit status: the command's own, from the last attempt; or
      124     it was cut off by --timeout or --attempt-timeout
      126     it cannot be executed
      127     it was not found
      128+n   signal n ended it, or ended resilient while it waited
      1       it ended with 0, but its output matched --on-output
      2       wrong usage of resilient itself

    A command that reads its input from a pipe finds only what the attempt before has left there. From a
    file, it reads it again.
    """  # noqa: D301  # click wants the character
    if os.name != "posix":
        raise click.UsageError("resilient run needs process groups and signals, which this system has not.")
    policy = policy_of(ctx)
    # What a settings file says of Python's errors means nothing for a command.
    ctx.exit(_guarded(policy.with_(on=classifier(on_exit)), command, on_output, kill_after, quiet))


def _guarded(policy: Retry, words: Sequence[str], pattern: re.Pattern[bytes] | None, grace: float, quiet: bool) -> int:
    """The exit status to end with."""
    progress = Progress(policy.attempts, quiet=quiet)
    try:
        with Signals() as signals:
            command = Command(words, signals, pattern=pattern, grace=grace)
            policy.with_(listeners=(progress,)).call(_after_countdown, progress, command)
    except (CommandFailed, Interrupted) as end:
        return end.status
    finally:
        progress.resume()
    return 0


def _after_countdown(progress: Progress, command: Command) -> None:
    progress.resume()
    command.run()
