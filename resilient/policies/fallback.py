"""Fallback: what a call gives when it fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from types import CoroutineType
from typing import Any, Generic, NamedTuple, ParamSpec, TypedDict, TypeVar, Unpack, overload

from resilient.core.action import Action
from resilient.core.classify import Classifier, check_rules, classifier_of
from resilient.core.events import Entered, FellBack
from resilient.core.outcome import Outcome
from resilient.core.rule import Rule
from resilient.core.setting_errors import SettingTypeError, checked_name
from resilient.drivers.retry.rescue import outer_cut
from resilient.drivers.wrapping.kind import Kind, kind_of
from resilient.drivers.wrapping.wrap import OURS, wrap_rescued
from resilient.observe.listeners import Listener, checked_listeners, hearers, tell
from resilient.policies.policy import Policy
from resilient.policies.retry import OnErrors

__all__ = ["Fallback"]

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

# A wrapper's globals hold this beside its own names; no parameter of a sane function is called so.
ENTERED = "__resilient_entered__"

FIRST = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class FallbackSettings(TypedDict, total=False):
    """The settings of a Fallback, as ``with_`` takes them."""

    value: object
    on: OnErrors
    name: str
    listeners: tuple[Listener, ...]


class Substitute(NamedTuple):
    """What takes the place of a result: a value, or what a call of it gives.

    Attributes:
        given: as the user gave it.
        called: whether it is called.
        sees: whether it is called with the error.
        awaited: whether it is a coroutine function.
    """

    given: Any
    called: bool
    sees: bool
    awaited: bool

    def result(self, error: Exception) -> Any:
        """The value; a coroutine if it turns out to be async."""
        try:
            if not self.called:
                return self.given
            return self.given(error) if self.sees else self.given()
        finally:
            del error  # a bare raise in it: a frame that holds the error it raised is a cycle


@dataclass(frozen=True, init=False, repr=False)  # no slots: Fallback[int](...) sets an attribute of its own
class Fallback(Policy, Generic[D]):
    """Gives something else instead of an error: a value, or what a function makes of the error.

    Only ``Exception`` falls back: cancellation and exits pass. What inner policies reject or cut off falls back like
    any other error. If the fallback itself fails, its error is raised, with the call's as its ``__context__``, as in
    an ``except`` block: a bare ``raise`` in it lets the call's own error pass.

    Args:
        value: what the call gives. Something callable is called, with the error if it takes a positional argument (a
            class only if it needs one); it may be a coroutine function, for async calls. A mapping whose keys are
            error classes holds one of these for each, matched in order like ``except`` clauses; what it does not name
            passes. Anything else is given as it is.
        on: which errors fall back, as for ``Retry``; others pass. Result rules have no say.
        name: for events.
        listeners: functions that are told every event of this policy.

    Raises:
        TypeError, ValueError: a setting is of the wrong type, or an entry of the mapping can never be reached.
    """

    value: object
    on: OnErrors = field(default=Exception, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    _choices: tuple[tuple[type[Exception], Substitute], ...] = field(init=False, compare=False, repr=False)
    _classify: Classifier = field(init=False, compare=False, repr=False)

    @overload
    def __init__(
        self,
        value: Mapping[type[Exception], Callable[..., Coroutine[Any, Any, D]]],
        *,
        on: OnErrors = ...,
        name: str = ...,
        listeners: tuple[Listener, ...] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        value: Mapping[type[Exception], Callable[..., D]],
        *,
        on: OnErrors = ...,
        name: str = ...,
        listeners: tuple[Listener, ...] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        value: Mapping[type[Exception], D],
        *,
        on: OnErrors = ...,
        name: str = ...,
        listeners: tuple[Listener, ...] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        value: Callable[..., Coroutine[Any, Any, D]],
        *,
        on: OnErrors = ...,
        name: str = ...,
        listeners: tuple[Listener, ...] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self, value: Callable[..., D], *, on: OnErrors = ..., name: str = ..., listeners: tuple[Listener, ...] = ...
    ) -> None: ...
    @overload
    def __init__(
        self, value: D, *, on: OnErrors = ..., name: str = ..., listeners: tuple[Listener, ...] = ...
    ) -> None: ...
    def __init__(
        self,
        value: object,
        *,
        on: OnErrors = Exception,
        name: str = "",
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        fix = object.__setattr__
        fix(self, "value", value)
        fix(self, "on", on := classifier_of(on))
        fix(self, "name", checked_name(name))
        fix(self, "listeners", checked_listeners(listeners))
        fix(self, "_classify", on)
        fix(self, "_choices", _choices(value))

    @overload  # type: ignore[override]  # the result's type changes
    def __call__(self, target: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T | D]]: ...
    @overload
    def __call__(self, target: Callable[P, T], /) -> Callable[P, T | D]: ...
    def __call__(self, target: Any, /) -> Any:
        """Decorates a function, method, classmethod, staticmethod, partial or callable object, sync or async."""
        return super().__call__(target)

    @overload  # type: ignore[override]  # likewise
    def call(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T | D]: ...
    @overload
    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | D: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function: its result, or the fallback's; if it is async, await what this returns."""
        return super().call(fn, *args, **kwargs)

    @overload  # type: ignore[override]  # likewise
    def execute(  # type: ignore[overload-overlap]  # a coroutine function's outcome comes from awaiting it
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Outcome[T | D]]: ...
    @overload
    def execute(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[T | D]: ...
    def execute(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function and gives an :class:`Outcome` instead of raising; if it is async, await it."""
        return super().execute(fn, *args, **kwargs)

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind.

        Raises:
            TypeError: the fallback is a coroutine function, and this function is not.
        """
        if kind is Kind.SYNC:
            for _, substitute in self._choices:
                _check_blocking(substitute)
        falling = _Falling(self, listeners)
        return wrap_rescued(
            call,
            _rescue_async if kind is Kind.ASYNC else _rescue,
            falling,
            kind=kind,
            adopt=_adopt,
            facts={"entered": f"{ENTERED}()"} if listeners else None,
            names={**OURS, ENTERED: falling.entered},
        )

    def substitute(self, error: Exception) -> Substitute | None:
        """What takes the place of this error; None: it passes."""
        if self._classify(error).action is Action.FAIL:
            return None
        return next((substitute for kind, substitute in self._choices if isinstance(error, kind)), None)

    def with_(self, **changes: Unpack[FallbackSettings]) -> Fallback[Any]:
        """A copy with some settings changed."""
        return replace(self, **changes)


class _Falling(NamedTuple):
    """A fallback around one callable, and who listens beside its own listeners."""

    policy: Fallback[Any]
    listeners: tuple[Listener, ...]

    @property
    def name(self) -> str:
        return self.policy.name or self.policy.kind

    def entered(self) -> None:
        tell(Entered(self.name, 0.0, self.policy.kind), self.listeners)

    def chosen(self, error: Exception) -> Substitute | None:
        """What takes the place of an error, told to whoever listens; None: it passes."""
        outer_cut(error)
        substitute = self.policy.substitute(error)
        if substitute is not None:
            heard = hearers((*self.policy.listeners, *self.listeners))
            if heard:
                tell(FellBack(self.name, 0.0, error), heard)
        return substitute


def _rescue(
    falling: _Falling, call: Callable[..., Any], error: Exception, args: Any, kwargs: Any, entered: None = None
) -> Any:
    try:
        substitute = falling.chosen(error)
        try:
            raise error  # so that the fallback runs as in an ``except`` block
        except Exception:
            if substitute is None:
                raise
            _check_blocking(substitute)
            value = substitute.result(error)
            if isinstance(value, CoroutineType):
                value.close()
                raise _async_only(substitute) from error
            return value
    finally:
        del error  # a frame that holds the error it raised is a cycle


async def _rescue_async(
    falling: _Falling, call: Callable[..., Any], error: Exception, args: Any, kwargs: Any, entered: None = None
) -> Any:
    try:
        substitute = falling.chosen(error)
        try:
            raise error  # likewise
        except Exception:
            if substitute is None:
                raise
            value = substitute.result(error)
            return await value if substitute.called and isawaitable(value) else value
    finally:
        del error  # likewise


async def _adopt(
    falling: _Falling,
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Any,
    kwargs: Any,
    entered: None = None,
) -> Any:
    try:
        return await coroutine
    except Exception as failure:
        error = failure
    try:
        return await _rescue_async(falling, call, error, args, kwargs)
    finally:
        del error  # likewise


def _choices(value: object) -> tuple[tuple[type[Exception], Substitute], ...]:
    """What to give for which errors, in order."""
    if not (isinstance(value, Mapping) and value and all(_is_error(key) for key in value)):
        return ((Exception, _substitute(value)),)
    for kind in value:
        if not issubclass(kind, Exception):
            problem = "can never be used: only Exception and its subclasses fall back"
            raise SettingTypeError("value", problem, subject=f"value[{kind.__name__}]")
    check_rules([Rule(kind) for kind in value], "value")
    return tuple((kind, _substitute(given)) for kind, given in value.items())


def _is_error(key: object) -> bool:
    return isinstance(key, type) and issubclass(key, BaseException)


def _substitute(given: Any) -> Substitute:
    called = callable(given)
    return Substitute(given, called, called and _sees(given), called and kind_of(given) is Kind.ASYNC)


def _sees(given: Callable[..., Any]) -> bool:
    """Whether it is called with the error."""
    try:
        parameters = list(inspect.signature(given).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not say
        return False
    if not parameters or parameters[0].kind not in FIRST:
        return False
    first = parameters[0]
    # A class makes a fresh value (list, dict): what it could be made from is no place for an error.
    return not isinstance(given, type) or (first.default is first.empty and first.kind is not first.VAR_POSITIONAL)


def _check_blocking(substitute: Substitute) -> None:
    if substitute.awaited:
        raise _async_only(substitute)


def _async_only(substitute: Substitute) -> TypeError:
    name = getattr(substitute.given, "__qualname__", repr(substitute.given))
    return TypeError(f"the fallback {name} is async: it can stand in for coroutine functions only")
