"""Limits of time around a call: a deadline that blocking code can read, a cancellation of async code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token, copy_context
from typing import Any

from resilient.core.events import TimedOut
from resilient.drivers.clock import CLOCK, is_virtual
from resilient.drivers.deadline import DEADLINE, lift
from resilient.drivers.loops.base import Cutoff
from resilient.drivers.loops.current import current_backend
from resilient.drivers.retry.attempts import attempt_ended_at, handed_on
from resilient.errors import AttemptTimeout, DeadlineExceeded, PolicyTimeout
from resilient.observe.listeners import Listener, hearers, tell

__all__ = ["AsyncTimeLimit", "TimeLimit", "call_in_worker"]


class TimeLimit:
    """The blocking form of a limit: the call is told by when it should be over.

    Args:
        seconds: the limit, > 0.
        error: what is raised when the limit is passed.
        name: for events.
        listeners: told when the limit is passed.
    """

    __slots__ = ("error", "listeners", "name", "seconds")

    def __init__(
        self, seconds: float, error: type[PolicyTimeout], name: str, listeners: tuple[Listener, ...] = ()
    ) -> None:
        self.seconds = seconds
        self.error = error
        self.name = name
        self.listeners = listeners

    def enter(self) -> Token[float | None]:
        """Sets the deadline, never beyond the one around it."""
        now = CLOCK.get().now()
        deadline, outer = now + self.seconds, DEADLINE.get()
        if outer is not None and outer <= deadline:
            if outer <= now:
                raise self.too_late()
            deadline = outer
        return DEADLINE.set(deadline)

    enter_soon = enter

    def on_success(self, ticket: Token[float | None], value: object) -> None:
        lift(ticket)

    def on_failure(self, ticket: Token[float | None], error: BaseException) -> None:
        lift(ticket)

    def release(self, ticket: Token[float | None]) -> None:
        lift(ticket)

    def exceeded(self) -> PolicyTimeout:
        """The error of a call that took too long, told to whoever listens."""
        error = self.error(self.seconds)
        if isinstance(error, AttemptTimeout):
            error.of_layer = True  # for the Retry around it
        return self._told(error)

    def cut(self, began: float, deadline: float, outer: float | None) -> PolicyTimeout:
        """The error of a call that this limit, or one around it that ended earlier, has cut off; told likewise.

        Args:
            began: when the call began, monotonic seconds.
            deadline: when it had to be over.
            outer: when what is around it has to be.
        """
        if outer is None or deadline < outer:
            return self.exceeded()
        each = attempt_ended_at(deadline) if self.error is AttemptTimeout else None
        if each is None:
            return self._told(DeadlineExceeded(deadline - began))
        error = AttemptTimeout(each)
        error.of_layer = True  # likewise
        return self._told(error)

    def too_late(self) -> PolicyTimeout:
        """The error of a call that is not even made, because the time around it is up; told likewise."""
        return self._told(DeadlineExceeded(0.0))

    def _told(self, error: PolicyTimeout) -> PolicyTimeout:
        heard = hearers(self.listeners)
        if heard:
            tell(TimedOut(self.name, 0.0, error), heard)
        return error


class AsyncTimeLimit:
    """The async form: the call is cancelled when its time is up."""

    __slots__ = ("limit",)

    def __init__(self, limit: TimeLimit) -> None:
        self.limit = limit

    def ready(self) -> tuple[Token[float | None], Cutoff]:
        token = self.limit.enter()
        try:
            return token, current_backend().cutoff(self.limit.seconds, CLOCK.get()).__enter__()
        except BaseException:
            lift(token)
            raise

    async def join(self) -> tuple[Token[float | None], Cutoff]:
        return self.ready()

    def on_success(self, ticket: tuple[Token[float | None], Cutoff], value: object) -> None:
        lift(ticket[0])
        ticket[1].__exit__(None, None, None)

    def on_failure(self, ticket: tuple[Token[float | None], Cutoff], error: BaseException) -> None:
        token, cutoff = ticket
        lift(token)
        cutoff.__exit__(type(error), error, error.__traceback__)
        if cutoff.expired:
            raise self.limit.exceeded() from None  # not from the cancellation that carried it

    def release(self, ticket: tuple[Token[float | None], Cutoff]) -> None:
        self.on_success(ticket, None)


class _Worker:
    """A call in a thread of its own, and what came of it."""

    __slots__ = ("error", "over", "value", "wanted")

    def __init__(self) -> None:
        self.over = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self.wanted = True

    def run(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            self.value = call(*args, **kwargs)
        except BaseException as error:  # it is raised where it was called from
            self.error = error
            if not self.wanted:
                self.error = None
        finally:
            self.over.set()

    def forget(self) -> None:
        """Nobody will ask for the result: an error that is kept would be a cycle with the frame that keeps it."""
        self.wanted = False  # in this order: whoever comes second sees what the other did
        self.error = None

    def result(self) -> Any:
        error, self.error = self.error, None
        if error is None:
            return self.value
        try:
            raise error
        finally:
            del error  # a frame that holds the error it raised is a cycle


def call_in_worker(limit: TimeLimit, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A blocking call in a daemon thread, left behind there if it takes too long: no thread can be stopped.

    It runs in a copy of this context, so that it reads the deadline, and finds the attempt that runs here.
    """
    clock, outer = CLOCK.get(), DEADLINE.get()
    began = clock.now()
    token = limit.enter()
    try:
        deadline = DEADLINE.get()
        assert deadline is not None  # enter() has set it
        worker = _Worker()
        context = handed_on(copy_context())
        threading.Thread(
            target=context.run, args=(worker.run, call, args, kwargs), name=f"resilient {limit.name}", daemon=True
        ).start()
        if is_virtual(clock):
            worker.over.wait()  # virtual time passes in the call itself
            late = clock.now() >= deadline
        else:
            late = not worker.over.wait(min(max(0.0, deadline - clock.now()), threading.TIMEOUT_MAX))
    finally:
        lift(token)
    if late:
        worker.forget()
        raise limit.cut(began, deadline, outer)
    return worker.result()
