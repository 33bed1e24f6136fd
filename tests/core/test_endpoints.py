"""Endpoints: the healthy ones first, each failed one in its turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.endpoints import EndpointMark, Endpoints


def test_the_users_order_while_all_are_well() -> None:
    """Preferences are kept."""
    endpoints = Endpoints(["b", "a", "c"])
    assert (["b", "a", "c"], "b") == (endpoints.ordered(), endpoints.best())


def test_the_healthy_come_first() -> None:
    """Then the failed ones, the oldest failure first."""
    endpoints = Endpoints("abcd")
    for address in "cac":
        endpoints.failed(address)
    assert list("bdac") == endpoints.ordered()


def test_one_that_worked_is_healthy_again() -> None:
    """And takes its old place."""
    endpoints = Endpoints("abc")
    for address in "ab":
        endpoints.failed(address)
    endpoints.worked("a")
    assert list("acb") == endpoints.ordered()


def test_an_old_streak_does_not_keep_one_from_its_turn() -> None:
    """However often it failed: what failed later waits longer."""
    endpoints = Endpoints("ab")
    for _ in range(5):
        endpoints.failed("a")
    endpoints.worked("b")
    endpoints.failed("b")
    assert "a" == endpoints.best()


def test_marks_tell_what_is_known() -> None:
    """In the user's order; changing them changes nothing."""
    endpoints = Endpoints("ab")
    endpoints.failed("b", 1.0)
    endpoints.failed("b", 3.0)
    marks = endpoints.marks
    assert {"a": EndpointMark(), "b": EndpointMark(2, 2, 3.0)} == marks
    marks.clear()
    assert list("ab") == list(endpoints.marks)


def test_strangers_are_ignored() -> None:
    """An endpoint that is no longer among them may still report."""
    endpoints = Endpoints("ab")
    endpoints.failed("x")
    endpoints.worked("x")
    assert {"a": EndpointMark(), "b": EndpointMark()} == endpoints.marks


@pytest.mark.parametrize("addresses", [[], ["a", "b", "a"]])
def test_bad_addresses_are_refused(addresses: list[str]) -> None:
    """None at all, or one twice."""
    with pytest.raises(ValueError, match="addresses must"):
        Endpoints(addresses)


@given(size=st.integers(1, 6), dials=st.integers(0, 30))
def test_while_all_fail_each_is_dialled_in_turn(size: int, dials: int) -> None:
    """Round and round, in the user's order."""
    endpoints = Endpoints(range(size))
    dialled = []
    for _ in range(dials):
        dialled.append(endpoints.best())
        endpoints.failed(dialled[-1])
    assert [n % size for n in range(dials)] == dialled


def test_old_failures_are_forgiven() -> None:
    """Those before an instant; or all, when it is asked for."""
    endpoints = Endpoints("abc")
    endpoints.failed("a", 1.0)
    endpoints.failed("b", 5.0)
    assert ["c", "a", "a"] == [endpoints.best(), endpoints.best(2.0), endpoints.best(6.0)]
    endpoints.forget()
    assert ("a", 3) == (endpoints.best(), len(endpoints))
