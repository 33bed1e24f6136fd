"""Durations and backoffs as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import backoff
from resilient.core.backoff import Backoff
from resilient.settings.notation import EXAMPLES, FORMS, jittered, read_backoff, read_duration, said, written

waits = st.floats(1e-9, 1e12)
jitters = st.one_of(st.sampled_from(["full", "equal"]), st.floats(0, 1))


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Any backoff without a floor."""
    first = draw(waits)
    cap = draw(st.floats(first, 1e13))
    shape = draw(st.sampled_from(sorted(FORMS)))
    made = {
        "constant": lambda: backoff.constant(first),
        "linear": lambda: backoff.linear(first, draw(st.none() | waits), draw(st.sampled_from([None, cap]))),
        "exponential": lambda: backoff.exponential(first, draw(st.floats(1, 1e6)), cap),
        "fibonacci": lambda: backoff.fibonacci(first, cap),
        "decorrelated": lambda: backoff.decorrelated(first, cap),
        "sequence": lambda: backoff.sequence(first, *draw(st.lists(waits, max_size=5))),
    }[shape]()
    return made if shape == "decorrelated" else made.jitter(draw(jitters))


@given(backoffs())
def test_what_is_written_reads_as_the_same_backoff(made: Backoff) -> None:
    """The notation loses nothing."""
    assert read_backoff("backoff", written(made)) == made


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Garbage is a ValueError that begins with the name, never another error."""
    try:
        made = read_backoff("backoff", text)
    except ValueError as error:
        told = str(error)
    else:
        told = f"backoff {made!r}"
    assert told.startswith("backoff")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant:2", backoff.constant(2)),
        ("constant:0", backoff.constant(0)),
        ("linear:1", backoff.linear(1)),
        ("linear:1..10", backoff.linear(1, cap=10)),
        ("linear:1+0.5", backoff.linear(1, 0.5)),
        ("linear:1+0.5..10", backoff.linear(1, 0.5, 10)),
        ("exponential:0.1", backoff.exponential(0.1)),
        ("exponential:0.1..300", backoff.exponential(0.1, cap=300)),
        ("exponential:0.1*1.5..15", backoff.exponential(0.1, 1.5, 15)),
        ("fibonacci:1", backoff.fibonacci(1)),
        ("fibonacci:1..300", backoff.fibonacci(1, 300)),
        ("decorrelated:0.1..300", backoff.decorrelated(0.1, 300)),
        ("sequence:1,2,5", backoff.sequence(1, 2, 5)),
        ("exponential:100ms*2..5m/full", backoff.exponential(0.1, cap=300).jitter("full")),
        ("constant:2s/equal", backoff.constant(2).jitter("equal")),
        ("constant:1h/0.3", backoff.constant(3600).jitter(0.3)),
        ("constant:1/none", backoff.constant(1)),
        (" constant:1e-3 ", backoff.constant(0.001)),
    ],
)
def test_each_form_is_what_its_function_makes(text: str, expected: Backoff) -> None:
    """The notation and resilient.backoff agree."""
    assert read_backoff("backoff", text) == expected


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_in_the_lesson_work(text: str) -> None:
    """What an error shows can be copied, and reads back as it was written."""
    assert written(read_backoff("backoff", text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "exponential", "exponential:", "1", "expo", "constant:-1", "constant: 1", "linear:1...10", "sequence:1,,2"]
    + ["constant:1/", "decorrelated:1", "exponential:1*x", "constant:1,2", "constant:٣", "constant:1 s"],
)
def test_garbage_is_refused_with_a_lesson(text: str) -> None:
    """The error shows the text and how it should look."""
    with pytest.raises(ValueError, match="^backoff") as caught:
        read_backoff("backoff", text)
    assert repr(text) in str(caught.value)


def test_a_shape_that_is_nearly_right_is_taught_alone() -> None:
    """A misspelt or shortened shape shows its own form."""
    for text in ("exponental:1..2", "exp:1", "exponential:x"):
        with pytest.raises(ValueError, match=r"like exponential:0\.1\.\.300, exponential:0\.1\*1\.5\.\.15; jitter"):
            read_backoff("backoff", text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("exponential:10..5", r"backoff: cap must be >= first \(10 s\), got 5.0 \(in 'exponential:10..5'\)"),
        ("exponential:1*0.5..5", "backoff: factor must be finite and >= 1, got 0.5"),
        ("constant:1/2", "backoff: jitter must be .* got 2.0"),
        ("constant:1/fully", "backoff: jitter must be .* got 'fully'"),
        ("decorrelated:1..2/full", "backoff: jitter cannot be added to a decorrelated backoff"),
        ("constant:1e999", "backoff: delay must be finite"),
    ],
)
def test_the_limits_are_those_of_the_backoff_functions(text: str, problem: str) -> None:
    """Their own errors come through, with the text."""
    with pytest.raises(ValueError, match=problem):
        read_backoff("backoff", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0.0), ("0.25", 0.25), ("250ms", 0.25), ("9ms", 0.009), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0)]
    + [(" 7 ", 7.0), ("1.5m", 90.0), ("1e3", 1000.0)],
)
def test_durations_have_units(text: str, expected: float) -> None:
    """Seconds unless a unit says otherwise."""
    assert read_duration("timeout", text) == expected


@pytest.mark.parametrize("text", ["", "s", "5 s", "5sec", "1d", "-1", "+1", "nan", "inf", "1,5", "0x10", "1_000", "5S"])
def test_no_bare_garbage_is_a_duration(text: str) -> None:
    """Only numbers with the units that the error names."""
    with pytest.raises(ValueError, match="timeout must be seconds or a time such as 250ms, 5s, 2m or 1h, got"):
        read_duration("timeout", text)


@pytest.mark.parametrize(("spread", "expected"), [("none", 0.0), ("full", "full"), ("0.5", 0.5), (0.5, 0.5), (1, 1.0)])
def test_jitter_may_be_a_word_or_a_number(spread: object, expected: object) -> None:
    """As text or as TOML has it; it replaces what was there."""
    assert jittered(backoff.constant(1).jitter("equal"), spread).spread == expected


def test_a_floor_cannot_be_written() -> None:
    """The notation has no floor, so that it does not pretend to."""
    floored = replace(backoff.constant(1), least=0.5)
    with pytest.raises(ValueError, match="backoff must have no floor to be written as text"):
        written(floored)
    assert said(floored) == "constant:1, at least 0.5 s"
    assert said(backoff.constant(1)) == "constant:1"
