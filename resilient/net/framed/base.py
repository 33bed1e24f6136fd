"""What the framed clients for tasks and for threads share: the settings, and all that neither waits nor awaits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration
from resilient.core.frames import MAX_FRAME, checked_limit
from resilient.core.link import State
from resilient.core.link_plan import BACKOFF, STABLE_AFTER
from resilient.core.outbox_plan import OutboxPlan
from resilient.drivers.wrapping.kind import Kind
from resilient.net.connection.settings import CONNECT_TIMEOUT, MISSES
from resilient.net.framed.channel import FramedChannel
from resilient.net.framed.settings import ON, PLAN, Addresses, FramedPlan, FramedStats, read_addresses
from resilient.observe.listeners import Listener, checked_listener, checked_listeners

__all__ = ["BaseFramedClient"]

H = TypeVar("H", bound=Listener)


class BaseFramedClient:
    """The side of a framed client that is the same for tasks and for threads."""

    _frame_kinds: ClassVar[tuple[Kind, ...]] = (Kind.SYNC, Kind.EITHER)

    def __init__(
        self,
        address: Addresses,
        *,
        on_frame: Callable[[bytes], object] | None = None,
        outbox: OutboxPlan = PLAN,
        on_unconfirmed: Callable[[tuple[int, ...]], object] | None = None,
        on_dropped: Callable[[tuple[int, ...]], object] | None = None,
        heartbeat: Duration | None = None,
        misses: int = MISSES,
        on: object = ON,
        backoff: Backoff = BACKOFF,
        attempts: int | None = None,
        stable_after: Duration = STABLE_AFTER,
        throttle: Duration = 0,
        connect_timeout: Duration | None = CONNECT_TIMEOUT,
        max_frame: int = MAX_FRAME,
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        """The settings; nothing is begun before the client is entered.

        Args:
            address: ``"tcp://host:port"``, ``"unix:/path"`` or ``(host, port)``; a name is looked up at each attempt. A
                list of these is in order of preference: those that failed come last.
            on_frame: called with each frame that comes, in order: for tasks blocking or async, for threads in one of
                its own. What it raises is told as a Panic, nothing more. None: frames are there for ``receive`` and for
                loops. While too many wait, none are read.
            outbox: bounds of what waits to be sent, the rule for overflows, and whether to send again what was in a
                pipe.
            on_unconfirmed: called with the numbers of frames that were in the pipe at a cut; a plain function.
            on_dropped: called with the numbers of frames that were given up unsent; a plain function.
            heartbeat: interval of heartbeats while nothing comes, seconds, > 0: empty frames, which the other side has
                to answer by the same, and which it must never send otherwise. None: no heartbeats.
            misses: intervals without any sign of life after which the connection counts as lost, >= 2.
            on: what trouble calls for: classes of errors, a predicate or a classifier. FAIL ends the link.
            backoff: waits between connections that fail.
            attempts: connections that may fail in a row, the lost one included, before it gives up; None for ever.
            stable_after: uptime that resets the backoff, seconds, >= 0.
            throttle: least time between the starts of two attempts, seconds, >= 0.
            connect_timeout: for one attempt, and the answer to the first heartbeat, seconds, > 0; None for no limit.
            max_frame: most bytes of a frame, in both directions; a peer that announces more is cut off.
            name: for events and errors; the first address by default.
            listeners: plain functions of an event.

        Raises:
            TypeError, ValueError: an argument is of the wrong type or out of range.
        """
        hears = checked_listeners(listeners, plain=True)
        addresses = read_addresses(address)
        if not isinstance(outbox, OutboxPlan):
            raise TypeError(f'outbox must be an OutboxPlan, such as OutboxPlan("drop_oldest"), got {outbox!r}')
        plan = FramedPlan(
            addresses,
            outbox,
            checked_limit(max_frame),
            heartbeat,
            misses,
            on,
            backoff,
            attempts,
            stable_after,
            throttle,
            connect_timeout,
            name or addresses[0].url,
            tuple(map(self._aside, hears)),
        )
        self._channel = channel = FramedChannel(plan)
        self._on_frame: Any = channel.guarded("on_frame", on_frame, *self._frame_kinds)
        if on_unconfirmed is not None:
            channel.on_unconfirmed = self._aside(
                channel.guarded("on_unconfirmed", on_unconfirmed, Kind.SYNC, Kind.EITHER)
            )
        if on_dropped is not None:
            channel.on_dropped = self._aside(channel.guarded("on_dropped", on_dropped, Kind.SYNC, Kind.EITHER))

    def _aside(self, hook: Callable[[Any], object]) -> Callable[[Any], object]:
        """A hook as the event loop may call it."""
        return hook

    @property
    def name(self) -> str:
        """The name that the client was given, or its first address."""
        return self._channel.name

    @property
    def state(self) -> State:
        """What the connection is doing: IDLE before the client is entered."""
        return self._channel.manager.state

    def stats(self) -> FramedStats:
        """The present numbers; from any thread."""
        return self._channel.stats()

    def on_event(self, listener: H) -> H:
        """Tells a function of every event from now on; a decorator, too. What it raises is logged, nothing more.

        Raises:
            TypeError: it cannot be called, or is async: nobody would await it.
        """
        checked_listener(listener)
        self._channel.manager.on_event(self._aside(listener))
        return listener

    def resume(self) -> None:
        """Lets a client that gave up begin anew; from any thread. In any other state it does nothing.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        self._channel.manager.resume()

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle; from any thread.

        Raises:
            ManagerClosed: it drains, or is closed.
        """
        self._channel.reconnect_now()

    def _check_receiver(self) -> None:
        if self._on_frame is not None:
            raise RuntimeError(f"the frames of {self.name!r} go to its on_frame: leave that out to receive them")

    def __repr__(self) -> str:
        return f"<FramedClient {self.name!r}: {self.state}>"
