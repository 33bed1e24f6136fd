"""The demo is not installed: its tests find it in this tree."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])

# At the end: when the suite runs against a wheel, the installed `resilient` must be found before the one beside the
# demo. An editable install has put the tree on the path already.
if ROOT not in sys.path:
    sys.path.append(ROOT)
