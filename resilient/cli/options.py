"""The options that describe a policy, shared by every command that takes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import click

from resilient.cli.failures import read_statuses
from resilient.core.backoff import Backoff
from resilient.core.duration import seconds
from resilient.policies.retry import DEFAULT_BACKOFF, Retry
from resilient.settings import load
from resilient.settings.notation import jittered, read_backoff, read_duration
from resilient.settings.retry import checked
from resilient.settings.table import suggestion

__all__ = ["command_options", "policy_of", "policy_options"]

F = TypeVar("F", bound=Callable[..., object])


class Text(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A value read from text by a function whose ``ValueError`` teaches how to write it."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a usage error if the text is wrong."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except (TypeError, ValueError) as error:
            self.fail(str(error), param, ctx)


def _attempts(text: str) -> Any:
    return checked("attempts", int(text) if re.fullmatch("-?[0-9]+", text) else text)


def _jitter(text: str) -> str:
    jittered(DEFAULT_BACKOFF, text)
    return text


DURATION = "a number of seconds, or 250ms, 5s, 2m, 1h"
OPTIONS = (
    click.option(
        "--attempts",
        type=Text("number", _attempts),
        help='How often to call in all, the first included; or "unlimited".  [default: 5]',
    ),
    click.option(
        "--backoff",
        type=Text("curve", partial(read_backoff, "backoff")),
        help="The waits, such as constant:2, linear:1..10, exponential:0.1*1.5..15, fibonacci:1..300, "
        "decorrelated:0.1..300 or sequence:1,2,5; jitter may follow, such as /full.  "
        "[default: exponential:0.1..300/full]",
    ),
    click.option(
        "--jitter",
        type=Text("spread", _jitter),
        help="How the waits are spread downwards: full, equal, none or a fraction such as 0.3.",
    ),
    click.option(
        "--timeout",
        type=Text("duration", partial(checked, "timeout")),
        help=f"For everything, waits included: {DURATION}.",
    ),
    click.option(
        "--attempt-timeout",
        type=Text("duration", partial(checked, "attempt_timeout")),
        help="For each attempt.",
    ),
    click.option(
        "--settings",
        "settings_file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="A TOML file of policies; the options above change what it says.",
    ),
    click.option("--policy", "policy_name", metavar="NAME", help="Which of them; not needed if there is one."),
)


def policy_options(command: F) -> F:
    """Adds the options to a click command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def command_options(*, needed: bool) -> Callable[[F], F]:
    """Adds the options about the command that is run, and the command itself.

    Args:
        needed: False accepts and ignores them all, so that ``run`` in a command line may become ``plan``.
    """

    def add(command: F) -> F:
        for option in reversed(_command_options(needed)):
            command = option(command)
        return command

    return add


def _command_options(needed: bool) -> tuple[Callable[[F], F], ...]:
    return (
        click.option(
            "--on-exit",
            type=Text("statuses", read_statuses),
            hidden=not needed,
            help="Try again after these exit statuses only, such as 1,75,100-110; or none.  [default: all but 0]",
        ),
        click.option(
            "--on-output",
            type=Text("regex", _pattern),
            hidden=not needed,
            help="An attempt that writes a line with this has failed, even if it exits with 0. "
            "The command writes to pipes then, not to the terminal.",
        ),
        click.option(
            "--kill-after",
            type=Text("duration", _grace),
            default="5",
            show_default=True,
            hidden=not needed,
            help="Seconds from SIGTERM, which ends an attempt that takes too long, to SIGKILL.",
        ),
        click.option("--quiet", "-q", is_flag=True, hidden=not needed, help="No progress on stderr."),
        click.argument("command", nargs=-1, type=click.UNPROCESSED, required=needed),
    )


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}, got {text!r}") from None


def _grace(text: str) -> float:
    return seconds("kill-after", read_duration("kill-after", text))


def policy_of(ctx: click.Context) -> Retry:
    """The policy that the options of this command line describe.

    Raises:
        click.UsageError: they contradict each other, or the settings file is wrong.
    """
    base = _base(ctx.params["settings_file"], ctx.params["policy_name"])
    # "unlimited" is None, so None does not mean that an option was left out.
    given = {
        name: ctx.params[name] for name in ("attempts", "backoff", "timeout", "attempt_timeout") if _is_given(ctx, name)
    }
    if _is_given(ctx, "jitter"):
        given["backoff"] = _spread(given.get("backoff"), base.backoff, ctx.params["jitter"])
    return base.with_(**given)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _base(file: str | None, name: str | None) -> Retry:
    if file is None:
        if name is not None:
            raise click.UsageError("--policy goes with --settings, the file that has it.")
        return Retry(on=Exception)
    try:
        policies = load(file)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    retries = policies.retries
    if name is None and len(retries) == 1:
        return next(iter(retries.values()))
    if name is None:
        raise click.UsageError(f"--policy must say which policy of {file}: {', '.join(retries) or 'it has none'}")
    if name in policies and name not in retries:
        kind = type(policies[name]).__name__
        raise click.UsageError(f"--policy must name a Retry, got {name!r}, which is a {kind}{_there_are(retries)}")
    if name not in retries:
        raise click.UsageError(f"{file} has no policy {name!r}{suggestion(name, retries)}")
    return retries[name]


def _there_are(retries: Mapping[str, Retry]) -> str:
    return f"; there are: {', '.join(retries)}" if retries else ""


def _spread(given: Backoff | None, settled: Backoff, spread: str) -> Backoff:
    if given is not None and given.spread not in (0.0, "decorrelated"):
        raise click.UsageError("--jitter is given twice: --backoff ends in one too.")
    try:
        return jittered(settled if given is None else given, spread)
    except ValueError as error:
        raise click.UsageError(f"--jitter: {error}") from None
