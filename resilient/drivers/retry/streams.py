"""Generators, guarded: tried again until the first item is out, and after that only by a ``resume`` hook.

Everything that a consumer does to the generator (send, throw, close) reaches the source underneath. Errors
that the consumer throws in are its own and are never retried. Once an item is out, the failures counted so
far are forgotten: a stream that runs for weeks may fail once a day.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeAlias

from resilient.core.run import Limit
from resilient.drivers.retry import aio, sync
from resilient.drivers.retry.attempts import Attempt, Place, register
from resilient.drivers.retry.guard import Guard
from resilient.drivers.retry.rescue import Rescue, outer_cut
from resilient.drivers.stack import locals_of
from resilient.errors import DeadlineExceeded

__all__ = ["Resume", "async_stream", "stream"]

Resume: TypeAlias = Callable[..., Any]
"""Called with the last item delivered and the call's own arguments; gives an iterator that goes on behind it."""

NO_RESUME = "items were delivered already, and the policy has no resume= hook"


class Passage:
    """One stream: its source of the moment, what got through, and what to do when it breaks."""

    __slots__ = (
        "_args",
        "_call",
        "_kwargs",
        "_last",
        "_policy",
        "_resume",
        "_thrown",
        "last_error",
        "rescue",
        "source",
    )

    def __init__(
        self,
        policy: Guard,
        call: Callable[..., Any],
        resume: Resume | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.rescue = Rescue(policy, call)
        self.source: Any = None
        self.last_error: Exception | None = None
        self._policy = policy
        self._call = call
        self._resume = resume
        self._args = args
        self._kwargs = kwargs
        self._last: tuple[Any, ...] = ()
        self._thrown: BaseException | None = None

    def open(self, begin: Callable[[Any], Any]) -> Any:
        """A fresh source: the call's, or the hook's (through ``iter`` or ``aiter``) once something got through."""
        if self._last and self._resume is not None:
            try:
                self.source = begin(self._resume(*self._last, *self._args, **self._kwargs))
            except (StopIteration, StopAsyncIteration) as error:
                raise RuntimeError("the resume hook raised StopIteration") from error  # not the end of the stream
        else:
            self.source = self._call(*self._args, **self._kwargs)
        return self.source

    def threw(self, error: BaseException | None) -> None:
        """The consumer threw an error in, or None: it asks for the next item."""
        self._thrown = error

    def passed(self, item: Any) -> None:
        """An item goes out to the consumer."""
        self._last = (item,)
        self.last_error = None
        if self.rescue.failures:
            started = self.rescue.started
            self.rescue.attempt_succeeded()
            self.rescue = Rescue(self._policy, self._call, started)

    def failed(self, failure: Exception, limit: Limit | None = None) -> bool:
        """The source raised: whether it is opened again; if not, the consumer gets the error."""
        if failure is self._thrown:
            return False
        out_of_time = limit is not None and limit.error is failure and limit.kind is DeadlineExceeded
        if self._last and self._resume is None and not out_of_time:
            self.rescue.refused(failure, NO_RESUME)
            return False
        return self.rescue.attempt_failed(failure, limit)


def stream(
    policy: Guard, call: Callable[..., Any], resume: Resume | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Generator[Any, Any, Any]:
    """Yields the items of a guarded generator function."""
    passage = Passage(policy, call, resume, args, kwargs)
    advance = _opener(passage)
    while True:
        born = passage.rescue.begins()
        try:
            item = advance()
        except StopIteration as stop:
            passage.rescue.attempt_succeeded()
            return stop.value
        except Exception as error:
            failure = outer_cut(error)
        else:
            passage.passed(item)
            try:
                sent = yield item
            except GeneratorExit:
                _close(passage.source)
                raise
            except BaseException as error:
                advance = _thrower(passage, error)
            else:
                advance = _sender(passage, sent)
            continue
        try:
            if not passage.failed(failure) or not sync.prepare(passage.rescue, failure, born):
                passage.last_error = None
                raise failure
            passage.last_error = failure
        finally:
            del failure  # a frame that holds the error it raised is a cycle
        advance = _opener(passage)


async def async_stream(
    policy: Guard, call: Callable[..., Any], resume: Resume | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> AsyncGenerator[Any, Any]:
    """Yields the items of a guarded async generator function.

    ``attempt_timeout`` bounds the wait for each item, ``timeout`` the whole stream.
    """
    passage = Passage(policy, call, resume, args, kwargs)
    advance = _async_opener(passage)
    while True:
        born, limit = passage.rescue.begins(), passage.rescue.limited()
        try:
            item = await (advance() if limit is None else aio.bounded(passage.rescue, limit, advance()))
        except StopAsyncIteration:
            passage.rescue.attempt_succeeded()
            return
        except Exception as error:
            failure = outer_cut(error)
        else:
            passage.passed(item)
            try:
                sent = yield item
            except GeneratorExit:
                await _aclose(passage.source)
                raise
            except BaseException as error:
                advance = _async_thrower(passage, error)
            else:
                advance = _async_sender(passage, sent)
            continue
        try:
            if not passage.failed(failure, limit) or not await aio.prepare(passage.rescue, failure, born):
                passage.last_error = None
                raise failure
            passage.last_error = failure
        finally:
            limit = None
            del failure  # a frame that holds the error it raised is a cycle, and so is the limit that made it
        advance = _async_opener(passage)


def _read_stream(frame: FrameType) -> Attempt:
    (passage,) = locals_of(frame, "passage")
    return passage.rescue.attempt(passage.last_error)  # type: ignore[no-any-return]  # a frame's locals are of any type


register(stream.__code__, Place.DRIVER, _read_stream)
register(async_stream.__code__, Place.DRIVER, _read_stream)


def _opener(passage: Passage) -> Callable[[], Any]:
    return lambda: next(passage.open(iter))


def _async_opener(passage: Passage) -> Callable[[], Awaitable[Any]]:
    return lambda: anext(passage.open(aiter))


def _sender(passage: Passage, sent: Any) -> Callable[[], Any]:
    passage.threw(None)
    source = passage.source
    return (lambda: next(source)) if sent is None else (lambda: source.send(sent))


def _async_sender(passage: Passage, sent: Any) -> Callable[[], Awaitable[Any]]:
    passage.threw(None)
    source = passage.source
    return (lambda: anext(source)) if sent is None else (lambda: source.asend(sent))


def _thrower(passage: Passage, error: BaseException) -> Callable[[], Any]:
    passage.threw(error)
    throw = getattr(passage.source, "throw", None)
    return (lambda: throw(error)) if throw is not None else (lambda: _raise(error))


def _async_thrower(passage: Passage, error: BaseException) -> Callable[[], Awaitable[Any]]:
    passage.threw(error)
    throw = getattr(passage.source, "athrow", None)
    return (lambda: throw(error)) if throw is not None else (lambda: _raise(error))


def _raise(error: BaseException) -> Any:
    raise error


def _close(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()


async def _aclose(source: Any) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
