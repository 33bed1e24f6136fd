"""The messages of the loopback client, which show by themselves whether they are whole."""

from __future__ import annotations

__all__ = ["TORN", "label_of", "message"]

TORN = "torn"
LONGEST = 200  # bytes of padding; lengths differ, so that pieces of two messages never make a third


def message(sender: str, number: int) -> bytes:
    """A message: its label, and as much padding as its number says."""
    return f"{sender}:{number} ".encode() + b"." * (number * 37 % LONGEST)


def label_of(received: bytes) -> str:
    """``sender:number`` of a message that is whole; "torn" of anything else."""
    label, _, _ = received.decode(errors="replace").partition(" ")
    sender, _, number = label.partition(":")
    return label if number.isdecimal() and received == message(sender, int(number)) else TORN
