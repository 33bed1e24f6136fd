"""Scripted outcomes."""

import asyncio

import pytest

from resilient.testing import Script


def test_outcomes_play_in_order_and_the_last_repeats() -> None:
    """Values are returned, exceptions raised, by object or class."""
    error = OSError("mine")
    script = Script("fail", error, KeyError, "ok", None)
    with pytest.raises(ConnectionError, match="call 1 fails, as the script says"):
        script()
    with pytest.raises(OSError, match="mine") as caught:
        script()
    assert error is caught.value
    with pytest.raises(KeyError):
        script()
    assert ["ok", None, None] == [script(), script(), script()]
    assert 6 == script.calls


def test_calls_are_noted_with_their_arguments() -> None:
    """Positional and by name."""
    script = Script(1)
    script("a", b=2)
    assert [(("a",), {"b": 2})] == script.arguments


def test_a_script_plays_in_coroutines_too() -> None:
    """The same outcomes, awaited."""
    assert 7 == asyncio.run(Script(7).call_async("x"))


def test_a_value_that_cannot_be_compared_is_played_all_the_same() -> None:
    """Outcomes are told apart by identity and class, never by their own equality."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not comparable")

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()
    assert odd is Script(odd)()


def test_an_empty_script_is_refused() -> None:
    """There would be nothing to play."""
    with pytest.raises(ValueError, match="outcomes must be at least one"):
        Script()
