"""What supervisors share, beside what their own tests show."""

import pickle
from dataclasses import fields
from typing import Any

import pytest

from resilient.core.restarts import Ended, RestartPlan
from resilient.errors import PolicyTimeout, ResilientError
from resilient.net import SupervisorStats, TooManyRestarts
from resilient.net.supervisor.base import Loops, RestartSettings, StillRunning


def test_its_errors_are_of_the_tree_and_pickle() -> None:
    """With their attributes."""
    error = pickle.loads(pickle.dumps(TooManyRestarts("beat", 1, 5.0)))
    assert isinstance(error, ResilientError)
    assert ("beat", 1, 5.0) == (error.name, error.restarts, error.seconds)
    assert "the loop 'beat' is given up: more than 1 restart in 5 s" == str(error)
    assert isinstance(pickle.loads(pickle.dumps(StillRunning(3))), PolicyTimeout)


def test_fresh_numbers_are_nothing() -> None:
    """And cannot be changed."""
    stats = SupervisorStats()
    assert ((), {}, {}, ()) == (stats.running, stats.restarts, stats.panics, stats.late)
    with pytest.raises(TypeError):
        stats.panics["x"] = 1  # type: ignore[index]


def test_a_loop_that_never_began_has_no_age() -> None:
    """Its events say 0 s."""
    heard: list[Any] = []
    loops: Loops[Any, Any] = Loops((heard.append,))
    loop = loops.add("late", print, RestartPlan())
    loop.left_behind()
    loop.left_behind()
    assert ([0.0], 0) == ([event.elapsed for event in heard], loop.restarts)
    assert Ended() == loop.blew_up(OSError(), stopping=True)


def test_type_checkers_are_told_of_all_settings() -> None:
    """Each has the same name and type as in the plan."""
    told = {name: kind.__forward_arg__ for name, kind in RestartSettings.__annotations__.items()}
    assert {field.name: field.type for field in fields(RestartPlan)} == told
