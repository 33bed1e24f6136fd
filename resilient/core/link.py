"""The life of one managed connection: when to dial, how long to wait, what to do first, when to give up.

A link is told facts and answers with the next step, or None where nothing is to be done. Trouble is judged by the
same :class:`~resilient.core.run.Run` that decides about a guarded call: an outage is a run whose attempts are
connections, so a connection that is lost counts as one that failed. It ends when a connection stayed up for
``stable_after``; a mere connect proves nothing, since what accepts and closes would be dialled without a pause.

Each connection, from its dial to its end, is a generation with a number of its own. Reader, writer and heartbeat may
all report the same loss, and a dial may end after it was given up: the first fact that ends a generation moves the
link, whatever is told of it afterwards is history and changes nothing. :data:`MOVES` is the whole diagram.

::

    fact                        answer
    started                     Dial
    resumed                     Dial, or Wait for the throttle
    asked_to_reconnect          the same, or Recover if that is still to be done
    dial_failed, lost           Wait, Recover or Dial; Stop: the link is FAILED until it is resumed
    woke (a wait ended, or      Wait for the rest, Recover or Dial
      somebody cut it short)
    recovered                   Dial
    opened                      None: it is READY; Discard, if nobody wants this connection any more
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TypeAlias

from resilient.core.action import Action, Verdict
from resilient.core.backoff import Rng
from resilient.core.link_plan import LinkPlan
from resilient.core.run import Run, Stop

__all__ = [
    "MOVES", "Dial", "Discard", "Event", "ImpossibleEvent", "Link", "Move", "Recover", "State", "Step", "Wait",
]  # fmt: skip


class State(StrEnum):
    """What a link is doing."""

    IDLE = "IDLE"
    CONNECTING = "CONNECTING"
    READY = "READY"
    BACKING_OFF = "BACKING_OFF"
    FAILED = "FAILED"
    DRAINING = "DRAINING"
    CLOSED = "CLOSED"


class Event(StrEnum):
    """What moves a link: what befell it, and below that what its user asked for."""

    OPENED = auto()
    DIAL_FAILED = auto()
    LOST = auto()
    GAVE_UP = auto()
    WAITED = auto()
    RECOVERED = auto()
    DRAINED = auto()

    STARTED = auto()
    RESUMED = auto()
    ASKED_TO_RECONNECT = auto()
    DRAINING = auto()
    CLOSED = auto()


MOVES = {
    (State.IDLE, Event.STARTED): State.CONNECTING,
    (State.CONNECTING, Event.OPENED): State.READY,
    (State.CONNECTING, Event.DIAL_FAILED): State.BACKING_OFF,
    (State.CONNECTING, Event.GAVE_UP): State.FAILED,
    (State.READY, Event.LOST): State.BACKING_OFF,
    (State.READY, Event.GAVE_UP): State.FAILED,
    (State.BACKING_OFF, Event.WAITED): State.CONNECTING,
    (State.BACKING_OFF, Event.RECOVERED): State.CONNECTING,
    (State.FAILED, Event.RESUMED): State.BACKING_OFF,
    (State.IDLE, Event.ASKED_TO_RECONNECT): State.CONNECTING,
    (State.READY, Event.ASKED_TO_RECONNECT): State.BACKING_OFF,
    (State.FAILED, Event.ASKED_TO_RECONNECT): State.BACKING_OFF,
    (State.READY, Event.DRAINING): State.DRAINING,
    (State.DRAINING, Event.DRAINED): State.CLOSED,
    (State.DRAINING, Event.LOST): State.CLOSED,
    # Without a connection there is nothing to drain.
    (State.IDLE, Event.DRAINING): State.CLOSED,
    (State.CONNECTING, Event.DRAINING): State.CLOSED,
    (State.BACKING_OFF, Event.DRAINING): State.CLOSED,
    (State.FAILED, Event.DRAINING): State.CLOSED,
    **{(state, Event.CLOSED): State.CLOSED for state in State},
    # Asked for, and already so.
    (State.CONNECTING, Event.STARTED): State.CONNECTING,
    (State.BACKING_OFF, Event.STARTED): State.BACKING_OFF,
    (State.READY, Event.STARTED): State.READY,
    (State.CONNECTING, Event.RESUMED): State.CONNECTING,
    (State.BACKING_OFF, Event.RESUMED): State.BACKING_OFF,
    (State.READY, Event.RESUMED): State.READY,
    (State.CONNECTING, Event.ASKED_TO_RECONNECT): State.CONNECTING,
    (State.BACKING_OFF, Event.ASKED_TO_RECONNECT): State.BACKING_OFF,
    (State.DRAINING, Event.DRAINING): State.DRAINING,
    (State.CLOSED, Event.DRAINING): State.CLOSED,
    (State.CLOSED, Event.DRAINED): State.CLOSED,
}

Move: TypeAlias = tuple[State, State]
"""The state before and the state after."""

# A driver takes the moves after each step, which makes two at most; the bound is for one that never asks.
MOVES_KEPT = 16

# The verdict on an end without an error, such as an orderly close by the other side.
HUNG_UP = Verdict(Action.RECONNECT)
# A new connection is what RECONNECT asks for; these want something done before it.
RECOVERED_FIRST = frozenset({Action.ROTATE_PROXY, Action.RELOGIN})


class ImpossibleEvent(RuntimeError):
    """A link was told what cannot happen in its state.

    Attributes:
        event: what it was told.
        state: the state it was in.
    """

    def __init__(self, event: Event, state: State) -> None:
        super().__init__(event, state)
        self.event = event
        self.state = state

    def __str__(self) -> str:
        return f"{self.event.name} cannot happen while the link is {self.state.name}"


@dataclass(frozen=True, slots=True)
class Dial:
    """Make a connection, then tell ``opened`` or ``dial_failed`` with this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds, or until somebody asks for a connection now; then tell ``woke``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Recover:
    """Run the handler for this action; when it has returned or raised tell ``recovered`` with this generation."""

    action: Action
    generation: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Close the connection that was just made: its generation is over."""

    generation: int


Step: TypeAlias = Dial | Wait | Recover | Stop


class Link:
    """The state of one connection and its successors. Not thread-safe: the driver holds its lock around each fact.

    Args:
        plan: the settings.

    Attributes:
        state: what it is doing.
        generation: number of the connection that is up or being made, or will be the next.
        stopped: why it FAILED; None before that, and from the moment it is resumed.
        moved: changes of state that nobody has taken yet, oldest first.

    Every fact takes ``now``, a monotonic instant in seconds.
    """

    __slots__ = (
        "_dialled_at", "_opened_at", "_recovering", "_recovery", "_run", "_until", "_wait", "generation", "moved",
        "plan", "state", "stopped",
    )  # fmt: skip

    def __init__(self, plan: LinkPlan) -> None:
        self.plan = plan
        self.state = State.IDLE
        self.generation = 1
        self.stopped: Stop | None = None
        self.moved: deque[Move] = deque(maxlen=MOVES_KEPT)
        self._run: Run | None = None
        self._until = self._wait = 0.0
        self._opened_at: float | None = None
        self._dialled_at: float | None = None
        self._recovery: Action | None = None
        self._recovering = False

    @property
    def failures(self) -> int:
        """Connections that failed or were lost in the present outage, or in the last one until it is over."""
        return 0 if self._run is None else self._run.failures

    def started(self, now: float) -> Step | None:
        """The user wants a connection; while one is up or on its way that changes nothing."""
        return self._dial(now) if self._move(Event.STARTED) else None

    def opened(self, generation: int, now: float) -> Discard | None:
        """A dial gave a connection."""
        if generation != self.generation:
            return Discard(generation)
        self._move(Event.OPENED)
        self._opened_at = now
        return None

    def dial_failed(
        self, generation: int, verdict: Verdict, now: float, rng: Rng, *, another: bool = False
    ) -> Step | None:
        """A dial raised, and the plan judged it so.

        Args:
            generation: which one.
            verdict: on what it raised.
            now: monotonic instant, seconds.
            rng: source of jitter.
            another: whether there is another endpoint to be asked in this round: the backoff is between rounds.
        """
        if generation != self.generation:
            return None
        return self._failed(Event.DIAL_FAILED, verdict, now, rng, another)

    def lost(
        self, generation: int, verdict: Verdict | None, now: float, rng: Rng, *, another: bool = False
    ) -> Step | None:
        """A connection ended by itself.

        Args:
            generation: which one.
            verdict: on the error that told it; None if there was none, and a new connection is all it takes.
            now: monotonic instant, seconds.
            rng: source of jitter.
            another: as of ``dial_failed``, for a connection that broke before it was up.
        """
        if generation != self.generation:
            return None
        if self.state is State.DRAINING:
            self._move(Event.LOST)
            self._end(now)
            return None
        # A connection may break between the dial's success and the driver's telling so: then the dial has failed.
        event = Event.DIAL_FAILED if self.state is State.CONNECTING else Event.LOST
        return self._failed(event, HUNG_UP if verdict is None else verdict, now, rng, another)

    def woke(self, now: float) -> Step | None:
        """Whoever drives the link woke up, at the end of a wait or before it: what there is to do now."""
        if self.state is not State.BACKING_OFF or self._recovering:
            return None
        if now < self._until:
            self._until = min(self._until, now + self._wait)  # more can only be on another clock: it begins anew there
            return Wait(self._remaining(now))
        if self._recovery is not None:
            self._recovering = True
            return Recover(self._recovery, self.generation)
        self._move(Event.WAITED)
        return self._dial(now)

    def recovered(self, generation: int, now: float) -> Step | None:
        """The handler returned, or raised: either way the next thing is a dial."""
        if generation != self.generation:
            return None
        if not self._recovering:
            raise ImpossibleEvent(Event.RECOVERED, self.state)
        self._move(Event.RECOVERED)
        return self._dial(now)

    def resumed(self, now: float) -> Step | None:
        """The user wants a FAILED link to begin anew."""
        if not self._move(Event.RESUMED):
            return None
        self._forget()
        return self._back_off(0.0, now)

    def asked_to_reconnect(self, now: float) -> Step | None:
        """The user wants a new connection now; nothing is held against the old one, and only the throttle may delay."""
        before = self.state
        self._move(Event.ASKED_TO_RECONNECT)
        if before is State.IDLE:
            return self._dial(now)
        if before is State.CONNECTING or self._recovering:
            return None
        if before is State.FAILED:
            self._forget()
        if before is State.READY:
            self._end(now)
        return self._back_off(0.0, now)

    def draining(self, now: float) -> None:
        """The user wants no more than to finish what is under way.

        Without a connection that is nothing, and the link is closed at once: whoever would rather have another one
        first, to send what still waits, waits for it before telling this.
        """
        self._move(Event.DRAINING)
        if self.state is State.CLOSED:
            self._end(now)

    def drained(self, now: float) -> None:
        """All that was under way is done: the link is closed."""
        self._move(Event.DRAINED)
        self._end(now)

    def closed(self, now: float) -> None:
        """The user wants no connection any more; in any state, any number of times."""
        self._move(Event.CLOSED)
        self._end(now)

    def take_moves(self) -> list[Move]:
        """The changes of state since the last time, oldest first."""
        taken = list(self.moved)
        self.moved.clear()
        return taken

    def _move(self, event: Event) -> bool:
        """Follows the diagram; False if the event leaves the link where it is."""
        before = self.state
        after = MOVES.get((before, event))
        if after is None:
            raise ImpossibleEvent(event, before)
        if after is before:
            return False
        self.state = after
        self.moved.append((before, after))
        return True

    def _failed(self, event: Event, verdict: Verdict, now: float, rng: Rng, another: bool) -> Step | None:
        if (self.state, event) not in MOVES:
            raise ImpossibleEvent(event, self.state)
        self._end(now)
        run = self._run
        if run is None:
            run = self._run = Run(self.plan.run, now, self.plan.attempts)
        at_once = another and verdict.seconds is None
        run.unspaced += at_once
        stop = run.judged(verdict, now, rng)
        if stop is not None:
            self._move(Event.GAVE_UP)
            self.stopped = stop
            return stop
        self._move(event)
        self._recovery = verdict.action if verdict.action in RECOVERED_FIRST else None
        return self._back_off(0.0 if at_once else run.wait, now)

    def _end(self, now: float) -> None:
        """Makes the generation history, and with it the outage if it was up for long enough."""
        if self._opened_at is not None and now >= self._opened_at + self.plan.stable_after:
            self._run = None
        self._opened_at = None
        self.generation += 1
        self._recovery, self._recovering = None, False

    def _forget(self) -> None:
        self._run = self.stopped = None

    def _back_off(self, wait: float, now: float) -> Step | None:
        dialled_at = self._dialled_at
        if dialled_at is not None and now >= dialled_at:  # else it was on another clock: a fake one, or after one
            wait = max(wait, dialled_at + self.plan.throttle - now)
        self._wait = wait
        self._until = now + wait
        return Wait(wait) if wait > 0.0 else self.woke(now)

    def _remaining(self, now: float) -> float:
        left = self._until - now
        if now + left < self._until:  # rounded down: whoever waits for just that long is not to come too early
            left = math.nextafter(left, math.inf)
        return min(left, self._wait)

    def _dial(self, now: float) -> Dial:
        self._recovery, self._recovering = None, False
        self._dialled_at = now
        return Dial(self.generation)
