"""The ``resilient`` command, which needs the extra ``cli`` (click and rich)."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Runs the command that ``sys.argv`` names, and exits with its status."""
    # rich is slow to import and most runs never draw anything, so it is only looked for here.
    if not all(map(find_spec, ("click", "rich"))):
        print(
            'resilient: the command line needs two more packages: pip install "resilient-toolkit[cli]"', file=sys.stderr
        )
        sys.exit(2)
    from resilient.cli.app import app

    app(prog_name="resilient")
