"""What all policies have in common."""

import pytest

from resilient.policies.frozen import by_name


def test_arguments_by_position_are_taught() -> None:
    """The error shows how to write it; by name nothing happens."""
    by_name("retry", "@retry(on=OSError)", ())
    with pytest.raises(TypeError, match=r"retry takes its settings by name, such as @retry\(on=OSError\), got 3"):
        by_name("retry", "@retry(on=OSError)", (3,))


def test_a_remade_policy_has_all_its_settings() -> None:
    """Pickling goes through the constructor, so that shared state is made anew."""
    from resilient import Retry

    made = Retry(on=OSError, attempts=2)
    function, arguments = made.__reduce__()[:2]
    assert made == function(*arguments)
