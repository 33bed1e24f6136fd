"""A wrapper compiled for the callable that it wraps, with the callable's own parameters.

Its signature, its defaults (by identity) and the ``TypeError`` for a wrong call are the true ones. Callables without
code of their own (builtins, partials, callable objects) get ``(*args, **kwargs)``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from resilient.drivers.stack import locals_of

__all__ = ["POLICY", "compiled", "started_in"]

# A wrapper's globals, which its frames show, hold under these names, besides what its text refers to:
POLICY = "resilient policy"  # what guards the call; no identifier, so that it collides with no name
STARTED = "resilient started"  # the name of the local that holds when the call began
FILE = "<resilient>"


def compiled(
    call: Callable[..., Any],
    source: str,
    local_names: tuple[str, ...],
    given: Mapping[str, Any],
    names: Mapping[str, Any],
) -> Callable[..., Any]:
    """A function with the callable's parameters, made from a text; it goes by the callable's name.

    Args:
        call: what is wrapped.
        source: the ``def`` of a function ``wrapper`` for ``str.format``, with the fields ``{parameters}``,
            ``{arguments}`` (those of a call with the same), ``{positional}`` and ``{keywords}`` (as the items of a
            tuple and as a dict), ``{call}``, and one for each local and each given name.
        local_names: the text's own variables; each gets a name that is no parameter's.
        given: what else the text refers to; likewise.
        names: what is left in the wrapper's globals besides, under just these names.
    """
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


def started_in(frame: FrameType) -> float | None:
    """When the call began whose wrapper runs in this frame, monotonic seconds; None if it does not note that."""
    name = frame.f_globals[STARTED]
    if name is None:
        return None
    (started,) = locals_of(frame, name)
    return started  # type: ignore[no-any-return]  # as the wrapper's text notes it


def _disguised(wrapper: FunctionType, call: Callable[..., Any]) -> Callable[..., Any]:
    """Does what ``functools.update_wrapper`` does, but fills annotations in.

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
