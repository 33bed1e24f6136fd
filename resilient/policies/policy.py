"""What all policies that guard calls have in common: the forms in which they are used."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE, iscoroutine
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from resilient.core.outcome import Outcome
from resilient.core.setting_errors import SettingTypeError, SettingValueError, checked_name
from resilient.drivers.blocks.attempts import AsyncAttempts, Attempts
from resilient.drivers.blocks.levels import Part
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import OF_FIRST
from resilient.observe.listeners import Listener
from resilient.policies.frozen import Frozen
from resilient.policies.guarding import check_kind, decorated
from resilient.policies.record import Record

if TYPE_CHECKING:
    from resilient.policies.proxies import Patch

__all__ = ["Pipeline", "Policy"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., object] | classmethod[Any, ..., Any]")
C = TypeVar("C")

# Code flags of functions that only make something to be run later.
NOT_PLAIN = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR


class Policy(Frozen):
    """Something that guards calls: a decorator, ``.call``, ``.execute``, a proxy of whole objects.

    A subclass says how it guards one callable (:meth:`guard`); the forms follow.
    """

    __slots__ = ("__weakref__", "_chains")  # made on first use, never of a call: see _chain

    _chains: dict[Kind, Callable[..., Any]]

    @property
    def kind(self) -> str:
        """What kind of policy this is, for errors and events."""
        return type(self).__name__

    @property
    def streams(self) -> bool:
        """Whether it guards generator functions, and nothing else."""
        return False

    @property
    def tries_again(self) -> bool:
        """Whether what is inside may be called more than once."""
        return False

    def of_attempts(self) -> Policy:
        """The policy inside something that tries again, where a limit is one of each attempt."""
        return self

    if TYPE_CHECKING:  # each kind has its own, which names its settings; typed so that any of them fits

        def with_(self, *args: Any, **changes: Any) -> Policy:
            """A copy with some settings changed."""
            ...

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable of this kind.

        Args:
            call: what is guarded.
            kind: what calling it gives.
            listeners: told of this call, beside the policy's own.
        """
        raise NotImplementedError

    def __call__(self, target: F, /) -> F:
        """Decorates a function, method, classmethod, staticmethod, partial or callable object, sync or async."""
        return cast("F", decorated(target, self.guard, policy=self.kind, streams=self.streams))

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function under this policy; if it is async, await what this returns.

        Returns:
            What it returns.

        Raises:
            Its own exception, or the policy's if it does not let the call through.
        """
        return cast("T", self._chain(fn)(fn, args, kwargs))

    @overload
    def execute(  # type: ignore[overload-overlap]  # a coroutine function's outcome comes from awaiting it
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Outcome[T]]: ...
    @overload
    def execute(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[T]: ...
    def execute(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function and gives an :class:`Outcome` instead of raising; if it is async, await it."""
        kind = check_kind(fn, policy=f"{self.kind}.execute", streams=False)
        record = Record()
        guarded = self.guard(record.counting(fn), kind, record.listeners)
        try:
            value = guarded(*args, **kwargs)
            return record.of_async(value) if iscoroutine(value) else record.outcome(None, value)
        except Exception as error:
            return record.outcome(error, None)
        finally:
            del record  # the frames of the errors in it go back to this one

    def proxy(self, client: C, methods: Iterable[str] | None = None) -> C:
        """An object that behaves as this one, its methods guarded.

        Args:
            client: any object; it is not changed.
            methods: the names of the methods to guard, special ones such as ``__call__`` among them; None takes every
                public one that is no generator, and no special one.

        Raises:
            TypeError: ``methods`` is no collection of names.
            ValueError: one of them is no method, or one by which the proxy itself works, such as ``__init__``.
        """
        from resilient.policies.proxies import guarded_methods

        return cast("C", guarded_methods(client, self, methods))

    def patch(self, target: str) -> Patch:
        """Guards a function of somebody else's module, now or as soon as that module is imported.

        Args:
            target: ``"module:function"`` or ``"module:Class.method"``; the method may be a special one.

        Returns:
            A :class:`~resilient.policies.proxies.Patch`; its ``undo()``, or the end of its block, puts the original
            back. Patches of one function may be undone in any order: each takes away its own guard only.

        Raises:
            TypeError, ValueError: the target is no text of that form.
            AttributeError, TypeError: there is no such function, or none that can be guarded; if the module is yet to
                be imported, that is raised by its import.
        """
        from resilient.policies.proxies import Patch

        return Patch(target, self)

    def __rshift__(self, inner: Policy) -> Pipeline:
        """``outer >> inner``: a pipeline of the two."""
        return Pipeline(self, inner) if isinstance(inner, Policy) else NotImplemented

    def __iter__(self) -> Attempts:
        """The block form: ``for attempt in policy:`` ``with attempt: ...``"""
        return Attempts(self.parts())

    def __aiter__(self) -> AsyncAttempts:
        """The block form in coroutines: ``async for attempt in policy:`` ``with attempt: ...``"""
        return AsyncAttempts(self.parts())

    if not TYPE_CHECKING:  # pragma: no branch  # for who writes them all the same: these forms do not exist

        def __enter__(self, *_):
            self.parts()  # which refuses if there is no block form at all
            raise TypeError(
                f"a {self.kind} may make several attempts, which `with` alone cannot: write "
                "`for attempt in policy:` and inside it `with attempt: ...`"
            )

        def __aenter__(self, *_):
            self.parts()
            raise TypeError(
                f"a {self.kind} may make several attempts, which `async with` alone cannot: write "
                "`async for attempt in policy:` and inside it `with attempt: ...`"
            )

        __exit__, __aexit__ = __enter__, __aenter__

    def parts(self) -> tuple[Part, ...]:
        """What the block form is made of, outermost first.

        Raises:
            TypeError: this policy has no block form.
        """
        raise TypeError(f"{self.kind} cannot guard a block, only a function: use @policy or policy.call(fn)")

    def check_blocking(self) -> None:
        """Checks whether a blocking block can be guarded.

        Raises:
            TypeError: the policy would need a worker.
        """

    def _chain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """A guard around whatever function it is given; made once for each kind."""
        if type(fn) is FunctionType and not fn.__code__.co_flags & NOT_PLAIN:  # what follows takes its time
            kind = Kind.EITHER
        else:
            kind = check_kind(fn, policy=f"{self.kind}.call", streams=False)
        try:
            return self._chains[kind]
        except AttributeError:
            object.__setattr__(self, "_chains", {})
        except KeyError:
            pass
        self._chains[kind] = chain = self.guard(_BOTTOM[kind], kind)
        return chain


class PipelineSettings(TypedDict, total=False):
    """The settings of a Pipeline, as ``with_`` takes them."""

    layers: tuple[Policy, ...]
    name: str


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Pipeline(Policy):
    """Several policies as one: the first is outermost, and any order works and means what it says.

    A breaker inside a ``Retry`` sees every attempt, and what it rejects is waited out; one around a ``Retry`` sees
    whole calls. A ``Timeout`` inside a ``Retry`` limits each attempt, one around it limits everything. Deadlines are
    passed inward. ``outer >> inner`` is a shorthand.

    Args:
        layers: policies, outermost first; pipelines among them.
        name: for the reader.

    Raises:
        TypeError, ValueError: there is no layer, or one of them is no policy that can be composed.
    """

    layers: tuple[Policy, ...]
    name: str = ""
    _inner: tuple[Policy, ...] = field(init=False, compare=False, repr=False)

    def __init__(self, *layers: Policy, name: str = "") -> None:
        fix = object.__setattr__
        for place, layer in enumerate(layers):
            if not isinstance(layer, Policy):
                problem = f"must be a policy, such as Retry(on=OSError), got {layer!r}"
                raise SettingTypeError("layers", problem, subject=f"layers[{place}]")
            if layer.streams:
                problem = "guards generators (streaming=True): it cannot stand in a Pipeline"
                raise SettingTypeError("layers", problem, subject=f"layers[{place}]")
        if not layers:
            raise SettingValueError("layers", "must name at least one policy, outermost first")
        fix(self, "layers", layers)
        fix(self, "name", checked_name(name))
        retried = [any(outer.tries_again for outer in layers[:place]) for place in range(len(layers))]
        inner = [layer.of_attempts() if again else layer for layer, again in zip(layers, retried, strict=True)]
        fix(self, "_inner", tuple(inner))

    @property
    def tries_again(self) -> bool:
        """Whether what is inside may be called more than once."""
        return any(layer.tries_again for layer in self.layers)

    def of_attempts(self) -> Pipeline:
        """The pipeline inside something that tries again."""
        return Pipeline(*(layer.of_attempts() for layer in self.layers), name=self.name)

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """Guards one callable by all layers."""
        guarded: Any = call
        for layer in reversed(self._inner):
            guarded = layer.guard(guarded, kind, listeners)
        guarded.__wrapped__ = call  # not the next layer: one step leads to what was guarded
        return cast("Callable[..., Any]", guarded)

    def __iter__(self) -> Attempts:
        """The block form: ``for attempt in policy:`` ``with attempt: ...``"""
        self.check_blocking()
        return Policy.__iter__(self)

    def check_blocking(self) -> None:
        """Checks whether a blocking block can be guarded.

        Raises:
            TypeError: a layer would need a worker.
        """
        for layer in self._inner:
            layer.check_blocking()

    def parts(self) -> tuple[Part, ...]:
        """What the block form is made of."""
        return tuple(part for layer in self._inner for part in layer.parts())

    def with_(self, **changes: Unpack[PipelineSettings]) -> Pipeline:
        """A copy with other layers or another name; the layers keep their state."""
        unknown = set(changes) - {"layers", "name"}
        if unknown:
            raise TypeError(f"a Pipeline has layers and a name, got {', '.join(sorted(unknown))}")
        return Pipeline(*changes.get("layers", self.layers), name=changes.get("name", self.name))

    def __repr__(self) -> str:
        named = [f"name={self.name!r}"] if self.name else []
        return f"Pipeline({', '.join([*map(repr, self.layers), *named])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.layers, self.name)


def _remade(layers: tuple[Policy, ...], name: str) -> Pipeline:
    return Pipeline(*layers, name=name)


def _invoke(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return fn(*args, **kwargs)


async def _invoke_async(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return await fn(*args, **kwargs)


for _function in (_invoke, _invoke_async):
    setattr(_function, OF_FIRST, True)

_BOTTOM = {Kind.SYNC: _invoke, Kind.EITHER: _invoke, Kind.ASYNC: _invoke_async}
