"""The twins of :mod:`resilient.net` for threads, under the same names.

Every name is loaded when it is first used.
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

# Where each public name lives.
_HOMES = {
    "Poller": "resilient.net.poller.threads",
    "Reconnector": "resilient.net.reconnector",
    "StopSignal": "resilient.net.supervisor.stop_signal",
    "Supervisor": "resilient.net.supervisor.threads",
    "SupervisorStats": "resilient.net.supervisor.base",
    "TooManyRestarts": "resilient.net.supervisor.base",
    "ConnectionManager": "resilient.net.connection.threads",
    "ManagerStats": "resilient.net.connection.settings",
    "FramedClient": "resilient.net.framed.threads",
    "FramedStats": "resilient.net.framed.settings",
    "FrameTooLarge": "resilient.net.framed.settings",
    "OutboxFull": "resilient.net.framed.settings",
    "OutboxPlan": "resilient.net.framed.settings",
    "StillRunning": "resilient.net.supervisor.base",
    **dict.fromkeys(("ManagerClosed", "NotConnected", "OutcomeUnknown", "PeerSilent"), "resilient.errors"),
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
