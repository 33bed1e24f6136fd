"""The layers of a block: who tries again, which gates hear what, whose time is up; no ticket is left open."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from books import Book, part
from loops import LOOPS, run

from resilient import (
    Action,
    AttemptTimeout,
    CircuitOpen,
    Classifier,
    DeadlineExceeded,
    Recovery,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_attempt,
    current_deadline,
    events,
)
from resilient.drivers.blocks.attempts import AsyncAttempts, Attempts
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
ONE = backoff.constant(1)


def retrying(**settings: Any) -> Any:
    """The part of a Retry."""
    (only,) = Retry(**{"on": OSError, "attempts": 3, "backoff": AT_ONCE, **settings}).parts()
    return only


def limiting(seconds: float, **settings: Any) -> Any:
    """The part of a Timeout inside a Retry."""
    (only,) = Timeout(seconds, **settings).of_attempts().parts()
    return only


def outer_limit(seconds: float) -> Any:
    """The part of a Timeout outside."""
    (only,) = Timeout(seconds).parts()
    return only


def play(parts: tuple[Any, ...], call: Callable[[], Any], *, judged: bool = False) -> Any:
    """Runs a block of these parts."""
    value = None
    for attempt in Attempts(parts):
        with attempt:
            value = call()
            if judged:
                attempt.set_result(value)
    return value


async def play_async(parts: tuple[Any, ...], call: Callable[[], Any], *, judged: bool = False) -> Any:
    """Runs an async block of these parts; whatever the call gives is awaited if it can be."""
    value = None
    async for attempt in AsyncAttempts(parts):
        with attempt:
            value = call()
            if asyncio.iscoroutine(value):
                value = await value
            if judged:
                attempt.set_result(value)
    return value


FORMS = ["blocking", "asyncio", "trio"]


def play_in(form: str, parts: tuple[Any, ...], call: Callable[[], Any], *, judged: bool = False) -> Any:
    """Runs a block of these parts in some form."""
    if form == "blocking":
        return play(parts, call, judged=judged)
    return run(form, lambda: play_async(parts, call, judged=judged))


@pytest.mark.parametrize("form", FORMS)
def test_gates_outside_see_the_call_and_those_inside_every_attempt(form: str) -> None:
    """Outside one ticket for all attempts, inside one each; a rejected result is one more attempt."""
    outside, inside, script = Book(), Book(), Script("fail", 3, 7)
    on = Classifier(Rule(OSError), Rule.result(lambda value: value == 3))
    parts = (part(outside), retrying(on=on), part(inside))
    assert 7 == play_in(form, parts, script, judged=True)
    assert (["passed 7"], ["failed ConnectionError", "passed 3", "passed 7"]) == (outside.ended, inside.ended)


@pytest.mark.parametrize("form", FORMS)
def test_an_error_to_the_end_reaches_every_gate(form: str) -> None:
    """And comes back to the caller as it is."""
    outside, inside, error = Book(), Book(), KeyError("k")
    with pytest.raises(KeyError) as caught:
        play_in(form, (part(outside), retrying(), part(inside)), Script(error))
    assert error is caught.value
    assert (["failed KeyError"], ["failed KeyError"]) == (outside.ended, inside.ended)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_gate_rejects_is_tried_again_by_whoever_is_outside(form: str) -> None:
    """After as long as the rejection says; the gates passed before it get their tickets back."""
    before, gate = Book(), Book(CircuitOpen("db", 4.0), CircuitOpen("db", None))
    script = Script(7)
    with FakeClock() as clock:
        assert 7 == play_in(form, (retrying(on=KeyError, backoff=ONE), part(before), part(gate)), script)
    assert ([4, 1], 1, 3) == (clock.sleeps, script.calls, len(before.ended))
    assert set() == before.open | gate.open


@pytest.mark.parametrize("form", FORMS)
def test_what_a_gate_rejects_with_nobody_outside_is_raised(form: str) -> None:
    """The block does not run."""
    first, script = Book(), Script(7)
    with pytest.raises(CircuitOpen):
        play_in(form, (part(first), part(Book(CircuitOpen())), retrying()), script)
    assert (["failed CircuitOpen"], 0) == (first.ended, script.calls)


def test_a_wait_in_a_queue_can_read_the_deadline() -> None:
    """When it must be over."""
    gate = Book(joins=True)
    with FakeClock():
        assert 7 == asyncio.run(play_async((outer_limit(9), part(gate)), Script(7)))
    assert (["passed no value"], [9.0]) == (gate.ended, gate.deadlines)


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_a_wait_at_a_gate_can_read_the_deadline(form: str) -> None:
    """Of the limits outside it, and of nothing else."""
    outside, inside = Book(), Book()
    with FakeClock():
        play_in(form, (part(outside), outer_limit(9), retrying(attempt_timeout=4), part(inside)), Script(7))
        assert current_deadline() is None
    assert ([None], [4.0]) == (outside.deadlines, inside.deadlines)


@pytest.mark.parametrize("form", FORMS)
def test_an_inner_retry_begins_anew_in_each_attempt_of_an_outer_one(form: str) -> None:
    """Attempts multiply; the gate between sees the outer attempts."""
    between, script = Book(), Script("fail")
    parts = (retrying(attempts=2, name="outer"), part(between), retrying(attempts=3, name="inner"))
    with pytest.raises(ConnectionError) as caught:
        play_in(form, parts, script)
    assert (6, ["failed ConnectionError"] * 2) == (script.calls, between.ended)
    assert "gave up after 3 attempts in 0.00 s: attempts exhausted (within attempt 2 of outer)" in "".join(
        caught.value.__notes__[1]
    ) + caught.value.__notes__[0].replace("attempt 1", "attempt 2")


@pytest.mark.parametrize("form", FORMS)
def test_an_inner_retry_may_leave_it_to_the_outer_one(form: str) -> None:
    """``nested=False`` makes one attempt."""
    script = Script("fail")
    with pytest.raises(ConnectionError) as caught:
        play_in(form, (retrying(attempts=2, name="outer"), retrying(nested=False)), script)
    assert 2 == script.calls
    assert "(nested=False, within attempt 2 of outer)" in caught.value.__notes__[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_predicate_that_raises_goes_on_outward_in_place_of_the_error(form: str) -> None:
    """The gates outside hear of it, and whoever is outside may try again."""
    outside, inside, script = Book(), Book(), Script("fail", 7)
    broken = retrying(on=lambda error: error.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        play_in(form, (part(outside), broken, part(inside)), Script("fail"))
    assert (["failed AttributeError"], ["failed ConnectionError"]) == (outside.ended, inside.ended)
    assert 7 == play_in(form, (retrying(on=AttributeError), broken), script)
    assert 2 == script.calls


@pytest.mark.parametrize("form", FORMS)
def test_a_rule_that_raises_about_a_result_goes_on_outward_too(form: str) -> None:
    """It is not judged by its own policy."""
    outside, script = Book(), Script(None, 7)
    broken = retrying(on=Classifier(Rule(Exception), Rule.result(lambda value: value + 1 == 0)))
    with pytest.raises(TypeError):
        play_in(form, (part(outside), broken), Script(None), judged=True)
    assert ["failed TypeError"] == outside.ended
    assert 7 == play_in(form, (retrying(on=TypeError), broken), script, judged=True)
    assert 2 == script.calls


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("outcome", ["fail", 7])
def test_what_a_gate_raises_of_itself_takes_the_place_of_the_error(form: str, outcome: object) -> None:
    """Whether it was told of a result or of an error."""
    outside, inside = Book(), Book(broken=ValueError("the gate's own"))
    with pytest.raises(ValueError, match="the gate's own"):
        play_in(form, (part(outside), part(inside)), Script(outcome))
    assert ["failed ValueError"] == outside.ended
    assert set() == outside.open | inside.open


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_exits_pass_and_give_every_ticket_back(form: str, leaving: type[BaseException]) -> None:
    """From the block, and from a gate."""
    outside, inside, script = Book(), Book(), Script(leaving)
    if form == "blocking" or leaving is not KeyboardInterrupt:
        with pytest.raises(leaving):
            play_in(form, (part(outside), retrying(on=Exception), part(inside)), script)
        with pytest.raises(leaving):
            play_in(form, (part(outside), retrying(on=Exception), part(Book(leaving()))), script)
        assert (1, 2, 1) == (script.calls, len(outside.ended), len(inside.ended))
    assert set() == outside.open | inside.open


@pytest.mark.parametrize("how", ["return", "break", "raise", "between", "never entered"])
@pytest.mark.parametrize("form", ["blocking", "async"])
def test_a_loop_that_is_left_gives_every_ticket_back(how: str, form: str) -> None:
    """At once, while its attempt is still at hand."""
    outside, inside = Book(), Book()
    parts = (part(outside), retrying(), part(inside))
    held: list[Any] = []

    def body(attempt: Any) -> bool:
        held.append(attempt)
        if how == "never entered":
            held.clear()
            return True
        with attempt:
            if how in ("return", "break"):
                return True
            raise KeyError if how == "raise" else OSError
        return how == "between"

    async def loop() -> None:
        async for attempt in AsyncAttempts(parts):
            if body(attempt):
                return

    def blocking() -> None:
        for attempt in Attempts(parts):
            if body(attempt):
                break

    with contextlib.suppress(KeyError):
        blocking() if form == "blocking" else asyncio.run(loop())
    assert (set(), 1, 1) == (outside.open | inside.open, outside.given, inside.given)
    expected = {
        "return": ["passed no value"] * 2,
        "break": ["passed no value"] * 2,
        "raise": ["failed KeyError"] * 2,
        "between": ["failed OSError", "failed GeneratorExit"],
        "never entered": ["failed GeneratorExit"] * 2,
    }
    assert expected[how] == inside.ended + outside.ended


def test_a_generator_that_is_closed_inside_its_block_gives_its_tickets_back() -> None:
    """It ends with GeneratorExit."""
    gate = Book()

    def items() -> Iterator[int]:
        for attempt in Attempts((part(gate), retrying())):
            with attempt:
                yield 1

    stream = items()
    next(stream)
    assert {1} == gate.open
    stream.close()  # type: ignore[attr-defined]
    assert ["failed GeneratorExit"] == gate.ended


class TestLimits:
    """Limits of time among the layers of a block."""

    @pytest.mark.parametrize("loop", LOOPS)
    def test_an_attempt_that_is_cut_off_is_tried_again(self, loop: str) -> None:
        """Whatever ``on`` says of other errors; gates inside the limit are not at fault, those outside are told."""
        inside, between, outside = Book(), Book(), Book()
        heard: list[events.Event] = []
        durations = [50.0, 50.0, 1.0]
        with FakeClock() as clock:
            limit = limiting(5, name="each", listeners=(heard.append,))
            parts = (part(outside), retrying(on=KeyError, backoff=ONE), part(between), limit, part(inside))
            run(loop, lambda: play_async(parts, lambda: clock.asleep(durations.pop(0))))
            assert 13.0 == clock.now()
        assert ["failed GeneratorExit", "failed GeneratorExit", "passed no value"] == inside.ended
        assert ["failed AttemptTimeout", "failed AttemptTimeout", "passed no value"] == between.ended
        assert ["passed no value"] == outside.ended
        assert ["each: attempt timed out after 5 s"] * 2 == [str(event) for event in heard]

    @pytest.mark.parametrize("loop", LOOPS)
    def test_a_limit_outside_ends_everything(self, loop: str) -> None:
        """In the attempt under way; what is inside it is not at fault."""
        inside, outside = Book(), Book()
        with FakeClock() as clock:
            parts = (part(outside), outer_limit(7), retrying(attempts=9), part(inside), limiting(5))
            with pytest.raises(DeadlineExceeded, match="deadline exceeded after 7 s") as caught:
                run(loop, lambda: play_async(parts, lambda: clock.asleep(99)))
            assert 7.0 == clock.now()
        assert not hasattr(caught.value, "__notes__")
        assert (["failed AttemptTimeout", "failed GeneratorExit"], ["failed DeadlineExceeded"]) == (
            inside.ended,
            outside.ended,
        )

    @pytest.mark.parametrize("loop", LOOPS)
    def test_the_limits_of_a_retry_leave_the_gates_inside_without_fault(self, loop: str) -> None:
        """Its attempt timeout and its timeout."""
        inside = Book()
        with FakeClock() as clock:
            parts = (retrying(attempt_timeout=5, timeout=8), part(inside))
            with pytest.raises(DeadlineExceeded) as caught:
                run(loop, lambda: play_async(parts, lambda: clock.asleep(99)))
        assert isinstance(caught.value.__cause__, AttemptTimeout)
        assert ["failed GeneratorExit"] * 2 == inside.ended

    def test_of_two_limits_that_end_together_the_outer_one_counts(self) -> None:
        """As it does around functions."""
        with FakeClock() as clock, pytest.raises(DeadlineExceeded):
            asyncio.run(play_async((outer_limit(5), retrying(), limiting(5)), lambda: clock.asleep(99)))

    @pytest.mark.parametrize("form", FORMS)
    def test_no_retry_sleeps_past_a_limit_outside(self, form: str) -> None:
        """It ends before."""
        script = Script("fail")
        with FakeClock() as clock, pytest.raises(ConnectionError) as caught:
            play_in(form, (outer_limit(10), retrying(attempts=9, backoff=backoff.constant(4))), script)
        assert ([4, 4], 3) == (clock.sleeps, script.calls)
        assert "the next attempt would come after the deadline of a policy around this one" in caught.value.__notes__[0]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_limit_inside_one_that_is_over_is_not_begun(self, form: str) -> None:
        """What a slow gate left no time for is not even called."""

        class Slow(Book):
            def admit(self, how: str) -> int:
                clock.advance(9)
                return super().admit(how)

        script, slow = Script(7), Slow()
        with FakeClock() as clock:
            with pytest.raises(DeadlineExceeded):
                play_in(form, (outer_limit(5), part(slow), limiting(3)), script)
        assert (0, ["failed DeadlineExceeded"]) == (script.calls, slow.ended)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_block_can_read_its_deadline(self, form: str) -> None:
        """The nearest of all, in ``remaining`` and in ``current_deadline``."""
        left: list[Any] = []

        def look() -> None:
            attempt = current_attempt()
            assert attempt is not None
            left.append((attempt.remaining, current_deadline()))
            if len(left) == 1:
                raise OSError

        with FakeClock():
            play_in(form, (outer_limit(6), retrying(backoff=backoff.constant(4)), limiting(3)), look)
            assert current_deadline() is None
        assert [(3, 3), (2, 6)] == left

    def test_a_block_within_a_limit_of_a_function_keeps_to_it(self) -> None:
        """Deadlines are passed inward whatever the form."""
        with FakeClock() as clock:
            inside = Timeout(5)(lambda: play((retrying(attempts=9, backoff=backoff.constant(2)),), Script("fail")))
            with pytest.raises(ConnectionError):
                inside()
            assert 4.0 == clock.now()


@pytest.mark.parametrize("where", ["block", "wait", "gate"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_cancellation_gives_every_ticket_back(loop: str, where: str) -> None:
    """In the block, between attempts, and at a gate."""
    outside, inside = Book(), Book()
    parts = (part(outside), retrying(attempts=None, backoff=backoff.constant(99)), part(inside), limiting(50))

    class Closed(Book):
        async def join(self) -> int:
            await forever()
            raise AssertionError

    if where == "gate":
        parts = (*parts, part(Closed(joins=True)))

    async def forever() -> None:
        if loop == "trio":
            import trio

            await trio.sleep_forever()
        await asyncio.Event().wait()

    async def call() -> None:
        if where == "wait":
            raise OSError
        await forever()

    async def under_asyncio() -> None:
        task = asyncio.create_task(play_async(parts, call))
        for _ in range(10):
            await asyncio.sleep(0)
        assert {1} == outside.open
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def under_trio() -> None:
        import trio
        from trio.testing import wait_all_tasks_blocked

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_async, parts, call)
            await wait_all_tasks_blocked()
            assert {1} == outside.open
            nursery.cancel_scope.cancel()

    run(loop, under_trio if loop == "trio" else under_asyncio)
    assert set() == outside.open | inside.open
    assert 1 == len(outside.ended) == len(inside.ended)


def test_a_result_that_is_rejected_to_the_end_when_it_is_too_late_passes_the_gates_outside() -> None:
    """There is no error: the loop just ends, and the tickets come back."""
    outside = Book()
    on = Classifier(Rule.result(lambda value: value is None, Action.RECONNECT))
    with FakeClock() as clock:
        slow = retrying(on=on, timeout=5, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        assert play((part(outside), slow), Script(None), judged=True) is None
        assert asyncio.run(play_async((part(outside), slow), Script(None), judged=True)) is None
    assert ["passed no value"] * 2 == outside.ended
