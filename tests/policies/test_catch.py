"""catch: reported, replaced, and on it goes."""

import asyncio
import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from threads import together

from resilient import Action, Catch, Classifier, Pipeline, Retry, Rule, Verdict, catch, events, listen


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    """Every event of the test."""
    told: list[events.Event] = []
    with listen(told.append):
        yield told


class PanicException(BaseException):
    """As PyO3 raises it."""


PanicException.__module__ = "pyo3_runtime"


def explode() -> int:
    raise ValueError("boom")


async def explode_async() -> int:
    raise ValueError("boom")


def test_a_block_goes_on(heard: list[events.Event]) -> None:
    """The error is there, and has been told."""
    with catch("load plugin") as caught:
        explode()
    assert "boom" == str(caught.error)
    (panic,) = heard
    assert isinstance(panic, events.Panic)
    assert ("load plugin", "call", caught.error) == (panic.name, panic.where, panic.error)


def test_a_good_block_tells_nothing(heard: list[events.Event]) -> None:
    """No error, no event."""
    with catch("load plugin") as caught:
        pass
    assert (None, []) == (caught.error, heard)


def test_blocks_nest() -> None:
    """Each has its own error, also of one shared policy."""
    shared = catch("plugin")
    with shared as outer:
        with shared as inner:
            explode()
        raise KeyError("outer")
    assert ("ValueError", "KeyError") == (type(inner.error).__name__, type(outer.error).__name__)


def test_blocks_of_suspended_generators_are_not_mixed_up() -> None:
    """Each block has its own error, whatever order they end in, also those of one shared policy."""
    shared = catch("plugin")

    def suspended() -> Iterator[Any]:
        with shared as inner:
            yield inner

    generator = suspended()
    with shared as outer:
        inner = next(generator)
        explode()
    generator.close()
    assert (None, "boom") == (inner.error, str(outer.error))


def test_threads_may_share_one() -> None:
    """Blocks of one policy, opened and closed by many threads at once, get each their own error."""
    shared = catch("shared")

    def work(n: int) -> None:
        for _ in range(2000):
            with shared as caught:
                raise KeyError(n)
            assert (n,) == caught.error.args  # type: ignore[union-attr]

    assert [] == together(8, work)


def test_an_exit_stack_may_hold_it() -> None:
    """Entered and left from frames that are not the block's own."""
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(catch("stacked"))
        explode()
    assert "boom" == str(caught.error)


def test_a_decorated_function_gives_its_default(heard: list[events.Event]) -> None:
    """The default instead of the error; the function's name in the event."""
    assert (None, 5, "d") == (catch()(explode)(), catch(default=5)(explode)(), catch("x", default="d")(explode)())
    assert ["explode", "explode", "x"] == [event.name for event in heard]


def test_a_good_function_gives_its_result() -> None:
    """Untouched."""
    assert (3, 3) == (catch(default=0)(len)("abc"), catch(default=0).call(len, "abc"))


def test_async_functions_are_caught() -> None:
    """Coroutine functions, and functions that turn out to return coroutines."""

    async def main() -> list[Any]:
        return [
            await catch(default=1)(explode_async)(),
            await catch(default=2)(lambda: explode_async())(),
            await catch.call("x", explode_async),
            await catch(default=3).call(lambda: explode_async()),
            await catch(default=4)(asyncio.sleep)(0, "fine"),
        ]

    assert [1, 2, None, 3, "fine"] == asyncio.run(main())


def test_call_gives_the_result_or_none(heard: list[events.Event]) -> None:
    """``catch.call(name, fn, *args)``."""
    assert (None, 3) == (catch.call("apply configuration", explode), catch.call("measure", len, "abc"))
    assert ["apply configuration"] == [event.name for event in heard]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_exits_and_cancellation_are_never_caught(leaving: type[BaseException], heard: list[events.Event]) -> None:
    """In every form."""

    def leave() -> None:
        raise leaving

    async def leave_async() -> None:
        raise leaving

    with pytest.raises(leaving), catch("block"):
        leave()
    with pytest.raises(leaving):
        catch()(leave)()
    with pytest.raises(leaving):
        catch.call("call", leave)
    if leaving is not KeyboardInterrupt:
        with pytest.raises(leaving):
            asyncio.run(catch()(leave_async)())
    assert [] == heard


def test_panics_of_native_extensions_are_caught_by_name() -> None:
    """PyO3's PanicException derives from BaseException."""

    def panic() -> None:
        raise PanicException("rust says no")

    with catch("plugin") as caught:
        panic()
    assert isinstance(caught.error, PanicException)
    assert catch(default=5)(panic)() == 5


@pytest.mark.parametrize(
    "on",
    [
        OSError,
        (OSError, KeyError),
        "builtins.OSError",
        lambda error: isinstance(error, OSError),
        Classifier(Rule(OSError)),
    ],
)
def test_other_errors_pass(on: Any) -> None:
    """``on`` says which errors, as for Retry."""
    guarded = catch(default="caught", on=on)(lambda error: (_ for _ in ()).throw(error))

    @catch(default="caught", on=on)
    def fail(error: Exception) -> str:
        raise error

    assert "caught" == fail(ConnectionError())
    with pytest.raises(ValueError, match="not ours"):
        fail(ValueError("not ours"))
    assert guarded is not None


def test_a_verdict_of_fail_passes() -> None:
    """A classifier's FAIL is not caught; any other verdict is."""
    on = Classifier(Rule(KeyError, Action.FAIL), otherwise=Verdict(Action.RETRY))
    assert catch(on=on).call(explode) is None
    with pytest.raises(KeyError):
        catch(on=on).call({}.__getitem__, "k")


def test_a_catch_is_a_value() -> None:
    """Compared, hashed, pickled; made by the factory or by hand."""
    one = catch("x", default=3)
    assert one == pickle.loads(pickle.dumps(one)) == Catch("x", default=3) == Catch[int]("x", default=3)
    assert hash(one) == hash(Catch("x", default=3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: catch(3), "name must be a text that is not empty, or None, got 3"),
        (lambda: catch(""), "name must be a text that is not empty"),
        (lambda: catch(on=3), "on must say which errors"),
        (lambda: catch(explode), r"catch needs its parentheses: write @catch\(\) above the function"),
        (lambda: catch()(int), "catch cannot decorate the class int"),
        (lambda: catch()(lambda: (yield)), "is a generator function"),
    ],
)
def test_bad_settings_say_which(make: Any, message: str) -> None:
    """Each is named."""
    with pytest.raises(TypeError, match=message):
        make()


def test_nobody_listening_is_fine() -> None:
    """Without listeners, and with a log that is off, the error is simply caught."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        assert catch.call("quiet", explode) is None
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("form", ["plain", "async", "either"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", [None, "load"])
def test_the_timeline_of_execute_names_it(form: str, fails: bool, name: str | None) -> None:
    """As a layer, and alone."""

    async def good() -> int:
        return 7

    call = explode_async if fails else good
    guards: dict[str, Any] = {
        "plain": lambda guard: guard.execute(explode if fails else lambda: 7),
        "async": lambda guard: asyncio.run(guard.execute(call)),
        "either": lambda guard: asyncio.run(guard.execute(lambda: call())),
    }
    caught = catch(name, default=0)
    for guard, around in ((caught, []), (Pipeline(Retry(on=OSError), caught), ["Retry"])):
        outcome = guards[form](guard)
        entered = [event for event in outcome.timeline if isinstance(event, events.Entered)]
        assert [*around, name or "catch"] == [event.name for event in entered]
        assert ("catch", 0 if fails else 7) == (entered[-1].policy, outcome.value)
        assert fails == any(isinstance(event, events.Panic) for event in outcome.timeline)


def test_a_panic_begins_in_the_users_code(heard: list[events.Event]) -> None:
    """No frame of ours is in its traceback."""
    assert catch(default=0)(explode)() == 0
    (panic,) = heard
    assert isinstance(panic, events.Panic)
    traceback = panic.error.__traceback__
    assert traceback is not None
    assert explode.__code__ is traceback.tb_frame.f_code


@pytest.mark.parametrize("layers", [catch("plugin"), Pipeline(Retry(on=OSError), catch("plugin"))])
def test_it_is_no_layer_of_a_loop(layers: Any) -> None:
    """It says what to write instead, in coroutines too."""

    async def wrong() -> None:
        async with layers:
            raise AssertionError

    for enter in (lambda: iter(layers), lambda: layers.__aiter__(), lambda: asyncio.run(wrong())):
        with pytest.raises(TypeError, match="write `with catch"):
            enter()
