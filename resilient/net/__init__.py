"""What stays up: reconnecting, restarting and polling in the background.

Every name is loaded when it is first used. The twins for threads are in :mod:`resilient.net.sync`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient.lazy import lazy_names

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

# Where each public name lives.
_HOMES = {
    "Poller": "resilient.net.poller.tasks",
    "Reconnector": "resilient.net.reconnector",
    "Supervisor": "resilient.net.supervisor.tasks",
    "SupervisorStats": "resilient.net.supervisor.base",
    "TooManyRestarts": "resilient.net.supervisor.base",
    "ConnectionManager": "resilient.net.connection.tasks",
    "ManagerStats": "resilient.net.connection.settings",
    "FramedClient": "resilient.net.framed.tasks",
    "FramedServer": "resilient.net.framed.server",
    "FramedStats": "resilient.net.framed.settings",
    "FrameTooLarge": "resilient.net.framed.settings",
    "OutboxFull": "resilient.net.framed.settings",
    "OutboxPlan": "resilient.net.framed.settings",
    "Peer": "resilient.net.framed.server_connection",
    "ServerStats": "resilient.net.framed.server",
    "StillRunning": "resilient.net.supervisor.base",
    **dict.fromkeys(("ManagerClosed", "NotConnected", "OutcomeUnknown", "PeerSilent"), "resilient.errors"),
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
