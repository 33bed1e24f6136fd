"""Whole client objects, and code of others at import."""

import asyncio
import functools
import gc
import inspect
import os
import sys
import textwrap
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest

from resilient import Retry, Timeout, backoff
from resilient.policies.proxies import Patch
from resilient.testing import Script

policy = Retry(on=OSError, attempts=3, backoff=backoff.constant(0))


class Client:
    limit = 5

    def __init__(self) -> None:
        self.script = Script("fail", 7)
        self.closed = False

    def fetch(self, key: str = "k") -> Any:
        return self.script(key)

    async def afetch(self) -> Any:
        return self.script()

    def stream(self) -> Iterator[int]:
        yield 1

    def _private(self) -> Any:
        return self.script()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closed = True

    def __len__(self) -> int:
        return 3


def test_public_methods_are_guarded() -> None:
    """Blocking and async, each retried."""
    assert 7 == policy.proxy(Client()).fetch("x")
    assert 7 == asyncio.run(policy.proxy(Client()).afetch())


def test_everything_else_is_the_objects_own() -> None:
    """Type, attributes, private methods, generators, special methods."""
    client = Client()
    guarded = policy.proxy(client)
    assert (True, 5, 3, [1]) == (isinstance(guarded, Client), guarded.limit, len(guarded), list(guarded.stream()))
    with pytest.raises(ConnectionError):
        guarded._private()
    with guarded:
        guarded.limit = 9  # type: ignore[misc]
    assert (True, 9) == (client.closed, client.limit)


def test_methods_that_return_coroutines_are_guarded_too() -> None:
    """A plain method of an async client hands out a coroutine."""

    class Disguised:
        script = Script("fail", 7)

        def get(self):  # type: ignore[no-untyped-def]
            return self.script.call_async()

    assert 7 == asyncio.run(policy.proxy(Disguised()).get())


def test_what_is_entered_is_guarded() -> None:
    """``with`` and ``async with`` give the guarded object where the object gives itself, and else what it gives."""

    class Session:
        script = Script("fail", 7)

        async def __aenter__(self) -> "Session":
            return self

        async def __aexit__(self, *exc_info: object) -> None: ...

        def __enter__(self) -> str:
            return "else"

        def __exit__(self, *exc_info: object) -> None: ...

        def get(self) -> Any:
            return self.script()

    async def main() -> Any:
        async with policy.proxy(Session()) as session:
            return session.get()

    class Other(Session):
        async def __aenter__(self) -> Any:
            return "else"

    async def other() -> Any:
        async with policy.proxy(Other()) as entered:
            return entered

    assert (7, "else") == (asyncio.run(main()), asyncio.run(other()))
    with policy.proxy(Client()) as client:
        assert 7 == client.fetch()
    with policy.proxy(Session()) as entered:
        assert "else" == entered


def test_named_methods_only() -> None:
    """What is not named is not guarded."""
    guarded = policy.proxy(Client(), methods=["afetch"])
    with pytest.raises(ConnectionError):
        guarded.fetch()
    assert 7 == asyncio.run(guarded.afetch())


def test_a_guarded_method_is_made_once() -> None:
    """Asking again gives the same wrapper, until the method itself is another."""
    client = Client()
    guarded = policy.proxy(client)
    first = guarded.fetch
    assert first is guarded.fetch
    client.fetch = lambda key="k": "new"  # type: ignore[method-assign]
    assert "new" == guarded.fetch()


def test_a_missing_attribute_is_missing() -> None:
    """As on the object itself."""
    with pytest.raises(AttributeError, match="nothing"):
        policy.proxy(Client()).nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ("fetch", TypeError, "methods must be a collection of names, such as"),
        (5, TypeError, "methods must be a collection of names, or None for all, got 5"),
        ([5], TypeError, "methods must be names, such as 'fetch', got 5"),
        ([["fetch"]], TypeError, "methods must be names, such as 'fetch', got"),
        (["__call__"], ValueError, "methods names '__call__', which is no method of Client"),
        (["__init__"], ValueError, "methods names '__init__', which Python itself calls"),
        (["fetsch"], ValueError, "methods names 'fetsch', which is no method of Client"),
        (["limit"], ValueError, "methods names 'limit', which is no method"),
        (["stream"], TypeError, "is a generator function"),
    ],
)
def test_bad_names_are_refused_at_once(methods: Any, error: type[Exception], message: str) -> None:
    """Not at the first call."""
    with pytest.raises(error, match=message):
        policy.proxy(Client(), methods=methods)


def test_objects_of_c_are_proxied_too() -> None:
    """Builtin methods count as methods."""
    guarded = policy.proxy([3, 1, 2])
    guarded.sort()
    assert [1, 2, 3] == guarded


class Everything:
    """A client that is callable, an iterator of both kinds, awaitable, a path and a context."""

    def __init__(self, *outcomes: object) -> None:
        self.script = Script(*outcomes)
        self.items = iter([1, 2])

    def __call__(self, number: int, *, more: int = 0) -> Any:
        return self.script(number + more)

    def __iter__(self) -> "Everything":
        return self

    def __next__(self) -> int:
        return next(self.items)

    def __length_hint__(self) -> int:
        return 2

    def __aiter__(self) -> "Everything":
        return self

    async def __anext__(self) -> Any:
        value = self.script()
        if value is None:
            raise StopAsyncIteration
        return value

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0).__await__()
        return self

    def __fspath__(self) -> str:
        return "/etc"

    def __enter__(self) -> Any:
        return self.script()

    def __exit__(self, *exc_info: object) -> None: ...

    async def __aenter__(self) -> Any:
        return self.script()

    async def __aexit__(self, *exc_info: object) -> None: ...

    def __getitem__(self, key: str) -> Any:
        return self.script(key)


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


async def awaited(given: Any) -> Any:
    return await given


def test_an_object_that_is_more_than_its_methods_stays_so() -> None:
    """It is called, iterated and awaited as before; unguarded, as nobody named these."""
    client = Everything(7, "fail", 8, None)
    proxy = policy.proxy(client)
    assert (True, 7) == (callable(proxy), proxy(4, more=1))
    with pytest.raises(ConnectionError):
        proxy(4)
    assert [((5,), {}), ((4,), {})] == client.script.arguments
    assert (2, 1, [2], "/etc") == (length_hint(proxy), next(proxy), list(proxy), os.fspath(proxy))
    assert [8] == asyncio.run(collected(proxy))


def test_an_object_that_gives_itself_gives_the_proxy() -> None:
    """To iterate and to await, as to enter."""
    proxy = policy.proxy(Everything(0))
    assert (proxy, proxy) == (iter(proxy), aiter(proxy))
    assert all(given is proxy for given in (iter(proxy), aiter(proxy), asyncio.run(awaited(proxy))))


def test_what_an_object_is_not_its_proxy_is_not() -> None:
    """Not callable, not iterable, no iterator, not awaitable."""
    kinds: tuple[Any, ...] = (Callable, Iterable, Iterator, AsyncIterator)
    proxy: Any = policy.proxy(Client())
    assert [False] * 5 == [callable(proxy), *(isinstance(proxy, kind) for kind in kinds)]
    uses: list[Any] = [iter, next, aiter, lambda proxy: proxy(4), lambda proxy: asyncio.run(awaited(proxy))]
    for use in uses:
        with pytest.raises(TypeError):
            use(proxy)
    with pytest.raises(AttributeError, match="__aenter__"):
        asyncio.run(proxy.__aenter__())


def test_special_methods_are_those_of_the_type() -> None:
    """A class is called to make one, whatever calling that does; what has items by number is iterable; None is none."""

    class Uncallable(Client):
        __call__ = None

        def __getitem__(self, index: int) -> int:
            return [5, 6][index]

    class Borrowing:
        __call__ = Script("borrowed")

    made = policy.proxy(Everything)("made")
    uncallable: Any = policy.proxy(Uncallable())
    assert ("made", [5, 6], False) == (made(0), list(uncallable), callable(uncallable))
    assert "borrowed" == policy.proxy(Borrowing())()


def test_named_special_methods_are_guarded() -> None:
    """The call, items, blocks and iteration are tried again like any method."""
    names = ("__call__", "__getitem__", "__enter__", "__aenter__", "__anext__")
    client = Everything("fail", 1, "fail", 2, "fail", 3, "fail", 4, "fail", 5, None)
    proxy = policy.proxy(client, methods=names)
    assert (1, 2) == (proxy(4), proxy["k"])
    with proxy as entered:
        assert 3 == entered

    async def main() -> tuple[Any, list[Any]]:
        async with proxy as entered:
            return entered, await collected(proxy)

    assert (4, [5]) == asyncio.run(main())
    assert 7 == policy.proxy(Script("fail", 7), methods=["__call__"])()


def test_the_call_of_an_async_object_is_seen_by_another_policy() -> None:
    """Its coroutine counts, not that it was made."""

    class Fetch:
        script = Script("fail", 7)

        async def __call__(self) -> Any:
            return self.script()

    assert 7 == asyncio.run(policy(policy.proxy(Fetch()))())
    assert 7 == asyncio.run(policy(Timeout(9)(Fetch()))())


def test_a_callable_object_keeps_its_type() -> None:
    """Only its call is guarded."""
    guarded = policy(Script("fail", 7))
    assert (7, 2, True) == (guarded(), guarded.calls, isinstance(guarded, Script))


class Selfless:
    """A descriptor that binds nothing."""

    def __get__(self, instance: object, owner: type | None = None) -> "Selfless":
        return self

    def __call__(self, *args: object) -> tuple[object, ...]:
        return args


class Cached:
    calls = 0

    @policy
    @functools.lru_cache  # noqa: B019
    def method(self, key: str) -> str:
        type(self).calls += 1
        if type(self).calls == 1:
            raise ConnectionError
        return key

    script = policy(Script("fail", 7))
    hexadecimal: Any = policy(hex)
    power: Any = policy(functools.partial(pow, 2))
    selfless = policy(Selfless())
    of_class = policy(classmethod(functools.partial(lambda two, cls: (two, cls.calls), 2)))


def test_what_binds_in_a_class_still_binds() -> None:
    """A cached method gets its self and keeps its cache; a callable object is no method, guarded or not."""
    cached = Cached()
    assert ("k", "k", 2) == (cached.method("k"), cached.method("k"), Cached.calls)
    assert 1 == Cached.method.cache_info().hits  # type: ignore[attr-defined]
    assert 7 == cached.script()


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")  # from 3.13 on
def test_what_does_not_bind_in_a_class_still_does_not() -> None:
    """Builtins, partials and descriptors that give themselves; only a classmethod hands the class on."""
    cached = Cached()
    assert ("0x10", 32, ("k",)) == (cached.hexadecimal(16), cached.power(5), cached.selfless("k"))
    assert ("0x10", 32) == (Cached.hexadecimal(16), Cached.power(5))
    assert (2, Cached.calls) == cached.of_class() == Cached.of_class()


def test_a_guarded_partial_is_a_partial() -> None:
    """With its function and arguments; it goes by the name of its function, unless it has its own."""
    script = Script("fail", 7)
    guarded = policy(functools.partial(script, "k"))
    assert (script, ("k",), 7) == (guarded.func, guarded.args, guarded())
    named: Any = functools.partial(pow, 2)
    assert "pow" == policy(named).__name__
    named.__name__ = "power"
    assert "power" == policy(named).__name__
    assert inspect.iscoroutinefunction(policy(functools.partial(Client().afetch)))


MODULE = """
    calls = 0

    def fetch():
        global calls
        calls += 1
        if calls % 3:
            raise ConnectionError
        return calls

    class Client:
        @classmethod
        def make(cls):
            return cls.__name__, fetch()

        @staticmethod
        def ping():
            return fetch()
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of somebody else's module, not imported yet."""
    name = f"theirs_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def imported(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def test_a_function_is_patched_when_it_is_imported(theirs: str) -> None:
    """Before that nothing is loaded."""
    with policy.patch(f"{theirs}:fetch") as patch:
        assert (False, False) == (patch.applied, theirs in sys.modules)
        module = imported(theirs)
        assert (True, 3) == (patch.applied, module.fetch())
    with pytest.raises(ConnectionError):
        module.fetch()
    assert not patch.applied


def test_a_loaded_module_is_patched_at_once(theirs: str) -> None:
    """Class and static methods keep their kind."""
    module = imported(theirs)
    with policy.patch(f"{theirs}:Client.make"), policy.patch(f"{theirs}:Client.ping") as patch:
        assert patch.applied
        assert (("Client", 3), 6) == (module.Client.make(), module.Client.ping())
    assert isinstance(module.Client.__dict__["make"], classmethod)
    assert isinstance(module.Client.__dict__["ping"], staticmethod)


def test_undoing_leaves_inheritance_as_it_was(theirs: str) -> None:
    """A method that a class inherits is inherited again."""
    module = imported(theirs)
    module.Child = type("Child", (module.Client,), {})
    with policy.patch(f"{theirs}:Child.ping"):
        assert "ping" in vars(module.Child)
    assert "ping" not in vars(module.Child)


def test_an_undone_patch_waits_no_longer(theirs: str) -> None:
    """Undone before the import, and undone twice."""
    patch = policy.patch(f"{theirs}:fetch")
    patch.undo()
    patch.undo()
    module = imported(theirs)
    with pytest.raises(ConnectionError):
        module.fetch()


def doubled(call: Any) -> Any:
    """A guard that is a closure, as a policy of the user's may make."""

    def twice(*args: Any) -> Any:
        return (call(*args), call(*args))

    return twice


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("path", ["fetch", "Client.make", "Client.ping", "Child.ping", "script"])
def test_patches_are_undone_in_any_order(theirs: str, order: tuple[int, ...], path: str) -> None:
    """Each takes its own guard away and no other's; after the last, what was there is there."""
    module = imported(theirs)
    module.Child = type("Child", (module.Client,), {})
    module.script = Script(*["fail"] * 9)
    parent = functools.reduce(getattr, path.split(".")[:-1], module)
    name = path.split(".")[-1]
    before = vars(parent).get(name)
    heard = list[int]()

    def guard(number: int) -> Callable[[Any], Any]:
        return Retry(on=lambda error: heard.append(number) or False, backoff=backoff.constant(0))  # type: ignore[arg-type, func-returns-value]

    patches = [Patch(f"{theirs}:{path}", guard(number)) for number in range(3)]
    left = {0, 1, 2}
    for number in order:
        patches[number].undo()
        left.remove(number)
        heard.clear()
        module.calls = 0
        with pytest.raises(ConnectionError):
            functools.reduce(getattr, path.split("."), module)()
        assert (sorted(left), [patch.applied for patch in patches]) == (sorted(heard), [n in left for n in range(3)])
    assert before is vars(parent).get(name)


def test_what_others_put_on_top_stays(theirs: str) -> None:
    """Our guard goes from under it; when it goes too, nothing is guarded."""
    module = imported(theirs)
    patch = policy.patch(f"{theirs}:fetch")
    ours = module.fetch
    module.fetch = lambda: ("theirs", ours())
    assert ("theirs", 3) == module.fetch()
    patch.undo()
    with pytest.raises(ConnectionError):
        module.fetch()
    module.fetch = ours
    with pytest.raises(ConnectionError):
        module.fetch()
    del module.fetch
    patch.undo()
    assert not hasattr(module, "fetch")


def test_a_patch_on_top_of_what_others_put_there_gives_it_back(theirs: str) -> None:
    """Also when the patch below was undone before."""
    module = imported(theirs)
    lower = policy.patch(f"{theirs}:fetch")
    ours = module.fetch
    module.fetch = between = lambda: ours()
    upper = policy.patch(f"{theirs}:fetch")
    lower.undo()
    upper.undo()
    assert between is module.fetch


def test_who_imported_the_guarded_function_loses_the_guard_too(theirs: str) -> None:
    """Its signature stays."""
    module = imported(theirs)
    module.add = lambda a, b=2, *, c=3: a + b + c
    with Patch(f"{theirs}:add", policy):
        add = module.add
        assert (6, 15) == (add(1), add(1, b=5, c=9))
    assert (6, 15, ["a", "b", "c"]) == (add(1), add(1, b=5, c=9), list(inspect.signature(add).parameters))


def test_any_guard_will_do(theirs: str) -> None:
    """One that is a closure, one that is no function, one that gives back what it was given."""
    module = imported(theirs)
    module.add = original = lambda a: a + 1
    for guard, expected in ((doubled, (2, 2)), (lambda call: Script(9), 9), (lambda call: call, 2)):
        with Patch(f"{theirs}:add", guard):
            add = module.add
            assert expected == add(1)
        assert (2, 2) == (add(1), module.add(1))
        assert original is module.add


def test_an_undone_patch_leaves_nothing_behind(theirs: str) -> None:
    """No list of ours holds the guard or the guarded function."""
    module = imported(theirs)
    patches = [policy.patch(f"{theirs}:fetch") for _ in range(2)]
    held: list[Any] = [weakref.ref(module.fetch), *map(weakref.ref, patches)]
    while patches:
        patches.pop(0).undo()
    gc.collect()
    assert [None] * 3 == [reference() for reference in held]


@pytest.mark.parametrize("target", [None, 3, b"json:dumps"])
def test_a_target_is_a_text(target: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises(TypeError, match="target must be a text, 'module:function' or"):
        policy.patch(target)


@pytest.mark.parametrize("target", ["", "module", ":name", "module:", "a b:c", "module:1x"])
def test_a_bad_target_says_how(target: str) -> None:
    """Module and path, with a colon."""
    with pytest.raises(ValueError, match="target must be 'module:function' or 'module:Class.method'"):
        policy.patch(target)
