"""Process-wide hooks for what nobody caught: in the main thread, a thread, a finalizer, an event loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilient.core.events import Panic
from resilient.observe.listeners import hearers, tell
from resilient.observe.log import ERROR

if TYPE_CHECKING:
    import asyncio

__all__ = ["PanicHooks", "panic_hooks"]


class PanicHooks:
    """Hooks that are in place from the moment this is made until ``restore()``, or the end of the block.

    Whatever hooks were there before are called afterwards, as if these were not there.

    Attributes:
        count: panics seen so far.
    """

    def __init__(self) -> None:
        import asyncio

        self.count = 0
        self._restores: list[Callable[[], object]] = []
        self._hook(sys, "excepthook", self._uncaught)
        self._hook(threading, "excepthook", self._in_thread)
        self._hook(sys, "unraisablehook", self._unraisable)
        # Loops without a handler of their own end up here, those to come included; uvloop's have it built in.
        self._hook(asyncio.BaseEventLoop, "default_exception_handler", self._by_default)
        try:
            self._watch(asyncio.get_running_loop())
        except RuntimeError:
            return  # no loop runs yet

    def restore(self) -> None:
        """Puts back what was there before; again does nothing. A hook put on top of ours stays."""
        while self._restores:
            self._restores.pop()()

    def __enter__(self) -> PanicHooks:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.restore()

    def _hook(self, place: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        before = getattr(place, name)
        ours = make(before)
        setattr(place, name, ours)

        def restore() -> None:
            if getattr(place, name) is ours:
                setattr(place, name, before)

        self._restores.append(restore)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        before = loop.get_exception_handler()
        if before is None and isinstance(loop, _base_loop()):
            return  # the default handler is hooked

        def handler(watched: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            self._in_loop(context)
            if before is None:
                watched.default_exception_handler(context)
            else:
                before(watched, context)

        loop.set_exception_handler(handler)

        def restore() -> None:
            if loop.get_exception_handler() is handler:
                loop.set_exception_handler(before)

        self._restores.append(restore)

    def _uncaught(self, before: Callable[..., Any]) -> Callable[..., Any]:
        def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
            if not issubclass(kind, KeyboardInterrupt):
                self._tell("main", "process", error)
            before(kind, error, traceback)

        return excepthook

    def _in_thread(self, before: Callable[..., Any]) -> Callable[..., Any]:
        def excepthook(args: threading.ExceptHookArgs) -> None:
            if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
                self._tell(args.thread.name if args.thread else "thread", "thread", args.exc_value)
            before(args)

        return excepthook

    def _unraisable(self, before: Callable[..., Any]) -> Callable[..., Any]:
        def unraisablehook(unraisable: Any) -> None:
            if unraisable.exc_value is not None:
                self._tell(_safe_name(unraisable.object), "unraisable", unraisable.exc_value)
            before(unraisable)

        return unraisablehook

    def _by_default(self, before: Callable[..., Any]) -> Callable[..., Any]:
        def default_exception_handler(loop: Any, context: dict[str, Any]) -> None:
            self._in_loop(context)
            before(loop, context)

        return default_exception_handler

    def _in_loop(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            source = context.get("task") or context.get("future") or context.get("handle")
            self._tell(_task_name(source), "event loop", error)

    def _tell(self, name: str, where: str, error: BaseException) -> None:
        self.count += 1
        listeners = hearers((), ERROR)
        if listeners:
            tell(Panic(name, where, error), listeners)


def panic_hooks() -> PanicHooks:
    """Installs hooks that report whatever nobody caught, anywhere in this process.

    As a context manager it puts the former hooks back at the end; otherwise they stay. Hooks do not keep a
    program alive that raises in its main thread; ``catch`` does.
    """
    return PanicHooks()


def _base_loop() -> type[asyncio.BaseEventLoop]:
    import asyncio

    return asyncio.BaseEventLoop


def _task_name(source: Any) -> str:
    name = getattr(source, "get_name", None)
    return str(name()) if name is not None else "event loop"


def _safe_name(source: object) -> str:
    return getattr(source, "__qualname__", None) or type(source).__qualname__
