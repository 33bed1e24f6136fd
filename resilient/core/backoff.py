"""Backoff: how long to wait before each retry.

A :class:`Backoff` is a frozen value: a curve over the number of the retry, capped first and jittered
downwards afterwards, so that jitter never dies at the cap. All state of a running call (only decorrelated
jitter needs any: its previous wait) is handed in by that call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from resilient.core.duration import Duration, seconds, whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = [
    "Backoff",
    "Rng",
    "constant",
    "decorrelated",
    "exponential",
    "fibonacci",
    "linear",
    "sequence",
]

Shape: TypeAlias = Literal["constant", "linear", "exponential", "fibonacci", "decorrelated", "sequence"]
Spread: TypeAlias = Literal["full", "equal", "decorrelated"] | float

# Beyond this retry every curve has long met its cap or is astronomically long; it keeps float powers defined.
LAST_DISTINCT_RETRY = 10**9
LONGEST = 1e300  # seconds: where an uncapped line ends, so that every wait is finite
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


class Rng(Protocol):
    """A source of jitter: anything with ``random()`` in [0, 1), such as ``random.Random(7)``."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits of a policy. Made by the functions of this module, not by hand."""

    shape: Shape
    steps: tuple[float, ...]
    growth: float = 0.0
    cap: float | None = None
    spread: Spread = 0.0
    least: float = 0.0

    def delay(self, n: int) -> float:
        """The wait before retry ``n`` (n >= 1) without its jitter, seconds; O(1), finite for any n."""
        whole("n", n, least=1)
        curve = CURVES[self.shape](self, min(n, LAST_DISTINCT_RETRY))
        return max(self.least, curve if self.cap is None else min(curve, self.cap))

    def wait(self, n: int, previous: float | None, rng: Rng) -> float:
        """The jittered wait before retry ``n``, seconds.

        Args:
            n: number of the retry, >= 1.
            previous: the wait before retry n - 1 in the same call, seconds; None before the first.
            rng: source of jitter.
        """
        match self.spread:
            case 0.0:
                return self.delay(n)
            case "full":
                return max(self.least, self.delay(n) * rng.random())
            case "equal":
                return max(self.least, self.delay(n) * (0.5 + 0.5 * rng.random()))
            case "decorrelated":
                return max(self.least, self._wander(previous, rng))
            case fraction:
                return max(self.least, self.delay(n) * (1.0 - fraction * rng.random()))

    def _wander(self, previous: float | None, rng: Rng) -> float:
        first = self.steps[0]
        reach = 3.0 * (first if previous is None else max(first, previous))
        drawn = first + (reach - first) * rng.random()
        return drawn if self.cap is None else min(drawn, self.cap)

    def delays(self, rng: Rng | None = None) -> Iterator[float]:
        """A fresh endless iterator over jittered waits, seconds."""
        if rng is None:
            from random import Random

            rng = Random()
        n, previous = 1, None
        while True:
            yield (previous := self.wait(n, previous, rng))
            n += 1

    @property
    def never_waits(self) -> bool:
        """Whether every wait is zero."""
        return self.shape in ("constant", "sequence") and not any(self.steps) and self.least == 0.0

    def jitter(self, spread: Literal["full", "equal"] | float) -> Backoff:
        """A backoff with these waits, spread downwards after the cap.

        Args:
            spread: "full" is uniform in [0, delay); "equal" in [delay/2, delay); a fraction f, 0 to 1,
                in (delay * (1 - f), delay].

        Raises:
            ValueError: another word, a fraction outside 0..1, or a decorrelated backoff.

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        if self.spread == "decorrelated":
            raise SettingValueError("jitter", "cannot be added to a decorrelated backoff, which is jittered already")
        if spread == "full" or spread == "equal":
            return replace(self, spread=spread)
        if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 <= spread <= 1:
            raise SettingValueError("jitter", f'must be "full", "equal" or a fraction from 0 to 1, got {spread!r}')
        return replace(self, spread=float(spread))

    def floor(self, least: Duration) -> Backoff:
        """A backoff with these waits, never shorter than a floor, after jitter.

        Args:
            least: shortest wait, seconds, >= 0 and at most the cap.
        """
        shortest = seconds("floor", least)
        if self.cap is not None and shortest > self.cap:
            raise SettingValueError("floor", f"must be <= cap ({self.cap:g} s), got {least!r}")
        return replace(self, least=shortest)

    def __repr__(self) -> str:
        said = [f"{step:g}" for step in self.steps]
        if self.shape == "linear":
            said.append(f"step={self.growth:g}")
        if self.shape == "exponential":
            said.append(f"factor={self.growth:g}")
        if self.cap is not None:
            said.append(f"cap={self.cap:g}")
        text = f"{self.shape}({', '.join(said)})"
        if self.spread not in (0.0, "decorrelated"):
            text += f".jitter({self.spread!r})"
        return f"{text}.floor({self.least:g})" if self.least else text


def _constant(backoff: Backoff, n: int) -> float:
    return backoff.steps[0]


def _linear(backoff: Backoff, n: int) -> float:
    return min(backoff.steps[0] + backoff.growth * (n - 1), LONGEST)


def _exponential(backoff: Backoff, n: int) -> float:
    return backoff.steps[0] * _power(backoff.growth, n - 1)


def _fibonacci(backoff: Backoff, n: int) -> float:
    # Binet's closed form; rounding makes it exact up to F(70), far beyond any wait that anybody sits out.
    number = _power(GOLDEN_RATIO, n) / math.sqrt(5)
    return backoff.steps[0] * (round(number) if n <= 70 else number)


def _decorrelated(backoff: Backoff, n: int) -> float:
    return backoff.steps[0] * _power(3.0, n)  # the upper edge: every wait thrice the one before


def _sequence(backoff: Backoff, n: int) -> float:
    return backoff.steps[min(n, len(backoff.steps)) - 1]


def _power(base: float, exponent: int) -> float:
    try:
        return min(base**exponent, LONGEST)
    except OverflowError:
        return LONGEST


CURVES: dict[Shape, Callable[[Backoff, int], float]] = {
    "constant": _constant,
    "linear": _linear,
    "exponential": _exponential,
    "fibonacci": _fibonacci,
    "decorrelated": _decorrelated,
    "sequence": _sequence,
}


def constant(delay: Duration) -> Backoff:
    """Waits that are equal, each time.

    Args:
        delay: seconds, >= 0.
    """
    return Backoff("constant", (seconds("delay", delay),))


def linear(first: Duration, step: Duration | None = None, cap: Duration | None = None) -> Backoff:
    """Waits that grow by the same amount: first, first + step, first + 2 * step ...

    Args:
        first: wait before the first retry, seconds, >= 0.
        step: growth per retry, seconds, >= 0; ``first`` if not given.
        cap: longest single wait, seconds, >= first; None for no limit.
    """
    start = seconds("first", first)
    growth = start if step is None else seconds("step", step)
    return Backoff("linear", (start,), growth, None if cap is None else _cap(cap, start))


def exponential(first: Duration, factor: float = 2.0, cap: Duration = 300) -> Backoff:
    """Waits that grow by a constant factor until they meet a cap.

    Args:
        first: wait before the first retry, seconds, > 0.
        factor: growth per retry, dimensionless, >= 1.
        cap: longest single wait, seconds, >= first.

    Raises:
        ValueError: an argument is outside its range.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    start = seconds("first", first, above=True)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise SettingTypeError("factor", f"must be a number >= 1, got {factor!r}")
    if not (1 <= factor < math.inf):
        raise SettingValueError("factor", f"must be finite and >= 1, got {factor!r}")
    return Backoff("exponential", (start,), float(factor), _cap(cap, start))


def fibonacci(first: Duration = 1, cap: Duration = 300) -> Backoff:
    """Waits that grow like the Fibonacci numbers: 1, 1, 2, 3, 5, 8 ... times the first.

    Args:
        first: the unit, seconds, > 0.
        cap: longest single wait, seconds, >= first.
    """
    start = seconds("first", first, above=True)
    return Backoff("fibonacci", (start,), cap=_cap(cap, start))


def decorrelated(first: Duration, cap: Duration) -> Backoff:
    """Waits drawn between the first and thrice the previous one, capped.

    ``.delay(n)`` is the upper edge, first * 3 ** n.

    Args:
        first: shortest wait, seconds, > 0.
        cap: longest single wait, seconds, >= first.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    start = seconds("first", first, above=True)
    return Backoff("decorrelated", (start,), cap=_cap(cap, start), spread="decorrelated")


def sequence(*delays: Duration) -> Backoff:
    """The waits as listed; the last repeats.

    Args:
        delays: at least one, seconds, each >= 0.
    """
    if not delays:
        raise SettingValueError("delays", "must be at least one wait, got none")
    return Backoff("sequence", tuple(seconds("delays", delay) for delay in delays))


def _cap(cap: Duration, first: float) -> float:
    longest = seconds("cap", cap)
    if longest < first:
        raise SettingValueError("cap", f"must be >= first ({first:g} s), got {cap!r}")
    return longest
