"""What stays up: reconnecting, restarting and polling in the background.

Every name is loaded when it is first used. The twins for threads are in :mod:`resilient.net.sync`.
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
    from resilient.net.connection.tasks import ConnectionManager as ConnectionManager
    from resilient.net.framed.server import FramedServer as FramedServer
    from resilient.net.framed.server import ServerStats as ServerStats
    from resilient.net.framed.server_connection import Peer as Peer
    from resilient.net.framed.settings import FramedStats as FramedStats
    from resilient.net.framed.settings import FrameTooLarge as FrameTooLarge
    from resilient.net.framed.settings import OutboxFull as OutboxFull
    from resilient.net.framed.settings import OutboxPlan as OutboxPlan
    from resilient.net.framed.tasks import FramedClient as FramedClient
    from resilient.net.poller.tasks import Poller as Poller
    from resilient.net.reconnector import Reconnector as Reconnector
    from resilient.net.supervisor.base import StillRunning as StillRunning
    from resilient.net.supervisor.base import SupervisorStats as SupervisorStats
    from resilient.net.supervisor.base import TooManyRestarts as TooManyRestarts
    from resilient.net.supervisor.tasks import Supervisor as Supervisor

# Where each public name lives; ".errors" is that of the whole library.
_HOMES = {
    "Poller": "poller.tasks",
    "Reconnector": "reconnector",
    "Supervisor": "supervisor.tasks",
    "SupervisorStats": "supervisor.base",
    "TooManyRestarts": "supervisor.base",
    "ConnectionManager": "connection.tasks",
    "ManagerStats": "connection.settings",
    "FramedClient": "framed.tasks",
    "FramedServer": "framed.server",
    "FramedStats": "framed.settings",
    "FrameTooLarge": "framed.settings",
    "OutboxFull": "framed.settings",
    "OutboxPlan": "framed.settings",
    "Peer": "framed.server_connection",
    "ServerStats": "framed.server",
    "StillRunning": "supervisor.base",
    **dict.fromkeys(("ManagerClosed", "NotConnected", "OutcomeUnknown", "PeerSilent"), ".errors"),
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
