"""The structure of the package, read off the syntax trees: who reaches into whom, and how deep net is."""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from test_layers import MODULES, ROOT, dotted, graph

HERE = Path(__file__).parent
NET = "resilient.net"
FLOORS = 7
FILES = 4
ALIKE = 0.40
HANDFUL = 5  # lines: of a twin of a few lines a share says nothing
# Public names of others that begin with an underscore.
FOREIGN = {"_getframe", "_get_running_loop", "_ready", "_exit"}


@cache
def tree(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def private(name: str) -> bool:
    """Whether a name is nobody else's business."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(path: Path) -> set[str]:
    """The private names that a module defines: attributes that it sets, slots, methods, globals."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # of slots
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_reaches_into_what_another_file_defines(path: Path) -> None:
    """Private attributes are used where they are defined, or by a subclass of itself."""
    own = own_names(path) | FOREIGN
    reached = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and private(node.attr)
        and node.attr not in own
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        and not (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super")
    ]
    assert [] == reached


VAGUE = re.compile(r"(It|Its|The same|As|What it|Likewise|Another|They|This|That|Again|Same)\b")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_stands_alone(path: Path) -> None:
    """Whoever reads it has not read its neighbour: it names its subject, in four words at least."""
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, documented)]
    firsts = {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in nodes}
    assert {} == {name: doc for name, doc in firsts.items() if doc and (len(doc.split()) < 4 or VAGUE.match(doc))}


@cache
def rooms() -> dict[str, set[str]]:
    """What each module of net imports of the others; packages, which only name things, left out."""
    namers = {dotted(path) for path in MODULES if path.name == "__init__.py"} | {f"{NET}.sync"}
    return {
        name: {other for other in imports if other.startswith(NET) and other not in namers}
        for name, imports in graph().items()
        if name.startswith(NET) and name not in namers
    }


def floor(name: str) -> int:
    """How many modules stand upon each other below this one, itself included."""
    return 1 + max((floor(other) for other in rooms()[name]), default=0)


def test_net_is_not_deep() -> None:
    """A module stands on six others at the most."""
    assert [] == [name for name in rooms() if floor(name) > FLOORS]


def test_no_module_of_net_is_part_of_another() -> None:
    """A module that only one other uses, and no test makes alone, is no concept of its own."""
    importers = Counter(other for name, imports in graph().items() for other in imports if name != other)
    tests = {path.relative_to(HERE).as_posix() for path in HERE.rglob("test_*.py")}
    alone = {name for name in rooms() if f"{mirror(name)}.py" in tests}
    assert [] == [name for name in rooms() if importers[name] < 2 and name not in alone]


def mirror(name: str) -> str:
    """Where the tests of a module stand, below ``tests``."""
    *folders, last = name.split(".")[1:]
    return "/".join([*folders, f"test_{last}"])


def test_the_work_of_a_public_name_is_near() -> None:
    """From the package that names it to the file that does the work there are four files at the most.

    Those are the package, the module that defines it, its bases, and what that object keeps: ``self._channel = ...``.
    """
    import resilient.net
    import resilient.net.sync

    for package in (resilient.net, resilient.net.sync):
        for name in package.__all__:
            kind = getattr(package, name)
            files = {package.__name__, *(base.__module__ for base in kind.__mro__ if base.__module__.startswith(NET))}
            assert len(files) <= FILES - 1, files


def code_lines(path: Path) -> list[str]:
    """The lines in functions, without what makes a task's differ from a thread's; no docstrings or comments."""
    source = path.read_text(encoding="utf-8")
    wanted: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            wanted |= {line for step in body for line in range(step.lineno, (step.end_lineno or 0) + 1)}
    lines: dict[int, list[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        code = token.type in {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}
        if code and token.start[0] in wanted and token.string not in {"async", "await"}:
            lines.setdefault(token.start[0], []).append(token.string)
    return [" ".join(line) for line in lines.values() if any(word.isidentifier() for word in line)]


def decides(line: str) -> bool:
    """Whether a line says more than that something begins or ends."""
    words = [word for word in line.split() if word.isidentifier() and not keyword.iskeyword(word)]
    return len(words) > 1 and not line.startswith(("def ", "class ", "@"))


@pytest.mark.parametrize("room", ["connection", "framed", "supervisor", "poller"])
def test_twins_decide_nothing_twice(room: str) -> None:
    """Of the lines in a twin, few stand in the other one as well."""
    tasks, threads = (
        Counter(filter(decides, code_lines(ROOT / "net" / room / f"{twin}.py"))) for twin in ("tasks", "threads")
    )
    shared = (tasks & threads).total()
    assert shared < max(HANDFUL, ALIKE * min(tasks.total(), threads.total())), tasks & threads


def test_neighbours_differ() -> None:
    """What is measured is not nothing."""
    rows = [code_lines(ROOT / "net" / "connection" / f"{name}.py") for name in ("tasks", "threads", "state")]
    assert all(len(row) > 50 for row in rows)
    assert all(a != b for a, b in pairwise(rows))
