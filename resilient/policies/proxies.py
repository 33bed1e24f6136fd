"""What closures cannot do, by wrapt: callable objects, whole client objects, code of others at import.

Loaded on first use, as wrapt brings asyncio and sockets with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import wrapt

from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Patch", "guarded_methods", "guarded_object"]


class _GuardedObject(wrapt.ObjectProxy[Any]):
    """A callable object whose call is guarded; everything else is the object's own."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def guarded_object(target: Any, guarded: Callable[..., Any]) -> Any:
    """A callable object, its call guarded."""
    # A class for this object, as a static method there costs 50 ns a call; a method that looks up what to call, 300.
    body: dict[str, Any] = {"__call__": staticmethod(guarded)}
    if hasattr(type(target), "__get__"):
        body["__get__"] = _get
    if isinstance(target, functools.partial) and not hasattr(target, "__name__"):
        body["__name__"] = guarded.__name__  # that of its function, to go by in a log
    return type("_GuardedObject", (_GuardedObject,), body)(target)


def _get(self: _GuardedObject, instance: Any, owner: type | None = None) -> Any:
    # In a class body it is a method if the object itself would be one, as functools.lru_cache's is.
    if instance is None or self.__wrapped__.__get__(instance, owner) is self.__wrapped__:
        return self
    return MethodType(self, instance)


class _GuardedMethods(wrapt.ObjectProxy[Any]):
    """An object some of whose methods are guarded; ``isinstance`` and everything else are the object's own."""

    def __init__(self, target: Any, guard: Callable[[Any], Any], names: frozenset[str] | None) -> None:
        super().__init__(target)
        self._self_guard = guard
        self._self_names = names
        self._self_guarded = dict[str, tuple[Any, Any]]()

    def __getattr__(self, name: str) -> Any:
        return _own(self, name, getattr(self.__wrapped__, name))

    def __enter__(self) -> Any:
        return self._self_entered(self._self_special("__enter__")())

    async def __aenter__(self) -> Any:
        return self._self_entered(await self._self_special("__aenter__")())

    def _self_special(self, name: str) -> Any:
        found = _special(self.__wrapped__, name)
        return _own(self, name, getattr(self.__wrapped__, name) if found is None else found)

    def _self_entered(self, entered: Any) -> Any:
        return self if entered is self.__wrapped__ else entered


BOUND = (MethodType, BuiltinFunctionType, MethodWrapperType)


# No method, as to look one up on a proxy takes longer than to call this.
def _own(proxy: _GuardedMethods, name: str, found: Any) -> Any:
    """What was found under a name, guarded if it is to be; made once, until something else is found."""
    known, guarded = proxy._self_guarded.get(name, (None, None))
    if type(known) is type(found) and known == found:
        return guarded
    names = proxy._self_names
    if not (name in names if names is not None else _is_plain_method(name, found)):
        return found
    guarded = proxy._self_guard(found)
    if isinstance(found, BOUND) and isinstance(guarded, _GuardedObject):
        guarded = type(guarded).__call__  # it is bound already: no need of a proxy that does not bind
    proxy._self_guarded[name] = (found, guarded)
    return guarded


def _special(target: Any, name: str) -> Any:
    """A special method as the interpreter finds it: on the type only, so that an Enum is no iterable; or None."""
    kind = type(target)
    for owner in kind.__mro__:
        if name in vars(owner):
            found = vars(owner)[name]
            return found.__get__(target, kind) if hasattr(type(found), "__get__") else found
    return None


def _handed_on(name: str) -> Callable[..., Any]:
    def special(self: _GuardedMethods, /, *args: Any, **kwargs: Any) -> Any:
        return self._self_special(name)(*args, **kwargs)

    special.__name__ = special.__qualname__ = name
    return special


def _call(self: _GuardedMethods, /, *args: Any, **kwargs: Any) -> Any:
    return self._self_special("__call__")(*args, **kwargs)


# What its result is, only the result tells; other policies that guard this proxy read it here.
_call.__annotations__["return"] = "Awaitable[Any] | Any"


def _iter(self: _GuardedMethods) -> Any:
    return self._self_entered(self._self_special("__iter__")())


def _aiter(self: _GuardedMethods) -> Any:
    return self._self_entered(self._self_special("__aiter__")())


def _await(self: _GuardedMethods) -> Generator[Any, Any, Any]:
    return self._self_entered((yield from self._self_special("__await__")()))


# Special methods that the proxy has only if its object has them: they tell what the object is. As with the methods
# that enter a block, where the object gives itself the proxy gives itself.
_SPECIAL: dict[str, Callable[..., Any]] = {
    "__call__": _call,
    "__iter__": _iter,
    "__aiter__": _aiter,
    "__await__": _await,
    **{name: _handed_on(name) for name in ("__next__", "__anext__", "__length_hint__", "__fspath__")},
}


@functools.lru_cache(maxsize=128)
def _proxy_class(specials: frozenset[str], iterable: bool) -> type[_GuardedMethods]:
    """The proxies of objects that have these special methods."""
    body: dict[str, Any] = {name: _SPECIAL.get(name) or _handed_on(name) for name in specials}
    if not iterable:
        body["__iter__"] = None  # wrapt's own would say that everything is iterable
    return type("_GuardedMethods", (_GuardedMethods,), body)


def guarded_methods(target: Any, guard: Callable[[Any], Any], methods: Iterable[str] | None) -> Any:
    """An object whose methods are guarded.

    Args:
        methods: their names, special ones too, such as ``__call__``; None takes every public method that is no
            generator.

    Raises:
        TypeError, ValueError: ``methods`` is no collection of names, or one of them is no method.
    """
    names = None if methods is None else _checked_names(target, guard, methods)
    named = (name for name in names or () if _is_special(name) and name not in vars(_GuardedMethods))
    specials = frozenset(name for name in (*_SPECIAL, *named) if _special(target, name) is not None)
    iterable = "__iter__" in specials or _special(target, "__getitem__") is not None
    return _proxy_class(specials, iterable)(target, guard, names)


def _checked_names(target: Any, guard: Callable[[Any], Any], methods: Any) -> frozenset[str]:
    if isinstance(methods, str):
        raise SettingTypeError(
            "methods", f"must be a collection of names, such as ({methods!r},), got the text {methods!r}"
        )
    if not isinstance(methods, Iterable):
        raise SettingTypeError("methods", f"must be a collection of names, or None for all, got {methods!r}")
    names: list[Any] = list(methods)
    for name in names:
        if not isinstance(name, str):
            raise SettingTypeError("methods", f"must be names, such as 'fetch', got {name!r}")
        if name in MACHINERY:
            raise SettingValueError("methods", f"names {name!r}, which Python itself calls on the proxy")
        found = _special(target, name) if _is_special(name) else getattr(target, name, None)
        if not callable(found):
            raise SettingValueError("methods", f"names {name!r}, which is no method of {type(target).__name__}")
        guard(found)  # what cannot be guarded is refused here, not at the first call
    return frozenset(names)


# A proxy works by its own of these.
MACHINERY = frozenset({*vars(object), "__getattr__", "__del__"})


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_plain_method(name: str, found: Any) -> bool:
    return (
        not name.startswith("_")
        and (inspect.ismethod(found) or inspect.isbuiltin(found) or inspect.isfunction(found))
        and not (inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found))
    )


class Patch:
    """A function of somebody else's module, guarded from the moment that the module is imported.

    Patches of one function may be undone in any order: each takes away its own guard only, also from those who hold
    the guarded function still.

    Attributes:
        applied: whether the module has been imported, and the function replaced.

    Raises:
        TypeError, ValueError: the target is no text, or not of the form ``module:function``.
    """

    def __init__(self, target: str, guard: Callable[[Any], Any]) -> None:
        module, path = _module_and_path(target)
        self.applied = False
        self._wanted = True
        self._path = path
        self._guard = guard
        self._replaced: _Replaced | None = None
        wrapt.register_post_import_hook(self._apply, module)

    def _apply(self, module: ModuleType) -> None:
        if not self._wanted:
            return
        parent, attribute, original = wrapt.resolve_path(module, self._path)
        self._replaced = _Replaced(parent, attribute, original, self._guard(original))
        self.applied = True

    def undo(self) -> None:
        """Puts the original back, or no longer waits for the import; again does nothing.

        What somebody else has put in the function's place meanwhile stays there.
        """
        self._wanted = False
        if self.applied and self._replaced is not None:
            self._replaced.undo()
            self.applied = False

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.undo()


def _module_and_path(target: object) -> tuple[str, str]:
    if not isinstance(target, str):
        raise SettingTypeError("target", f"must be a text, 'module:function' or 'module:Class.method', got {target!r}")
    module, _, path = target.partition(":")
    if not (module and path) or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise SettingValueError("target", f"must be 'module:function' or 'module:Class.method', got {target!r}")
    return module, path


class _Replaced:
    """A function in whose place another stands."""

    def __init__(self, parent: Any, attribute: str, original: Any, guarded: Any) -> None:
        self.stands = True
        self._parent, self._attribute, self._original = parent, attribute, original
        self._inherited = attribute not in vars(parent)
        self._substitute = _switch(original, guarded)
        self._below = _REPLACED.get(id(original))  # it knows the way down, should it be undone before this one
        _REPLACED[id(self._substitute)] = self
        wrapt.apply_patch(parent, attribute, self._substitute)

    def undo(self) -> None:
        self.stands = False
        _switch_off(self._substitute, self._original)  # it may be under another patch, or imported by name elsewhere
        if vars(self._parent).get(self._attribute) is not self._substitute:
            return
        lowest = self
        while lowest._below is not None and not lowest._below.stands and not lowest._inherited:
            lowest = lowest._below
        if lowest._inherited:
            delattr(self._parent, self._attribute)
        else:
            setattr(self._parent, self._attribute, lowest._original)


# By the identity of what stands in for the function, which each keeps alive.
_REPLACED = WeakValueDictionary[int, _Replaced]()


def _switch(original: Any, guarded: Any) -> Any:
    """The guarded function, in a form that is nobody else's, so that it may be switched off."""
    if isinstance(guarded, (staticmethod, classmethod)):
        return type(guarded)(_switch(original.__func__, guarded.__func__))
    if isinstance(guarded, _GuardedObject):
        return guarded
    if type(guarded) is not FunctionType:
        return guarded_object(original, guarded)
    code, closure = guarded.__code__, guarded.__closure__
    copy = FunctionType(code, guarded.__globals__, guarded.__name__, guarded.__defaults__, closure)
    copy.__kwdefaults__ = guarded.__kwdefaults__
    return functools.update_wrapper(copy, original)


def _switch_off(switch: Any, original: Any) -> None:
    """From now on it only calls the original; the calls that are under way are not disturbed."""
    if isinstance(switch, (staticmethod, classmethod)):
        _switch_off(switch.__func__, original.__func__)
    elif isinstance(switch, _GuardedObject):
        type.__setattr__(type(switch), "__call__", staticmethod(original))
    else:
        # Its code is exchanged, so that a patch costs nothing before. The cells it came with must be as many.
        switch.__code__ = _pass_on.__code__.replace(co_freevars=switch.__code__.co_freevars)
        switch.__defaults__ = None
        switch.__kwdefaults__ = {"_resilient_original": original}


def _pass_on(*args: Any, _resilient_original: Callable[..., Any], **kwargs: Any) -> Any:
    return _resilient_original(*args, **kwargs)
