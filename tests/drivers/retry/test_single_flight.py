"""A single flight shared by threads."""

import threading

from resilient.core.flight import Part
from resilient.drivers.retry.single_flight import SingleFlight


def test_joiners_are_woken_when_it_ends() -> None:
    """However it ends."""
    for ended_at in (1.0, None):
        flight, over = SingleFlight(0), threading.Event()
        assert (Part.LEAD, Part.JOIN) == (flight.ask(0, over.set), flight.ask(0, over.set))
        assert not over.is_set()
        flight.finish(ended_at)
        assert over.is_set()
        assert (0 if ended_at is None else 1) == flight.generation


def test_who_leaves_is_not_woken() -> None:
    """A caller that was cancelled is forgotten; leaving twice is nothing."""
    flight, over = SingleFlight(0), threading.Event()
    flight.ask(0, over.set)
    flight.ask(0, over.set)
    flight.leave(over.set)
    flight.leave(over.set)
    flight.finish(1.0)
    assert not over.is_set()


def test_a_leader_never_waits_for_itself() -> None:
    """A handler whose own guarded calls fail just tries again; the mark ends with the lead."""
    flight = SingleFlight(0)
    assert Part.LEAD is flight.ask(0, print)
    unmark = flight.lead()
    assert Part.SKIP is flight.ask(0, print)
    unmark()
    assert Part.JOIN is flight.ask(0, print)


def test_a_blocking_caller_never_waits_for_a_task_of_its_own_thread() -> None:
    """It would block the very loop that recovers."""
    flight = SingleFlight(0)
    assert Part.LEAD is flight.ask(0, print)
    assert Part.SKIP is flight.ask(0, print, blocking=True)
    assert Part.JOIN is flight.ask(0, print)
    parts: list[Part] = []
    other = threading.Thread(target=lambda: parts.append(flight.ask(0, print, blocking=True)))
    other.start()
    other.join()
    assert [Part.JOIN] == parts


def test_hold_is_the_flights() -> None:
    """The throttle counts from the end of the last recovery."""
    flight = SingleFlight(5)
    flight.ask(0, print)
    flight.finish(10.0)
    assert 4.0 == flight.hold(11.0)


def test_of_fifty_threads_one_leads() -> None:
    """The lock makes asking atomic."""
    flight, parts, start = SingleFlight(0), list[Part](), threading.Barrier(50)

    def ask() -> None:
        start.wait()
        parts.append(flight.ask(0, lambda: None))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Part.SKIP is flight.ask(-1, print)
    assert [1, 49] == [parts.count(Part.LEAD), parts.count(Part.JOIN)]
