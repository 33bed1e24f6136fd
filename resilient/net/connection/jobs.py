"""What a manager runs in the background, and what its steward asks of the shell that does so."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, NamedTuple, Protocol, TypeVar

from resilient.core.action import Action

__all__ = ["INSIDE", "Act", "Hands", "Job", "Lease", "Member", "Pause"]

C = TypeVar("C")
Taken = TypeVar("Taken", contravariant=True)


class Member(Protocol):
    """Something that runs in the background."""

    def cancel(self) -> object: ...


class Job:
    """Something that the driver has started.

    Attributes:
        generation: of the connection that it is about.
        ends_at: when it is given up, monotonic seconds.
        action: the recovery that it is; None for a dial or a probe.
        endpoint: where it dials.
        born: the generation of the recovery on which that began.
        member: what runs it; None before that.
        over: whether it has ended.
    """

    __slots__ = ("action", "born", "endpoint", "ends_at", "generation", "member", "over")

    def __init__(self, generation: int, ends_at: float = math.inf, action: Action | None = None) -> None:
        self.generation = generation
        self.ends_at = ends_at
        self.action = action
        self.endpoint: object = None
        self.born = 0
        self.member: Member | None = None
        self.over = False

    def cancel(self) -> None:
        """Ends it early, as far as it can be."""
        if self.member is not None:
            self.member.cancel()


# The manager in one of whose jobs this context runs, and which: what a hook does to its own manager must not wait for
# the hook's own end.
INSIDE: ContextVar[tuple[object, Job] | None] = ContextVar("resilient.inside", default=None)


class Lease(NamedTuple, Generic[C]):
    """A connection that is up."""

    conn: C
    generation: int


class Pause(NamedTuple):
    """The driver has nothing to do for so long, or until it is woken.

    Attributes:
        seconds: None for no limit.
        passes: whether virtual time passes for it, as for any wait of a policy.
    """

    seconds: float | None = None
    passes: bool = False


Act = Callable[[], object]


class Hands(Protocol[Taken]):
    """What a shell does for its steward. All but ``tell`` happens in the background."""

    def dial(self, job: Job) -> Member: ...

    def recover(self, job: Job) -> Member: ...

    def probe(self, job: Job, conn: Taken) -> Member: ...

    def discard(self, conn: Taken) -> object: ...

    def tell(self) -> object: ...
