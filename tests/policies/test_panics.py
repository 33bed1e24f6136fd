"""Process-wide hooks for what nobody caught."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from resilient import events, listen, panic_hooks
from resilient.policies.panics import PanicHooks


@pytest.fixture
def panics() -> Iterator[list[events.Panic]]:
    """Every panic of the test."""
    told: list[Any] = []
    with listen(told.append):
        yield told


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the former hooks print is none of our business here, and pytest's own would fail the test."""
    monkeypatch.setattr(sys, "excepthook", lambda *args: None)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)


def boom() -> None:
    raise ValueError("boom")


def test_uncaught_errors_are_told(panics: list[events.Panic]) -> None:
    """And the former hook still runs; Ctrl-C is no panic."""
    seen: list[type[BaseException]] = []
    sys.excepthook = lambda kind, error, traceback: seen.append(kind)
    with panic_hooks() as hooks:
        sys.excepthook(ValueError, ValueError("boom"), None)
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ([ValueError, KeyboardInterrupt], 1) == (seen, hooks.count)
    assert [("main", "process", "boom")] == [(panic.name, panic.where, str(panic.error)) for panic in panics]


def test_errors_of_threads_are_told(panics: list[events.Panic]) -> None:
    """By the thread's name."""
    with panic_hooks():
        for target in (boom, sys.exit):
            thread = threading.Thread(target=target, name="worker")
            thread.start()
            thread.join()
        threading.excepthook(
            SimpleNamespace(exc_type=ValueError, exc_value=ValueError("x"), exc_traceback=None, thread=None)
        )  # type: ignore[arg-type]
    assert [("worker", "thread"), ("thread", "thread")] == [(panic.name, panic.where) for panic in panics]


def test_unraisable_errors_are_told(panics: list[events.Panic]) -> None:
    """Errors of finalizers, by whose they are."""

    class Loud:
        def __del__(self) -> None:
            boom()

    with panic_hooks():
        Loud()
        sys.unraisablehook(SimpleNamespace(exc_value=ValueError("x"), object=3))  # type: ignore[arg-type]
        sys.unraisablehook(SimpleNamespace(exc_value=None, object=3))  # type: ignore[arg-type]
    assert ["test_unraisable_errors_are_told.<locals>.Loud.__del__", "int"] == [panic.name for panic in panics]


async def blow_up_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(boom)
    await asyncio.sleep(0.001)


@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_errors_of_event_loops_are_told(factory: str, panics: list[events.Panic], capsys: Any) -> None:
    """Hooked before the loop exists, or inside it; uvloop inside."""
    new_loop = asyncio.new_event_loop if factory == "asyncio" else pytest.importorskip("uvloop").new_event_loop

    async def main() -> None:
        with panic_hooks():
            await blow_up_in_a_callback()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
        assert 1 == len(panics)
        if factory == "asyncio":
            with panic_hooks():
                runner.run(blow_up_in_a_callback())
            assert 2 == len(panics)
        runner.run(blow_up_in_a_callback())  # the hooks are gone
    assert {"event loop"} == {panic.where for panic in panics}
    assert len(panics) == (2 if factory == "asyncio" else 1)


def test_a_loops_own_handler_still_runs(panics: list[events.Panic]) -> None:
    """Hooked for the while, and put back."""
    seen: list[str] = []

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.append(context["message"])

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handler)
        with panic_hooks():
            loop.call_exception_handler({"message": "no error in it"})
            task = asyncio.create_task(asyncio.sleep(0), name="my task")
            loop.call_exception_handler({"message": "with one", "exception": ValueError("x"), "task": task})
            await task
        return loop.get_exception_handler() is handler

    assert asyncio.run(main())
    assert (["no error in it", "with one"], ["my task"]) == (seen, [panic.name for panic in panics])


def test_a_handler_set_meanwhile_stays() -> None:
    """Restoring never takes away what somebody put on top."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        hooks = panic_hooks()
        mine = lambda loop, context: None  # noqa: E731
        loop.set_exception_handler(mine)
        sys.excepthook = on_top = lambda *args: None
        hooks.restore()
        return loop.get_exception_handler() is mine and sys.excepthook is on_top

    assert asyncio.run(main())


def test_hooks_are_put_back() -> None:
    """At the end of the block everything is as before; restoring twice is nothing."""
    places: list[tuple[Any, str]] = [
        (sys, "excepthook"),
        (threading, "excepthook"),
        (sys, "unraisablehook"),
        (asyncio.BaseEventLoop, "default_exception_handler"),
    ]
    before = [getattr(place, name) for place, name in places]
    with panic_hooks() as hooks:
        assert all(now is not then for now, then in zip((getattr(*place) for place in places), before, strict=True))
    hooks.restore()
    assert before == [getattr(place, name) for place, name in places]


def test_nobody_listening_still_counts() -> None:
    """The count does not depend on listeners."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        with PanicHooks() as hooks:
            sys.excepthook(ValueError, ValueError("boom"), None)
    finally:
        logging.disable(logging.NOTSET)
    assert 1 == hooks.count


def test_a_real_program_logs_what_kills_it() -> None:
    """Logged with its traceback, and the exit status is what it was."""
    program = "import logging, resilient; logging.basicConfig(); resilient.panic_hooks(); raise ValueError('the end')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 1 == ended.returncode
    assert "ERROR:resilient:main: caught a panic (process): ValueError: the end" in ended.stderr
