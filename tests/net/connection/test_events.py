"""Events of a managed connection, told in order."""

from __future__ import annotations

import pytest

from resilient.core.action import Action
from resilient.core.events import Event
from resilient.core.link import State
from resilient.net.connection.events import EventQueue


def test_events_are_told_in_order() -> None:
    """Once; with the time since the manager was entered, and the reason of all moves but dials."""
    told: list[str] = []
    queue = EventQueue("db", (lambda event: told.append(f"{event.elapsed} {event}"),))
    queue.started = 100.0
    queue.moved([(State.IDLE, State.CONNECTING), (State.CONNECTING, State.BACKING_OFF)], 100.0, "refused")
    queue.waiting(100.0, 2, 3.0)
    queue.recovering(103.0, Action.RELOGIN)
    queue.recovered(104.0, Action.RELOGIN, None)
    queue.recovered(105.0, Action.RELOGIN, OSError("no"))
    queue.unrecovered(106.0, Action.ROTATE_PROXY)
    assert (True, True, []) == (queue.news, queue.untold, told)
    queue.tell_all()
    queue.tell_all()
    assert not queue.untold
    assert ["0.0 db: CONNECTING (was IDLE)", "0.0 db: BACKING_OFF (was CONNECTING): refused"] == told[:2]
    assert ["0.0", "3.0", "4.0", "5.0", "6.0"] == [line.split()[0] for line in told[2:]]


def test_nothing_is_kept_for_nobody() -> None:
    """Until somebody listens."""
    queue, heard = EventQueue("db", ()), list[Event]()
    queue.waiting(0.0, 1, 1.0)
    queue.hear(heard.append)
    queue.waiting(0.0, 2, 1.0)
    queue.tell_all()
    assert [2] == [event.attempt for event in heard]  # type: ignore[union-attr]


def test_a_listener_must_be_plain() -> None:
    """Nobody would await it."""

    async def listen(event: Event) -> None: ...

    with pytest.raises(TypeError, match="a listener must be a plain function"):
        EventQueue("db", ()).hear(listen)
