"""Pipeline: several policies as one, the first outermost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack, cast

from resilient.core.setting_errors import SettingTypeError, SettingValueError, checked_name
from resilient.drivers.blocks.attempts import Attempts
from resilient.drivers.blocks.levels import Part
from resilient.drivers.wrapping.kind import Kind
from resilient.observe.listeners import Listener
from resilient.policies.policy import Policy
from resilient.policies.timeout import Timeout

__all__ = ["Pipeline"]


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
        """The same inside something that tries again."""
        return Pipeline(*(layer.of_attempts() for layer in self.layers), name=self.name)

    def guard(self, call: Callable[..., Any], kind: Kind, listeners: tuple[Listener, ...] = ()) -> Callable[..., Any]:
        """One callable, guarded by all layers."""
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
        """Whether a blocking block can be guarded.

        Raises:
            TypeError: a layer would need a worker.
        """
        for layer in self._inner:
            if isinstance(layer, (Timeout, Pipeline)):
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
