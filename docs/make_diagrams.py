"""Draws what docs/patterns shows of the machines in the core, from the machines themselves.

Run as ``python docs/make_diagrams.py``; with ``--check`` it writes nothing, and exits 1 if a page is not up to date.
A drawing stands in its page between ``<!-- drawn: name -->`` and ``<!-- drawn -->``.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from resilient.core.backoff import constant
from resilient.core.breaker import MOVES, Breaker, BreakerPlan, Event, State
from resilient.core.flight import Flight, Part

PAGES = Path(__file__).with_name("patterns")
DRAWN = re.compile(r"^<!-- drawn: (?P<name>[a-z ]+) -->\n.*?^<!-- drawn -->$", re.M | re.S)

# One call opens and closes it: states are reached by as few steps as there are.
TOUCHY = BreakerPlan(
    failure_rate=None,
    window=1,
    timed=False,
    min_calls=1,
    consecutive=1,
    slow_call=None,
    slow_rate=1.0,
    open_for=constant(1),
    probes=1,
)
# What a caller does who is told its part.
PARTS = {
    Part.LEAD: "recovers, for all",
    Part.JOIN: "waits for whoever recovers, then tries again",
    Part.SKIP: "tries again: somebody has recovered since",
}


def breaker_diagram() -> str:
    """The states of a circuit breaker and its moves between them, for Mermaid."""
    moves: dict[tuple[Event, State], list[State]] = defaultdict(list)
    for (before, event), after in MOVES.items():
        moves[event, after].append(before)
    lines = [f"[*] --> {breaker().state}"]
    for (event, after), origins in moves.items():
        # What is possible in every state (an operator's order) is drawn once.
        befores = ["any_state"] if len(origins) == len(State) else origins
        lines += [f"{before} --> {after}: {words(event.name)}" for before in befores]
    return fenced("mermaid", ["stateDiagram-v2", *(f"    {line}" for line in lines)])


def breaker_table() -> str:
    """What a breaker does with calls in each of its states, as it does it."""
    return table(("state", "a call", "its result"), [breaker_row(state) for state in State])


def breaker_row(state: State) -> tuple[str, str, str]:
    machine = breaker_in(state)
    tickets = [machine.admit(now=0.0) for _ in range(2)]
    admitted = {(True, True): "goes through", (True, False): "goes through if it is one of the `probes`"}
    call = admitted.get((tickets[0] is not None, tickets[1] is not None), "is rejected")
    if tickets[0] is None:
        return f"`{state}`", call, "there is none; those of earlier calls change nothing"
    before = machine.metrics(0.0).calls
    machine.recorded(tickets[0], 0.0, True, None)
    # A move empties the window: who moved has counted.
    if machine.state is not state:
        return f"`{state}`", call, "is counted, and may move it"
    return f"`{state}`", call, "is counted" if machine.metrics(0.0).calls > before else "is not counted"


def breaker() -> Breaker:
    return Breaker(TOUCHY, Random(0))


def breaker_in(state: State) -> Breaker:
    """A breaker in this state, at the instant 0."""
    machine = breaker()
    steps: dict[State, Callable[[], object]] = {
        State.OPEN: lambda: machine.recorded(machine.generation, 0.0, True, None),
        State.HALF_OPEN: lambda: half_open(machine),
        State.FORCED_OPEN: lambda: machine.force_open(0.0),
        State.DISABLED: lambda: machine.disable(0.0),
        State.METRICS_ONLY: lambda: machine.metrics_only(0.0),
    }
    if state in steps:
        steps[state]()
    if machine.state is not state:
        raise AssertionError(f"no way is known that leads a breaker to {state}, it is {machine.state}")
    return machine


def half_open(machine: Breaker) -> None:
    machine.recorded(machine.generation, -1.0, True, None)
    ticket = machine.admit(0.0)
    if ticket is not None:
        machine.forgotten(ticket)  # its probe is free again


def flight_table() -> str:
    """What becomes of a caller that needs a recovery, by what others do."""
    rows = [
        (f"on {attempt}", *(PARTS[part(recovering=running, older=older)] for running in (False, True)))
        for attempt, older in (("today's connection", False), ("an older one", True))
    ]
    return table(("its attempt began", "nobody recovers", "somebody does"), rows)


def part(*, recovering: bool, older: bool) -> Part:
    flight = Flight(throttle=0.0)
    flight.ask(0)
    flight.ended(0.0)  # the first recovery is over
    if recovering:
        flight.ask(flight.generation)
    return flight.ask(flight.generation - 1 if older else flight.generation)


def words(name: str) -> str:
    return name.lower().replace("_", " ")


def fenced(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- | --- | --- |", "|---|---|---|")


DRAWINGS: dict[str, Callable[[], str]] = {
    "circuit breaker": breaker_diagram,
    "circuit breaker calls": breaker_table,
    "single flight": flight_table,
}


def drawn(text: str) -> str:
    """A page with its drawings made anew.

    Raises:
        KeyError: it asks for one that nobody draws.
    """

    def fresh(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- drawn: {name} -->\n\n{DRAWINGS[name]()}\n\n<!-- drawn -->"

    return DRAWN.sub(fresh, text)


def stale() -> Iterator[tuple[Path, str]]:
    """The pages that are not up to date, each with what it should be."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = drawn(text)
        if fresh != text:
            yield page, fresh


def main() -> int:
    """Writes the drawings, or checks them."""
    pages = list(stale())
    if "--check" in sys.argv[1:]:
        return 1 if pages else 0
    for page, fresh in pages:
        page.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
