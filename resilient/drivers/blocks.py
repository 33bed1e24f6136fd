"""The block form: ``for attempt in policy:`` ``with attempt: ...``, blocking and async.

A pipeline is cut into levels, outermost first: whoever tries again, and the gates and limits of time inside it, which
each attempt passes anew. A failure travels outward until a level says that it tries again.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias, cast

from resilient.core.run import Limit
from resilient.drivers import aio, sync
from resilient.drivers.attempts import BLOCK, Attempt
from resilient.drivers.backends import Cutoff, current_backend
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE, lift
from resilient.drivers.episode import Episode, Guard
from resilient.drivers.gates import NO_VALUE, AsyncGate, Entry, Gate
from resilient.drivers.timeouts import TimeLimit

__all__ = ["AsyncAttempts", "AttemptBlock", "Attempts", "BlockGate", "BlockLimit", "BlockRetry", "Part"]


class BlockRetry(NamedTuple):
    """A layer that tries again."""

    guard: Guard


class BlockGate(NamedTuple):
    """A layer that lets attempts through, or not."""

    gate: Gate
    async_gate: AsyncGate


class BlockLimit(NamedTuple):
    """A layer that limits time."""

    limit: TimeLimit


Part: TypeAlias = BlockRetry | BlockGate | BlockLimit


class _Level:
    """Somebody who tries again (or, outermost, nobody) and what lies between it and the next one.

    Attributes:
        held: the gates that this attempt has passed, each with its ticket; a limit with its deadline.
    """

    __slots__ = ("born", "episode", "error", "guard", "held", "parts")

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.parts: list[BlockGate | BlockLimit] = []
        self.held: list[tuple[Entry | BlockLimit, Any]] = []
        self.episode: Episode | None = None
        self.error: Exception | None = None
        self.born = 0

    def forget(self) -> Exception | None:
        """This level's call is over; gives its last error."""
        error, self.error, self.episode = self.error, None, None
        return error


class _Cut(NamedTuple):
    """What may cut an attempt off, and where it stands: a level, and the place among what it holds (-1: itself)."""

    limit: Limit
    level: int
    place: int
    layer: TimeLimit | None = None


class _Over(Exception):
    """The last result was rejected, and it is too late for another."""


class AttemptBlock(Attempt):
    """One turn of the block form."""

    last_error: Exception | None

    __slots__ = ("_attempts", "_block_token", "_cut", "_cutoff", "_deadline", "_deadline_token", "_result")

    def __init__(
        self, attempts: Attempts, guard: Guard | None, number: int, error: Exception | None, deadline: float | None
    ) -> None:
        super().__init__(guard, number, error, None, None)
        self._attempts: Attempts | None = attempts
        self._deadline = deadline
        self._cut: _Cut | None = None
        self._cutoff: Cutoff | None = None
        self._result: tuple[object, ...] = ()

    @property
    def remaining(self) -> float | None:
        """Seconds left for this attempt, >= 0; None if nothing limits it."""
        return None if self._deadline is None else max(0.0, self._deadline - CLOCK.get().now())

    def cut_at(self, cut: _Cut | None) -> None:
        """Sets what cuts the attempt off."""
        self._cut = cut

    def set_result(self, value: object) -> None:
        """Says what the block came to, for rules that judge results (``Rule.result``)."""
        self._result = (value,)

    def __enter__(self) -> AttemptBlock:
        if self._attempts is None:
            raise RuntimeError("this attempt is over: the loop gives the next one")
        if self._attempts.entered:
            raise RuntimeError("this attempt is entered already: write `with attempt:` once in the loop")
        self._attempts.entered = True
        if self._cut is not None:
            self._cutoff = current_backend().cutoff(self._cut.limit.seconds, CLOCK.get()).__enter__()
        # The frame lives at least as long as its block runs.
        self._block_token: Token[Any] = BLOCK.set((id(sys._getframe(1)), self))
        self._deadline_token = DEADLINE.set(self._deadline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        lift(self._deadline_token)
        with suppress(ValueError):  # an async generator closed by another task ends in that task's context
            BLOCK.reset(self._block_token)
        attempts, self._attempts = self._attempts, None  # a loop that is left holds nothing any more
        assert attempts is not None  # __enter__ has looked
        # The user's frame holds the attempt, and the error holds that frame.
        given, previous, self.last_error = error, self.last_error, None
        try:
            cut, error = self._uncut(kind, error, traceback)
            if cut is not None:
                return _cut_off(attempts, cut, previous)
            if error is None:
                attempts.finished(self._result)
            elif attempts.failed(error):
                return True
            elif error is not given:
                raise error
            return False
        finally:
            del error, given, previous, traceback

    def _uncut(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> tuple[_Cut | None, BaseException | None]:
        """Takes the limit of time off; gives it if that is what ended the attempt, and what is left of the error."""
        cutoff, self._cutoff = self._cutoff, None
        if cutoff is None:
            return None, error
        try:
            cutoff.__exit__(kind, error, traceback)
        except BaseException as rest:  # of a group, without the cancellation
            return None, rest
        return (self._cut if cutoff.expired else None), error


def _cut_off(attempts: Attempts, cut: _Cut, previous: Exception | None) -> bool:
    error = cut.limit.passed() if cut.layer is None else cut.layer.exceeded()
    try:
        if attempts.failed(error, cut, previous):
            return True
        raise error from error.__cause__  # not from the cancellation that carried it
    finally:
        cut.limit.error = None
        del error, previous


class Attempts:
    """The attempts of one blocking block."""

    __slots__ = ("_again", "_at", "_levels", "entered")

    def __init__(self, parts: Iterable[Part]) -> None:
        self._levels = [_Level(None)]
        for part in parts:
            if isinstance(part, BlockRetry):
                self._levels.append(_Level(part.guard))
            else:
                self._levels[-1].parts.append(part)
        self._at = 0
        self._again = True
        self.entered = True

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> AttemptBlock:
        self._check_entered()
        while self._again:
            try:
                self._enter()
            except _Over:
                self._finish(self._at - 1, ())
            except BaseException as error:
                if not self.failed(error):
                    raise
            else:
                return self._begin(cuts=False)
        raise StopIteration

    def _enter(self) -> None:
        steps, given = self._steps(), cast("Any", None)
        with suppress(StopIteration):
            while True:
                step = steps.send(given)
                if isinstance(step, BlockGate):
                    given = self._entered(step.gate)
                else:
                    given = sync.prepare(step.episode, step.error, step.born)

    def _entered(self, gate: Gate) -> tuple[Gate, object]:
        token = DEADLINE.set(self._deadline())
        try:
            return gate, gate.enter()
        finally:
            DEADLINE.reset(token)

    def finished(self, result: tuple[object, ...]) -> None:
        """The block ended without an error."""
        self._finish(len(self._levels) - 1, result)

    def failed(self, error: BaseException, cut: _Cut | None = None, previous: Exception | None = None) -> bool:
        """The block raised, or was cut off, or a gate did not let it through; whether another attempt follows.

        Raises:
            what a user's predicate raised when it was asked about the error, if nobody tries again after that.
        """
        given = error
        try:
            for index in range(self._at, -1, -1):
                level = self._levels[index]
                within = cut is not None and index > cut.level  # it was cut off from further out: not its own doing
                error = _give_back(level, error, -1 if within else cut.place if cut and index == cut.level else None)
                episode = level.episode
                level.forget()
                if episode is None or within or not isinstance(error, Exception):
                    continue
                own = cut.limit if cut is not None and cut.level == index and cut.place < 0 else None
                try:
                    again = episode.attempt_failed(error, own, previous if own else None)
                except Exception as broken:
                    error = broken
                    continue
                if again:
                    level.episode, level.error, self._at = episode, error, index
                    return True
            self._again = False
            if error is not given:
                raise error
            return False
        finally:
            del error, given, previous  # a frame that holds the error it raised is a cycle

    def _finish(self, last: int, result: tuple[object, ...]) -> None:
        try:
            self._settle(last, result)
        except BaseException as broken:  # a user's predicate, asked about the result
            if not self.failed(broken):
                raise

    def _settle(self, last: int, result: tuple[object, ...]) -> None:
        """The levels up to this one succeeded, unless one of them rejects the result."""
        for index in range(last, -1, -1):
            level = self._levels[index]
            while level.held:
                entry, ticket = level.held.pop()
                if not isinstance(entry, BlockLimit):
                    entry.passed(ticket, *(result or (NO_VALUE,)))
            episode = level.episode
            level.forget()  # what its own rules raise is not for itself
            if episode is None:
                continue
            if not result:
                episode.attempt_succeeded()
            elif episode.attempt_returned(*result):
                level.episode, self._at = episode, index
                return
        self._again = False

    def _steps(self) -> Generator[Any, Any, None]:
        """What has to be done before the next attempt: a level that tries again is prepared, a gate is entered."""
        for index in range(self._at, len(self._levels)):
            self._at, level = index, self._levels[index]
            if level.episode is not None:
                if not (yield level):
                    raise level.forget() or _Over
            elif level.guard is not None:
                level.episode = self._begun(level.guard, index)
            if level.episode is not None:
                level.born = level.episode.begins()
            for part in level.parts:
                if isinstance(part, BlockLimit):
                    level.held.append((part, self._ends(part.limit)))
                else:
                    level.held.append((yield part))

    def _begun(self, guard: Guard, index: int) -> Episode:
        outer = self._deadline()
        episode = Episode(guard, "block")
        episode.outer = outer
        for around in self._levels[:index]:
            if around.guard is not None and around.episode is not None:
                episode.lies_within(Attempt(around.guard, around.episode.failures + 1, None, None, None))
        return episode

    def _ends(self, limit: TimeLimit) -> float:
        now, outer = CLOCK.get().now(), self._deadline()
        if outer is not None and outer <= now:
            raise limit.too_late()
        return now + limit.seconds

    def _begin(self, *, cuts: bool) -> AttemptBlock:
        self.entered = False
        level = self._levels[-1]
        number = 1 if level.episode is None else level.episode.failures + 1
        block = AttemptBlock(self, level.guard, number, level.error, self._deadline())
        level.error = None
        if cuts:
            block.cut_at(min(self._cuts(), key=lambda cut: cut.limit.seconds, default=None))
        return block

    def _cuts(self) -> Iterable[_Cut]:
        """Everything that limits the time of the attempt that begins now, outermost first."""
        for index, level in enumerate(self._levels):
            limit = None if level.episode is None else level.episode.limited()
            if limit is not None:
                yield _Cut(limit, index, -1)
            for place, (entry, ticket) in enumerate(level.held):
                if isinstance(entry, BlockLimit):
                    left = max(0.0, ticket - CLOCK.get().now())
                    yield _Cut(Limit(left, entry.limit.seconds, entry.limit.error), index, place, entry.limit)

    def _deadline(self) -> float | None:
        """The earliest instant at which what was entered so far, or anything around the block, must be over."""
        ends = [ticket for level in self._levels for entry, ticket in level.held if isinstance(entry, BlockLimit)]
        episodes = [level.episode for level in self._levels if level.episode is not None]
        ends += [episode.attempt_deadline() for episode in episodes if episode.plan.timed]
        outer = DEADLINE.get()
        return min(ends if outer is None else [*ends, outer], default=None)

    def _check_entered(self) -> None:
        if not self.entered:
            raise RuntimeError("the attempt was never entered: write `with attempt:` inside the loop")

    def __del__(self) -> None:
        for level in reversed(self._levels):  # of a loop that was left between two attempts
            _give_back(level, GeneratorExit(), None)


class AsyncAttempts(Attempts):
    """The attempts of one block in a coroutine."""

    __slots__ = ()

    def __aiter__(self) -> AsyncAttempts:
        return self

    async def __anext__(self) -> AttemptBlock:
        self._check_entered()
        while self._again:
            try:
                await self._enter_async()
            except _Over:
                self._finish(self._at - 1, ())
            except BaseException as error:
                if not self.failed(error):
                    raise
            else:
                return self._begin(cuts=True)
        raise StopAsyncIteration

    async def _enter_async(self) -> None:
        steps, given = self._steps(), cast("Any", None)
        with suppress(StopIteration):
            while True:
                step = steps.send(given)
                if isinstance(step, BlockGate):
                    given = await self._ticket(step.async_gate)
                else:
                    given = await aio.prepare(step.episode, step.error, step.born)

    async def _ticket(self, gate: AsyncGate) -> tuple[AsyncGate, object]:
        token = DEADLINE.set(self._deadline())
        try:
            ticket = gate.ready()
            return gate, await gate.join() if ticket is None else ticket
        finally:
            DEADLINE.reset(token)


def _give_back(level: _Level, error: BaseException, place: int | None) -> BaseException:
    """Gives back what a level holds after an error; gives that, or what a gate makes of it.

    Args:
        level: the level.
        error: what came from inside.
        place: of what cut the attempt off: what lies inside it was not at fault; None if nothing did.
    """
    while level.held:
        entry, ticket = level.held.pop()
        if isinstance(entry, BlockLimit):
            continue
        if place is not None and len(level.held) > place:
            entry.failed(ticket, GeneratorExit())  # as a cancellation, which it was
        else:
            error = _told_of(entry, ticket, error)
    return error


def _told_of(entry: Entry, ticket: object, error: BaseException) -> BaseException:
    try:
        entry.failed(ticket, error)
    except BaseException as broken:
        return broken
    return error
