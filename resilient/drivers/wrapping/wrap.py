"""How a callable is wrapped: once, at decoration, into a function compiled for it.

On the success path a wrapper is ``try: return call(...)`` and nothing more, which, with the callable's own parameters,
is cheaper than a ``*args, **kwargs`` closure by half.

A wrapper knows its policy (:data:`~resilient.drivers.wrapping.compile.POLICY` in its globals), so that
``current_attempt`` finds the running attempt on the stack and the success path need not announce it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any

from resilient.drivers.wrapping.compile import compiled
from resilient.drivers.wrapping.kind import Kind

__all__ = ["OF_FIRST", "OURS", "wrap_admitted", "wrap_eager", "wrap_gated", "wrap_rescued", "wrap_scoped"]

OF_FIRST = "_resilient_of_first"  # marks what calls its first argument: that, then, is what is guarded
# The globals of a wrapper that is no attempt: they tell only whose frame it is.
OURS = {"__name__": "resilient.drivers.wrapped"}


def wrap_rescued(
    call: Callable[..., Any],
    rescue: Callable[..., Any],
    policy: object,
    *,
    kind: Kind,
    caught: type[BaseException] = Exception,
    facts: Mapping[str, str] | None = None,
    names: Mapping[str, Any] | None = None,
    adopt: Callable[..., Any] | None = None,
    limit: Callable[[float], object] | None = None,
    unlimit: Callable[[Any], object] | None = None,
    succeeded: Callable[[], object] | None = None,
) -> Callable[..., Any]:
    """A wrapper that only calls, and hands the first failure over.

    Args:
        call: what is guarded.
        rescue: called as ``rescue(policy, call, error, args, kwargs, **facts)``; awaited if the kind is ASYNC.
        policy: what guards it.
        kind: SYNC, ASYNC or EITHER.
        caught: what counts as a failure.
        facts: names and expressions noted before the call, such as ``{"started": "now()"}``.
        names: what those expressions refer to, and what is left in the wrapper's globals.
        adopt: for EITHER: takes a coroutine that the call returned, as ``adopt(policy, call, coroutine, args,
            kwargs, **facts)``.
        limit: told when the call began (the fact ``started``) before it is made; gives a token.
        unlimit: takes the token after the first attempt.
        succeeded: told that the first attempt returned; not of a coroutine that is adopted.
    """
    noted = facts or {}
    prelude = "".join(f"    {{{fact}}} = {expression}\n" for fact, expression in noted.items())
    extra = "".join(f", {fact}={{{fact}}}" for fact in noted)
    finally_ = ""
    if limit is not None:
        prelude += "    {token} = {limit}({started})\n"
        finally_ = "    finally:\n        {unlimit}({token})\n"
    source = (
        (_BY_KIND if succeeded is None else _TOLD_BY_KIND)[kind]
        .replace("PRELUDE", prelude)
        .replace("EXTRA", extra)
        .replace("FINALLY", finally_)
    )
    given = {
        "limit": limit,
        "unlimit": unlimit,
        "succeeded": succeeded,
        "caught": caught,
        "rescue": rescue,
        "adopt": adopt,
        "coroutine": CoroutineType,
        "policy": policy,
    }
    return compiled(call, source, ("error", "failure", "value", "token", *noted), given, names or {})


def wrap_eager(
    call: Callable[..., Any], run: Callable[..., Any], *, kind: Kind, names: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """A wrapper that hands the whole call over, as ``run(args, kwargs)``, where every attempt needs watching."""
    return compiled(call, _EAGER[kind], ("stream", "item", "sent", "thrown"), {"run": run}, names or {})


def wrap_gated(
    call: Callable[..., Any],
    gate: object,
    *,
    kind: Kind,
    adopt: Callable[[Any], Any] | None = None,
) -> Callable[..., Any]:
    """A wrapper that takes a ticket at a gate, calls, and hands the ticket back with what became of the call.

    Args:
        call: what is guarded.
        gate: a :class:`~resilient.drivers.gates.gate.Gate` for SYNC and EITHER, an ``AsyncGate`` for ASYNC.
        kind: SYNC, ASYNC or EITHER.
        adopt: for EITHER: takes a coroutine that the call returned; its ticket has been given back unused.
    """
    steps = ("enter_soon", "join", "on_success", "on_failure", "release")
    given = {step: getattr(gate, step, None) for step in steps} | {"adopt": adopt}
    given["enter"] = getattr(gate, "ready" if kind is Kind.ASYNC else "enter", None)
    given |= {"coroutine": CoroutineType, "caught": BaseException}
    return compiled(call, _GATED[kind], ("ticket", "failure", "value"), given, OURS)


def wrap_admitted(call: Callable[..., Any], gate: object, *, kind: Kind) -> Callable[..., Any]:
    """A wrapper with a gate that need not hear what became of the call; else see :func:`wrap_gated`."""
    given = {"enter": getattr(gate, "ready" if kind is Kind.ASYNC else "enter"), "join": getattr(gate, "join", None)}
    return compiled(call, _ADMITTED[kind], (), given, OURS)


def wrap_scoped(
    call: Callable[..., Any], enter: Callable[[], object], leave: Callable[[Any], object]
) -> Callable[..., Any]:
    """A blocking wrapper that takes a ticket and gives it back, whatever becomes of the call."""
    return compiled(call, _SCOPED, ("ticket",), {"enter": enter, "leave": leave}, OURS)


_SYNC = """\
def wrapper({parameters}):
PRELUDE    try:
        return {call}({arguments})
    except {caught} as {failure}:
        {error} = {failure}
FINALLY    try:
        return {rescue}({policy}, {call}, {error}, ({positional}), {keywords}EXTRA)
    finally:
        {error} = None
"""

_EITHER = """\
def wrapper({parameters}):
PRELUDE    try:
        {value} = {call}({arguments})
    except {caught} as {failure}:
        {error} = {failure}
    else:
        if {value}.__class__ is {coroutine}:
            return {adopt}({policy}, {call}, {value}, ({positional}), {keywords}EXTRA)
        return {value}
FINALLY    try:
        return {rescue}({policy}, {call}, {error}, ({positional}), {keywords}EXTRA)
    finally:
        {error} = None
"""

_BY_KIND = {
    Kind.SYNC: _SYNC,
    Kind.ASYNC: _SYNC.replace("def ", "async def ").replace("return ", "return await "),
    Kind.EITHER: _EITHER,
}

_TOLD = """\
        {value} = {call}({arguments})
    except {caught} as {failure}:
        {error} = {failure}
    else:
        {succeeded}()
        return {value}
"""
_UNTOLD = _SYNC[_SYNC.index("        return {call}") : _SYNC.index("FINALLY")]
_TOLD_SYNC = _SYNC.replace(_UNTOLD, _TOLD)

_TOLD_BY_KIND = {
    Kind.SYNC: _TOLD_SYNC,
    Kind.ASYNC: (
        _TOLD_SYNC.replace("def ", "async def ")
        .replace("= {call}", "= await {call}")
        .replace("return {rescue}", "return await {rescue}")
    ),
    Kind.EITHER: _EITHER.replace("        return {value}\n", "        {succeeded}()\n        return {value}\n"),
}

_GATED_SYNC = """\
def wrapper({parameters}):
    {ticket} = {enter}()
    try:
        {value} = {call}({arguments})
    except {caught} as {failure}:
        {on_failure}({ticket}, {failure})
        raise
    {on_success}({ticket}, {value})
    return {value}
"""

_JOINED = """\
    if {ticket} is None:
        {ticket} = await {join}()
    try:
"""

_ADOPTED = """\
    if {value}.__class__ is {coroutine}:
        {release}({ticket})
        return {adopt}({value})
    {on_success}("""

_GATED = {
    Kind.SYNC: _GATED_SYNC,
    Kind.ASYNC: (
        _GATED_SYNC.replace("def ", "async def ").replace("    try:\n", _JOINED).replace("= {call}", "= await {call}")
    ),
    Kind.EITHER: _GATED_SYNC.replace("{enter}", "{enter_soon}").replace("    {on_success}(", _ADOPTED),
}

_ADMITTED = {
    Kind.SYNC: "def wrapper({parameters}):\n    {enter}()\n    return {call}({arguments})\n",
    Kind.ASYNC: (
        "async def wrapper({parameters}):\n    if {enter}() is None:\n        await {join}()\n"
        "    return await {call}({arguments})\n"
    ),
}

_SCOPED = """\
def wrapper({parameters}):
    {ticket} = {enter}()
    try:
        return {call}({arguments})
    finally:
        {leave}({ticket})
"""

_HANDED_OVER = "def wrapper({parameters}):\n    return {run}(({positional}), {keywords})\n"

# There is no ``yield from`` for async generators: this is what it would do.
_ASYNC_GENERATOR = """\
async def wrapper({parameters}):
    {stream} = {run}(({positional}), {keywords})
    try:
        {item} = await anext({stream})
        while True:
            try:
                {sent} = yield {item}
            except GeneratorExit:
                await {stream}.aclose()
                raise
            except BaseException as {thrown}:
                {item} = await {stream}.athrow({thrown})
            else:
                {item} = await {stream}.asend({sent})
    except StopAsyncIteration:
        return
"""

_EAGER = {
    Kind.SYNC: _HANDED_OVER,
    Kind.EITHER: _HANDED_OVER,
    Kind.ASYNC: _HANDED_OVER.replace("def ", "async def ").replace("return ", "return await "),
    Kind.GENERATOR: _HANDED_OVER.replace("return ", "return (yield from ").replace("keywords})", "keywords}))"),
    Kind.ASYNC_GENERATOR: _ASYNC_GENERATOR,
}
