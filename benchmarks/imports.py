"""What importing costs, beside importing the two libraries that the core builds on.

wrapt (since 2.5) brings asyncio and sockets along, so it is loaded on first use; the mark is met with room to
spare, and what a program really types is measured too. Run as ``python -m benchmarks.imports``; with ``--gate``
it exits 1 if a ratio is beyond 1.5 times its mark.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

from benchmarks.harness import Mark, measure, report

PROGRAMS = {
    "nothing": "",
    "wrapt, typing_extensions": "import wrapt, typing_extensions",
    "import resilient": "import resilient",
    "its usual names": "from resilient import Classifier, Recovery, Retry, Rule, backoff, catch, retry",
    "tenacity": "import tenacity",
    "stamina": "import stamina",
}

MARKS = [
    Mark("import resilient / its libraries", "import resilient", "wrapt, typing_extensions", at_most=1.3),
    Mark("its usual names / its libraries", "its usual names", "wrapt, typing_extensions", at_most=1.3),
]


def importing(program: str) -> Callable[[int], None]:
    """A case that runs a program in so many fresh interpreters."""

    def case(count: int) -> None:
        for _ in range(count):
            subprocess.run([sys.executable, "-c", program], check=True)

    return case


def main() -> int:
    """Measures, prints, and says whether every gate holds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gate", action="store_true", help="exit 1 if a ratio is beyond 1.5 times its mark")
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    cases = {name: importing(program) for name, program in PROGRAMS.items()}
    seconds = measure(cases, rounds=chosen.rounds, budget=0.0)
    return 0 if report("imports", seconds, MARKS, gate=chosen.gate) else 1


if __name__ == "__main__":
    sys.exit(main())
