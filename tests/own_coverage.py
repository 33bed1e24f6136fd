"""Checks the coverage of the last run: every module of core, drivers and policies, from its own test module; and every
other folder of the package, from all tests together.

``resilient/core/run.py`` must be covered, lines and branches, by ``tests/core/test_run.py`` alone (and by being
imported); what other tests happen to execute does not count. Run by ``make test`` after the suite.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from coverage import Coverage

GATED = ("core", "drivers", "policies")
# Percent of the lines and branches of a folder, those below it left out.
FLOORS = {
    ".": 91.5,
    "cli": 95.0,
    "net": 99.0,
    "net/connection": 98.5,
    "net/framed": 96.0,
    "net/poller": 99.0,
    "net/supervisor": 99.0,
    "observe": 96.0,
    "presets": 99.0,
    "settings": 99.0,
    "testing": 97.0,
}
# Drivers play one table together; what it executes counts for each of them.
SHARED = {"drivers": ["drivers.test_scenarios"]}
# Both event loops answer to the same tests, and so does what blocking and async hedging decide alike.
ALSO = {
    "policies/policy": ["policies.test_pipeline"],
    "drivers/loops/asyncio": ["drivers.loops.test_current"],
    "drivers/loops/trio": ["drivers.loops.test_current"],
    "drivers/hedging/asyncio": ["drivers.hedging.test_tasks"],
    "drivers/hedging/trio": ["drivers.hedging.test_tasks"],
    "drivers/hedging/threads": ["drivers.hedging.test_race"],
}


def own_contexts(path: Path) -> list[str]:
    """Regular expressions of the contexts that count for a module."""
    inner = path.relative_to("resilient").with_suffix("")
    own = ".".join([*inner.parts[:-1], f"test_{inner.name}"])
    tests = [own, *SHARED.get(inner.parts[0], []), *ALSO.get(inner.as_posix(), [])]
    return ["^$", *(rf"^{test.replace('.', '[.]')}$" for test in tests)]


def main() -> int:
    """Prints a line for each module that its own tests leave uncovered."""
    coverage = Coverage()
    coverage.load()
    failed = 0
    for package in GATED:
        for path in sorted(Path("resilient", package).rglob("*.py")):
            text = io.StringIO()
            percent = coverage.report(
                include=[str(path)], contexts=own_contexts(path), file=text, skip_covered=False, show_missing=True
            )
            if percent < 100:
                failed += 1
                print(f"not covered by its own tests: {text.getvalue().splitlines()[2]}")
    total = coverage.report(file=io.StringIO())
    print(f"coverage: {total:.1f} % of all code; {', '.join(GATED)}: {'see above' if failed else 'complete'}")
    return 1 if below_their_floors(coverage) or failed else 0


def below_their_floors(coverage: Coverage) -> int:
    """Prints a line for each folder that is covered less than it should be, or that nobody has set a floor for."""
    folders = {path.parent.relative_to("resilient").as_posix() for path in Path("resilient").rglob("*.py")}
    failed = 0
    for folder in sorted(folders):
        if folder.split("/")[0] in GATED:
            continue
        files = [str(path) for path in Path("resilient", folder).glob("*.py")]
        text = io.StringIO()
        percent = coverage.report(include=files, file=text, skip_covered=True, show_missing=True, precision=2)
        if percent < FLOORS.get(folder, 100.0):
            failed += 1
            print(f"{folder}: covered by {percent:.2f} %, not {FLOORS.get(folder, 100.0)} %")
            print(text.getvalue())
    return failed


if __name__ == "__main__":
    sys.exit(main())
