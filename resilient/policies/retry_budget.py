"""RetryBudget: how many retries many calls may make together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from threading import RLock
from typing import Literal, NamedTuple

from resilient.core.budget import Budget, Quota, Ratio, Tokens
from resilient.core.duration import Duration, number, seconds
from resilient.core.setting_errors import SettingValueError, checked_name
from resilient.policies.shared import Home, Stateful

__all__ = ["BudgetMetrics", "RetryBudget"]

Form = Literal["quota", "ratio", "throttle"]


class _Number(NamedTuple):
    """One setting of a form: its usual value and its limits."""

    usual: float
    least: float
    above: bool = False
    most: float = inf


# The limits are those of Finagle and tower for the ratio, of gRFC A6 for the throttle (three decimals are kept).
NUMBERS: dict[str, dict[str, _Number]] = {
    "quota": {
        "capacity": _Number(500, 0),
        "retry_cost": _Number(5, 0, above=True),
        "timeout_cost": _Number(10, 0, above=True),
        "first_try_refund": _Number(1, 0),
    },
    "ratio": {
        "percent": _Number(0.2, 0, most=1000),
        "min_per_second": _Number(10, 0, most=2**31 - 1),
        "ttl": _Number(10, 1, most=60),
    },
    "throttle": {
        "max_tokens": _Number(10, 0, above=True, most=1000),
        "token_ratio": _Number(0.1, 0.001),
    },
}
MACHINES: dict[str, Callable[..., Budget]] = {"quota": Quota, "ratio": Ratio, "throttle": Tokens}


@dataclass(frozen=True, slots=True)
class BudgetMetrics:
    """What a budget has seen.

    Attributes:
        available: what is left, in the form's own unit.
        granted: retries that were paid for.
        refused: retries that the budget did not allow.
    """

    available: float
    granted: int
    refused: int


class _State:
    """What all who share a budget share: the machine, its lock, and the counts."""

    __slots__ = ("granted", "lock", "machine", "refused")

    def __init__(self, machine: Budget) -> None:
        self.machine = machine
        self.lock = RLock()
        self.granted = self.refused = 0


class RetryBudget(Stateful):
    """Limits the retries of many calls together, so that they do not add to an outage. Shared by policies and threads.

    ``RetryBudget()`` is the quota form. An empty budget ends a call with its own error, ``stopped_by`` "budget".

    Args:
        form: "quota", "ratio" or "throttle"; rather use the methods of these names.
        name: for the reader, and for ``named``.
        home: where the state lives; see ``named``.
        numbers: the settings of the form.

    Attributes:
        heeds_calls: whether it is of any use to tell this form that a call begins: if not, nobody reads a clock for it.
        heeds_successes: likewise that a call succeeded without a retry.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type, or out of range.
    """

    __slots__ = (
        "__weakref__", "_full", "_lock", "_state",
        "form", "heeds_calls", "heeds_successes", "home", "name", "numbers",
    )  # fmt: skip

    def __init__(self, form: Form = "quota", *, name: str = "", home: Home | None = None, **numbers: float) -> None:
        if not isinstance(form, str) or form not in NUMBERS:
            raise SettingValueError("form", f"must be one of {', '.join(map(repr, NUMBERS))}, got {form!r}")
        unknown = set(numbers) - set(NUMBERS[form])
        if unknown:
            raise TypeError(f"{form} has the settings {', '.join(NUMBERS[form])}, got {', '.join(sorted(unknown))}")
        self.form = form
        self.name = checked_name(name)
        self.home = home
        self.numbers = {
            key: number(key, numbers.get(key, limits.usual), least=limits.least, above=limits.above, most=limits.most)
            for key, limits in NUMBERS[form].items()
        }
        self.heeds_calls = form == "ratio"
        self.heeds_successes = not self.heeds_calls
        self._full = self._made().available if self.heeds_successes else inf
        self._state = self.found_state("RetryBudget", name, lambda: _State(self._made()))
        self._lock = self._state.lock

    def _made(self) -> Budget:
        return MACHINES[self.form](**self.numbers)

    @classmethod
    def quota(
        cls,
        capacity: float = 500,
        retry_cost: float = 5,
        timeout_cost: float = 10,
        first_try_refund: float = 1,
        *,
        name: str = "",
    ) -> RetryBudget:
        """A quota that retries draw on and successes fill up again (the standard mode of the AWS SDKs).

        A retry takes its cost before it is made. A success gives back what its last retry cost, or a little if it
        needed none; a call that fails for good gives nothing back.

        Args:
            capacity: what there is at most and at first, >= 0.
            retry_cost: of a retry, > 0.
            timeout_cost: of a retry after a timeout, > 0.
            first_try_refund: what a success without a retry brings in, >= 0.
            name: for the reader.
        """
        return cls(
            "quota",
            name=name,
            capacity=capacity,
            retry_cost=retry_cost,
            timeout_cost=timeout_cost,
            first_try_refund=first_try_refund,
        )

    @classmethod
    def ratio(
        cls, percent: float = 0.2, min_per_second: float = 10, ttl: Duration = 10, *, name: str = ""
    ) -> RetryBudget:
        """Retries as a share of the calls of the last seconds, and a few more (Finagle, tower).

        Args:
            percent: retries for each call, 0 to 1000: 0.2 is one for five calls.
            min_per_second: retries a second that are allowed besides, >= 0.
            ttl: how long a call counts, seconds, 1 to 60.
            name: for the reader.
        """
        return cls("ratio", name=name, percent=percent, min_per_second=min_per_second, ttl=seconds("ttl", ttl))

    @classmethod
    def throttle(cls, max_tokens: float = 10, token_ratio: float = 0.1, *, name: str = "") -> RetryBudget:
        """Tokens that failures take and successes bring; retries only above half of them (gRPC, gRFC A6).

        Args:
            max_tokens: what there is at most and at first, above 0 to 1000.
            token_ratio: what a success brings, >= 0.001; a failed attempt takes 1.
            name: for the reader.
        """
        return cls("throttle", name=name, max_tokens=max_tokens, token_ratio=token_ratio)

    @property
    def kind(self) -> str:
        """What this is, for ``snapshot()``."""
        return "RetryBudget"

    @property
    def available(self) -> float:
        """What is left, in the form's own unit: costs, retries or tokens."""
        return self._state.machine.available

    def called(self, now: float) -> None:
        """A guarded call begins."""
        if self.heeds_calls:
            with self._lock:
                self._state.machine.called(now)

    def failed(self, now: float) -> None:
        """An attempt failed with something that would be tried again."""
        with self._state.lock:
            self._state.machine.failed(now)

    def acquire(self, now: float, timed_out: bool) -> float | None:
        """The price of one retry, taken; None if there is too little left."""
        state = self._state
        with state.lock:
            price = state.machine.acquire(now, timed_out)
            if price is None:
                state.refused += 1
            else:
                state.granted += 1
            return price

    def succeeded(self, now: float, price: float | None) -> None:
        """A call succeeded, whose last retry cost this price; None if it needed none."""
        # Without the lock: what is full at the moment of this look takes nothing more, whatever others do next.
        if self.heeds_successes and self._state.machine.available < self._full:
            with self._state.lock:
                self._state.machine.succeeded(now, price)

    def metrics(self) -> BudgetMetrics:
        """What is left, and how many retries there were."""
        state = self._state
        with state.lock:
            return BudgetMetrics(state.machine.available, state.granted, state.refused)

    def reset(self) -> None:
        """Begins with a full budget."""
        state = self._state
        with state.lock:
            state.machine = self._made()
            state.granted = state.refused = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RetryBudget):
            return NotImplemented
        return (self.form, self.name, self.numbers) == (other.form, other.name, other.numbers)

    def __hash__(self) -> int:
        return hash((self.form, self.name, *self.numbers.values()))

    def __repr__(self) -> str:
        told = [f"{key}={value!r}" for key, value in self.numbers.items() if value != NUMBERS[self.form][key].usual]
        return f"RetryBudget.{self.form}({', '.join([*told, *([f'name={self.name!r}'] if self.name else [])])})"

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (self.form, self.name, self.numbers)


def _remade(form: Form, name: str, numbers: dict[str, float]) -> RetryBudget:
    return RetryBudget(form, name=name, home=None, **numbers)
