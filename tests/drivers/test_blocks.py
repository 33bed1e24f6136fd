"""The block form: one loop over all layers, and no ticket left open however it ends."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import (
    Action,
    AdaptiveLimiter,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    DeadlineExceeded,
    Pipeline,
    Recovery,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_attempt,
    current_deadline,
    events,
)
from resilient.drivers.blocks import AsyncAttempts, Attempts, BlockGate
from resilient.drivers.gates import AsyncGate, Gate
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
ONE = backoff.constant(1)
policy = Retry(on=OSError, attempts=3, backoff=AT_ONCE)


class Book:
    """A gate that keeps its tickets: each is a number, and comes back once."""

    def __init__(
        self, *refusals: BaseException | None, joins: bool = False, broken: BaseException | None = None
    ) -> None:
        self.refusals = list(refusals)
        self.joins = joins
        self.broken = broken
        self.given = 0
        self.open: set[int] = set()
        self.story: list[str] = []
        self.deadlines: list[float | None] = []

    def enter(self) -> int:
        self.deadlines.append(current_deadline())
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        self.given += 1
        self.open.add(self.given)
        return self.given

    enter_soon = enter

    def ready(self) -> int | None:
        return None if self.joins else self.enter()

    async def join(self) -> int:
        await asyncio.sleep(0)
        return self.enter()

    def passed(self, ticket: int, value: object) -> None:
        self._back(ticket, f"passed {value}")

    def failed(self, ticket: int, error: BaseException) -> None:
        self._back(ticket, f"failed {type(error).__name__}")

    def forgotten(self, ticket: int) -> None:
        self._back(ticket, "forgotten")

    def _back(self, ticket: int, what: str) -> None:
        self.open.remove(ticket)
        self.story.append(what)
        if self.broken is not None and "forgotten" not in what:
            raise self.broken


def part(book: Book) -> BlockGate:
    gate: Gate = book
    async_gate: AsyncGate = book
    return BlockGate(gate, async_gate)


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


def test_a_block_may_end_in_another_context() -> None:
    """An async generator that is closed by another task ends its block there."""

    async def items() -> AsyncIterator[int]:
        async for attempt in policy:
            with attempt:
                yield attempt.number

    async def main() -> int:
        stream = items()
        number = await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await stream.aclose()  # type: ignore[attr-defined]
        return number

    assert 1 == asyncio.run(main())


def test_remaining_in_a_block() -> None:
    """The same in the block form."""
    with FakeClock() as clock:
        for attempt in Retry(on=OSError, attempt_timeout=9):
            with attempt:
                clock.advance(4)
                assert 5 == attempt.remaining


def test_a_block_ends_with_its_first_success() -> None:
    """The loop is over, and the last error was visible on the way."""
    met: list[tuple[int, str]] = []
    for attempt in policy:
        with attempt:
            met.append((attempt.number, type(attempt.last_error).__name__))
            if attempt.number < 3:
                raise ConnectionError
    assert [(1, "NoneType"), (2, "ConnectionError"), (3, "ConnectionError")] == met


def test_a_block_may_return_and_break() -> None:
    """Leaving the block counts as success."""

    def returns() -> int:
        for attempt in policy:
            with attempt:
                return 7
        raise AssertionError

    for attempt in policy:
        with attempt:
            break
    assert 7 == returns()


def test_a_block_lets_exits_pass() -> None:
    """KeyboardInterrupt leaves the block at its first attempt."""
    with pytest.raises(KeyboardInterrupt):
        for attempt in Retry(on=Exception):
            with attempt:
                raise KeyboardInterrupt
    assert current_attempt() is None


def test_forgetting_the_with_is_noticed() -> None:
    """A loop that never enters its attempts would go on for ever."""
    with pytest.raises(RuntimeError, match="write `with attempt:` inside the loop"):
        for _ in policy:
            pass


def test_an_iterator_is_its_own() -> None:
    """``iter`` of the attempts gives them back, as iterators must."""
    attempts = iter(policy)
    assert attempts is iter(attempts)
    later = policy.__aiter__()
    assert later is later.__aiter__()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_block_in_a_coroutine_is_cut_off(loop: str) -> None:
    """attempt_timeout ends the block and tries again."""
    met: list[int] = []

    async def main() -> None:
        async for attempt in Retry(on=OSError, attempts=3, attempt_timeout=5, backoff=AT_ONCE):
            with attempt:
                met.append(attempt.number)
                if attempt.number < 3:
                    await clock.asleep(99)

    with FakeClock() as clock:
        run(loop, main)
        assert ([1, 2, 3], 10.0) == (met, clock.now())


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_block_cut_off_for_good_raises_the_policys_error(loop: str) -> None:
    """AttemptTimeout after the last attempt, DeadlineExceeded at the deadline, with the cause."""

    async def main(settings: dict[str, Any]) -> None:
        async for attempt in Retry(on=OSError, backoff=AT_ONCE, **settings):
            with attempt:
                if attempt.number == 1:
                    raise OSError("first")
                await clock.asleep(99)

    with FakeClock() as clock:
        with pytest.raises(AttemptTimeout):
            run(loop, lambda: main({"attempts": 2, "attempt_timeout": 5}))
        with pytest.raises(DeadlineExceeded) as caught:
            run(loop, lambda: main({"timeout": 7}))
    assert "first" == str(caught.value.__cause__)


def test_a_block_that_recovered_too_long_gives_its_error_back() -> None:
    """If recovery outlasts the timeout, the loop raises what the block raised, sync and async."""
    on = Classifier(Rule(OSError, Action.RECONNECT))

    async def main() -> None:
        async for attempt in slow:
            with attempt:
                raise ConnectionResetError("mine")

    with FakeClock() as clock:
        slow = Retry(on=on, timeout=5, backoff=AT_ONCE, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        with pytest.raises(ConnectionResetError, match="mine"):
            for attempt in slow:
                with attempt:
                    raise ConnectionResetError("mine")
        with pytest.raises(ConnectionResetError, match="mine"):
            asyncio.run(main())


def test_a_rejected_result_that_recovered_too_long_ends_the_block() -> None:
    """Without an error there is none to give back: the loop ends."""
    on = Classifier(Rule.result(lambda value: value is None, Action.RECONNECT))
    with FakeClock() as clock:
        slow = Retry(on=on, timeout=5, backoff=AT_ONCE, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        with pytest.raises(StopIteration):
            attempts: Iterator[Any] = iter(slow)
            with next(attempts) as attempt:
                attempt.set_result(None)
            next(attempts)

        async def main() -> int:
            turns = 0
            async for attempt in slow:
                with attempt:
                    turns += 1
                    attempt.set_result(None)
            return turns

        assert 1 == asyncio.run(main())


def test_set_result_is_judged() -> None:
    """A rejected result means another turn."""
    script = Script(None, None, 7)
    for attempt in Retry(on=Classifier(Rule.result(lambda value: value is None)), backoff=AT_ONCE):
        with attempt:
            value = script()
            attempt.set_result(value)
    assert (7, 3) == (value, script.calls)


def test_a_block_shows_its_number() -> None:
    """In a debugger it reads well, and knows its policy's name."""
    attempt = next(iter(Retry(on=OSError, name="send")))
    assert ("<AttemptBlock 1>", "send", None) == (repr(attempt), attempt.name, attempt.remaining)


def test_an_attempt_is_entered_once() -> None:
    """One that is over cannot be begun again."""
    attempt = next(iter(policy))
    with attempt:
        pass
    with pytest.raises(RuntimeError, match="this attempt is over"):
        attempt.__enter__()


@pytest.mark.parametrize("form", FORMS)
def test_gates_outside_see_the_call_and_those_inside_every_attempt(form: str) -> None:
    """Outside one ticket for all attempts, inside one each; a rejected result is one more attempt."""
    outside, inside, script = Book(), Book(), Script("fail", 3, 7)
    on = Classifier(Rule(OSError), Rule.result(lambda value: value == 3))
    parts = (part(outside), retrying(on=on), part(inside))
    assert 7 == play_in(form, parts, script, judged=True)
    assert (["passed 7"], ["failed ConnectionError", "passed 3", "passed 7"]) == (outside.story, inside.story)


@pytest.mark.parametrize("form", FORMS)
def test_an_error_to_the_end_reaches_every_gate(form: str) -> None:
    """And comes back to the caller as it is."""
    outside, inside, error = Book(), Book(), KeyError("k")
    with pytest.raises(KeyError) as caught:
        play_in(form, (part(outside), retrying(), part(inside)), Script(error))
    assert error is caught.value
    assert (["failed KeyError"], ["failed KeyError"]) == (outside.story, inside.story)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_gate_rejects_is_tried_again_by_whoever_is_outside(form: str) -> None:
    """After as long as the rejection says; the gates passed before it get their tickets back."""
    before, gate = Book(), Book(CircuitOpen("db", 4.0), CircuitOpen("db", None))
    script = Script(7)
    with FakeClock() as clock:
        assert 7 == play_in(form, (retrying(on=KeyError, backoff=ONE), part(before), part(gate)), script)
    assert ([4, 1], 1, 3) == (clock.sleeps, script.calls, len(before.story))
    assert set() == before.open | gate.open


@pytest.mark.parametrize("form", FORMS)
def test_what_a_gate_rejects_with_nobody_outside_is_raised(form: str) -> None:
    """The block does not run."""
    first, script = Book(), Script(7)
    with pytest.raises(CircuitOpen):
        play_in(form, (part(first), part(Book(CircuitOpen())), retrying()), script)
    assert (["failed CircuitOpen"], 0) == (first.story, script.calls)


def test_a_gate_may_have_to_be_waited_for() -> None:
    """In coroutines; its wait can read when it must be over."""
    gate = Book(joins=True)
    with FakeClock():
        assert 7 == asyncio.run(play_async((outer_limit(9), part(gate)), Script(7)))
    assert (["passed no value"], [9.0]) == (gate.story, gate.deadlines)


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
    assert (6, ["failed ConnectionError"] * 2) == (script.calls, between.story)
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
    assert (["failed AttributeError"], ["failed ConnectionError"]) == (outside.story, inside.story)
    assert 7 == play_in(form, (retrying(on=AttributeError), broken), script)
    assert 2 == script.calls


@pytest.mark.parametrize("form", FORMS)
def test_a_rule_that_raises_about_a_result_goes_on_outward_too(form: str) -> None:
    """It is not judged by its own policy."""
    outside, script = Book(), Script(None, 7)
    broken = retrying(on=Classifier(Rule(Exception), Rule.result(lambda value: value + 1 == 0)))
    with pytest.raises(TypeError):
        play_in(form, (part(outside), broken), Script(None), judged=True)
    assert ["failed TypeError"] == outside.story
    assert 7 == play_in(form, (retrying(on=TypeError), broken), script, judged=True)
    assert 2 == script.calls


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("outcome", ["fail", 7])
def test_what_a_gate_raises_of_itself_takes_the_place_of_the_error(form: str, outcome: object) -> None:
    """Whether it was told of a result or of an error."""
    outside, inside = Book(), Book(broken=ValueError("the gate's own"))
    with pytest.raises(ValueError, match="the gate's own"):
        play_in(form, (part(outside), part(inside)), Script(outcome))
    assert ["failed ValueError"] == outside.story
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
        assert (1, 2, 1) == (script.calls, len(outside.story), len(inside.story))
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
    assert expected[how] == inside.story + outside.story


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
    assert ["failed GeneratorExit"] == gate.story


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
        assert ["failed GeneratorExit", "failed GeneratorExit", "passed no value"] == inside.story
        assert ["failed AttemptTimeout", "failed AttemptTimeout", "passed no value"] == between.story
        assert ["passed no value"] == outside.story
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
            inside.story,
            outside.story,
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
        assert ["failed GeneratorExit"] * 2 == inside.story

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
        script, slow = Script(7), Book()
        with FakeClock() as clock:
            slow.enter = lambda: clock.advance(9) or 1  # type: ignore[method-assign, func-returns-value, assignment]
            slow.open.add(1)
            with pytest.raises(DeadlineExceeded):
                play_in(form, (outer_limit(5), part(slow), limiting(3)), script)
        assert (0, ["failed DeadlineExceeded"]) == (script.calls, slow.story)

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

    def test_what_is_left_of_a_group_is_classified(self) -> None:
        """Under trio, errors that came together with the cancellation are the block's own."""
        trio = pytest.importorskip("trio")
        met: list[int] = []

        async def main(parts: tuple[Any, ...]) -> None:
            async for attempt in AsyncAttempts(parts):
                with attempt:
                    met.append(attempt.number)
                    if attempt.number == 1:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(fails_when_cancelled)
                            await trio.sleep_forever()

        async def fails_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while it was cancelled")

        with FakeClock():
            trio.run(main, (retrying(on=ValueError), limiting(5)))
            with pytest.raises(ExceptionGroup):
                met.clear()
                trio.run(main, (retrying(on=KeyError), limiting(5)))
        assert [1] == met


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
    assert 1 == len(outside.story) == len(inside.story)


@pytest.mark.parametrize("outcomes", [("fail", "fail", 7), ("fail",)], ids=["rescued", "abandoned"])
@pytest.mark.parametrize("form", ["blocking", "async", "cut off"])
def test_no_garbage_is_left_by_any_layer(form: str, outcomes: tuple[object, ...]) -> None:
    """Reference counting frees every error, of breakers and limits too."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(ConnectionError):
        pass

    def call(script: Script) -> object:
        try:
            return script()
        except ConnectionError:
            error = Noted()
            errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main(layers: Pipeline, script: Script) -> None:
        with contextlib.suppress(ConnectionError, AttemptTimeout):  # a task that keeps its error is a cycle of its own
            async for attempt in layers:
                with attempt:
                    if form == "cut off":
                        await clock.asleep(99)
                    call(script)

    def guarded() -> None:
        layers = Pipeline(
            Timeout(60), CircuitBreaker(), Retry(on=OSError, attempts=3, backoff=AT_ONCE), CircuitBreaker(), Timeout(5)
        )
        script = Script(*outcomes)
        with contextlib.suppress(ConnectionError, AttemptTimeout):
            if form != "blocking":
                asyncio.run(main(layers, script))
            else:
                for attempt in layers:
                    with attempt:
                        call(script)

    with FakeClock() as clock:
        guarded()
        errors.clear()
        gc.collect()
        gc.disable()
        try:
            guarded()
            assert [] == [error() for error in errors if error() is not None]
        finally:
            gc.enable()


@pytest.mark.parametrize("crowd", ["threads", *LOOPS])
def test_a_crowd_shares_one_pipeline(crowd: str) -> None:
    """Each loop has its own counts; every ticket comes back."""
    limiter, calls = AdaptiveLimiter("aimd", initial=100), [0] * 50
    layers = Pipeline(limiter, Retry(on=OSError, attempts=4, backoff=AT_ONCE), CircuitBreaker(failure_rate=1.0))

    def count(n: int) -> None:
        calls[n] += 1
        if calls[n] <= n % 4:
            raise OSError

    def work(n: int) -> None:
        for attempt in layers:
            with attempt:
                count(n)

    async def work_async(n: int) -> None:
        async for attempt in layers:
            with attempt:
                await (trio_turn() if crowd == "trio" else asyncio.sleep(0))
                count(n)

    async def trio_turn() -> None:
        import trio

        await trio.sleep(0)

    async def main() -> None:
        if crowd == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for n in range(50):
                    nursery.start_soon(work_async, n)
        else:
            await asyncio.gather(*(work_async(n) for n in range(50)))

    assert [] == (together(50, work) if crowd == "threads" else run(crowd, main) or [])
    assert [n % 4 + 1 for n in range(50)] == calls
    assert 0 == limiter.metrics().inflight


def test_blocks_of_one_pipeline_nest() -> None:
    """Recursion: each loop has its own state, and the innermost attempt is the running one."""
    depths: list[tuple[int, int]] = []
    layers = Retry(on=OSError, attempts=2, backoff=AT_ONCE) >> CircuitBreaker()

    def descend(depth: int) -> None:
        for attempt in layers:
            with attempt:
                running = current_attempt()
                assert running is not None
                depths.append((depth, running.number))
                if attempt.number == 1:
                    raise OSError
                if depth:
                    descend(depth - 1)

    descend(2)
    assert [(2, 1), (2, 2), (1, 1), (1, 2), (0, 1), (0, 2)] == depths


def test_a_thread_may_end_a_block_that_another_began() -> None:
    """A generator handed over between threads: its ticket comes back."""
    gate = Book()

    def items() -> Iterator[int]:
        for attempt in Attempts((part(gate),)):
            with attempt:
                yield 1

    stream = items()
    for step in (stream.__next__, stream.close):  # type: ignore[attr-defined]
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert (1, set()) == (gate.given, gate.open)


def test_a_result_that_is_rejected_to_the_end_when_it_is_too_late_passes_the_gates_outside() -> None:
    """There is no error: the loop just ends, and the tickets come back."""
    outside = Book()
    on = Classifier(Rule.result(lambda value: value is None, Action.RECONNECT))
    with FakeClock() as clock:
        slow = retrying(on=on, timeout=5, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        assert play((part(outside), slow), Script(None), judged=True) is None
        assert asyncio.run(play_async((part(outside), slow), Script(None), judged=True)) is None
    assert ["passed no value"] * 2 == outside.story


def test_a_bare_loop_over_an_async_block_ends() -> None:
    """The iterator of an async block is one too."""

    async def main() -> list[int]:
        return [attempt.number async for attempt in entered(AsyncAttempts(()))]

    async def entered(attempts: AsyncAttempts) -> AsyncIterator[Any]:
        async for attempt in attempts:
            with attempt:
                pass
            yield attempt

    assert [1] == asyncio.run(main())


def test_a_running_attempt_is_not_entered_again() -> None:
    """The second time is told, and the first goes on."""
    for attempt in Retry(on=OSError):
        with attempt:
            with pytest.raises(RuntimeError, match="entered already"):
                attempt.__enter__()
    assert current_deadline() is None
