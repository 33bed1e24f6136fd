"""How a policy takes hold of what it decorates."""

import asyncio
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from resilient import CircuitBreaker, Pipeline, Retry, Timeout, catch
from resilient.drivers.wrapping.kind import Kind
from resilient.policies.guarding import check_kind, decorated


def numbers():  # type: ignore[no-untyped-def]
    yield 1


def plain() -> int:
    return 1


class Callme:
    def __call__(self) -> int:
        return 1


def test_functions_become_functions_and_objects_stay_objects() -> None:
    """The guard's wrapper itself, or a proxy that keeps the object's type."""
    assert 2 == decorated(plain, lambda call, kind: lambda: 2, policy="Retry", streams=False)()
    guarded = decorated(Callme(), lambda call, kind: lambda: 2, policy="Retry", streams=False)
    assert (2, True) == (guarded(), isinstance(guarded, Callme))


def test_descriptors_are_guarded_inside() -> None:
    """classmethod and staticmethod keep their kind."""
    made = decorated(staticmethod(plain), lambda call, kind: lambda: 2, policy="Retry", streams=False)
    assert (2, staticmethod) == (made.__func__(), type(made))


@pytest.mark.parametrize(
    ("call", "streams", "kind"),
    [
        (plain, False, Kind.SYNC),
        (numbers, True, Kind.GENERATOR),
        (len, False, Kind.EITHER),
        (len, True, Kind.GENERATOR),
    ],
)
def test_what_fits_has_a_kind(call: object, streams: bool, kind: Kind) -> None:
    """Generators where streams are wanted, all else where not; the undecidable is let through."""
    assert kind is check_kind(call, policy="Retry", streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize(("call", "streams"), [(numbers, False), (plain, True)])
def test_what_does_not_fit_is_refused(call: object, streams: bool) -> None:
    """Either way the error says what to do."""
    with pytest.raises(TypeError, match="streaming=True"):
        check_kind(call, policy="Retry", streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [Callme, 3])
def test_neither_classes_nor_values(target: object) -> None:
    """Both are refused with advice."""
    with pytest.raises(TypeError, match="Retry can"):
        decorated(target, lambda call, kind: call, policy="Retry", streams=False)


def test_partials_and_builtins_stay_what_they_are() -> None:
    """They would be methods otherwise, in a class body."""
    for target in (len, functools.partial(plain)):
        guarded = decorated(target, lambda call, kind: lambda: 2, policy="Retry", streams=False)
        assert (2, False) == (guarded(), hasattr(type(guarded), "__get__") and not hasattr(type(target), "__get__"))
        assert isinstance(guarded, type(target))


async def fetch(key: int) -> int:
    return key


breaker = CircuitBreaker(consecutive=1)
FORMS: list[tuple[Callable[..., Any], str]] = [
    (Timeout(3).call, r"Timeout\.call takes .*write \.call"),
    (breaker.call, r"CircuitBreaker\.call takes .*write \.call"),
    (Pipeline(Retry(on=OSError), breaker).call, r"Pipeline\.call takes .*write \.call"),
    (Retry(on=OSError).call, r"Retry\.call takes .*write \.call"),
    (Retry(on=OSError, streaming=True).call, r"Retry\.call takes .*write \.call"),
    (catch(default=0).call, r"catch\.call takes .*write \.call"),
    (functools.partial(catch.call, "name"), r"catch\.call takes .*write \.call"),
    (Timeout(3).execute, r"Timeout\.execute takes .*write \.execute"),
    (breaker.execute, r"CircuitBreaker\.execute takes .*write \.execute"),
    (Retry(on=OSError).execute, r"Retry\.execute takes .*write \.execute"),
]


@pytest.mark.parametrize(("form", "message"), FORMS)
def test_the_result_of_a_call_is_no_function(form: Callable[..., Any], message: str) -> None:
    """The error says how to write it, nothing is left to be awaited, and no breaker hears of it."""
    with warnings.catch_warnings(), pytest.raises(TypeError, match=rf"{message}\(fetch, \.\.\.\), not .*fetch\("):
        warnings.simplefilter("error")
        form(fetch(1))
    for given in (None, 7):
        with pytest.raises(TypeError, match=rf"got {given}: write .*\(function, \.\.\.\)"):
            form(given)
    assert "closed" == breaker.state


def test_a_coroutine_is_not_decorated() -> None:
    """And closed, as nobody will await it."""
    coroutine = fetch(1)
    with pytest.raises(TypeError, match="Timeout can decorate functions"):
        Timeout(3)(coroutine)  # type: ignore[arg-type]
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(coroutine)


def test_a_coroutine_that_somebody_awaits_is_left_alone() -> None:
    """Only one that was made for this call is closed."""

    async def main() -> int:
        coroutine = held.pop()
        with pytest.raises(TypeError, match="got a coroutine"):
            Timeout(3).call(coroutine)
        return 7

    held = list[Any]()
    running = main()
    held.append(running)
    assert 7 == asyncio.run(running)
