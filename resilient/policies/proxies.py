"""What closures cannot do, by wrapt: callable objects, whole client objects, code of others at import.

Loaded on first use, as wrapt brings asyncio and sockets with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import MethodType, ModuleType
from typing import Any

import wrapt

__all__ = ["Patch", "guarded_methods", "guarded_object"]


class _GuardedObject(wrapt.ObjectProxy[Any]):
    """A callable object whose call is guarded; everything else is the object's own."""

    def __init__(self, target: Any, guarded: Callable[..., Any]) -> None:
        super().__init__(target)
        self._self_guarded = guarded

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._self_guarded(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # In a class body it is a method if the object itself would be one, as functools.lru_cache's is.
        binds = instance is not None and hasattr(type(self.__wrapped__), "__get__")
        return MethodType(self, instance) if binds else self


class _GuardedMethods(wrapt.ObjectProxy[Any]):
    """An object some of whose methods are guarded; ``isinstance`` and everything else are the object's own."""

    def __init__(self, target: Any, guard: Callable[[Any], Any], names: frozenset[str] | None) -> None:
        super().__init__(target)
        self._self_guard = guard
        self._self_names = names
        self._self_guarded = dict[str, tuple[Any, Any]]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        if not (name in self._self_names if self._self_names is not None else _is_plain_method(name, found)):
            return found
        known, guarded = self._self_guarded.get(name, (None, None))
        if guarded is None or known != found:
            guarded = self._self_guard(found)
            self._self_guarded[name] = (found, guarded)
        return guarded

    def __enter__(self) -> Any:
        return self._self_entered(self.__wrapped__.__enter__())

    async def __aenter__(self) -> Any:
        return self._self_entered(await self.__wrapped__.__aenter__())

    def _self_entered(self, entered: Any) -> Any:
        return self if entered is self.__wrapped__ else entered


def guarded_object(target: Any, guarded: Callable[..., Any]) -> Any:
    """A callable object, its call guarded."""
    return _GuardedObject(target, guarded)


def guarded_methods(target: Any, guard: Callable[[Any], Any], methods: Iterable[str] | None) -> Any:
    """An object whose methods are guarded.

    Args:
        methods: their names; None takes every public method that is no generator.

    Raises:
        TypeError, ValueError: ``methods`` is no collection of names, or one of them is no method.
    """
    if methods is None:
        return _GuardedMethods(target, guard, None)
    if isinstance(methods, str):
        raise TypeError(f"methods must be a collection of names, such as ({methods!r},), got the text {methods!r}")
    names = frozenset(methods)
    for name in sorted(names):
        found = getattr(target, name, None)
        if not callable(found):
            raise ValueError(f"methods names {name!r}, which is no method of {type(target).__name__}")
        guard(found)  # what cannot be guarded is refused here, not at the first call
    return _GuardedMethods(target, guard, names)


def _is_plain_method(name: str, found: Any) -> bool:
    return (
        not name.startswith("_")
        and (inspect.ismethod(found) or inspect.isbuiltin(found) or inspect.isfunction(found))
        and not (inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found))
    )


class Patch:
    """A function of somebody else's module, guarded from the moment that the module is imported.

    Attributes:
        applied: whether the module has been imported, and the function replaced.
    """

    def __init__(self, target: str, guard: Callable[[Any], Any]) -> None:
        module, _, path = target.partition(":")
        if not (module and path) or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
            raise ValueError(f"target must be 'module:function' or 'module:Class.method', got {target!r}")
        self.applied = False
        self._wanted = True
        self._inherited = False
        self._path = path
        self._guard = guard
        self._place: tuple[Any, str, Any] | None = None
        wrapt.register_post_import_hook(self._apply, module)

    def _apply(self, module: ModuleType) -> None:
        if not self._wanted:
            return
        parent, attribute, original = wrapt.resolve_path(module, self._path)
        self._inherited = attribute not in vars(parent)
        self._place = (parent, attribute, original)
        wrapt.apply_patch(parent, attribute, self._guard(original))
        self.applied = True

    def undo(self) -> None:
        """Puts the original back, or no longer waits for the import; again does nothing."""
        self._wanted = False
        if self._place is not None:
            parent, attribute, original = self._place
            if self._inherited:
                delattr(parent, attribute)
            else:
                setattr(parent, attribute, original)
            self._place, self.applied = None, False

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.undo()
