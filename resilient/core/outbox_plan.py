"""The settings of an outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from resilient.core.duration import whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["PIPE", "OutboxPlan", "Overflow"]

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "error"]
"""What happens to a frame for which there is no room."""

# What two Linux kernels hold at most unless told otherwise: 4 MiB to be sent and 32 MiB received (the last numbers of
# net.ipv4.tcp_wmem and tcp_rmem; of the latter 6 MiB before Linux 6.16). Unix sockets hold far less. A proxy in between
# adds what it holds itself.
PIPE = (4 + 32) * 2**20
MAX_ITEMS = 1000
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class OutboxPlan:
    """The settings of an outbox.

    Args:
        overflow: what happens to a frame for which there is no room: "block" and "error" refuse it, for the driver to
            wait or to raise; "drop_oldest" drops what has waited longest, "drop_newest" the new one itself.
        max_items: most frames that wait, >= 1.
        max_bytes: their most bytes, >= 1.
        pipe: most bytes that can be between the writer and the other side's reads, >= 0; None: 36 MiB, or what this
            system's settings allow if that is more.
        resend: whether frames that were in the pipe when it was cut are sent again, which may double them.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Frames are sized as on the wire, header included. What a cut puts back to wait is never refused, and may exceed the
    bounds until it is sent. With ``resend`` frames in the pipe are kept too: up to ``pipe`` bytes more.
    """

    overflow: Overflow = "block"
    max_items: int = MAX_ITEMS
    max_bytes: int = MAX_BYTES
    pipe: int | None = None
    resend: bool = False

    def __post_init__(self) -> None:
        if self.overflow not in get_args(Overflow):
            raise SettingValueError(
                "overflow", f"must be one of {', '.join(get_args(Overflow))}, got {self.overflow!r}"
            )
        whole("max_items", self.max_items, least=1)
        whole("max_bytes", self.max_bytes, least=1)
        if self.pipe is not None:
            whole("pipe", self.pipe, least=0)
        if not isinstance(self.resend, bool):
            raise SettingTypeError("resend", f"must be True or False, got {self.resend!r}")
