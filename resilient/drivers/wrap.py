"""How a callable is wrapped: once, at decoration, into a function compiled for it.

A plain function or method gets a wrapper compiled with its own parameters. On the success path that wrapper is
``try: return call(...)`` and nothing more, which is cheaper than a ``*args, **kwargs`` closure by half; and
its signature, its defaults (by identity) and the ``TypeError`` for a wrong call are the true ones. Callables
without code of their own (builtins, partials, callable objects) get ``(*args, **kwargs)``.

A wrapper knows its policy (:data:`POLICY` in its globals), so that ``current_attempt`` finds the running
attempt on the stack and the success path need not announce it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum, auto
from types import CodeType, CoroutineType, FunctionType, MethodType
from typing import Any

__all__ = [
    "POLICY",
    "STARTED",
    "Kind",
    "kind_of",
    "wrap_admitted",
    "wrap_eager",
    "wrap_gated",
    "wrap_rescued",
    "wrap_scoped",
]

POLICY = "resilient policy"  # no identifier, so that it collides with no name
STARTED = "resilient started"  # under this, the name of the local that holds when the call began
OF_FIRST = "_resilient_of_first"  # marks what calls its first argument: that, then, is what is guarded
FILE = "<resilient>"
# The globals of a wrapper that is no attempt: they tell only whose frame it is.
OURS = {"__name__": "resilient.drivers.wrapped"}


class Kind(Enum):
    """What calling a callable gives."""

    SYNC = auto()
    ASYNC = auto()
    EITHER = auto()  # only its result will tell: a lambda, a bound method, a decorated coroutine function
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


def kind_of(call: Callable[..., Any]) -> Kind:
    """What calling this gives, as far as it can be known beforehand."""
    inner: Any = call
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not isinstance(inner, (FunctionType, MethodType, type)):
        method = getattr(type(inner), "__call__", None)  # noqa: B004  # which one, not whether
        inner = method if isinstance(method, FunctionType) else inner
    if inspect.iscoroutinefunction(inner):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(inner):
        return Kind.GENERATOR
    if inspect.isasyncgenfunction(inner):
        return Kind.ASYNC_GENERATOR
    return Kind.SYNC if isinstance(inner, FunctionType) and _returns_its_result(inner) else Kind.EITHER


def _returns_its_result(function: FunctionType) -> bool:
    """Whether nothing about a plain function hints at a coroutine in its place."""
    promised = str(function.__annotations__.get("return", ""))
    return (
        function.__name__ != "<lambda>"
        and not hasattr(function, "__wrapped__")
        and not any(hint in promised for hint in ("Awaitable", "Coroutine", "Future", "Task"))
    )


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
    return _compiled(call, source, ("error", "failure", "value", "token", *noted), given, names or {})


def wrap_eager(
    call: Callable[..., Any], run: Callable[..., Any], *, kind: Kind, names: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """A wrapper that hands the whole call over, as ``run(args, kwargs)``, where every attempt needs watching."""
    return _compiled(call, _EAGER[kind], ("stream", "item", "sent", "thrown"), {"run": run}, names or {})


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
        gate: a :class:`~resilient.drivers.gates.Gate` for SYNC and EITHER, an ``AsyncGate`` for ASYNC.
        kind: SYNC, ASYNC or EITHER.
        adopt: for EITHER: takes a coroutine that the call returned; its ticket has been given back unused.
    """
    steps = ("enter_soon", "join", "passed", "failed", "forgotten")
    given = {step: getattr(gate, step, None) for step in steps} | {"adopt": adopt}
    given["enter"] = getattr(gate, "ready" if kind is Kind.ASYNC else "enter", None)
    given |= {"coroutine": CoroutineType, "caught": BaseException}
    return _compiled(call, _GATED[kind], ("ticket", "failure", "value"), given, OURS)


def wrap_admitted(call: Callable[..., Any], gate: object, *, kind: Kind) -> Callable[..., Any]:
    """As :func:`wrap_gated`, of a gate that need not hear what became of the call."""
    given = {"enter": getattr(gate, "ready" if kind is Kind.ASYNC else "enter"), "join": getattr(gate, "join", None)}
    return _compiled(call, _ADMITTED[kind], (), given, OURS)


def wrap_scoped(
    call: Callable[..., Any], enter: Callable[[], object], leave: Callable[[Any], object]
) -> Callable[..., Any]:
    """A blocking wrapper that takes a ticket and gives it back, whatever becomes of the call."""
    return _compiled(call, _SCOPED, ("ticket",), {"enter": enter, "leave": leave}, OURS)


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
        {failed}({ticket}, {failure})
        raise
    {passed}({ticket}, {value})
    return {value}
"""

_JOINED = """\
    if {ticket} is None:
        {ticket} = await {join}()
    try:
"""

_ADOPTED = """\
    if {value}.__class__ is {coroutine}:
        {forgotten}({ticket})
        return {adopt}({value})
    {passed}("""

_GATED = {
    Kind.SYNC: _GATED_SYNC,
    Kind.ASYNC: (
        _GATED_SYNC.replace("def ", "async def ").replace("    try:\n", _JOINED).replace("= {call}", "= await {call}")
    ),
    Kind.EITHER: _GATED_SYNC.replace("{enter}", "{enter_soon}").replace("    {passed}(", _ADOPTED),
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


def _compiled(
    call: Callable[..., Any],
    source: str,
    local_names: tuple[str, ...],
    given: Mapping[str, Any],
    names: Mapping[str, Any],
) -> Callable[..., Any]:
    function = call.__func__ if isinstance(call, MethodType) else call
    if isinstance(function, FunctionType):
        code, bound = function.__code__, isinstance(call, MethodType)
        defaults, keyword_defaults = function.__defaults__, function.__kwdefaults__
    else:
        code, bound, defaults, keyword_defaults = _OPEN.__code__, False, None, None
    parameters = _Parameters(code, bound, defaults or (), keyword_defaults or {})
    own = {name: parameters.unused(name) for name in (*given, "call", *local_names)}
    text = source.format(
        parameters=parameters.declared,
        arguments=parameters.passed,
        positional=parameters.positional,
        keywords=parameters.keywords,
        **own,
    )
    namespace = {**names, STARTED: own.get("started"), own["call"]: call, **parameters.defaults}
    namespace |= {own[name]: value for name, value in given.items()}
    made: dict[str, Any] = {}
    exec(_code(text, _name(call)), namespace, made)
    return _disguised(made["wrapper"], call)


def _disguised(wrapper: FunctionType, call: Callable[..., Any]) -> Callable[..., Any]:
    """As ``functools.update_wrapper``, but annotations are filled in.

    To assign them, or defaults, or to make the function by ``FunctionType``, takes its version away, by which CPython
    3.13 recognises it at the place of a call: 5 ns a call.
    """
    assigned = [name for name in functools.WRAPPER_ASSIGNMENTS if name != "__annotations__"]
    functools.update_wrapper(wrapper, call, assigned)
    wrapper.__annotations__.update(getattr(call, "__annotations__", {}))
    return wrapper


def _OPEN(*args: Any, **kwargs: Any) -> None:
    """The parameters of a callable whose own cannot be had."""


@functools.lru_cache(maxsize=512)
def _code(source: str, name: str) -> CodeType:
    module = compile(source, FILE, "exec")
    named = (
        constant.replace(co_name=name, co_qualname=name) if isinstance(constant, CodeType) else constant
        for constant in module.co_consts
    )
    return module.replace(co_consts=tuple(named))


def _name(call: Callable[..., Any]) -> str:
    if isinstance(call, functools.partial) and not hasattr(call, "__name__"):
        return _name(call.func)
    return str(getattr(call, "__name__", None) or type(call).__name__)


class _Parameters:
    """A function's parameters, as the text of a ``def`` and of a call.

    Attributes:
        defaults: the very objects that are the defaults, by the names under which the ``def`` finds them.
    """

    def __init__(
        self, code: CodeType, bound: bool, defaults: tuple[object, ...], keyword_defaults: dict[str, object]
    ) -> None:
        count, only = code.co_argcount, code.co_kwonlyargcount
        self.names = code.co_varnames
        places = list(self.names[:count])
        named = list(self.names[count : count + only])
        rest = list(self.names[count + only :])
        star = rest.pop(0) if code.co_flags & inspect.CO_VARARGS else None
        double = rest.pop(0) if code.co_flags & inspect.CO_VARKEYWORDS else None
        positional_only = code.co_posonlyargcount
        if bound and places:
            places, positional_only = places[1:], max(0, positional_only - 1)
        usual = dict(zip(reversed(places), reversed(defaults), strict=False)) | keyword_defaults
        self.defaults = {f"_default_{name}": value for name, value in usual.items()}
        declared = [self._with_default(name) for name in places]
        if positional_only:
            declared.insert(positional_only, "/")
        if star or named:
            declared.append(f"*{star or ''}")
        declared += [self._with_default(name) for name in named]
        self.declared = ", ".join([*declared, *([f"**{double}"] if double else [])])
        given = [*places, *([f"*{star}"] if star else [])]
        keywords = [f"{name}={name}" for name in named] + ([f"**{double}"] if double else [])
        self.passed = ", ".join([*given, *keywords])
        self.positional = "".join(f"{name}, " for name in given)
        pairs = [f'"{name}": {name}' for name in named] + ([f"**{double}"] if double else [])
        self.keywords = "{" + ", ".join(pairs) + "}"

    def _with_default(self, name: str) -> str:
        return f"{name}=_default_{name}" if f"_default_{name}" in self.defaults else name

    def unused(self, name: str) -> str:
        """A name of ours that is none of the function's."""
        name = f"_{name}"
        while name in self.names:
            name = f"_{name}"
        return name
