"""What all policies have in common."""

import inspect

import pytest

from resilient.policies.frozen import by_name


@by_name("Thing(size=3)")
class Thing:
    def __init__(self, *, size: int) -> None:
        self.size = size


def test_arguments_by_position_are_taught() -> None:
    """The error shows how to write it; by name all is well, and the signature is the constructor's."""
    assert 3 == Thing(size=3).size
    assert "(*, size: int) -> None" == str(inspect.signature(Thing))
    with pytest.raises(
        TypeError, match=r"Thing takes its settings by name, such as Thing\(size=3\), got 4 by position"
    ):
        Thing(4)  # type: ignore[misc]


def test_a_policy_shows_what_is_unusual() -> None:
    """Settings left alone are left out."""
    from resilient import Catch, Recovery, Retry

    assert "Retry(on=Classifier(Rule(OSError, Action.RETRY)), attempts=None)" == repr(Retry(on=OSError, attempts=None))
    assert "Recovery(throttle=5.0)" == repr(Recovery(throttle=5))
    assert repr(Catch("x", default=3)).startswith("Catch(name='x', default=3")


def test_a_remade_policy_has_all_its_settings() -> None:
    """Pickling goes through the constructor, so that shared state is made anew."""
    from resilient import Retry

    made = Retry(on=OSError, attempts=2)
    function, arguments = made.__reduce__()[:2]
    assert made == function(*arguments)
