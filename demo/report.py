"""What the demo prints: two lines for each fault while it runs, and a table at the end."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Report", "Row"]

WIDTH = 132  # columns, where there is no terminal to say: the VT100's wide screen


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one fault.

    Attributes:
        where: which client met it.
        fault: its name.
        injected: how it was made.
        recovered: what it took to get over it.
        attempts: calls made, over all callers; 0 where nothing is tried again.
        waited: what a caller was told to wait in all, the mean over all callers, seconds.
        elapsed: seconds.
        missing: what did not happen as it should; empty if all did.
        lost: messages that never arrived; None where there are none to lose.
        unconfirmed: messages of which the client cannot know whether they arrived, those that are lost included.
    """

    where: str
    fault: str
    injected: str
    recovered: str
    attempts: int
    waited: float
    elapsed: float
    missing: str = ""
    lost: int | None = None
    unconfirmed: int = 0

    @property
    def loss(self) -> str:
        """What was lost, as the table has it."""
        if self.lost is None:
            return ""
        return f"{self.lost} of {self.unconfirmed}" if self.unconfirmed else str(self.lost)


class Report:
    """Prints as it goes, and keeps the rows.

    Args:
        console: where to; one made for a plain pipe if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _console()
        self._rows: list[Row] = []

    @property
    def ok(self) -> bool:
        """Whether everything that was injected was recovered."""
        return bool(self._rows) and not any(row.missing for row in self._rows)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._print(f"[dim]{escape(text)}[/]")

    def injected(self, where: str, fault: str, how: str) -> None:
        """A fault begins."""
        self._print(f"[bold]{where}[/]: {fault}\n  [yellow]injected[/]:  {how}")

    def ended(self, row: Row) -> None:
        """A fault is over."""
        self._rows.append(row)
        self._print(f"  [red]NOT recovered[/]: {escape(row.missing)}" if row.missing else _took(row))

    def summary(self, elapsed: float) -> None:
        """The table, and what was not recovered."""
        self._console.print(self._table())
        lost = [row for row in self._rows if row.missing]
        for row in lost:
            self._print(f"[red]not recovered[/]: {row.where}, {row.fault}: {escape(row.missing)}")
        total = len(self._rows)
        self._print(f"{total} faults injected, {total - len(lost)} recovered, in {elapsed:.1f} s")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def _table(self) -> Table:
        table = Table()
        for name in ("client", "fault", "injected", "recovered by"):
            table.add_column(name, overflow="fold")
        for name in ("attempts", "waited"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("lost of\nunconfirmed", justify="right", no_wrap=True)
        table.add_column("ok", no_wrap=True)
        for before, row in zip([None, *self._rows], self._rows, strict=False):
            if before is not None and before.where != row.where:
                table.add_section()
            table.add_row(*_cells(row))
        return table


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "[red]NO[/]" if row.missing else "[green]yes[/]"
    waited = f"{row.waited:.2f} s" if row.waited else ""
    return row.where, row.fault, row.injected, row.recovered, str(row.attempts or ""), waited, row.loss, verdict


def _took(row: Row) -> str:
    attempts = f", {row.attempts} attempts" if row.attempts else ""
    lost = f", {row.loss}{' unconfirmed' if row.unconfirmed else ''} lost" if row.loss else ""
    return f"  [green]recovered[/]: {row.recovered}{attempts}{lost}, {row.elapsed:.2f} s"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)
