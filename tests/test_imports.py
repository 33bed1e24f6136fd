"""What importing loads, in a fresh interpreter."""

import subprocess
import sys

import pytest

EXTRAS = ["trio", "uvloop", "httpx", "requests", "aiohttp", "click", "rich", "msgspec", "hypothesis", "pytest"]
HEAVY = ["asyncio", "socket", "ssl", "logging.config", "wrapt", "threading.local"]


def loaded_by(program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    text = f"{program}\nimport sys; print(' '.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import resilient",
        "from resilient import Retry, retry, Classifier, Rule, Recovery, backoff, catch, presets, current_attempt",
        "import resilient\n@resilient.retry(on=OSError, timeout=3)\ndef f(): return 1\nf()",
        "import resilient\n@resilient.retry(on=OSError)\nasync def f(): return 1\nf().close()",
    ],
    ids=["import", "names", "sync use", "async use"],
)
def test_importing_loads_no_extra_no_asyncio_and_no_sockets(program: str) -> None:
    """Whoever needs them has loaded them."""
    assert set() == loaded_by(program) & {*EXTRAS, *HEAVY}


def test_a_blocking_retry_loads_neither() -> None:
    """Nor does trouble, without a loop."""
    program = (
        "import resilient\n"
        "from resilient.testing import Script\n"
        "assert resilient.Retry(on=OSError, backoff=resilient.backoff.constant(0)).call(Script('fail', 7)) == 7"
    )
    assert set() == loaded_by(program) & {*EXTRAS, *HEAVY}


def test_every_public_name_loads() -> None:
    """Each name of ``__all__`` is there, is listed, and a star import brings them all."""
    program = (
        "import resilient\n"
        "for name in resilient.__all__: getattr(resilient, name)\n"
        "assert set(resilient.__all__) <= set(dir(resilient))\n"
        "from resilient import *\n"
        "assert retry is resilient.retry\n"
        "try: resilient.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise AssertionError"
    )
    loaded_by(program)
