"""The public names of resilient.net: there, listed, and loaded on first use."""

import importlib
import inspect
import subprocess
import sys
from ast import If, parse

import pytest

PUBLIC = {
    "resilient.net": [
        "ConnectionManager",
        "FrameTooLarge",
        "FramedClient",
        "FramedServer",
        "FramedStats",
        "ManagerClosed",
        "ManagerStats",
        "NotConnected",
        "OutboxFull",
        "OutboxPlan",
        "OutcomeUnknown",
        "Peer",
        "PeerSilent",
        "Poller",
        "Reconnector",
        "ServerStats",
        "StillRunning",
        "Supervisor",
        "SupervisorStats",
        "TooManyRestarts",
    ],
    "resilient.net.sync": [
        "ConnectionManager",
        "FrameTooLarge",
        "FramedClient",
        "FramedStats",
        "ManagerClosed",
        "ManagerStats",
        "NotConnected",
        "OutboxFull",
        "OutboxPlan",
        "OutcomeUnknown",
        "PeerSilent",
        "Poller",
        "Reconnector",
        "StillRunning",
        "StopSignal",
        "Supervisor",
        "SupervisorStats",
        "TooManyRestarts",
    ],
}


@pytest.mark.parametrize("place", PUBLIC)
def test_the_public_names_are_these(place: str) -> None:
    """A name that comes or goes is a decision; each is annotated for type checkers and loads."""
    module = importlib.import_module(place)
    for name in PUBLIC[place]:
        assert name in dir(module)
        assert getattr(module, name).__name__ == name
        vars(module).pop(name)
        assert getattr(module, name).__name__ == name
    block = next(node for node in parse(inspect.getsource(module)).body if isinstance(node, If))
    annotated = sorted(alias.asname for node in block.body for alias in node.names)  # type: ignore[attr-defined]
    assert (PUBLIC[place], PUBLIC[place]) == (annotated, sorted(module.__all__))


@pytest.mark.parametrize("place", PUBLIC)
def test_other_names_are_missing(place: str) -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match=f"module '{place}' has no attribute 'nothing'"):
        _ = importlib.import_module(place).nothing


@pytest.mark.parametrize("program", ["import resilient.net", "from resilient.net import Reconnector"])
def test_importing_is_cheap(program: str) -> None:
    """No event loop, no socket, no extra."""
    text = f"{program}\nimport sys; print(' '.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert set() == set(ended.stdout.split()) & {"asyncio", "socket", "ssl", "trio", "wrapt", "httpx", "logging"}
