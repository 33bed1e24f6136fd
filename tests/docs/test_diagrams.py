"""What the pages draw and tabulate is what the code does."""

from __future__ import annotations

import builtins
import inspect
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import resilient
from resilient import errors
from resilient.core import link
from resilient.core.breaker import MOVES
from resilient.core.client_rate import ClientRate
from resilient.core.limits import AIMD, Gradient2
from resilient.core.pulse import Phi
from resilient.net import ConnectionManager

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PATTERNS = sorted((DOCS / "patterns").glob("*.md"))
DRAWER = runpy.run_path(str(DOCS / "make_diagrams.py"))

TABLE = re.compile(r"^\| setting of `(?P<owner>[\w.]+)` \| default \| source \|\n\|[-|]+\n(?P<rows>(?:\|.*\n)+)", re.M)
ROW = re.compile(r"^\| `(?P<setting>\w+)` \| (?P<default>needed|`[^`]+`) \|", re.M)
# Settings that mean the same everywhere, and are told once, in the index.
COMMON = {"name", "listeners", "home", "error"}
OTHERS = {kind.__name__: kind for kind in (AIMD, ClientRate, ConnectionManager, Gradient2, Phi)}


class Table(NamedTuple):
    """The settings that a page lists of something."""

    page: str
    owner: str
    defaults: dict[str, str]


def tables() -> Iterator[Table]:
    for page in PAGES:
        for found in TABLE.finditer(page.read_text(encoding="utf-8")):
            yield Table(page.stem, found["owner"], dict(ROW.findall(found["rows"])))


def settings(owner: str) -> dict[str, Any]:
    """The names of the settings of a policy, one of its forms, a machine or a manager, with their defaults."""
    name, _, form = owner.partition(".")
    target = OTHERS[name] if name in OTHERS else getattr(resilient, name)
    signature = inspect.signature(getattr(target, form) if form else target)
    return {name: parameter.default for name, parameter in signature.parameters.items() if name not in COMMON}


def value_of(cell: str) -> Any:
    """What a cell says, as a value: Python in backquotes."""
    return eval(cell.strip("`"), {**vars(builtins), "backoff": resilient.backoff})


def drawings(page: Path) -> list[str]:
    return [found["name"] for found in DRAWER["DRAWN"].finditer(page.read_text(encoding="utf-8"))]


def test_the_drawings_are_up_to_date() -> None:
    """Drawn afresh the pages are the same; if not, run ``python docs/make_diagrams.py``."""
    assert [] == [page.name for page, _ in DRAWER["stale"]()]


def test_every_drawing_is_in_a_page() -> None:
    """None is made for nobody, or twice."""
    assert sorted(DRAWER["DRAWINGS"]) == sorted(name for page in PAGES for name in drawings(page))


def test_a_stale_drawing_is_noticed() -> None:
    """Whatever stands between the marks is drawn afresh."""
    page = "before\n<!-- drawn: circuit breaker -->\nclosed --> closed\n<!-- drawn -->\nafter\n"
    fresh = DRAWER["drawn"](page)
    assert ("closed --> closed" in fresh, "closed --> open: tripped" in fresh) == (False, True)
    assert fresh == DRAWER["drawn"](fresh)


def test_writing_makes_a_stale_page_fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wherever it is below docs; checking says so and leaves it as it is."""
    page = tmp_path / "deep" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- drawn: link -->\nIDLE --> READY\n<!-- drawn -->\n", encoding="utf-8")
    main = DRAWER["main"]
    monkeypatch.setitem(main.__globals__, "DOCS", tmp_path)
    checked = []
    for arguments in (["--check"], [], ["--check"]):
        monkeypatch.setattr("sys.argv", ["make_diagrams.py", *arguments])
        checked.append((main(), "IDLE --> READY" in page.read_text(encoding="utf-8")))
    assert checked == [(1, True), (0, False), (0, False)]


def test_every_move_is_drawn() -> None:
    """The diagram has an arrow for each move, one for all states where every state makes it."""
    arrows = re.findall(r"^ +(\S+) --> (\S+): (.+)$", DRAWER["breaker_diagram"](), re.M)
    assert set(MOVES) == {
        (before, event)
        for before, event in MOVES
        for origin, after, label in arrows
        if origin in (before, "any_state") and after == MOVES[before, event]
        if label == event.name.lower().replace("_", " ")
    }
    assert len(arrows) == len({arrow[2] for arrow in arrows})


LINK_ARROWS = re.findall(r"^ +(\S+) --> (\S+): (.+)$", DRAWER["link_diagram"](), re.M)


def test_every_move_of_a_link_is_drawn() -> None:
    """Two states have an arrow between them if the table has a move, and it names the event of that move."""
    moves = {(before, event.replace("_", " "), after) for (before, event), after in link.MOVES.items()}
    drawn = {
        (before, event, after)
        for before, event, after in moves
        for origin, aim, label in LINK_ARROWS
        if origin in (before, "any_state") and aim == after and event in label
    }
    assert {(before, event, after) for before, event, after in moves if before != after} <= drawn
    assert {(before, after) for before, after, _ in LINK_ARROWS} - {("any_state", link.State.CLOSED)} <= {
        (before, after) for before, _, after in moves
    }


def test_every_move_of_a_link_says_which_fact_causes_it() -> None:
    """Nothing is on an arrow but what can be told of a link, and in brackets the move that it makes then."""
    facts = {label for _, _, text in LINK_ARROWS for label in re.sub(r" \(.+\)$", "", text).split(" or ")}
    assert {name for name, _ in DRAWER["LINK_FACTS"]} == facts
    assert [fact for fact in facts if not hasattr(link.Link, fact.replace(" ", "_"))] == []


def test_a_state_of_a_link_does_one_thing() -> None:
    """It dials while it connects, waits or recovers while it backs off, and lets calls through when it is ready."""
    rows = [line.split(" | ") for line in DRAWER["link_table"]().splitlines()[2:]]
    shown = {state.strip("| `"): (asks, call.rstrip(" |")) for state, asks, call in rows}
    assert list(link.State) == list(shown)
    assert {"CONNECTING": "dials", "BACKING_OFF": "waits, recovers", "FAILED": "gives up"} == {
        state: asks for state, (asks, _) in shown.items() if asks != "-"
    }
    assert ["READY"] == [state for state, (_, call) in shown.items() if call.startswith("gets")]


def test_every_error_is_listed() -> None:
    """Those of the tree, and those that stand elsewhere; a user's own are not."""

    class Mine(errors.Rejected):
        """Of a user."""

    listed = re.findall(r"^\| `(\w+)` \|", DRAWER["errors_table"](), re.M)
    assert {*errors.__all__, "FrameTooLarge", "OutboxFull", "StillRunning", "TooManyRestarts"} == {*listed}
    assert len(listed) == len({*listed})


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: f"{table.page}-{table.owner}")
def test_defaults_in_a_page_are_those_of_the_code(table: Table) -> None:
    """Each default that a page names is the one in the code; "needed" is one that has none."""
    actual = settings(table.owner)
    expected = {
        name: inspect.Parameter.empty if cell == "needed" else value_of(cell) for name, cell in table.defaults.items()
    }
    assert expected == {name: actual[name] for name in expected}


@pytest.mark.parametrize(
    "table", [table for table in tables() if table.owner not in OTHERS], ids=lambda table: f"{table.page}-{table.owner}"
)
def test_a_page_names_every_setting(table: Table) -> None:
    """No setting of a policy is missing from its page."""
    assert set(table.defaults) == set(settings(table.owner))


def test_every_policy_has_its_table() -> None:
    """Each page of patterns but the index and the pipeline's, which has layers and no settings, lists some."""
    assert {page.stem for page in PATTERNS} - {"index", "pipeline"} <= {table.page for table in tables()}
