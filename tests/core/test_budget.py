"""The protocol by which a run asks its budget."""

from resilient.core.budget import Budget


class Purse:
    def acquire(self, now: float, timed_out: bool) -> float | None:
        return None

    def release(self, now: float, price: float | None) -> None: ...


def test_a_budget_is_known_by_its_methods() -> None:
    """Anything with acquire and release is a budget; nothing else is."""
    assert (True, False) == (isinstance(Purse(), Budget), isinstance(object(), Budget))
