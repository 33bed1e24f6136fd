"""Writes reference.md from the signatures and docstrings of the public names.

Run as ``python docs/make_reference.py``; with ``--check`` it writes nothing, and exits 1 if the file is not up to
date. What it writes does not depend on the version of Python.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_overloads

from resilient import Action, Verdict, errors
from resilient.policies.shared import PROCESS

TARGET = Path(__file__).with_name("reference.md")
WIDTH = 100  # characters, beyond which a signature takes a line for each parameter

HEAD = """\
# Reference

The public names, from their docstrings. This page is written by `docs/make_reference.py`: change the docstrings,
then run it. Durations are seconds, as a number or a `timedelta`. Settings that make no sense raise `ValueError` or
`TypeError` where the policy is made.
"""

# Each section: its title, the module whose names it lists, and a sentence about them.
SECTIONS = [
    ("resilient", "resilient", "What most programs need. Every name is loaded when it is first used."),
    ("resilient.backoff", "resilient.core.backoff", "How long to wait before each retry."),
    ("resilient.events", "resilient.core.events", "What happens to a call. `str(event)` is its line in the log."),
    ("resilient.errors", "resilient.errors", "What a policy raises on its own account."),
    ("resilient.presets", "resilient.presets", "Ready classifiers. They match by name and import nothing."),
    ("resilient.testing", "resilient.testing", "Testing code that waits and retries, without waiting."),
    ("resilient.testing.faults", "resilient.testing.faults", "What a FaultProxy can do to connections."),
    ("resilient.net", "resilient.net", "What stays alive: connections, loops, polled values; for coroutines."),
    ("resilient.net.sync", "resilient.net.sync", "The same for threads."),
    ("resilient.policies.shared", "resilient.policies.shared", "Where the states of named policies live."),
]
# Names that several sections offer, and one of them describes; and those that are for the library itself.
ELSEWHERE = frozenset({"backoff", "events", "presets", "Backoff", "Event", *errors.__all__})
INTERNAL = frozenset({"BACKOFF", "FAULTS", "described", "Live", "PROCESS", "snapshot"})
# What policies and drivers ask each other, and nobody else.
MACHINERY = frozenset(
    {
        "acquire", "called", "check_blocking", "cut_at", "failed", "found_state", "gates", "guard", "hears", "kind",
        "leave", "of_attempts", "parts", "replaced", "streams", "substitute", "succeeded", "tries_again",
    }
)  # fmt: skip
# What calls hand out: nobody makes these, so their constructors are no news, and most have no public name.
HANDED_OUT = {
    "AttemptBlock": "resilient.drivers.blocks.attempts",
    "BreakerMetrics": "resilient.core.breaker",
    "BudgetMetrics": "resilient.policies.retry_budget",
    "Caught": "resilient.policies.catch",
    "ClientRateMetrics": "resilient.core.client_rate",
    "ConcurrencyMetrics": "resilient.core.concurrency",
    "ConnectionStats": "resilient.testing.proxy_stats",
    "HedgeMetrics": "resilient.core.hedging",
    "Injection": "resilient.testing.relay",
    "PanicHooks": "resilient.policies.panics",
    "Patch": "resilient.policies.proxies",
    "PermitsMetrics": "resilient.core.permits",
    "Play": "resilient.testing.play",
    "ProxyStats": "resilient.testing.proxy_stats",
    "RateMetrics": "resilient.core.rate",
    "Subscription": "resilient.observe.listeners",
    "ThrottleMetrics": "resilient.core.throttle",
}
MADE_FOR_YOU = frozenset(
    {*HANDED_OUT, "Attempt", "Backoff", "Deadline", "Home", "Outcome", "Policy", "Rng", "Snapshot"}
)
# Bases that bring forms of their own, told once.
FORMS = frozenset({"Policy", "Stateful"})
# Bases that only their subclasses are: what they bring is told with each of these.
SIDES = frozenset({"BaseConnectionManager", "BaseFramedClient", "BasePoller", "BaseSupervisor"})
OPERATORS = frozenset({"__call__", "__iter__", "__aiter__", "__or__"})


class Text:
    """An annotation or a default that prints as its source text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, place, about in SECTIONS:
        parts.append(f"## {title}\n\n{about}\n")
        module = import_module(place)
        hidden = ELSEWHERE if title in ("resilient", "resilient.net", "resilient.net.sync") else INTERNAL
        parts += [_entry(name, getattr(module, name), place) for name in sorted({*module.__all__} - hidden, key=_order)]
    parts.append("## Handed out\n\nWhat blocks, hooks, patches and `metrics()` give you to hold.\n")
    parts += [_entry(name, getattr(import_module(place), name), place) for name, place in HANDED_OUT.items()]
    return "\n".join(parts).rstrip() + "\n"


def _order(name: str) -> tuple[str, str]:
    return name.lower(), name


def _entry(name: str, value: object, place: str) -> str:
    title = f"### {name}\n"
    if inspect.isclass(value) and value.__name__ == name:
        return "\n".join([title, *_class(value)])
    if inspect.isfunction(value):
        return "\n".join([title, _code(_signatures(name, value)), _prose(value.__doc__)])
    source, doc = _assigned(name, place)
    shown = [_code([source])] if source else []
    if callable(value) and not source and name == "catch":
        shown = [_code(_signatures(name, type(value).__call__, bound=True))]
    return "\n".join([title, *shown, *([_prose(doc)] if doc else [])])


def _class(kind: type[Any]) -> Iterator[str]:
    parts = [kind, *(base for base in kind.__mro__[1:] if base.__name__ in SIDES)]
    members = {name: member for part in reversed(parts) for name, member in _members(part)}
    if issubclass(kind, str):  # an enumeration
        yield _prose(kind.__doc__)
        yield "\n".join(f"- `{kind.__name__}.{member.name}`: {_comment(kind, member.name)}" for member in kind) + "\n"
        return
    init = next((part.__dict__["__init__"] for part in parts if "__init__" in part.__dict__), None)
    if init is not None and kind.__name__ not in MADE_FOR_YOU:
        yield _code(_signatures(kind.__name__, init, bound=True))
    bases = [base.__name__ for base in kind.__bases__ if issubclass(base, Exception) or base.__name__ in MADE_FOR_YOU]
    bases += [base.__name__ for base in kind.__mro__[1:] if base.__name__ in FORMS and base.__name__ not in bases]
    if bases:
        yield f"Derives from {' and '.join(f'`{base}`' for base in bases)}.\n"
    yield _prose(kind.__doc__)
    if init is not None and init is not kind.__dict__.get("__init__"):
        yield _prose(init.__doc__)
    for name, member in members.items():
        if isinstance(member, property):
            yield f"#### {kind.__name__}.{name}\n"
            yield _prose(member.__doc__)
        else:
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            called = f"{kind.__name__}.{name}" if isinstance(member, classmethod) else f".{name}"
            title = name.replace("_", "\\_") if name in OPERATORS else f"{name}()"
            yield f"#### {kind.__name__}.{title}\n"
            yield _code(_signatures(called, function, bound=True))
            yield _prose(function.__doc__)


def _members(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for name, member in kind.__dict__.items():
        public = (not name.startswith("_") and name not in MACHINERY) or name in OPERATORS
        told = inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
        if public and told and getattr(member, "__func__", member).__doc__:
            yield name, member


def _signatures(name: str, function: Any, *, bound: bool = False) -> list[str]:
    """The call's forms as text: its overloads, if it has any."""
    return [_signature(name, form, bound=bound) for form in get_overloads(function) or [function]]


def _signature(name: str, function: Any, *, bound: bool) -> str:
    signature = inspect.signature(function)
    parameters = [_shown(parameter) for parameter in signature.parameters.values()]
    if bound:
        parameters = parameters[1:]
    returns = signature.return_annotation
    if returns == "Iterator[None]" and hasattr(function, "__wrapped__"):  # made by @contextmanager
        returns = "AbstractContextManager[None]"
    gives = "" if returns in (inspect.Signature.empty, "None", None) else f" -> {returns}"
    plain = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    name = f"await {name}" if inspect.iscoroutinefunction(function) else name
    line = f"{name}{plain}{gives}"
    if len(line) <= WIDTH:
        return line
    separate = _separators(parameters)
    return f"{name}(\n" + "".join(f"    {part},\n" for part in separate) + f"){gives}"


def _separators(parameters: list[inspect.Parameter]) -> Iterator[str]:
    previous: Any = None
    for parameter in parameters:
        if previous is inspect.Parameter.POSITIONAL_ONLY and parameter.kind is not previous:
            yield "/"
        if parameter.kind is parameter.KEYWORD_ONLY and previous not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            yield "*"
        previous = parameter.kind
        yield str(parameter)


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = Text(annotation)
    default = parameter.default
    if default is not inspect.Parameter.empty:
        default = Text(_default(default))
    return parameter.replace(annotation=annotation, default=default)


def _default(value: object) -> str:
    if isinstance(value, Action):
        return f"Action.{value.name}"
    if isinstance(value, Verdict):
        return f"Verdict(Action.{value.action.name})"
    if value is PROCESS:
        return "PROCESS"
    return value.__name__ if isinstance(value, type) else repr(value)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


def _assigned(name: str, place: str) -> tuple[str, str]:
    """The source of a name's assignment, where that says something, and the docstring below it."""
    from resilient import _HOMES

    home = _HOMES[name] if place == "resilient" else place
    body = _tree(home).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            doc = following.value.value if isinstance(following, ast.Expr) else ""
            told = isinstance(statement, ast.AnnAssign) or isinstance(statement.value, ast.Name)
            return (ast.unparse(statement).replace(": TypeAlias", "") if told else ""), doc
    raise LookupError(f"{name} is assigned nowhere in {home}")


def _comment(kind: type[Any], name: str) -> str:
    """The comment behind an enumeration's member."""
    lines = inspect.getsource(kind).splitlines()
    return next(line.partition("#")[2].strip() for line in lines if line.strip().startswith(f"{name} ="))


def _code(lines: list[str]) -> str:
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _prose(doc: str | None) -> str:
    """A docstring as Markdown: its sections become lists."""
    text = inspect.cleandoc(doc or "").replace("``", "`")
    for role in ("class", "func", "meth", "data", "mod", "attr"):
        text = text.replace(f":{role}:`", "`")
    out: list[str] = []
    section = False
    for line in text.replace("`~", "`").splitlines():
        if line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            out += [f"**{line[:-1]}**", ""]
            section = True
        elif section and line.startswith("    ") and not line.startswith("     "):
            head, colon, rest = line.strip().partition(": ")
            out.append(f"- `{head}`: {rest}" if colon and " " not in head.replace(", ", "") else f"- {line.strip()}")
        elif section and line.startswith("     "):
            out.append(f"  {line.strip()}")
        else:
            section = section and not line.strip()
            out.append(line)
    return "\n".join(out) + "\n"


def main() -> int:
    """Writes the page, or checks it."""
    page = reference()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.read_text(encoding="utf-8") == page else 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
