"""A schedule drawn with rich: a table, and a bar for each wait with the band of its jitter."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilient.cli.schedule import Retried, Schedule
from resilient.cli.spans import spoken

__all__ = ["draw_bars", "draw_table"]

BAR = 48  # characters of the longest wait
EIGHTHS = " ▏▎▍▌▋▊▉"
FULL, BAND = "█", "░"
ASCII_FULL, ASCII_BAND = "#", "."
COLOURS = {"yes": "", "maybe": "yellow", "no": "bright_black"}


def draw_table(console: Console, schedule: Schedule, *, timed: bool) -> None:
    """Prints a row for each retry.

    Args:
        timed: whether there is a timeout that a retry can miss.
    """
    spread = any(retry.low != retry.high for retry in schedule.retries)
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in _columns(spread, timed):
        table.add_column(name, justify="right", no_wrap=True)
    for retry in schedule.retries:
        table.add_row(*_cells(retry, spread, timed), style=COLOURS[retry.in_time])
    console.print(table)


def draw_bars(console: Console, schedule: Schedule) -> None:
    """Prints a bar for each wait: solid as far as it lasts in any case, shaded as far as jitter may take it."""
    longest = max(retry.high for retry in schedule.retries)
    width = len(str(schedule.retries[-1].number))
    for retry in schedule.retries:
        solid, band = _bar(retry, longest, ascii_only=console.options.ascii_only)
        colour = COLOURS[retry.in_time] or "cyan"
        late = "  too late" if retry.in_time == "no" else ""
        bar = Text.assemble((solid, colour), (band, colour))
        console.print(f"{retry.number:>{width}}", bar, f"{spoken(retry.high)}{late}", no_wrap=True, crop=False)


def _columns(spread: bool, timed: bool) -> Iterator[str]:
    yield from (
        ("retry", "wait", "with jitter", "begins at", "with jitter") if spread else ("retry", "wait", "begins at")
    )
    if timed:
        yield "in time"


def _cells(retry: Retried, spread: bool, timed: bool) -> Iterator[str]:
    yield from (str(retry.number), spoken(retry.wait))
    if spread:
        yield _between(retry.low, retry.high)
    yield spoken(retry.at)
    if spread:
        yield _between(retry.earliest, retry.latest)
    if timed:
        yield retry.in_time


def _between(low: float, high: float) -> str:
    return f"{spoken(low)} .. {spoken(high)}"


def _bar(retry: Retried, longest: float, *, ascii_only: bool) -> tuple[str, str]:
    scale = BAR / longest if longest else 0.0
    low, high = retry.low * scale, retry.high * scale
    full, band = (ASCII_FULL, ASCII_BAND) if ascii_only else (FULL, BAND)
    solid = full * round(low)
    if retry.low != retry.high:
        return solid, band * max(1, round(high) - len(solid))
    if ascii_only:
        return solid, ""
    whole, rest = divmod(round(high * 8), 8)
    return full * whole + EIGHTHS[rest].strip(), ""
