"""Every snippet of README.md and docs/ runs: what the documentation shows is what the library does.

The ``python`` blocks of a page share one namespace and one temporary directory, in a process of their own, where
every warning is an error. Every ``$ `` line of a ``console`` block must end with exit status 0. A block behind
``<!-- not run: reason -->`` is only compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n+)?```(?P<language>python|console)\n(?P<text>.*?)^```$", re.M | re.S
)

# The blocks come as JSON; their line numbers are those of the page, so that a traceback points into it.
RUNNER = """
import json, sys
page, blocks = json.load(sys.stdin)
namespace = {"__name__": "__main__"}
for line, text in blocks:
    exec(compile("\\n" * line + text, page, "exec", dont_inherit=True), namespace)
"""


@dataclass(frozen=True)
class Snippet:
    language: str
    line: int
    text: str
    runs: bool

    @property
    def commands(self) -> list[str]:
        """What is typed at the prompts of a console block; a line that ends in a backslash goes on in the next."""
        joined = self.text.replace("\\\n", "")
        return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(found["language"], text.count("\n", 0, found.start("text")), found["text"], runs=found["skip"] is None)
        for found in BLOCK.finditer(text)
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_language(language: str) -> list[Path]:
    return [page for page in PAGES if any(snippet.language == language for snippet in snippets(page))]


def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "HOME": str(home), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}


@pytest.mark.parametrize("page", with_language("python"), ids=name)
def test_every_python_block_compiles(page: Path) -> None:
    """No block of a page has a syntax error, whether it is run or not."""
    for snippet in snippets(page):
        if snippet.language == "python":
            compile("\n" * snippet.line + snippet.text, str(page), "exec", dont_inherit=True)


@pytest.mark.parametrize("page", with_language("python"), ids=name)
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run in order, meet their asserts and warn of nothing."""
    blocks = [(each.line, each.text) for each in snippets(page) if each.language == "python" and each.runs]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps([str(page), blocks]),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning:" not in done.stderr


@pytest.mark.parametrize("page", with_language("console"), ids=name)
def test_the_console_lines_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Each command of a page works in a shell, in order, in one directory."""
    for snippet in snippets(page):
        for command in snippet.commands if snippet.language == "console" and snippet.runs else ():
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env=environment(tmp_path),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=60,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_is_one_that_is_tested(page: Path) -> None:
    """No fenced block escapes the tests above by a misspelt or an indented fence."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^[ \t]*```.+$", text, re.M)
    known = [fence for fence in fences if fence.strip() in ("```text", "```toml", "```ini", "```json", "```mermaid")]
    assert len(fences) - len(known) == len(snippets(page))
