"""A recovery that callers share: who leads, who waits, and what becomes of the lead."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Action, Classifier, Recovery, Retry, Rule
from resilient.core.events import Event, Recovered, Recovering, RecoveryFailed
from resilient.core.flight import Part
from resilient.drivers.loops.steps import Call, Join, Sleep
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.drivers.retry.recovery import RescueParticipant, recover
from resilient.drivers.retry.rescue import Rescue
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.testing import FakeClock, Script

RECONNECT = Classifier(Rule(OSError, Action.RECONNECT))


class Recorded:
    """A participant that writes down what it is asked."""

    def __init__(
        self,
        *parts: Part,
        hold: float | None = 0.0,
        begins: bool = True,
        goes_on: bool = True,
        stoppable: bool = False,
    ) -> None:
        self.stoppable = stoppable
        self.flight = SingleFlight(0)
        self.log: list[object] = []
        self._parts = list(parts)
        self._hold, self._begins, self._goes_on = hold, begins, goes_on

    def ask(self, wake: Callable[[], object]) -> Part:
        return self._parts.pop(0)

    def patience(self) -> float | None:
        return 4.0

    def goes_on(self) -> bool:
        return self._goes_on

    def hold(self) -> float | None:
        return self._hold

    def begins(self) -> bool:
        return self._begins

    def run_handler(self) -> object:
        return "handled"

    def ended(self, error: Exception | None) -> float:
        self.log.append(error)
        return 9.0

    def finish(self, ended_at: float | None) -> None:
        self.log.append(ended_at)


def steps_of(participant: Any, answers: dict[type, object] | None = None) -> tuple[list[object], object]:
    """The steps of a recovery, and what it returns; an answer that is an error is thrown in."""
    steps, seen, answers = recover(participant, ThreadWaiter), [], answers or {}
    step = next(steps, None)
    while step is not None:
        seen.append(step)
        answer = answers.get(type(step))
        try:
            step = steps.throw(answer) if isinstance(answer, BaseException) else steps.send(answer)
        except StopIteration as end:
            return seen, end.value
    raise AssertionError


def test_who_leads_runs_the_handler() -> None:
    """Without a wait if none is due; its end is noted, and the lead given back."""
    leader = Recorded(Part.LEAD)
    assert ([Call(leader.run_handler)], True) == steps_of(leader)
    assert [None, 9.0] == leader.log


def test_who_leads_waits_first_if_it_must() -> None:
    """So that recoveries stay apart."""
    leader = Recorded(Part.LEAD, hold=3.0)
    assert ([Sleep(3.0), Call(leader.run_handler)], True) == steps_of(leader)


def test_a_leader_that_can_be_stopped_waits_for_that_too() -> None:
    """Its waiter ends the wait."""
    (sleep, _), _ = steps_of(Recorded(Part.LEAD, hold=2.0, stoppable=True))
    assert isinstance(sleep, Sleep)
    assert (2.0, True) == (sleep.seconds, isinstance(sleep.waiter, ThreadWaiter))


@pytest.mark.parametrize("settings", [{"hold": None}, {"begins": False}])
def test_a_lead_that_is_given_up_runs_no_handler(settings: dict[str, Any]) -> None:
    """Another caller may lead."""
    leader = Recorded(Part.LEAD, **settings)
    steps = recover(leader, ThreadWaiter)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert (False, [None]) == (end.value.value, leader.log)


def test_a_handler_that_raises_has_ended() -> None:
    """What failed before it is history either way."""
    leader, error = Recorded(Part.LEAD), OSError()
    assert ([Call(leader.run_handler)], True) == steps_of(leader, {Call: error})
    assert [error, 9.0] == leader.log


@pytest.mark.parametrize("step", [Sleep, Call])
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_a_leader_that_is_cancelled_gives_the_lead_back(step: type, leaving: type[BaseException]) -> None:
    """Wherever it was; it leads no more, so that it may wait for the next one."""
    leader = Recorded(Part.LEAD, hold=3.0)
    with pytest.raises(leaving):
        steps_of(leader, {step: leaving()})
    assert [None] == leader.log
    assert Part.LEAD is leader.flight.ask(0, print)


def test_who_joins_waits_and_asks_again() -> None:
    """Until somebody has recovered."""
    joiner = Recorded(Part.JOIN, Part.JOIN, Part.SKIP)
    steps, recovered = steps_of(joiner)
    assert ([(Join, 4.0)] * 2, True) == ([(type(step), step.seconds) for step in steps], recovered)  # type: ignore[attr-defined]
    assert [] == joiner.log


def test_who_joined_may_give_up() -> None:
    """After its wait."""
    steps, recovered = steps_of(Recorded(Part.JOIN, goes_on=False))
    assert (1, False) == (len(steps), recovered)


def test_who_stops_waiting_is_not_woken() -> None:
    """A cancelled caller is forgotten by the flight."""
    joiner, waiter = Recorded(Part.JOIN), ThreadWaiter()
    joiner.flight.ask(0, print)
    joiner.flight.ask(0, waiter.wake)
    steps = recover(joiner, lambda: waiter)
    next(steps)
    steps.close()
    joiner.flight.finish(1.0)
    assert not waiter._woken.is_set()


def participant(told: list[Event], *, blocking: bool = True, **settings: Any) -> tuple[RescueParticipant, Rescue]:
    """The side of a call that failed once, and its rescue."""
    recovery = Recovery(reconnect=Script("done"), throttle=settings.pop("throttle", 0))
    policy = Retry(on=RECONNECT, recovery=recovery, listeners=(told.append,), **settings)
    rescue, error = Rescue(policy, "call"), ConnectionError()
    rescue.attempt_failed(error)
    told.clear()
    return RescueParticipant(rescue, recovery, error, 0, blocking=blocking), rescue


def test_a_guarded_call_tells_of_its_recovery() -> None:
    """It begins, and it ends or fails."""
    told: list[Event] = []
    with FakeClock(start=3):
        side, _ = participant(told)
        assert (True, "done", 3.0, 3.0) == (side.begins(), side.run_handler(), side.ended(None), side.ended(OSError()))
    assert [Recovering, Recovered, RecoveryFailed] == [type(event) for event in told]


@pytest.mark.parametrize(("blocking", "patience", "goes_on"), [(True, 5.0, False), (False, None, True)])
def test_a_thread_looks_at_the_clock_itself(blocking: bool, patience: float | None, goes_on: bool) -> None:
    """A task is cut off from outside."""
    with FakeClock() as clock:
        side, _ = participant([], blocking=blocking, timeout=5)
        assert (patience, True) == (side.patience(), side.goes_on())
        clock.advance(6)
        assert goes_on == side.goes_on()


def test_a_lead_that_would_begin_too_late_is_given_up() -> None:
    """The throttle counts."""
    with FakeClock():
        side, rescue = participant([], throttle=20, timeout=5)
        assert Part.LEAD is side.ask(print)
        assert 0.0 == side.hold()
        side.finish(rescue.clock.now())
        assert None is side.hold()
        patient, rescue = participant([], throttle=20, timeout=50)
        patient.ask(print)
        patient.finish(rescue.clock.now())
        assert 20.0 == patient.hold()


@pytest.mark.parametrize(("blocking", "part"), [(True, Part.SKIP), (False, Part.JOIN)])
def test_a_thread_does_not_wait_for_a_task_of_its_own(blocking: bool, part: Part) -> None:
    """It would block the very loop that recovers; a task may wait for another."""
    side, _ = participant([], blocking=blocking)
    side.flight.ask(0, print)
    assert part is side.ask(print)
