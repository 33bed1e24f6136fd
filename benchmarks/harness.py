"""Times cases in turn, round after round, and compares their minima.

A machine's speed drifts; the ratio of two things measured in the same rounds does not. Absolute times are
printed for orientation only: ratios are gated, and the few figures that have a limit of their own.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Figure", "Mark", "machine_card", "measure", "report"]

RESULTS = Path(__file__).parent / "results"
SLACK = 1.5  # a gate fails at this many times its mark, so that a noisy machine never blocks a sound change


@dataclass(frozen=True)
class Mark:
    """A ratio of two cases, and the most (or, for ``at_least``, the least) that it should be."""

    name: str
    case: str
    against: str
    at_most: float | None = None
    at_least: float | None = None

    def ratio(self, seconds: Mapping[str, float]) -> float:
        """The case's time over the other's; the other way round for ``at_least``."""
        ratio = seconds[self.case] / seconds[self.against]
        return ratio if self.at_most is not None else 1 / ratio

    def holds(self, ratio: float, slack: float = 1.0) -> bool:
        """Whether a ratio meets the mark, give or take."""
        if self.at_most is not None:
            return ratio <= self.at_most * slack
        return ratio >= (self.at_least or 0.0) / slack

    @property
    def wanted(self) -> str:
        """The mark in words."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


@dataclass(frozen=True)
class Figure:
    """A number that stands for itself, and the most that it should be."""

    name: str
    value: float
    unit: str
    at_most: float


def machine_card() -> dict[str, str]:
    """What the numbers were measured on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def measure(cases: Mapping[str, Callable[[int], None]], *, rounds: int, budget: float = 0.01) -> dict[str, float]:
    """The least time of one call of each case, seconds.

    Args:
        cases: each runs what it measures as many times as it is told.
        rounds: how often each case is measured, in turn with the others.
        budget: about how long one measurement may take, seconds.
    """
    counts = {name: _count(case, budget) for name, case in cases.items()}
    best = dict.fromkeys(cases, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            if sys.stderr.isatty():
                print(f"\rround {turn + 1} of {rounds}", end="", file=sys.stderr, flush=True)
            for name, case in cases.items():
                best[name] = min(best[name], _time(case, counts[name]) / counts[name])
            gc.collect()
    finally:
        gc.enable()
        if sys.stderr.isatty():
            print(file=sys.stderr)
    return best


def report(
    title: str, seconds: Mapping[str, float], marks: list[Mark], *, gate: bool, figures: Sequence[Figure] = ()
) -> bool:
    """Prints the times, the ratios and the figures, keeps them as dated JSON, and says whether every gate holds."""
    card = machine_card()
    print(f"\n{title}: {', '.join(card.values())}")
    for name, value in seconds.items():
        print(f"  {name:<46} {value * 1e9:>14,.0f} ns")
    ratios, passed = {}, True
    for mark in marks:
        ratio = ratios[mark.name] = mark.ratio(seconds)
        held = mark.holds(ratio, SLACK)
        passed = passed and held
        print(f"  {mark.name:<46} {ratio:>14.2f}    mark {mark.wanted:<8} {_verdict(mark.holds(ratio), held)}")
    for figure in figures:
        held = figure.value <= figure.at_most * SLACK
        passed = passed and held
        verdict = _verdict(figure.value <= figure.at_most, held)
        print(f"  {figure.name:<46} {figure.value:>14.2f} {figure.unit:<2} mark <= {figure.at_most:<5g} {verdict}")
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = {
        "title": title,
        "machine": card,
        "seconds": dict(seconds),
        "ratios": ratios,
        "marks": list(map(asdict, marks)),
        "figures": list(map(asdict, figures)),
    }
    (RESULTS / f"local-{title}-{stamp}.json").write_text(json.dumps(kept, indent=2) + "\n")
    return passed or not gate


def _verdict(holds: bool, within_slack: bool) -> str:
    return "ok" if holds else "within slack" if within_slack else "MISSED"


def _count(case: Callable[[int], None], budget: float) -> int:
    count = 1
    while (taken := _time(case, count)) < budget / 4:
        count *= 2
    return max(1, int(count * budget / max(taken, 1e-9)))


def _time(case: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    case(count)
    return time.perf_counter() - start
