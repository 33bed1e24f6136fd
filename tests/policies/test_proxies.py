"""Whole client objects, and code of others at import."""

import asyncio
import functools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import Retry, backoff
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


def test_a_callable_object_keeps_its_type() -> None:
    """Only its call is guarded."""
    guarded = policy(Script("fail", 7))
    assert (7, 2, True) == (guarded(), guarded.calls, isinstance(guarded, Script))


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


def test_what_binds_in_a_class_still_binds() -> None:
    """A cached method gets its self and keeps its cache; a callable object is no method, guarded or not."""
    cached = Cached()
    assert ("k", "k", 2) == (cached.method("k"), cached.method("k"), Cached.calls)
    assert 1 == Cached.method.cache_info().hits  # type: ignore[attr-defined]
    assert 7 == cached.script()


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


@pytest.mark.parametrize("target", ["", "module", ":name", "module:", "a b:c", "module:1x"])
def test_a_bad_target_says_how(target: str) -> None:
    """Module and path, with a colon."""
    with pytest.raises(ValueError, match="target must be 'module:function' or 'module:Class.method'"):
        policy.patch(target)
