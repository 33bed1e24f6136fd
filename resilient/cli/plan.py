"""``resilient plan``: what a policy will do, before it has to."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console

from resilient.cli.chart import draw_bars, draw_table
from resilient.cli.options import command_options, policy_of, policy_options
from resilient.cli.schedule import Schedule, schedule
from resilient.cli.spans import spoken
from resilient.policies.retry import Retry
from resilient.settings.notation import said

__all__ = ["plan"]


@click.command(context_settings={"allow_interspersed_args": False})
@policy_options
@command_options(needed=False)
@click.option("--rows", type=click.IntRange(min=1), default=20, show_default=True, help="Retries to show at most.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the same numbers, in seconds.")
@click.pass_context
def plan(ctx: click.Context, /, rows: int, as_json: bool, **policy_settings: object) -> None:
    """Shows when a policy tries again while its command keeps failing.

    It takes the options of `resilient run`, so that `run` in a command line may become `plan`.

    \b
    Examples:
      resilient plan
      resilient plan --attempts 8 --backoff exponential:1..60/full --timeout 3m
      resilient plan --settings resilient.toml --policy nightly
    """  # noqa: D301  # click wants the character
    policy = policy_of(ctx)
    found = schedule(policy, rows)
    if as_json:
        click.echo(json.dumps(_facts(policy, found), indent=2))
    else:
        _show(policy, found)


def _show(policy: Retry, found: Schedule) -> None:
    console = Console(highlight=False)
    console.print(_headline(policy), style="bold", soft_wrap=True)
    if not found.retries:
        console.print("one attempt is all, so there is nothing to wait for")
        return
    draw_table(console, found, timed=policy.timeout is not None)
    console.print(_legend(found))
    draw_bars(console, found)
    console.print(f"\n{_footer(found)}", soft_wrap=True)


def _legend(found: Schedule) -> str:
    jittered = any(retry.low != retry.high for retry in found.retries)
    return "waits, shaded where jitter may shorten them" if jittered else "waits"


def _headline(policy: Retry) -> str:
    number = policy.attempts
    parts = [said(policy.backoff)]
    parts.append("unlimited attempts" if number is None else f"{number} attempt{'s' if number != 1 else ''}")
    for what, limit in (("timeout", policy.plan.timeout), ("attempt timeout", policy.plan.attempt_timeout)):
        if limit is not None:
            parts.append(f"{what} {spoken(limit)}")
    return ", ".join(parts)


def _footer(found: Schedule) -> str:
    lines = []
    if found.more != 0:
        lines.append("... and so on" if found.more is None else f"... and {found.more} more")
    if found.usual is not None and found.least is not None and found.most is not None:
        lines.append(f"gives up after {spoken(found.usual)} of waiting")
        if found.least != found.most:
            lines[-1] += f" without jitter; with it, {spoken(found.least)} .. {spoken(found.most)}"
    lines.append("the command's own running time comes on top")
    return "\n".join(lines)


def _facts(policy: Retry, found: Schedule) -> dict[str, object]:
    return {
        "backoff": said(policy.backoff),
        "attempts": policy.attempts,
        "timeout": policy.timeout,
        "attempt_timeout": policy.attempt_timeout,
        **asdict(found),
    }
