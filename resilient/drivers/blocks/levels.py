"""The levels of a block: how an attempt passes all layers on its way in, and its failure on its way out.

A pipeline is cut into levels, outermost first: whoever tries again, and the gates and limits of time inside it, which
each attempt passes anew. A failure travels outward until a level says that it tries again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeAlias

from resilient.core.run import Limit
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.gate import NO_VALUE, AsyncGate, Entry, Gate
from resilient.drivers.gates.timeout import TimeLimit
from resilient.drivers.retry.attempts import Attempt
from resilient.drivers.retry.guard import Guard
from resilient.drivers.retry.rescue import Rescue

__all__ = ["BlockGate", "BlockLimit", "BlockRetry", "Cut", "Level", "Levels", "Over", "Part"]


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


class Level:
    """Somebody who tries again (or, outermost, nobody) and what lies between it and the next one.

    Attributes:
        held: the gates that this attempt has passed, each with its ticket; a limit with its deadline.
    """

    __slots__ = ("born", "error", "guard", "held", "parts", "rescue")

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.parts: list[BlockGate | BlockLimit] = []
        self.held: list[tuple[Entry | BlockLimit, Any]] = []
        self.rescue: Rescue | None = None
        self.error: Exception | None = None
        self.born = 0

    def forget(self) -> Exception | None:
        """The call of this level is over; gives its last error."""
        error, self.error, self.rescue = self.error, None, None
        return error

    def give_back(self, error: BaseException, place: int | None) -> BaseException:
        """Gives back what the level holds after an error; gives that, or what a gate makes of it.

        Args:
            error: what came from inside.
            place: of what cut the attempt off: what lies inside it was not at fault; None if nothing did.
        """
        while self.held:
            entry, ticket = self.held.pop()
            if isinstance(entry, BlockLimit):
                continue
            if place is not None and len(self.held) > place:
                entry.on_failure(ticket, GeneratorExit())  # as a cancellation, which it was
            else:
                error = _told_of(entry, ticket, error)
        return error


def _told_of(entry: Entry, ticket: object, error: BaseException) -> BaseException:
    try:
        entry.on_failure(ticket, error)
    except BaseException as broken:
        return broken
    return error


class Cut(NamedTuple):
    """What may cut an attempt off, and where it stands: a level, and the place among what it holds (-1: itself)."""

    limit: Limit
    level: int
    place: int
    layer: TimeLimit | None = None


class Over(Exception):
    """The last result was rejected, and it is too late for another."""


class Levels:
    """Where one block stands: at which level, and what is held there and outside.

    Attributes:
        entered: whether the attempt that was given last has been begun.
    """

    __slots__ = ("_again", "_at", "_levels", "entered")

    def __init__(self, parts: Iterable[Part]) -> None:
        self._levels = [Level(None)]
        for part in parts:
            if isinstance(part, BlockRetry):
                self._levels.append(Level(part.guard))
            else:
                self._levels[-1].parts.append(part)
        self._at = 0
        self._again = True
        self.entered = True

    def finished(self, result: tuple[object, ...]) -> None:
        """The block ended without an error."""
        self._finish(len(self._levels) - 1, result)

    def failed(self, error: BaseException, cut: Cut | None = None, previous: Exception | None = None) -> bool:
        """The block raised, or was cut off, or a gate did not let it through; whether another attempt follows.

        Raises:
            what a user's predicate raised when it was asked about the error, if nobody tries again after that.
        """
        given = error
        try:
            for index in range(self._at, -1, -1):
                level = self._levels[index]
                within = cut is not None and index > cut.level  # it was cut off from further out: not its own doing
                error = level.give_back(error, -1 if within else cut.place if cut and index == cut.level else None)
                rescue = level.rescue
                level.forget()
                if rescue is None or within or not isinstance(error, Exception):
                    continue
                own = cut.limit if cut is not None and cut.level == index and cut.place < 0 else None
                try:
                    again = rescue.attempt_failed(error, own, previous if own else None)
                except Exception as broken:
                    error = broken
                    continue
                if again:
                    level.rescue, level.error, self._at = rescue, error, index
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
                    entry.on_success(ticket, *(result or (NO_VALUE,)))
            rescue = level.rescue
            level.forget()  # what its own rules raise is not for itself
            if rescue is None:
                continue
            if not result:
                rescue.attempt_succeeded()
            elif rescue.attempt_returned(*result):
                level.rescue, self._at = rescue, index
                return
        self._again = False

    def _steps(self) -> Generator[Any, Any, None]:
        """What has to be done before the next attempt: a level that tries again is prepared, a gate is entered."""
        for index in range(self._at, len(self._levels)):
            self._at, level = index, self._levels[index]
            if level.rescue is not None:
                if not (yield level):
                    raise level.forget() or Over
            elif level.guard is not None:
                level.rescue = self._begun(level.guard, index)
            if level.rescue is not None:
                level.born = level.rescue.begins()
            for part in level.parts:
                if isinstance(part, BlockLimit):
                    level.held.append((part, self._ends(part.limit)))
                else:
                    level.held.append((yield part))

    def _begun(self, guard: Guard, index: int) -> Rescue:
        outer = self._deadline()
        rescue = Rescue(guard, "block")
        rescue.outer = outer
        for around in self._levels[:index]:
            if around.guard is not None and around.rescue is not None:
                rescue.lies_within(Attempt(around.guard, around.rescue.failures + 1, None, None, None))
        return rescue

    def _ends(self, limit: TimeLimit) -> float:
        now, outer = CLOCK.get().now(), self._deadline()
        if outer is not None and outer <= now:
            raise limit.too_late()
        return now + limit.seconds

    def _cuts(self) -> Iterable[Cut]:
        """Everything that limits the time of the attempt that begins now, outermost first."""
        for index, level in enumerate(self._levels):
            limit = None if level.rescue is None else level.rescue.limited()
            if limit is not None:
                yield Cut(limit, index, -1)
            for place, (entry, ticket) in enumerate(level.held):
                if isinstance(entry, BlockLimit):
                    left = max(0.0, ticket - CLOCK.get().now())
                    yield Cut(Limit(left, entry.limit.seconds, entry.limit.error), index, place, entry.limit)

    def _deadline(self) -> float | None:
        """The earliest instant at which what was entered so far, or anything around the block, must be over."""
        ends = [ticket for level in self._levels for entry, ticket in level.held if isinstance(entry, BlockLimit)]
        rescues = [level.rescue for level in self._levels if level.rescue is not None]
        ends += [rescue.attempt_deadline() for rescue in rescues if rescue.plan.timed]
        outer = DEADLINE.get()
        return min(ends if outer is None else [*ends, outer], default=None)

    def __del__(self) -> None:
        for level in reversed(self._levels):  # of a loop that was left between two attempts
            level.give_back(GeneratorExit(), None)
