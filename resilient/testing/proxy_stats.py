"""What a fault proxy has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resilient.testing.connection import DIRECTIONS, Connection

__all__ = ["ConnectionStats", "ProxyStats", "bytes_of"]


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """One connection that is open.

    Attributes:
        number: counted from 1, in the order in which they were accepted.
        received_up: bytes that the client sent.
        passed_up: those of them that were passed on to the upstream.
        received_down: bytes that the upstream sent.
        passed_down: those of them that were passed on to the client.
    """

    number: int
    received_up: int
    passed_up: int
    received_down: int
    passed_down: int


@dataclass(frozen=True, slots=True)
class ProxyStats:
    """What went through a proxy, and what was done to it.

    Attributes:
        connections: how many were accepted.
        open: how many of them are open.
        unreachable: how many were reset because the upstream could not be reached.
        resets: how many the proxy reset, these included.
        received_up: bytes that clients sent.
        passed_up: those of them that were passed on to the upstream.
        received_down: bytes that the upstream sent.
        passed_down: those of them that were passed on to clients.
        injected: how often each fault did something, by its name: chunks delayed, pieces cut, bits flipped,
            connections ended.
    """

    connections: int
    open: int
    unreachable: int
    resets: int
    received_up: int
    passed_up: int
    received_down: int
    passed_down: int
    injected: Mapping[str, int]


def bytes_of(connection: Connection) -> dict[str, int]:
    """The bytes of one connection, by the names that statistics give them."""
    return {
        f"{what}_{direction}": getattr(connection.traffic[direction], what)
        for direction in DIRECTIONS
        for what in ("received", "passed")
    }
