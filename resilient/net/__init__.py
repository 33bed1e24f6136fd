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
    from resilient.net.framed import FramedStats as FramedStats
    from resilient.net.framed import FrameTooLarge as FrameTooLarge
    from resilient.net.framed import OutboxFull as OutboxFull
    from resilient.net.framed import OutboxPlan as OutboxPlan
    from resilient.net.framed_client import FramedClient as FramedClient
    from resilient.net.framed_peer import Peer as Peer
    from resilient.net.framed_server import FramedServer as FramedServer
    from resilient.net.framed_server import ServerStats as ServerStats
    from resilient.net.manager import ConnectionManager as ConnectionManager
    from resilient.net.manager_plan import ManagerStats as ManagerStats
    from resilient.net.poller import Poller as Poller
    from resilient.net.reconnector import Reconnector as Reconnector
    from resilient.net.supervision import StillRunning as StillRunning
    from resilient.net.supervision import SupervisorStats as SupervisorStats
    from resilient.net.supervision import TooManyRestarts as TooManyRestarts
    from resilient.net.supervisor import Supervisor as Supervisor

# Where each public name lives; ".errors" is that of the whole library.
_HOMES = {
    "Poller": "poller",
    "Reconnector": "reconnector",
    "Supervisor": "supervisor",
    "SupervisorStats": "supervision",
    "TooManyRestarts": "supervision",
    "ConnectionManager": "manager",
    "ManagerStats": "manager_plan",
    "FramedClient": "framed_client",
    "FramedServer": "framed_server",
    "FramedStats": "framed",
    "FrameTooLarge": "framed",
    "OutboxFull": "framed",
    "OutboxPlan": "framed",
    "Peer": "framed_peer",
    "ServerStats": "framed_server",
    "StillRunning": "supervision",
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
