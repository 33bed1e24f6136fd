"""Policies with state: found by name, read all together, set back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol, Self, TypeVar
from weakref import ref

from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["PROCESS", "Home", "Live", "ProcessHome", "Snapshot", "Stateful", "snapshot"]

S = TypeVar("S")


class Live(Protocol):
    """A policy whose state can be read and set back."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...

    def metrics(self) -> object:
        """The numbers of the policy, as a frozen dataclass."""
        ...

    def reset(self) -> None:
        """Sets the state back to that of a new policy."""
        ...


class Home(Protocol):
    """Where the states of named policies live: this process, unless another store is written for it."""

    def state(self, kind: str, name: str, make: Callable[[], S]) -> S:
        """The state of this name; made here if there is none yet.

        Args:
            kind: the kind of policy, such as "CircuitBreaker".
            name: its name.
            make: makes a fresh state; whatever a home gives instead has the same methods.
        """
        ...


class ProcessHome:
    """The states of one process."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], Any] = {}
        self._lock = Lock()

    def state(self, kind: str, name: str, make: Callable[[], S]) -> S:
        """The state of this name, made at the first call."""
        with self._lock:
            if (kind, name) not in self._states:
                self._states[kind, name] = make()
            found: S = self._states[kind, name]
            return found

    def __reduce__(self) -> str | tuple[Any, ...]:
        return "PROCESS" if self is PROCESS else (ProcessHome, ())  # in another process, that of the other process

    def forget(self) -> None:
        """Forgets all states: who holds a policy keeps its own, the next of that name begins anew."""
        with self._lock:
            self._states.clear()
        with _lock:
            for key in [key for key in _named if key[0] == id(self)]:
                del _named[key]


PROCESS = ProcessHome()

# By identity, as policies with the same settings are equal; and weakly, as nobody should live on for being watched.
_live: dict[int, ref[Any]] = {}
_named: dict[tuple[int, type[Any], str], Any] = {}
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One live policy, as it was when it was looked at.

    Attributes:
        kind: of policy, such as "CircuitBreaker".
        name: its name; empty if it has none.
        metrics: its numbers, as a frozen dataclass, of the kind that its ``metrics()`` gives.
    """

    kind: str
    name: str
    metrics: object


def snapshot() -> tuple[Snapshot, ...]:
    """Every live policy of this process that has state, by kind and name."""
    with _lock:
        refs = list(_live.values())  # a policy may go at any moment, also of this thread
    policies: list[Live] = [policy for policy in (found() for found in refs) if policy is not None]
    policies.sort(key=lambda policy: (policy.kind, policy.name))
    return tuple(shot for shot in map(_shot, policies) if shot is not None)


def _shot(policy: Live) -> Snapshot | None:
    try:
        return Snapshot(policy.kind, policy.name, policy.metrics())
    except AttributeError as error:
        if error.obj is not policy:
            raise
        return None  # another thread is making it: it has asked for its state, and has not got it yet


class Stateful:
    """Base of the policies that have a state of their own beside their settings."""

    __slots__ = ()

    home: Home | None

    @classmethod
    def named(cls, name: str, *, home: Home = PROCESS, **settings: Any) -> Self:
        """The policy of this name in this process, one for all that ask for it.

        Args:
            name: the name, not empty.
            home: where its state lives; this process.
            settings: as for the class, where the name is asked for first; afterwards they may be left out.

        Raises:
            TypeError, ValueError: a setting is wrong, or not the one of the first call.
        """
        if not isinstance(name, str) or not name:
            raise SettingValueError("name", f"must be a text that is not empty, got {name!r}")
        key = (id(home), cls, name)
        with _lock:
            found: Self | None = _named.get(key)
        if found is not None and not settings:
            return found
        made = cls(name=name, home=home, **settings)  # type: ignore[call-arg]  # subclasses are dataclasses
        with _lock:
            first: Self = _named.setdefault(key, made)
        if made != first:
            raise ValueError(f"{cls.__name__}.named({name!r}) was first asked for as {first!r}, now as {made!r}")
        return first

    def found_state(self, kind: str, name: str, make: Callable[[], S]) -> S:
        """The state of this policy: its own, or that which its home keeps under its name."""
        with _lock:
            _live[id(self)] = ref(self, partial(_forget, id(self)))
        if self.home is None:
            return make()
        if not callable(getattr(self.home, "state", None)):
            raise SettingTypeError(
                "home", f"must have a method state(kind, name, make), as Home says, got {self.home!r}"
            )
        return self.home.state(kind, name, make)


def _forget(key: int, gone: object) -> None:
    _live.pop(key, None)
