"""catch: what blows up is reported, and the program goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from types import CoroutineType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from resilient.core.action import Action
from resilient.core.classify import Classifier, classifier_of
from resilient.core.events import Entered, Panic
from resilient.core.naming import is_named
from resilient.core.setting_errors import SettingTypeError
from resilient.drivers.blocks.levels import Part
from resilient.drivers.gates.open_blocks import close_block, open_block
from resilient.drivers.retry.rescue import called, name_of, outer_cut
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import OURS, wrap_rescued
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import ERROR
from resilient.policies.guarding import check_kind
from resilient.policies.policy import Policy
from resilient.policies.retry import OnErrors

__all__ = ["Catch", "CatchFactory", "Caught", "catch"]

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

# Panics of native extensions that derive from BaseException, by name, so that nothing is imported.
# PyO3 (src/panic.rs): PanicException, raised where Rust code panics, so that `except Exception` lets it pass.
NATIVE_PANICS = ("pyo3_runtime.PanicException",)
ENTERED = "_resilient_entered"  # what tells that a call begins, among the names of its wrapper


class Caught:
    """What a ``with catch(...)`` block came to.

    Attributes:
        error: what was caught; None if nothing was.
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: BaseException | None = None


@dataclass(frozen=True, repr=False)  # no slots: Catch[int](...) sets an attribute of its own
class Catch(Policy, Generic[D]):
    """Catches what a call or a block raises, tells it as a :class:`~resilient.events.Panic`, and goes on.

    A decorator, a context manager, and ``.call``. Cancellation and exits are never caught; panics of native
    extensions (PyO3) are, by name.

    Args:
        name: the operation, for events and logs; the function's name if None.
        default: what a call gives instead of its result.
        on: which errors, as for ``Retry``; others pass.

    Raises:
        TypeError: the name is no text, or ``on`` says nothing about errors.
    """

    name: str | None = None
    default: D = field(default=cast("D", None), kw_only=True)
    on: OnErrors = field(default=Exception, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            raise SettingTypeError("name", f"must be a text that is not empty, or None, got {self.name!r}")
        object.__setattr__(self, "on", classifier_of(self.on))

    @overload  # type: ignore[override]  # the default changes the type
    def __call__(self, target: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T | D]]: ...
    @overload
    def __call__(self, target: Callable[P, T], /) -> Callable[P, T | D]: ...
    def __call__(self, target: Any, /) -> Any:
        """Decorates a function, method, classmethod, staticmethod, partial or callable object, sync or async."""
        return super().__call__(target)

    @property
    def kind(self) -> str:
        """What kind of policy this is, for errors and events."""
        return "catch"

    @overload  # type: ignore[override]  # likewise
    def call(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T | D]: ...
    @overload
    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | D: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function: its result, or the default; if it is async, await what this returns."""
        check_kind(fn, policy="catch", streams=False)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            return self.replaced(fn, error)
        return _adopt(self, fn, value) if value.__class__ is CoroutineType else value

    def __enter__(self) -> Caught:
        caught = Caught()
        open_block(self, caught, sys._getframe(1))
        return caught

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        caught: Caught = close_block(self, sys._getframe(1))
        if error is None or not self._takes(error):
            return False
        caught.error = error
        self._tell(self.name or "block", error)
        return True

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind."""
        rescue = _rescue_async if kind is Kind.ASYNC else _rescue
        adopt: Callable[..., Any] = _adopt
        if listeners:
            rescue, adopt = partial(rescue, listeners=listeners), partial(adopt, listeners=listeners)
        return wrap_rescued(
            call,
            rescue,
            self,
            kind=kind,
            caught=BaseException,
            adopt=adopt,
            facts={"entered": f"{ENTERED}()"} if listeners else None,
            names={**OURS, ENTERED: partial(_entered, self.name or self.kind, listeners)},
        )

    def parts(self) -> tuple[Part, ...]:
        """What the loop form is made of: it has none.

        Raises:
            TypeError: always; it names the form there is.
        """
        raise TypeError("catch is no layer of a loop: write `with catch(...):`, also in coroutines")

    def replaced(self, call: Callable[..., Any], error: BaseException, listeners: tuple[Listener, ...] = ()) -> D:
        """The default for a call that raised, or the error again."""
        try:
            outer_cut(error)
            if not self._takes(error):
                raise error
            self._tell(self.name or name_of(call), error, listeners)
            return self.default
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def _takes(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return any(is_named(type(error), name) for name in NATIVE_PANICS)
        classify = cast("Classifier", self.on)
        return classify(error).action is not Action.FAIL

    def _tell(self, name: str, error: BaseException, own: tuple[Listener, ...] = ()) -> None:
        listeners = hearers(own, ERROR)
        if listeners:
            tell(Panic(name, "call", error), listeners)


def _entered(name: str, listeners: tuple[Listener, ...]) -> None:
    tell(Entered(name, 0.0, "catch"), listeners)


def _rescue(
    policy: Catch[D],
    call: Callable[..., Any],
    error: BaseException,
    args: Any,
    kwargs: Any,
    listeners: tuple[Listener, ...] = (),
    entered: None = None,
) -> D:
    try:
        return policy.replaced(called(call, args), error, listeners)
    finally:
        del error  # likewise


async def _rescue_async(
    policy: Catch[D],
    call: Callable[..., Any],
    error: BaseException,
    args: Any,
    kwargs: Any,
    listeners: tuple[Listener, ...] = (),
    entered: None = None,
) -> D:
    try:
        return policy.replaced(called(call, args), error, listeners)
    finally:
        del error  # likewise


async def _adopt(
    policy: Catch[Any],
    call: Callable[..., Any],
    coroutine: Coroutine[Any, Any, Any],
    args: Any = (),
    kwargs: Any = None,
    listeners: tuple[Listener, ...] = (),
    entered: None = None,
) -> Any:
    try:
        return await coroutine
    except BaseException as error:
        return policy.replaced(called(call, args), error, listeners)


class CatchFactory:
    """Makes a :class:`Catch`, or calls something under one."""

    @overload
    def __call__(self, name: str | None = None, *, on: OnErrors = Exception) -> Catch[None]: ...
    @overload
    def __call__(self, name: str | None = None, *, default: D, on: OnErrors = Exception) -> Catch[D]: ...
    def __call__(self, name: Any = None, *, default: Any = None, on: OnErrors = Exception) -> Catch[Any]:
        """A policy that catches: ``@catch(default=0)``, ``with catch("load plugin") as caught:``."""
        if callable(name):
            raise TypeError("catch needs its parentheses: write @catch() above the function")
        return Catch(name, default=default, on=on)

    @overload
    def call(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T | None]: ...
    @overload
    def call(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None: ...
    def call(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The function's result, or None after what it raised was reported under this name."""
        return Catch(name, default=None).call(fn, *args, **kwargs)


catch = CatchFactory()
"""``@catch(default=None, on=Exception, name=None)``, ``with catch("name") as caught:``, ``catch.call("name", fn)``."""
