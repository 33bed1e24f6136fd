"""The attempt that runs now, found on the stack."""

import _thread
import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from resilient import (
    Action,
    CircuitBreaker,
    Classifier,
    Hedge,
    Pipeline,
    Recovery,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_attempt,
)
from resilient.drivers.retry.attempts import (
    Attempt,
    Place,
    attempt_around,
    attempt_ended_at,
    handed_on,
    is_ours,
    no_attempt,
    register,
)  # fmt: skip
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
policy = Retry(on=OSError, attempts=3, backoff=AT_ONCE)


def seen() -> tuple[int, str]:
    """The number of the running attempt and the error before it."""
    attempt = current_attempt()
    assert attempt is not None
    return attempt.number, type(attempt.last_error).__name__


def fails_twice() -> Any:
    """A call that fails twice and notes the running attempt each time."""
    notes: list[tuple[int, str]] = []

    def call(*args: Any) -> list[tuple[int, str]]:
        notes.append(seen())
        if len(notes) < 3:
            raise ConnectionError
        return notes

    return call


EXPECTED = [(1, "NoneType"), (2, "ConnectionError"), (3, "ConnectionError")]


class Client:
    def __init__(self) -> None:
        self.call = fails_twice()

    @policy
    def method(self) -> Any:
        return self.call()


def async_of(call: Any) -> Any:
    async def acall() -> Any:
        await asyncio.sleep(0)
        return call()

    return acall


@pytest.mark.parametrize(
    "form",
    [
        lambda call: policy(lambda: call())(),
        lambda call: policy.call(call),
        lambda call: policy.execute(call).unwrap(),
        lambda call: policy.with_(timeout=60)(call)(),
        lambda call: policy.with_(attempt_timeout=60).call(call),
        lambda call: policy.with_(recovery=Recovery())(call)(),
        lambda call: policy.proxy(Client(), methods=["method"]).call() if False else Client().method(),
        lambda call: asyncio.run(policy(async_of(call))()),
        lambda call: asyncio.run(policy.call(async_of(call))),
        lambda call: asyncio.run(policy.with_(timeout=60)(async_of(call))()),
        lambda call: asyncio.run(policy(lambda: async_of(call)())()),
    ],
)
def test_the_running_attempt_is_known_inside_the_call(form: Any) -> None:
    """Number and last error, in every form, from the first attempt on."""
    assert EXPECTED == form(fails_twice())


def test_the_running_attempt_is_known_inside_a_stream() -> None:
    """Number and last error, while a stream is opened again."""
    call = fails_twice()

    @policy.with_(streaming=True)
    def stream() -> Iterator[Any]:
        yield call()

    assert [EXPECTED] == list(stream())


def test_outside_there_is_no_attempt() -> None:
    """None before, between and after."""
    assert current_attempt() is None
    policy.call(seen)
    assert current_attempt() is None


def test_the_innermost_attempt_is_the_running_one() -> None:
    """Nested guards: each sees its own."""
    numbers: list[int] = []

    @policy
    def outer() -> None:
        if len(numbers) < 2:
            numbers.append(seen()[0])
            raise ConnectionError
        inner()
        numbers.append(seen()[0])

    @policy
    def inner() -> None:
        numbers.append(seen()[0])

    outer()
    assert [1, 2, 1, 3] == numbers


def test_blocks_and_calls_nest() -> None:
    """A block inside a call, a call inside a block: the innermost again, and the outer one afterwards."""
    numbers: list[int] = []

    @policy
    def called() -> None:
        numbers.append(seen()[0])
        for attempt in policy:
            with attempt:
                numbers.append(seen()[0])
                if attempt.number < 2:
                    raise ConnectionError
        numbers.append(seen()[0])

    for attempt in policy:
        with attempt:
            if attempt.number == 1:
                raise ConnectionError
            called()
            numbers.append(seen()[0])
    assert [1, 1, 2, 1, 2] == numbers
    assert current_attempt() is None


def test_a_block_is_seen_from_a_task_it_starts() -> None:
    """Tasks copy the context, and so the block around them."""

    async def main() -> int:
        async for attempt in policy:
            with attempt:
                return await asyncio.create_task(inner())
        raise AssertionError

    async def inner() -> int:
        return seen()[0]

    assert 1 == asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_in_a_recovery_handler_no_attempt_runs(is_async: bool) -> None:
    """Between two attempts there is none; calls that the handler guards have their own."""
    found: list[object] = []

    def reconnect() -> None:
        found.append(current_attempt())
        found.append(policy.call(seen))

    on = Classifier(Rule(OSError, Action.RECONNECT))
    recovering = Retry(on=on, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
    script = Script("fail", 7)
    assert 7 == (asyncio.run(recovering.call(script.call_async)) if is_async else recovering.call(script))
    assert [None, (1, "NoneType")] == found


def test_other_threads_see_nothing() -> None:
    """A thread of its own is outside."""
    found: list[object] = []

    def call() -> None:
        thread = threading.Thread(target=lambda: found.append(current_attempt()))
        thread.start()
        thread.join()

    policy.call(call)
    assert [None] == found


def test_remaining_counts_down_to_the_nearer_limit() -> None:
    """What is left of the attempt or of the whole call."""
    left: list[float | None] = []

    with FakeClock() as clock:

        def call() -> None:
            attempt = current_attempt()
            assert attempt is not None
            left.append(attempt.remaining)
            clock.advance(4)
            left.append(attempt.remaining)
            if len(left) < 6:
                raise ConnectionError

        Retry(on=OSError, timeout=20, attempt_timeout=9, backoff=backoff.constant(3))(call)()
        assert [9, 5, 9, 5, 6, 2] == left

        left.clear()
        Retry(on=OSError).call(lambda: left.append(current_attempt().remaining))  # type: ignore[union-attr]
    assert [None] == left


def test_an_attempt_shows_its_number() -> None:
    """In a debugger it reads well."""
    assert "<Attempt 1>" == policy.call(lambda: repr(current_attempt()))
    assert "<AttemptBlock 1>" == next(repr(attempt) for attempt in policy)


def test_an_attempt_knows_the_name_of_its_policy() -> None:
    """Empty if it has none."""
    name = lambda: current_attempt().name  # type: ignore[union-attr]  # noqa: E731
    assert ("send", "") == (policy.with_(name="send").call(name), policy.call(name))


OUTER = Retry(on=OSError, attempts=2, backoff=AT_ONCE, name="outer")
FORMS: dict[str, Any] = {
    "function": lambda guard, call: guard(lambda: call())(),
    "named function": lambda guard, call: guard(call)(),
    "call": lambda guard, call: guard.call(call),
    "execute": lambda guard, call: guard.execute(call).unwrap(),
    "timed": lambda guard, call: guard.with_(timeout=60)(call)(),
    "heard": lambda guard, call: guard.with_(listeners=(lambda event: None,)).call(call),
    "proxy": lambda guard, call: guard.proxy(Holder(call)).run(),
    "async": lambda guard, call: asyncio.run(guard(async_of(call))()),
    "async call": lambda guard, call: asyncio.run(guard.call(async_of(call))),
    "async execute": lambda guard, call: asyncio.run(guard.execute(async_of(call))).unwrap(),
    "disguised": lambda guard, call: asyncio.run(guard(lambda: async_of(call)())()),
}


class Holder:
    def __init__(self, call: Any) -> None:
        self.call = call

    def run(self) -> Any:
        return self.call()


def notes_of(run: Any) -> list[str]:
    with pytest.raises(ConnectionError) as caught:
        run()
    return caught.value.__notes__


@pytest.mark.parametrize("inner", [name for name in FORMS if "async" not in name and name != "disguised"])
@pytest.mark.parametrize("outer", FORMS)
@pytest.mark.parametrize("nested", [True, False])
def test_a_retry_within_an_attempt_of_another_is_noticed(outer: str, inner: str, nested: bool) -> None:
    """In whatever form either is used: noted on the error, and one attempt if it should leave it to the outer one."""
    script = Script("fail")
    within = Retry(on=OSError, attempts=3, backoff=AT_ONCE, name="inner", nested=nested)
    notes = notes_of(lambda: FORMS[outer](OUTER, lambda: FORMS[inner](within, script)))
    text = "within attempt 2 of outer" if nested else "nested=False, within attempt 2 of outer"
    assert (6 if nested else 2) == script.calls
    assert notes[0].endswith(f"attempts exhausted ({text})")
    assert notes[-1].endswith("attempts exhausted")


@pytest.mark.parametrize("form", FORMS)
def test_a_retry_that_is_not_nested_is_not_taken_for_it(form: str) -> None:
    """Its own driver and wrapper are no attempt around it."""
    script = Script("fail")
    notes = notes_of(lambda: FORMS[form](OUTER.with_(nested=False), script))
    assert (2, True) == (script.calls, notes[0].endswith("attempts exhausted"))


def test_a_block_within_an_attempt_is_noticed() -> None:
    """And an attempt within a block."""
    script = Script("fail")

    def block() -> None:
        for attempt in Retry(on=OSError, attempts=3, backoff=AT_ONCE, nested=False):
            with attempt:
                script()

    assert "(nested=False, within attempt 2 of outer)" in notes_of(lambda: OUTER.call(block))[0]
    assert 2 == script.calls

    def call_in_block() -> None:
        for attempt in OUTER:
            with attempt:
                Retry(on=OSError, nested=False).call(script)

    assert "(nested=False, within attempt 2 of outer)" in notes_of(call_in_block)[0]
    assert 4 == script.calls


def test_an_unnamed_policy_around_is_another_policy() -> None:
    """The note says what it can."""
    inner = Retry(on=OSError, attempts=1)
    notes = notes_of(lambda: policy.call(lambda: inner.call(Script("fail"))))
    assert "(within attempt 3 of another policy)" in notes[0]


def test_a_thread_that_begins_with_a_guarded_call_is_within_nothing() -> None:
    """The search ends at the bottom of the stack."""
    outcomes: list[object] = []
    over = threading.Event()

    def note(event: object) -> None:
        outcomes.append(event)
        over.set()

    def fail() -> None:
        sys.settrace(threading.gettrace())  # coverage follows threads of the threading module only
        raise OSError

    guarded = Retry(on=OSError, attempts=1, nested=False, listeners=(note,))
    _thread.start_new_thread(guarded.execute, (fail,))
    over.wait()
    assert "(nested" not in str(outcomes[0])


def test_recursion_is_nesting_too() -> None:
    """One policy within an attempt of itself."""
    script = Script("fail")

    @OUTER
    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        script()

    assert "(within attempt 2 of outer)" in notes_of(lambda: descend(1))[0]
    assert 4 == script.calls


def test_a_recovery_handler_is_within_no_attempt() -> None:
    """What it guards may try again."""
    ping = Script("fail", "pong")
    inner = Retry(on=OSError, backoff=AT_ONCE, nested=False)
    on = Classifier(Rule(OSError, Action.RECONNECT))
    recovery = Recovery(reconnect=lambda: inner.call(ping))
    assert 7 == Retry(on=on, backoff=AT_ONCE, recovery=recovery).call(Script("fail", 7))
    assert 2 == ping.calls


def test_a_stream_may_be_nested_too() -> None:
    """It is opened within an attempt."""
    script = Script("fail")

    @Retry(on=OSError, backoff=AT_ONCE, streaming=True, nested=False)
    def stream() -> Iterator[Any]:
        yield script()

    assert "(nested=False, within attempt 2 of outer)" in notes_of(lambda: OUTER.call(lambda: list(stream())))[0]
    assert 2 == script.calls


def test_layers_of_a_pipeline_are_nested() -> None:
    """Whatever lies between them."""
    script = Script("fail")
    layers = Pipeline(OUTER, CircuitBreaker(), Timeout(60), policy.with_(nested=False))
    assert "(nested=False, within attempt 2 of outer)" in notes_of(lambda: layers.call(script))[0]
    assert 2 == script.calls


def found_in_a_thread() -> tuple[int, str, object] | None:
    """The attempt that a thread finds whose context it was handed on: its number, name and last error."""
    found: list[tuple[int, str, object] | None] = []

    def look() -> None:
        attempt = current_attempt()
        found.append(None if attempt is None else (attempt.number, attempt.name, attempt.last_error))

    thread = threading.Thread(target=handed_on(copy_context()).run, args=(look,))
    thread.start()
    thread.join()
    return found[0]


def test_an_attempt_is_handed_on() -> None:
    """Without its error; outside any there is nothing to hand on."""
    assert found_in_a_thread() is None
    call = Script("fail", found_in_a_thread)
    assert (2, "outer", None) == OUTER.call(lambda: call()())


def test_what_is_handed_on_knows_its_limits() -> None:
    """What remains is read where it runs."""

    def look() -> float | None:
        attempt = handed_on(copy_context()).run(lambda: current_attempt())
        assert attempt is not None
        return attempt.remaining

    with FakeClock():
        assert 9.0 == Retry(on=OSError, timeout=20, attempt_timeout=9).call(look)


def test_a_block_is_in_the_context_already() -> None:
    """It is found there, with all it knows."""
    for attempt in OUTER:
        with attempt:
            context = handed_on(copy_context())
            assert attempt is context.run(seen_by_a_thread)


def seen_by_a_thread() -> object:
    """The attempt that a thread finds with a copy of the context, and nothing of this stack."""
    found: list[object] = []
    thread = threading.Thread(target=copy_context().run, args=(lambda: found.append(current_attempt()),))
    thread.start()
    thread.join()
    return found[0]


def test_a_recovery_handler_in_a_block_hands_nothing_on() -> None:
    """Between two attempts there is none, whatever is around."""
    found: list[object] = []
    on = Classifier(Rule(OSError, Action.RECONNECT))
    recovery = Recovery(reconnect=lambda: found.append(found_in_a_thread()))
    for attempt in OUTER:
        with attempt:
            Retry(on=on, backoff=AT_ONCE, recovery=recovery).call(Script("fail", 7))
    assert [None] == found


@pytest.mark.parametrize(
    ("layer", "calls"), [(Timeout(60, worker=True), 2), (Hedge(60), 4), (Hedge(60) >> Timeout(60, worker=True), 4)]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_retry_in_another_thread_or_task_is_nested_too(layer: Any, calls: int, is_async: bool) -> None:
    """Where the layers themselves leave the stack."""
    script = Script("fail")
    layers = Pipeline(OUTER, layer, policy.with_(nested=False))
    with FakeClock():
        if is_async:
            notes = notes_of(lambda: asyncio.run(layers.call(script.call_async)))
        else:
            notes = notes_of(lambda: layers.call(script))
    assert calls == script.calls
    assert notes[0].endswith("attempts exhausted (nested=False, within attempt 2 of outer)")


def test_an_attempt_knows_whether_its_own_limit_ended_it() -> None:
    """And not whatever else might have."""
    ends: list[float | None] = []

    def look() -> None:
        ends.extend((attempt_ended_at(9.0), attempt_ended_at(8.0)))

    with FakeClock():
        look()
        Retry(on=OSError, attempt_timeout=9).call(look)
        OUTER.call(look)
        OUTER.with_(timeout=9).call(look)
        for attempt in Pipeline(Timeout(9)):
            with attempt:
                look()
    assert [None, None, 9.0, *[None] * 7] == ends


def test_handing_on_leaves_no_garbage() -> None:
    """The error before the attempt goes with the call."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(OSError):
        pass

    def fail() -> None:
        handed_on(copy_context())
        error = Noted()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        try:
            policy.call(fail)
        except Noted:
            pass
        assert [None] * 3 == [error() for error in errors]
    finally:
        gc.enable()


def test_the_stack_shows_the_attempt_around() -> None:
    """A call that runs in none is within none."""
    outer = Retry(on=OSError, name="outer")
    found = outer.call(lambda: attempt_around(Retry(on=OSError)))
    assert found is not None
    assert (1, "outer") == (found.number, found.name)
    assert attempt_around(outer) is None


def test_our_frames_are_known_by_their_globals() -> None:
    """Drivers, policies and wrappers are ours; what the user wrote is not."""
    ours = Retry(on=OSError)(seen)
    assert [True, True, True, False, False] == [
        is_ours(namespace)
        for namespace in (
            Attempt.__init__.__globals__,
            {"__name__": "resilient.policies.retry"},
            ours.__globals__,
            {"__name__": "resilient.testing"},
            {},
        )
    ]


def test_a_registered_reader_says_which_attempt_a_frame_makes() -> None:
    """Whoever registers a function's code knows its locals; nobody else does."""
    made = Attempt(policy, 7, None, None, None)

    def drive() -> object:
        return current_attempt()

    def pause_between() -> object:
        return current_attempt()

    register(drive.__code__, Place.DRIVER, lambda frame: made)
    register(pause_between.__code__, Place.BETWEEN, no_attempt)
    assert [made, None] == [policy.call(drive), policy.call(pause_between)]
