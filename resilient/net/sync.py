"""The twins of :mod:`resilient.net` for threads, under the same names.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient.errors import ManagerClosed as ManagerClosed
    from resilient.errors import NotConnected as NotConnected
    from resilient.errors import OutcomeUnknown as OutcomeUnknown
    from resilient.errors import PeerSilent as PeerSilent
    from resilient.net.connection.settings import ManagerStats as ManagerStats
    from resilient.net.connection.threads import ConnectionManager as ConnectionManager
    from resilient.net.framed.settings import FramedStats as FramedStats
    from resilient.net.framed.settings import FrameTooLarge as FrameTooLarge
    from resilient.net.framed.settings import OutboxFull as OutboxFull
    from resilient.net.framed.settings import OutboxPlan as OutboxPlan
    from resilient.net.framed.threads import FramedClient as FramedClient
    from resilient.net.poller.threads import Poller as Poller
    from resilient.net.reconnector import Reconnector as Reconnector
    from resilient.net.supervisor.base import StillRunning as StillRunning
    from resilient.net.supervisor.base import SupervisorStats as SupervisorStats
    from resilient.net.supervisor.base import TooManyRestarts as TooManyRestarts
    from resilient.net.supervisor.stop_signal import StopSignal as StopSignal
    from resilient.net.supervisor.threads import Supervisor as Supervisor

# Where each public name lives; ".errors" is that of the whole library.
_HOMES = {
    "Poller": "poller.threads",
    "Reconnector": "reconnector",
    "StopSignal": "supervisor.stop_signal",
    "Supervisor": "supervisor.threads",
    "SupervisorStats": "supervisor.base",
    "TooManyRestarts": "supervisor.base",
    "ConnectionManager": "connection.threads",
    "ManagerStats": "connection.settings",
    "FramedClient": "framed.threads",
    "FramedStats": "framed.settings",
    "FrameTooLarge": "framed.settings",
    "OutboxFull": "framed.settings",
    "OutboxPlan": "framed.settings",
    "StillRunning": "supervisor.base",
    **dict.fromkeys(("ManagerClosed", "NotConnected", "OutcomeUnknown", "PeerSilent"), ".errors"),
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(f".{home}", "resilient.net"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
