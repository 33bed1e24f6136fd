"""Vegas: how many calls at once, learned from how long they wait for each other.

The shortest duration ever seen is taken for that of a call that waited for nobody. What a call takes longer it
spent in a queue, so the queue is ``limit * (1 - shortest / latest)`` calls long, and the limit is moved until it is
neither empty nor long::

    queue      0 ... threshold    grow by beta
               ... below alpha    one step up
               alpha ... beta     stay
               above beta         one step down, as after a drop

What all algorithms share is told in :mod:`resilient.core.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from resilient.core.backoff import Rng
from resilient.core.limits import within

__all__ = ["Vegas", "decades", "decades_down", "decades_up"]


def decades(limit: int) -> int:
    """The whole part of log10, at least 1: the unit of Vegas' steps.

    Source: Log10RootIntFunction.
    """
    return int(math.log10(limit)) if limit >= 10 else 1


def decades_up(limit: float) -> float:
    """One step more, VegasLimit's increase."""
    return limit + decades(int(limit))


def decades_down(limit: float) -> float:
    """One step less, VegasLimit's decrease."""
    return limit - decades(int(limit))


# VegasLimit's alpha and beta: TCP Vegas keeps 2 to 3 and 4 to 6 packets queued; these grow with the limit.
def _three_decades(limit: int) -> int:
    return 3 * decades(limit)


def _six_decades(limit: int) -> int:
    return 6 * decades(limit)


class Vegas:
    """Keeps the estimated queue between alpha and beta.

    The shortest duration is forgotten now and then, when the latest one takes its place, so that a service that
    has become slower for good is believed in the end.

    Args:
        initial: the limit to begin with, ``min_limit`` to ``max_limit``.
        max_limit: never above, >= ``min_limit``.
        min_limit: never below, >= 1.
        smoothing: weight of a new estimate, (0, 1].
        alpha: of the limit: the limit still grows below this queue.
        beta: of the limit: the limit shrinks above this queue; also the stride while there is hardly a queue.
        threshold: of the limit: up to this queue there is hardly one.
        increase: the limit after a step up.
        decrease: the limit after a step down, for a long queue or a drop.
        probe_multiplier: the shortest duration is forgotten every so many calls for each unit of the limit,
            less up to a half of them by chance.
        rng: source of that chance.

    Attributes:
        limit: how many calls may run now.
        shortest: the shortest duration known, seconds; infinite before the first.

    Source: VegasLimit; all defaults are its own.
    """

    __slots__ = (
        "_alpha",
        "_beta",
        "_decrease",
        "_estimate",
        "_increase",
        "_patience",
        "_probe_multiplier",
        "_rng",
        "_samples",
        "_smoothing",
        "_threshold",
        "limit",
        "max_limit",
        "min_limit",
        "shortest",
    )

    def __init__(
        self,
        initial: int = 20,
        max_limit: int = 1000,
        *,
        min_limit: int = 1,
        smoothing: float = 1.0,
        alpha: Callable[[int], int] = _three_decades,
        beta: Callable[[int], int] = _six_decades,
        threshold: Callable[[int], int] = decades,
        increase: Callable[[float], float] = decades_up,
        decrease: Callable[[float], float] = decades_down,
        probe_multiplier: int = 30,
        rng: Rng,
    ) -> None:
        self.limit = initial
        self.min_limit = min_limit
        self.max_limit = max_limit
        self._estimate = float(initial)
        self._smoothing = smoothing
        self._alpha = alpha
        self._beta = beta
        self._threshold = threshold
        self._increase = increase
        self._decrease = decrease
        self._probe_multiplier = probe_multiplier
        self._rng = rng
        self.shortest = math.inf
        self._samples = 0
        self._patience = self._draw()

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        """A call ended, and is a sample.

        Args:
            rtt: how long it took, seconds.
            inflight: how many ran when it started, itself included.
            dropped: it timed out or was turned away.
        """
        if dropped:
            self._aim(self._decrease(self._estimate))
        elif 0.0 < rtt < math.inf and not self._learned(rtt) and inflight * 2 >= self._estimate:
            self._weigh(math.ceil(self._estimate * (1.0 - self.shortest / rtt)))

    def _learned(self, rtt: float) -> bool:
        """Whether this duration is now the shortest; then it tells nothing else."""
        self._samples += 1
        if self._samples >= self._patience * self._estimate:
            self._samples = 0
            self._patience = self._draw()
        elif rtt >= self.shortest:
            return False
        self.shortest = rtt
        return True

    def _draw(self) -> float:
        # VegasLimit: jitter in [0.5, 1), so that many limiters do not probe together.
        return self._probe_multiplier * (0.5 + 0.5 * self._rng.random())

    def _weigh(self, queue: int) -> None:
        limit, estimate = self.limit, self._estimate
        if queue <= self._threshold(limit):
            self._aim(estimate + self._beta(limit))
        elif queue < self._alpha(limit):
            self._aim(self._increase(estimate))
        elif queue > self._beta(limit):
            self._aim(self._decrease(estimate))

    def _aim(self, target: float) -> None:
        self._estimate += self._smoothing * (within(self.min_limit, target, self.max_limit) - self._estimate)
        self.limit = int(self._estimate)
