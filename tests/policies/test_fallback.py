"""Fallback: something else instead of an error."""

import asyncio
import gc
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import Action, Classifier, Retry, Rule, backoff
from resilient.core import events
from resilient.core.setting_errors import SettingError
from resilient.errors import CircuitOpen
from resilient.policies.fallback import Fallback
from resilient.policies.policy import Pipeline

every_loop = pytest.mark.parametrize("loop", LOOPS)


def fail(error: BaseException) -> int:
    raise error


async def fail_async(error: BaseException) -> int:
    raise error


def either(error: BaseException) -> Callable[[], Any]:
    return lambda: fail_async(error)


def say(error: Exception) -> str:
    return f"instead of {type(error).__name__}"


async def say_async(error: Exception) -> str:
    return f"later {say(error)}"


def test_a_good_call_gives_its_result() -> None:
    """The fallback has no say."""
    assert (3, 3) == (Fallback(0)(len)("abc"), Fallback(0).call(len, "abc"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (None, None),
        ("text", "text"),
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        (list, []),
        (dict, {}),
        (say, "instead of OSError"),
        (lambda: "no argument", "no argument"),
        (lambda *, error=None: error, None),
        (lambda error=None: type(error), OSError),
        (lambda *errors: len(errors), 1),
        (str, ""),
        (ValueError("as a value"), "ValueError"),
    ],
)
def test_values_and_functions(value: Any, expected: object) -> None:
    """A value as it is; what a function makes of the error, or of nothing."""
    given = Fallback(value).call(fail, OSError())
    assert expected == (type(given).__name__ if isinstance(given, Exception) else given)


def test_a_class_that_needs_the_error_gets_it() -> None:
    """One that does not makes a fresh value."""

    class Wrapped:
        def __init__(self, error: Exception) -> None:
            self.error = error

    error = OSError()
    wrapped = Fallback(Wrapped).call(fail, error)
    assert isinstance(wrapped, Wrapped)
    assert error is wrapped.error


def test_what_does_not_tell_its_parameters_is_called_without() -> None:
    """A builtin, or what answers nothing sensible to being asked."""

    class Silent:
        __signature__ = "none"

        def __call__(self, *given: object) -> int:
            return len(given)

    assert 0 == Fallback(Silent()).call(fail, OSError())


def test_by_error_type() -> None:
    """In order, as ``except`` clauses; the others pass."""
    policy = Fallback({ConnectionError: "offline", OSError: say, KeyError: lambda: "none"})
    assert "offline" == policy.call(fail, ConnectionResetError())
    assert "instead of FileNotFoundError" == policy.call(fail, FileNotFoundError())
    assert "none" == policy.call(fail, KeyError())
    with pytest.raises(ValueError, match="other"):
        policy.call(fail, ValueError("other"))


@pytest.mark.parametrize(
    "on", [OSError, (OSError, KeyError), "builtins.OSError", lambda error: isinstance(error, OSError), Rule(OSError)]
)
def test_other_errors_pass(on: Any) -> None:
    """``on`` says which, as for Retry; what passes is the error itself."""
    policy = Fallback("instead", on=on)
    error = ValueError("not ours")
    assert "instead" == policy.call(fail, ConnectionError())
    with pytest.raises(ValueError, match="not ours") as caught:
        policy.call(fail, error)
    assert (error, None) == (caught.value, error.__context__)


def test_a_verdict_of_fail_passes() -> None:
    """Any other falls back."""
    policy = Fallback(0, on=Classifier(Rule(KeyError, Action.FAIL), Rule(Exception, Action.WAIT)))
    assert 0 == policy.call(fail, OSError())
    with pytest.raises(KeyError):
        policy.call(fail, KeyError())


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_exits_and_cancellation_pass(leaving: type[BaseException]) -> None:
    """In every form."""
    policy = Fallback(0)
    with pytest.raises(leaving):
        policy.call(fail, leaving())
    for coroutine in (policy.call(fail_async, leaving()), policy.call(either(leaving()))):
        with pytest.raises(leaving):
            coroutine.send(None)


@pytest.mark.parametrize("value", ["instead", lambda: "instead", say, say_async, lambda error: say_async(error)])
@every_loop
def test_async_calls(loop: str, value: Any) -> None:
    """Coroutine functions, and what turns out to be async; fallbacks of either kind."""
    policy = Fallback(value)

    async def main() -> list[Any]:
        return [
            await policy(fail_async)(OSError()),
            await policy.call(fail_async, OSError()),
            await policy.call(either(OSError())),
        ]

    (result,) = set(run(loop, main))
    assert "instead" in result


@every_loop
def test_async_errors_pass_and_results_come_through(loop: str) -> None:
    """What does not fall back is raised."""
    policy = Fallback(0, on=KeyError)

    async def good() -> int:
        return 5

    async def main() -> Any:
        for call in (lambda: policy.call(fail_async, OSError("a")), lambda: policy.call(either(OSError("b")))):
            with pytest.raises(OSError):
                await call()
        return await policy.call(good), await policy.call(lambda: good())

    assert (5, 5) == run(loop, main)


def test_an_async_fallback_is_for_async_functions() -> None:
    """A plain function is refused when it is decorated; what cannot be known before, when it fails."""
    message = "the fallback say_async is async: it can stand in for coroutine functions only"
    with pytest.raises(TypeError, match=message):
        Fallback({OSError: 0, KeyError: say_async})(fail)
    with pytest.raises(TypeError, match=message) as caught:
        Fallback(say_async).call(fail, OSError())
    assert isinstance(caught.value.__context__, OSError)
    with pytest.raises(TypeError, match="is async") as caught:
        Fallback(lambda error: say_async(error)).call(fail, OSError())
    assert isinstance(caught.value.__cause__, OSError)


@every_loop
def test_a_fallback_that_fails_raises_its_own_error(loop: str) -> None:
    """The call's is its context, its cause what it chose itself; a bare ``raise`` lets the call's pass."""

    def broken(error: Exception) -> None:
        raise RuntimeError("broken")

    def reraise() -> None:
        raise  # noqa: PLE0704  # as in an except block

    error = OSError("first")
    cases = [(fail, False), (fail_async, True)]

    async def main() -> None:
        for call, is_async in cases:
            for value, kind in ((broken, RuntimeError), (reraise, OSError)):
                with pytest.raises(kind) as caught:
                    result = Fallback(value).call(call, error)
                    if is_async:
                        await result
                assert caught.value.__cause__ is None
                assert (caught.value.__context__ or error) is error

    run(loop, main)


def test_it_is_told() -> None:
    """To the policy's listeners, with the error."""
    told: list[events.Event] = []
    error = OSError()
    Fallback(0, listeners=told.append).call(fail, error)  # type: ignore[arg-type]
    Fallback(0, name="price", listeners=(told.append,)).call(fail, error)
    Fallback(0, on=KeyError, listeners=(told.append,)).call(len, "")
    assert [events.FellBack("Fallback", 0.0, error), events.FellBack("price", 0.0, error)] == told


def test_execute_keeps_a_timeline() -> None:
    """Each layer, and the fall back."""
    outcome = Fallback(0).execute(fail, OSError())
    assert (0, None, ["Entered", "FellBack"]) == (
        outcome.value,
        outcome.error,
        [type(event).__name__ for event in outcome.timeline],
    )

    async def main() -> Any:
        return await Fallback(say_async).execute(fail_async, OSError()), await Fallback(1).execute(either(OSError()))

    assert ["later instead of OSError", 1] == [outcome.value for outcome in asyncio.run(main())]


def test_it_composes() -> None:
    """Around a Retry it takes the last error, inside it each; rejections fall back like others."""
    retrying = Retry(on=OSError, attempts=3, backoff=backoff.constant(0))
    calls: list[int] = []

    def failing() -> int:
        calls.append(1)
        raise OSError

    assert (0, 3) == (Pipeline(Fallback(0), retrying).call(failing), len(calls))
    assert (0, 4) == (Pipeline(retrying, Fallback(0)).call(failing), len(calls))
    assert "instead of CircuitOpen" == Pipeline(Fallback(say), retrying.with_(attempts=1)).call(fail, CircuitOpen())


def test_the_signature_and_the_arguments_stay() -> None:
    """Also one whose names are those that a wrapper might use."""

    @Fallback(0)
    def named(entered: int, error: int = 2, *rest: int, value: int = 4) -> int:
        return entered / 0  # type: ignore[return-value]

    assert ["entered", "error", "rest", "value"] == list(inspect.signature(named).parameters)
    assert 0 == Fallback(0).execute(named, 1).value == named(1)


def test_it_is_a_value() -> None:
    """Compared, pickled, changed."""
    one = Fallback(3, on=OSError, name="x")
    assert one == pickle.loads(pickle.dumps(one)) == Fallback[int](3, on=OSError, name="x")
    assert hash(one) == hash(Fallback(3, on=OSError, name="x"))
    assert (4, "x", one.on) == (one.with_(value=4).call(fail, OSError()), one.with_(value=4).name, one.with_().on)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Fallback(0, name=3), TypeError, "name must be a str, got 3"),  # type: ignore[call-overload]
        (lambda: Fallback(0, listeners=3), TypeError, "listeners must be functions of an event"),  # type: ignore[call-overload]
        (lambda: Fallback(0, on=3), TypeError, "on must say which errors"),  # type: ignore[call-overload]
        (lambda: Fallback({OSError: 1, ConnectionError: 2}), ValueError, "rule 2 can never be reached"),
        (lambda: Fallback({KeyboardInterrupt: 1}), TypeError, r"value\[KeyboardInterrupt\] can never be used"),
        (lambda: iter(Fallback(0)), TypeError, "Fallback cannot guard a block"),
    ],
)
def test_bad_settings_say_which(make: Any, kind: type[Exception], message: str) -> None:
    """Each is named."""
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("value", [{OSError: 1, ConnectionError: 2}, {KeyboardInterrupt: 1}])
def test_a_wrong_mapping_is_found_by_the_arguments_name(value: Any) -> None:
    """The error carries it, though its text speaks of one entry."""
    with pytest.raises(SettingError) as caught:
        Fallback(value)
    assert "value" == caught.value.setting


@every_loop
def test_errors_leave_no_garbage(loop: str) -> None:
    """Neither those that fall back nor those that pass."""

    class Failed(Exception):
        alive = 0

        def __init__(self) -> None:
            Failed.alive += 1

        def __del__(self) -> None:
            Failed.alive -= 1

    def failing() -> None:
        raise Failed

    async def failing_async() -> None:
        raise Failed

    async def main() -> int:
        gc.collect()
        gc.disable()
        try:
            for policy in (Fallback(0), Fallback(0, on=KeyError), Fallback({Failed: say}), Fallback(lambda: 1 / 0)):
                for call, is_async in ((failing, False), (failing_async, True), (lambda: failing_async(), True)):
                    try:
                        result = policy.call(call)
                        if is_async:
                            await result  # type: ignore[misc]
                    except Exception:
                        pass
            return Failed.alive
        finally:
            gc.enable()

    assert 0 == run(loop, main)
