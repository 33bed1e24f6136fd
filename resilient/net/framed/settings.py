"""What everything framed shares: its errors, its numbers, and what its settings default to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resilient.core.action import Action
from resilient.core.addresses import Address, AddressLike, read_address
from resilient.core.backoff import Backoff
from resilient.core.classify import Classifier
from resilient.core.duration import Duration
from resilient.core.events import Event, Panic
from resilient.core.frames import FrameTooLarge
from resilient.core.outbox import OutboxCounts
from resilient.core.outbox_plan import OutboxPlan
from resilient.core.rule import Rule
from resilient.drivers.loops.current import running
from resilient.errors import Rejected
from resilient.net.connection.settings import ManagerStats
from resilient.observe.listeners import Listener, tell

__all__ = [
    "BATCH", "MOST_BYTES", "MOST_FRAMES", "ON", "PLAN", "Addresses", "FrameTooLarge", "FramedPlan", "FramedStats",
    "Numbers", "OutboxFull", "OutboxPlan", "panics_only", "read_addresses", "refuse_trio",
]  # fmt: skip

Addresses: TypeAlias = AddressLike | list[str] | list[tuple[str, int]] | list[Address] | list[AddressLike]
"""One address, or a list of them in order of preference. A pair is one: a host and a port."""

# What trouble calls for: all that a network does, and a peer that speaks another language, may mend itself.
ON = Classifier(Rule((OSError, EOFError, FrameTooLarge), Action.RECONNECT))

PLAN = OutboxPlan()

BATCH = 65536  # bytes handed over at once: asyncio's own mark for a transport that has enough

# Bounds of what nobody has worked off; beyond them reading pauses, so that the peer has to wait. One read comes on top.
MOST_FRAMES = 1000
MOST_BYTES = 2**20


class OutboxFull(Rejected):
    """There is no room for a frame: it was not accepted."""

    what = "frame not accepted"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Frames by their numbers, as ``send`` gave them.

    Attributes:
        dropped: given up before any of them was sent.
        unconfirmed: in the pipe when the connection was cut: nobody can know whether they arrived.
    """

    dropped: tuple[int, ...]
    unconfirmed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FramedStats(OutboxCounts):
    """What became of a client's frames so far: accepted = delivered + pending + dropped + unconfirmed.

    Attributes:
        accepted: frames that got a number.
        delivered: frames that the other side is known to have taken out of the pipe.
        pending: frames whose fate is open: they wait, or are in the pipe.
        dropped: frames that were given up unsent.
        unconfirmed: frames that were in the pipe when it was cut, and were not sent again.
        in_pipe: those of the pending that were handed over.
        resent: frames that were put back to be sent once more.
        refused: offers for which there was no room.
        waiting_bytes: bytes of the frames that wait.
        received: frames that came.
        unread: those of them that nobody has taken yet.
        link: the connections.
    """

    received: int
    unread: int
    link: ManagerStats


@dataclass(frozen=True, slots=True)
class FramedPlan:
    """The settings of a framed client: those of its channel checked, the others as its connection manager takes them.

    Attributes:
        addresses: where to, in order of preference.
        outbox: bounds of what waits to be sent.
        max_frame: most bytes of a frame.
        heartbeat, misses, on, backoff, attempts, stable_after, throttle, connect_timeout: as of the manager.
        name: for events and errors.
        listeners: who hears events.
    """

    addresses: tuple[Address, ...]
    outbox: OutboxPlan
    max_frame: int
    heartbeat: Duration | None
    misses: int
    on: object
    backoff: Backoff
    attempts: int | None
    stable_after: Duration
    throttle: Duration
    connect_timeout: Duration | None
    name: str
    listeners: tuple[Listener, ...]


def panics_only(hears: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """Listeners for what guards a hook: they are told only of calls that blow up."""

    def hear(event: Event) -> None:
        if isinstance(event, Panic):
            tell(event, hears)

    return (hear,) if hears else ()


def refuse_trio(what: str, instead: str) -> None:
    """Says early that something needs asyncio.

    Raises:
        RuntimeError: trio runs.
    """
    if running() == "trio":
        raise RuntimeError(f"{what} runs on asyncio (or uvloop), not on trio: {instead}")


def read_addresses(given: object) -> tuple[Address, ...]:
    """One address, or those of a list.

    Raises:
        TypeError, ValueError: it is no address, none is given, or one is named twice.
    """
    if not isinstance(given, list):
        return (read_address("address", given),)
    found = tuple(read_address(f"address[{place}]", address) for place, address in enumerate(given))
    if not found or len(set(found)) < len(found):
        raise ValueError(f"address must be one, or a list of at least one, none named twice, got {given!r}")
    return found
