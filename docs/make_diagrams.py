"""Draws what docs/ shows of the machines in the core, from the machines themselves.

Run as ``python docs/make_diagrams.py``; with ``--check`` it writes nothing, and exits 1 if a page is not up to date.
A drawing stands in its page between ``<!-- drawn: name -->`` and ``<!-- drawn -->``.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from types import FrameType

import resilient
from resilient.core import link
from resilient.core.action import Action, Verdict
from resilient.core.backoff import constant
from resilient.core.breaker import MOVES, Breaker, BreakerPlan, Event, State
from resilient.core.flight import Flight, Part
from resilient.core.link import Link
from resilient.core.link_plan import link_plan
from resilient.core.restarts import Ended, Escalate, Restart, RestartPlan, Restarts
from resilient.core.run import Stop
from resilient.errors import DeadlineExceeded, ResilientError
from resilient.net import ConnectionManager, FramedClient, FramedServer
from resilient.policies.timeout import Timeout
from resilient.testing import FakeClock

DOCS = Path(__file__).parent
PACKAGE = Path(resilient.__file__).parent
OUTSIDE = {__file__: "you", asyncio.events.__file__: "event loop"}
# Functions that only look something up.
PLUMBING = ("__init__", "failures", "get_buffer", "name", "state")
# Of the core, what the connections are driven by.
MACHINES = ("frames.py", "link.py", "outbox.py")
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

CHANCE = Random(0)
LinkFact = Callable[[Link, float], object]


def judged(fact: Callable[..., object], action: Action) -> LinkFact:
    """A fact that comes with an error, and this verdict on it."""
    return lambda machine, now: fact(machine, machine.generation, Verdict(action), now, CHANCE)


# Whatever can be told of a link, and how. An error means: again, recover first, or give up.
OUTCOMES = (Action.RETRY, Action.RELOGIN, Action.FAIL)
LINK_FACTS: list[tuple[str, LinkFact]] = [
    ("started", Link.started),
    ("opened", lambda machine, now: machine.opened(machine.generation, now)),
    *(("dial failed", judged(Link.dial_failed, action)) for action in OUTCOMES),
    *(("lost", judged(Link.lost, action)) for action in OUTCOMES),
    ("woke", Link.woke),
    ("recovered", lambda machine, now: machine.recovered(machine.generation, now)),
    ("resumed", Link.resumed),
    ("asked to reconnect", Link.asked_to_reconnect),
    ("draining", Link.draining),
    ("drained", Link.drained),
    ("closed", Link.closed),
]
LINK_PLAN = link_plan(OSError, backoff=constant(10))
APART = 100.0  # seconds between two facts: all waits are over by then
LINK_STEPS: dict[type, str] = {
    link.Dial: "dials",
    link.Wait: "waits",
    link.Recover: "recovers",
    Stop: "gives up",
}
# Where users import errors from, the shortest name first.
ERROR_PLACES = ("resilient", "resilient.net", "resilient.errors")
# What a restarted loop's supervisor is told to do.
RESTART_STEPS: dict[type, str] = {
    Restart: "is started again, after a wait",
    Ended: "is done",
    Escalate: "is given up: all stop",
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


Found = tuple[link.State, str, link.State]


@cache
def link_life() -> tuple[frozenset[Found], frozenset[tuple[link.State, type]]]:
    """What any order of facts leads to: a link's moves, by the facts; and what it asks for, by its states."""
    moves: set[Found] = set()
    asked: set[tuple[link.State, type]] = set()
    seen: set[tuple[link.State, int]] = set()
    paths: list[tuple[int, ...]] = [()]
    for path in paths:  # which grow in number on the way
        for number, (name, tell) in enumerate(LINK_FACTS):
            machine = link_after(path)
            before = machine.state
            try:
                step = tell(machine, APART * len(path))
            except link.ImpossibleEvent:
                continue
            moves |= {(before, name, after) for _, after in machine.take_moves()[:1]}
            asked |= {(machine.state, kind) for kind in LINK_STEPS if isinstance(step, kind)}
            if (machine.state, number) not in seen:
                seen.add((machine.state, number))
                paths.append((*path, number))
    return frozenset(moves), frozenset(asked)


def link_after(path: tuple[int, ...]) -> Link:
    """A link that was told these facts."""
    machine = Link(LINK_PLAN)
    for place, number in enumerate(path):
        LINK_FACTS[number][1](machine, APART * place)
    machine.take_moves()
    return machine


def link_diagram() -> str:
    """The states of a connection and its moves between them, each with the facts that cause it, for Mermaid."""
    lines = [f"[*] --> {Link(LINK_PLAN).state}"]
    moves, names, last = link_life()[0], list(dict(LINK_FACTS)), link.State.CLOSED
    # What is possible in every state is drawn once.
    common = [name for name in names if {(state, name, last) for state in {*link.State} - {last}} <= moves]
    for before, after in dict.fromkeys((before, after) for (before, _), after in link.MOVES.items()):
        events = [words(event) for (origin, event), aim in link.MOVES.items() if (origin, aim) == (before, after)]
        # What the link makes of a fact stands in brackets behind it, where it is not called like any fact.
        made = next((f" ({event})" for event in events if event not in names), "")
        labels: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if (before, name, after) in moves and name not in common:
                labels["" if name in events else made].append(name)
        lines += [f"{before} --> {after}: {' or '.join(facts)}{move}" for move, facts in labels.items()]
    lines += [f"any_state --> {last}: {name}" for name in common]
    return fenced("mermaid", ["stateDiagram-v2", *(f"    {line}" for line in lines)])


def link_table() -> str:
    """What a link asks for in each state, and what becomes of a call of its manager meanwhile."""
    asked = link_life()[1]
    rows = []
    for state in link.State:
        steps = [word for kind, word in LINK_STEPS.items() if (state, kind) in asked]
        with FakeClock():
            rows.append((f"`{state}`", ", ".join(steps) or "-", asyncio.run(call_in(state))))
    return table(("state", "the link", "a call"), rows)


async def call_in(state: link.State) -> str:
    """What becomes of a call while its manager is in this state."""
    refused = ConnectionRefusedError()

    async def connect() -> str:
        if state is link.State.CONNECTING:
            await asyncio.Event().wait()
        if state in (link.State.BACKING_OFF, link.State.FAILED):
            raise refused
        return "connection"

    attempts = 1 if state is link.State.FAILED else None
    manager = ConnectionManager(connect, on=OSError, attempts=attempts, connect_timeout=None, backoff=constant(60))
    if state is link.State.IDLE:
        return await call_of(manager, refused)
    async with asyncio.TaskGroup() as tasks, manager, AsyncExitStack() as using:
        if state is link.State.DRAINING:
            await using.enter_async_context(manager.use())
            tasks.create_task(manager.drain())
        if state is link.State.CLOSED:
            await manager.close()
        for _ in range(100):  # turns of the event loop
            await asyncio.sleep(0)
        if manager.state is not state:
            raise AssertionError(f"no way is known that leads a manager to {state}, it is {manager.state}")
        return await call_of(manager, refused)


async def call_of(manager: ConnectionManager[str], refused: Exception) -> str:
    try:
        return f"gets the {await Timeout(1).call(manager.call, str)}"
    except DeadlineExceeded:
        return "waits for a connection"
    except Exception as error:
        return "ends with the dial's error" if error is refused else f"is refused: `{type(error).__name__}`"


def restarts_table() -> str:
    """What becomes of a supervised loop, by its kind and its end."""
    kinds = {
        "transient (default)": {},
        "`permanent=True`": {"permanent": True},
        "`temporary=True`": {"temporary": True},
    }
    head = ("a loop that is", "returned", "raised", "raised once too often")
    return table(head, [(name, *restarted(RestartPlan(intensity=(1, 60), **kind))) for name, kind in kinds.items()])


def restarted(plan: RestartPlan) -> Iterator[str]:
    for ends in (["returned"], ["failed"], ["failed", "failed"]):
        loop = Restarts(plan)
        steps = [getattr(loop, end)(0.0, CHANCE) for end in ends]
        yield RESTART_STEPS[type(steps[-1])]


class Tracer:
    """Which functions of net call which, from file to file, in this thread while it is entered.

    Attributes:
        calls: the file that calls, the one that is called, and the function in it; each once, in order.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], None] = {}

    def __enter__(self) -> Tracer:
        sys.setprofile(self.heard)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def heard(self, frame: FrameType, event: str, _: object) -> None:
        called, code = traced(frame), frame.f_code
        if event != "call" or called is None or "<" in code.co_qualname or code.co_name in PLUMBING:
            return
        around = frame.f_back
        caller = None
        while around is not None and caller is None:
            caller = traced(around) or OUTSIDE.get(around.f_code.co_filename)
            around = around.f_back
        if caller != called:
            self.calls.setdefault((caller or "?", called, code.co_qualname))

    def drawn(self) -> str:
        """The calls as a sequence, for Mermaid."""
        places = dict.fromkeys(place for caller, called, _ in self.calls for place in (caller, called))
        numbers = {place: f"p{number}" for number, place in enumerate(places)}
        lines = [f"participant {number} as {place}" for place, number in numbers.items()]
        lines += [f"{numbers[caller]}->>{numbers[called]}: {name}" for caller, called, name in self.calls]
        return fenced("mermaid", ["sequenceDiagram", *(f"    {line}" for line in lines)])


def traced(frame: FrameType) -> str | None:
    """The file of a frame below ``resilient``, if it is one of net, or a machine of the core."""
    place = Path(frame.f_code.co_filename)
    if PACKAGE not in place.parents:
        return None
    inner = place.relative_to(PACKAGE)
    return inner.as_posix().removeprefix("net/") if inner.parts[0] == "net" or inner.name in MACHINES else None


def path_of_a_call() -> str:
    """A call on a connection that is up."""
    tracer = Tracer()

    async def main() -> None:
        async with ConnectionManager(str, on=OSError) as manager:
            await manager.call(str.upper)
            with tracer:
                await manager.call(str.upper)

    asyncio.run(main())
    return tracer.drawn()


def path_of_a_loss() -> str:
    """A loss that a reader notices, up to the next connection."""
    tracer = Tracer()

    async def main() -> None:
        async with ConnectionManager(object, on=OSError, close=id, backoff=constant(1)) as manager:
            connection = await manager.call(lambda conn: conn)
            with tracer:
                manager.lost(ConnectionResetError(), connection)
                await manager.call(id)

    with FakeClock():
        asyncio.run(main())
    return tracer.drawn()


def path_of_a_frame() -> str:
    """A frame and its answer."""
    tracer = Tracer()

    async def main() -> None:
        async with FramedServer("tcp://127.0.0.1:0", lambda frame: frame) as server:
            async with FramedClient(server.url) as client:
                client.send(b"first")
                await client.receive()
                await asyncio.sleep(0.01)  # all that this takes is over
                with tracer:
                    client.send(b"hello")
                    await client.receive()

    asyncio.run(main())
    return tracer.drawn()


def errors_table() -> str:
    """The errors of the library itself, each below what it derives from."""
    homes: dict[object, str] = {}
    for place in ERROR_PLACES:
        module = import_module(place)
        for name in module.__all__:
            homes.setdefault(getattr(module, name), place)
    rows = []
    for kind in derived(ResilientError):
        bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        says = (kind.__doc__ or "").splitlines()[0].replace("``", "`")
        rows.append((f"`{kind.__name__}`", bases, f"`{homes[kind]}`", says))
    return table(("error", "is a", "import it from", "it says"), rows)


def derived(base: type[Exception]) -> Iterator[type[Exception]]:
    yield base
    for kind in sorted(base.__subclasses__(), key=lambda kind: kind.__name__):
        if kind.__module__.startswith("resilient."):  # else it is a user's own
            yield from derived(kind)


def words(name: str) -> str:
    return name.lower().replace("_", " ")


def fenced(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


DRAWINGS: dict[str, Callable[[], str]] = {
    "circuit breaker": breaker_diagram,
    "circuit breaker calls": breaker_table,
    "errors": errors_table,
    "link": link_diagram,
    "link states": link_table,
    "path of a call": path_of_a_call,
    "path of a frame": path_of_a_frame,
    "path of a loss": path_of_a_loss,
    "restarts": restarts_table,
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
    for page in sorted(DOCS.rglob("*.md")):
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
