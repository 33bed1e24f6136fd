"""Hedging of blocking calls: copies run in daemon threads, and losers are left behind, as no thread can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Event, Lock, Thread, get_ident
from types import CoroutineType
from typing import Any, NamedTuple

from resilient.drivers.clock import CLOCK, Timer, is_virtual
from resilient.drivers.hedging.race import Race, Terms
from resilient.drivers.loops.current import loop_runs
from resilient.drivers.retry.attempts import handed_on
from resilient.errors import PolicyTimeout

__all__ = ["call_hedged", "call_in_threads"]


class _News(NamedTuple):
    """What a copy came to; or, of copy 0, that so many copies (``value``) are silent."""

    copy: int
    value: Any = None
    error: BaseException | None = None
    held: Event | None = None


class _Threads:
    """One blocking call and its copies, each in a daemon thread and a copy of the caller's context."""

    __slots__ = (
        "_call",
        "_clock",
        "_closed",
        "_due",
        "_held",
        "_idents",
        "_inbox",
        "_lock",
        "_race",
        "_terms",
        "_timer",
        "_virtual",
    )

    def __init__(self, terms: Terms, race: Race, call: Callable[[], Any]) -> None:
        self._terms = terms
        self._race = race
        self._call = call
        self._clock = clock = CLOCK.get()
        self._virtual = clock if is_virtual(clock) else None
        self._inbox: SimpleQueue[_News] = SimpleQueue()
        self._lock = Lock()
        self._closed = False
        self._due = 0.0
        self._timer: Timer | None = None
        self._idents: set[int] = set()
        self._held: dict[int, list[Event]] = {}  # by the copy whose end they wait for

    def run(self) -> Any:
        race = self._race
        try:
            self._start()
            while not race.over:
                self._hear(self._next())
            return race.result()
        finally:
            self._close()

    def _start(self) -> None:
        copy = self._race.copies
        self._watch()  # first: virtual time may pass as soon as the copy runs
        context = handed_on(copy_context())
        thread = Thread(target=context.run, args=(self._work, copy), name=self._terms.name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads: a copy that failed at once
            self._post(_News(copy, error=error))

    def _watch(self) -> None:
        """Sets when the copies under way have been silent for too long."""
        race = self._race
        if self._timer is not None:
            self._timer.cancel()
        if not race.more:
            return
        if self._virtual is not None:
            copies = race.copies
            self._timer = self._virtual.call_later(race.delay, lambda: self._silent(copies))
        else:
            self._due = self._clock.now() + race.delay

    def _next(self) -> _News:
        if self._race.more and self._virtual is None:
            try:
                return self._inbox.get(timeout=min(max(0.0, self._due - self._clock.now()), TIMEOUT_MAX))
            except Empty:
                return _News(0, self._race.copies)
        return self._inbox.get()

    def _hear(self, news: _News) -> None:
        copy, value, error, held = news
        waiting = self._held.pop(copy, []) if held is None else [held]
        try:
            if self._calls_for_another(copy, value, error):
                self._held[self._race.copies] = waiting
                self._start()
            elif self._race.over:
                self._held[copy] = waiting  # until nobody waits for them any more
            else:
                _release(waiting)
        finally:
            del error, news  # a frame that holds the error it raised is a cycle

    def _calls_for_another(self, copy: int, value: Any, error: BaseException | None) -> bool:
        if copy == 0:
            return self._race.silent(value)
        if isinstance(error, Exception):
            return self._race.failed(copy, error)
        if error is None:
            self._race.won(value)
        else:
            self._race.left(error)
        return False

    def _silent(self, copies: int) -> None:
        """Virtual time went past the delay, in whatever thread it passes.

        A copy that sleeps through it goes on only when the copy launched meanwhile is over: virtual sleeps take no
        time, so it would win whatever it does. If it has lost by then, it ends in its sleep: going on, it would move
        its caller's time.
        """
        held = Event() if get_ident() in self._idents else None
        if self._post(_News(0, copies, held=held)) and held is not None:
            held.wait()
            if self._closed:
                raise SystemExit

    def _work(self, copy: int) -> None:
        """Runs one copy, in its own thread."""
        self._idents.add(get_ident())
        began = self._terms.now()
        try:
            value = self._call()
        except BaseException as error:  # it is judged, and raised, where the call was made
            self._terms.failed(began, error)
            self._post(_News(copy, error=error))
        else:
            self._terms.took(began)
            self._post(_News(copy, value))
        finally:
            self._idents.discard(get_ident())

    def _post(self, news: _News) -> bool:
        """Tells the caller what a copy came to; False if the caller has gone."""
        with self._lock:
            if not self._closed:
                self._inbox.put(news)
                return True
        _drop(news)
        return False

    def _close(self) -> None:
        """Ends the race: whatever the copies still come to is dropped, and none of them is held."""
        with self._lock:
            self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._held.values():
            _release(waiting)
        while not self._inbox.empty():
            news = self._inbox.get()
            _release([news.held] if news.held is not None else [])
            _drop(news)
            del news


def _release(waiting: Iterable[Event]) -> None:
    for held in waiting:
        held.set()


def _drop(news: _News) -> None:
    if isinstance(news.value, CoroutineType):
        news.value.close()  # nobody will await it


def call_in_threads(terms: Terms, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A hedged blocking call: in this thread while nothing can be hedged, otherwise each copy in one of its own."""
    return _blocking(terms, terms.hedges.begin(), lambda: call(*args, **kwargs))


def call_hedged(
    terms: Terms,
    adopt: Callable[..., Coroutine[Any, Any, Any]],
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """A hedged call of something whose result alone tells whether it is async.

    Where an event loop runs the call is made at once, in its thread: a coroutine is hedged, a plain result is not.

    Args:
        terms: the policy's.
        adopt: hedges a coroutine: called as ``adopt(terms, delay, call, args, kwargs, coroutine)``.
        call: what is called.
        args: by position.
        kwargs: by name.
    """
    delay = terms.hedges.begin()
    value = _blocking(terms, None if loop_runs() else delay, lambda: call(*args, **kwargs))
    return adopt(terms, delay, call, args, kwargs, value) if isinstance(value, CoroutineType) else value


def _blocking(terms: Terms, delay: float | None, call: Callable[[], Any]) -> Any:
    if delay is not None:
        return _Threads(terms, Race(terms, delay), call).run()
    began = terms.now()
    try:
        value = call()
    except PolicyTimeout as error:
        terms.failed(began, error)
        raise
    if not isinstance(value, CoroutineType):
        terms.took(began)
    return value
