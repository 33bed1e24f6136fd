"""The command and its subcommands, each loaded when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from resilient import __version__

__all__ = ["COMMANDS", "app"]

# Where each subcommand lives: `resilient run` must not pay for what draws `resilient plan`.
COMMANDS = {
    "run": "resilient.cli.run:run",
    "plan": "resilient.cli.plan:plan",
    "proxy": "resilient.cli.proxy:proxy",
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)
        return found


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="resilient")
def app() -> None:
    """Retries commands, shows what a retry policy will do, and injects faults.

    \b
    Examples:
      resilient run -- curl -fsS https://example.org
      resilient run --attempts 8 --backoff exponential:1..60/full -- ./deploy.sh
      resilient run --on-exit 75 --attempt-timeout 30 -- ./send-mail
      resilient plan --attempts 8 --backoff exponential:1..60/full --timeout 3m
      resilient proxy --upstream tcp://127.0.0.1:5432 --fault latency:50ms
    """  # noqa: D301  # click wants the character
