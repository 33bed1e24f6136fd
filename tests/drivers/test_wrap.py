"""How callables are wrapped: with their own parameters, as what they are."""

import asyncio
import functools
import inspect
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import retry
from resilient.drivers.wrap import (
    POLICY,
    Kind,
    kind_of,
    wrap_admitted,
    wrap_eager,
    wrap_gated,
    wrap_rescued,
    wrap_scoped,
)

SENTINEL = object()
guard = retry(on=OSError, attempts=2)


def every_kind(a: int, /, b: int, c: object = SENTINEL, *rest: int, d: int, e: object = SENTINEL, **more: int) -> Any:
    """All parameter kinds."""
    return a, b, c, rest, d, e, more


async def every_kind_async(
    a: int, /, b: int, c: object = SENTINEL, *rest: int, d: int, e: object = SENTINEL, **more: int
) -> Any:
    """All parameter kinds."""
    return a, b, c, rest, d, e, more


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Callme:
    def __call__(self, a: int) -> int:
        return a


class CallmeAsync:
    async def __call__(self, a: int) -> int:
        return a


class Holder:
    def method(self, a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    def star(*args: Any) -> int:
        return len(args)

    async def amethod(self, a: int) -> int:
        return a


def promises(a: int) -> Awaitable[Any]:
    return every_kind_async(a, 2, d=3)


@functools.wraps(every_kind_async)
def disguised(*args: Any, **kwargs: Any) -> Any:
    return every_kind_async(*args, **kwargs)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (every_kind, Kind.SYNC),
        (every_kind_async, Kind.ASYNC),
        (functools.partial(every_kind, 1), Kind.SYNC),
        (functools.partial(functools.partial(every_kind_async, 1), 2), Kind.ASYNC),
        (generator, Kind.GENERATOR),
        (async_generator, Kind.ASYNC_GENERATOR),
        (functools.partial(generator), Kind.GENERATOR),
        (Callme(), Kind.SYNC),
        (CallmeAsync(), Kind.ASYNC),
        (Holder().method, Kind.EITHER),
        (promises, Kind.EITHER),
        (Holder().amethod, Kind.ASYNC),
        (lambda: 1, Kind.EITHER),
        (disguised, Kind.EITHER),
        (len, Kind.EITHER),
        ([].append, Kind.EITHER),
    ],
    ids=lambda given: str(given) if isinstance(given, Kind) else type(given).__name__,
)
def test_kind_is_known_beforehand(call: Callable[..., Any], kind: Kind) -> None:
    """A callable is told apart by what calling it gives."""
    assert kind is kind_of(call)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2), {"d": 4}), ((1, 2, 3, 4, 5), {"d": 4, "e": 5, "z": 6}), ((1,), {"b": 2, "d": 3, "a": 9})],
)
def test_all_parameter_kinds_arrive(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """Positional-only, defaults by identity, rest, keyword-only and the remaining keywords."""
    assert every_kind(*args, **kwargs) == guard(every_kind)(*args, **kwargs)
    assert every_kind(*args, **kwargs) == asyncio.run(guard(every_kind_async)(*args, **kwargs))


def test_all_parameter_kinds_arrive_again_on_a_retry() -> None:
    """The second attempt gets just what the first got."""
    seen: list[Any] = []

    @retry(on=OSError, attempts=2, backoff=retry(on=OSError).backoff.jitter(0).floor(0))
    def fails_once(a: int, /, *rest: int, d: int, **more: int) -> None:
        seen.append((a, rest, d, more))
        if len(seen) == 1:
            raise OSError

    from resilient.testing import FakeClock

    with FakeClock():
        fails_once(1, 2, 3, d=4, z=5)
    assert [(1, (2, 3), 4, {"z": 5})] * 2 == seen


@pytest.mark.parametrize(
    "call",
    [every_kind, every_kind_async, Holder.method, Holder().method, functools.partial(every_kind, 1, d=3), len],
    ids=["function", "async", "unbound", "bound", "partial", "builtin"],
)
def test_the_signature_is_the_calls_own(call: Callable[..., Any]) -> None:
    """``inspect.signature`` sees no difference."""
    assert inspect.signature(call) == inspect.signature(guard(call))


def test_parameters_are_real_not_just_shown() -> None:
    """The wrapper itself has the parameters and the very same defaults."""
    wrapper = guard(every_kind)
    assert every_kind.__code__.co_varnames[:7] == wrapper.__code__.co_varnames[:7]
    assert (SENTINEL,) == wrapper.__defaults__
    assert {"e": SENTINEL} == wrapper.__kwdefaults__
    assert SENTINEL is wrapper(1, 2, d=3)[2]


def test_a_wrong_call_is_a_type_error_and_never_retried() -> None:
    """A call that does not fit the signature fails at the wrapper, as it would without one."""
    guarded = retry(on=Exception, attempts=5)(Holder.method)
    with pytest.raises(TypeError, match=r"method\(\) missing 1 required positional argument: 'a'") as caught:
        guarded(Holder())  # type: ignore[call-arg]
    assert not hasattr(caught.value, "__notes__")


def test_identity_is_kept() -> None:
    """Name, qualified name, docstring, module, annotations and attributes are those of what is wrapped."""
    every_kind.marked = 1  # type: ignore[attr-defined]
    wrapper = guard(every_kind)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "marked"):
        assert getattr(every_kind, attribute) == getattr(wrapper, attribute)
    assert wrapper.__wrapped__ is every_kind  # type: ignore[attr-defined]


def test_async_stays_async() -> None:
    """Frameworks that look see a coroutine function, and only where there is one."""
    assert inspect.iscoroutinefunction(guard(every_kind_async))
    assert not inspect.iscoroutinefunction(guard(every_kind))


NAMES = ["_call", "_rescue", "_error", "_failure", "_caught", "_policy", "_value", "_started", "__call", "call", "self"]


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_no_parameter_name_collides(names: list[str]) -> None:
    """Whatever a function calls its parameters, none meets a name of the wrapper's."""
    namespace: dict[str, Any] = {}
    exec(f"def target({', '.join(names)}): return ({', '.join(names)},)", namespace)
    values = tuple(range(len(names)))
    assert values == retry(on=OSError, timeout=9)(namespace["target"])(*values)


def test_bound_methods_lose_self_only() -> None:
    """A bound method is called with the rest of its parameters."""
    holder = Holder()
    assert (1, 2) == guard(holder.method)(1)
    assert 3 == guard(holder.star)(1, 2)


def positional_only(self: object, a: int, /, b: int) -> tuple[int, int]:
    return a, b


def test_a_bound_positional_only_self_is_dropped_too() -> None:
    """The slash stays where it was."""
    bound = positional_only.__get__(object())
    assert (1, 2) == guard(bound)(1, b=2)
    with pytest.raises(TypeError):
        guard(bound)(a=1, b=2)


def test_builtins_and_partials_are_called_as_they_are() -> None:
    """What has no code of its own gets a closure."""
    assert (3, (0, 1, SENTINEL, (), 3, SENTINEL, {})) == (
        guard(len)("abc"),
        guard(functools.partial(every_kind, 0, d=3))(1),
    )


def test_a_failing_builtin_is_retried() -> None:
    """The closure guards too."""
    guarded = retry(on=FileNotFoundError, attempts=2)(open)
    with pytest.raises(FileNotFoundError) as caught:
        guarded("/no/such/file")
    assert "gave up after 2 attempts" in caught.value.__notes__[0]


@pytest.mark.parametrize("target", [lambda a: every_kind_async(a, 2, d=3), disguised], ids=["lambda", "disguised"])
def test_a_coroutine_from_a_plain_function_is_guarded(target: Callable[..., Any]) -> None:
    """What turns out to be async is awaited under the policy."""
    args = (1,) if target is not disguised else (1, 2)
    kwargs = {} if target is not disguised else {"d": 3}
    assert (1, 2, SENTINEL, (), 3, SENTINEL, {}) == asyncio.run(guard(target)(*args, **kwargs))


def test_tracebacks_show_the_function_by_name() -> None:
    """A traceback names the guarded function, and keeps the user's own frames in one piece."""

    @guard
    def outer() -> None:
        inner()

    def inner() -> None:
        raise ValueError("deep")

    try:
        outer()
    except ValueError as error:
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert ["test_tracebacks_show_the_function_by_name", "outer", "settle", "outer", "inner"] == names


class Book:
    """A gate, either form, that notes what it is told."""

    def __init__(self, *, joins: bool = False) -> None:
        self.joins = joins
        self.story: list[Any] = []

    def enter(self) -> str:
        self.story.append("enter")
        return "ticket"

    def enter_soon(self) -> str:
        self.story.append("enter soon")
        return "ticket"

    def ready(self) -> str | None:
        return None if self.joins else self.enter()

    async def join(self) -> str:
        self.story.append("join")
        return "ticket"

    def passed(self, ticket: str, value: object) -> None:
        self.story.append(("passed", ticket, value))

    def failed(self, ticket: str, error: BaseException) -> None:
        self.story.append(("failed", ticket, type(error)))

    def forgotten(self, ticket: str) -> None:
        self.story.append(("forgotten", ticket))


def give(value: object, *, more: int = 0) -> object:
    """Gives or raises."""
    if isinstance(value, type) and issubclass(value, BaseException):
        raise value
    return value


async def give_async(value: object, *, more: int = 0) -> object:
    """Gives or raises."""
    return give(value, more=more)


def ends(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call gives, or the class of what it raises."""
    try:
        value = call(*args, **kwargs)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except BaseException as error:
        return type(error)


GATED = [
    (give, Kind.SYNC, False, "enter"),
    (give, Kind.EITHER, False, "enter soon"),
    (give_async, Kind.ASYNC, False, "enter"),
    (give_async, Kind.ASYNC, True, "join"),
]


@pytest.mark.parametrize(("call", "kind", "joins", "entered"), GATED)
def test_a_gate_gets_its_ticket_back_with_what_became_of_the_call(
    call: Callable[..., Any], kind: Kind, joins: bool, entered: str
) -> None:
    """Whatever that is; the arguments and the signature are the call's own."""
    book = Book(joins=joins)
    gated = wrap_gated(call, book, kind=kind)
    assert [7, KeyError, KeyboardInterrupt] == [
        ends(gated, value, more=1) for value in (7, KeyError, KeyboardInterrupt)
    ]
    assert [
        *(entered, ("passed", "ticket", 7)),
        *(entered, ("failed", "ticket", KeyError)),
        *(entered, ("failed", "ticket", KeyboardInterrupt)),
    ] == book.story
    assert inspect.signature(call) == inspect.signature(gated)


def test_a_coroutine_is_adopted_and_its_ticket_forgotten() -> None:
    """It will have one of its own when it is awaited."""
    book = Book()
    gated = wrap_gated(lambda value: give_async(value), book, kind=Kind.EITHER, adopt=lambda coroutine: coroutine)
    assert 7 == ends(gated, 7)
    assert ["enter soon", ("forgotten", "ticket")] == book.story


@pytest.mark.parametrize(("call", "kind", "joins", "entered"), [case for case in GATED if case[1] is not Kind.EITHER])
def test_a_gate_that_hears_nothing_only_lets_through(
    call: Callable[..., Any], kind: Kind, joins: bool, entered: str
) -> None:
    """Nothing comes back."""
    book = Book(joins=joins)
    admitted = wrap_admitted(call, book, kind=kind)
    assert [7, KeyError] == [ends(admitted, 7, more=1), ends(admitted, KeyError)]
    assert [entered, entered] == book.story
    assert inspect.signature(call) == inspect.signature(admitted)


def test_a_scope_is_left_however_the_call_ends() -> None:
    """With its ticket."""
    left: list[object] = []
    scoped = wrap_scoped(give, lambda: "ticket", left.append)
    assert [7, KeyError, SystemExit] == [ends(scoped, value) for value in (7, KeyError, SystemExit)]
    assert ["ticket"] * 3 == left
    assert inspect.signature(give) == inspect.signature(scoped)


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.EITHER])
@pytest.mark.parametrize("value", [7, KeyError, SystemExit])
def test_the_limit_of_a_first_attempt_is_taken_off_before_anything_else(kind: Kind, value: object) -> None:
    """However it ends: what rescues it makes its own."""
    story: list[object] = []

    def call(value: object) -> object:
        story.append("call")
        return give(value)

    def rescue(policy: object, call: object, error: Exception, args: Any, kwargs: Any, *, started: float) -> str:
        story.append(("rescued", policy, type(error), args, kwargs, started))
        return "rescued"

    guarded = wrap_rescued(
        call, rescue, "policy", kind=kind, facts={"started": "now()"}, names={"now": lambda: 5.0},
        limit=lambda started: story.append(("limit", started)) or "token",  # type: ignore[func-returns-value]
        unlimit=lambda token: story.append(("unlimit", token)),
    )  # fmt: skip
    expected = {7: 7, KeyError: "rescued", SystemExit: SystemExit}[value]  # type: ignore[index]
    assert expected == ends(guarded, value)
    rescued = [("rescued", "policy", KeyError, (KeyError,), {}, 5.0)] if value is KeyError else []
    assert [("limit", 5.0), "call", ("unlimit", "token"), *rescued] == story


def test_wrappers_that_are_no_attempt_are_ours_all_the_same() -> None:
    """Tracebacks and searches pass over them."""
    guarded: Any = wrap_scoped(give, lambda: None, lambda ticket: None)
    assert "resilient.drivers.wrapped" == guarded.__globals__["__name__"]
    assert POLICY not in guarded.__globals__


def test_wrappers_of_wrappers_compile_too() -> None:
    """Names of ours in the layer below collide with none above."""
    book = Book()
    layered: Any = give
    for _ in range(4):
        layered = wrap_scoped(wrap_gated(layered, book, kind=Kind.SYNC), lambda: 1, lambda ticket: None)
    assert (7, 8) == (layered(7, more=1), len(book.story))


def test_a_partial_goes_by_the_name_of_its_function() -> None:
    """Unless it has one of its own."""
    named: Any = functools.partial(give, 7)
    assert "give" == guard(named).__name__
    assert "give" == guard(functools.partial(named)).__name__
    named.__name__ = "own"
    assert "own" == guard(named).__name__


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.EITHER, Kind.ASYNC])
def test_a_whole_call_may_be_handed_over(kind: Kind) -> None:
    """With its arguments, positional ones by position."""

    async def run_async(args: Any, kwargs: Any) -> Any:
        return args, kwargs

    run = run_async if kind is Kind.ASYNC else lambda args, kwargs: (args, kwargs)
    assert ((7,), {"more": 1}) == ends(wrap_eager(give, run, kind=kind), 7, more=1)
