"""A supervisor that is asked to end by SIGTERM or SIGINT, in a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from textwrap import dedent
from typing import Any

import pytest
from loops import run

from resilient.drivers.loops.current import current_backend
from resilient.net import Supervisor
from resilient.net.supervisor.signals import ending_by_signals
from resilient.net.sync import StopSignal
from resilient.net.sync import Supervisor as ThreadSupervisor

ASYNC = """
    import {library} as library
    from resilient.net import Supervisor
    supervisor = Supervisor(signals=True)
    @supervisor.add("first")
    async def first():
        try: await {forever}
        finally: print("first ends", flush=True)
    @supervisor.add("worker")
    async def worker():
        print("up", flush=True)
        try: await {forever}
        finally: print("worker ends", flush=True)
    {run}
    print("done", flush=True)
"""
THREADS = """
    from resilient.net.sync import Supervisor
    supervisor = Supervisor(signals=True)
    @supervisor.add("first")
    def first(stop):
        stop.wait()
        print("first ends", flush=True)
    @supervisor.add("worker")
    def worker(stop):
        print("up", flush=True)
        stop.wait()
        print("worker ends", flush=True)
    supervisor.run()
    print("done", flush=True)
"""
PROGRAMS = {
    "asyncio": ASYNC.format(library="asyncio", forever="library.Event().wait()", run="library.run(supervisor.run())"),
    "uvloop": ASYNC.format(
        library="asyncio, uvloop",
        forever="library.Event().wait()",
        run="library.Runner(loop_factory=uvloop.new_event_loop).run(supervisor.run())",
    ).replace("asyncio, uvloop as library", "uvloop, asyncio as library"),
    "trio": ASYNC.format(library="trio", forever="library.sleep_forever()", run="library.run(supervisor.run)"),
    "threads": THREADS,
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("runtime", PROGRAMS)
def test_a_signal_ends_all_loops_in_order(runtime: str, number: signal.Signals) -> None:
    """Those that were started last first; then the program goes on."""
    command = [sys.executable, "-c", dedent(PROGRAMS[runtime])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        process.send_signal(number)
        assert "worker ends\nfirst ends\ndone\n" == process.communicate(timeout=30)[0]
    assert 0 == process.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
def test_a_second_signal_does_what_it_did_before() -> None:
    """A loop that does not end must not keep the process from its end."""
    program = """
        import time
        from resilient.net.sync import Supervisor
        supervisor = Supervisor(signals=True)
        @supervisor.add("stubborn", stop_timeout=600)
        def stubborn(stop):
            print("up", flush=True)
            stop.wait()
            print("asked", flush=True)
            time.sleep(600)
        supervisor.run()
    """
    with subprocess.Popen([sys.executable, "-c", dedent(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert "asked\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == process.wait(30)


def test_handlers_are_put_back() -> None:
    """Also where nothing was asked; not where somebody has put another in their place."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ending_by_signals("it", list):
        assert before[0] is not signal.getsignal(signal.SIGTERM)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    try:
        with ending_by_signals("it", list):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert (signal.SIG_IGN, before[1]) == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_only_the_main_thread_hears_of_signals() -> None:
    """Elsewhere that is said, and the supervisor can still be used."""
    errors = list[BaseException]()

    def enter() -> None:
        try:
            ThreadSupervisor(name="loops", signals=True).run()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert ["loops: signals=True works in the main thread only; elsewhere call stop() from a handler"] == [
        str(error) for error in errors
    ]


@pytest.mark.parametrize("kind", [Supervisor, ThreadSupervisor])
def test_the_setting_is_checked(kind: Any) -> None:
    """It is a yes or a no."""
    with pytest.raises(TypeError, match="signals must be True or False, got 1"):
        kind(signals=1)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_tasks_end_when_their_own_process_is_asked_to(loop: str) -> None:
    """In this very process: once, and the handlers are what they were before."""
    before = signal.getsignal(signal.SIGTERM)
    ended = list[str]()

    async def main() -> None:
        supervisor = Supervisor(signals=True)

        @supervisor.add("worker")
        async def worker() -> None:
            signal.raise_signal(signal.SIGTERM)
            try:
                await current_backend().waiter().wait()
            finally:
                ended.append("worker")

        await supervisor.run()

    run(loop, main)
    assert (["worker"], before) == (ended, signal.getsignal(signal.SIGTERM))


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_supervisor_that_cannot_open_puts_the_handlers_back(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has begun."""
    before = signal.getsignal(signal.SIGTERM)

    def refuse() -> Any:
        raise OSError("no")

    async def main() -> None:
        monkeypatch.setattr("resilient.net.supervisor.tasks.task_group", refuse)
        with pytest.raises(OSError, match="no"):
            await Supervisor(signals=True).run()

    run(loop, main)
    assert before == signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("threads_left", [True, False])
def test_threads_end_when_their_own_process_is_asked_to(threads_left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, or, where there is none left, in the handler."""
    supervisor, up, start = ThreadSupervisor(signals=True), threading.Event(), threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("stopping"):
            raise RuntimeError("can't start new thread")
        start(self)

    if not threads_left:
        monkeypatch.setattr(threading.Thread, "start", refuse)

    @supervisor.add("worker")
    def worker(stop: StopSignal) -> None:
        up.set()
        stop.wait()

    with supervisor:
        assert up.wait(20)
        signal.raise_signal(signal.SIGTERM)
        supervisor.stop()
    assert () == supervisor.stats().running
