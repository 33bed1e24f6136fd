"""The driver and the jobs of a connection manager, as tasks of asyncio or trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, TypeVar, cast

from resilient.core.flight import Part
from resilient.core.link import State
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.loops.waiters import await_woken
from resilient.net.connection.jobs import Job
from resilient.net.connection.reconcile import Steward
from resilient.net.connection.recovery import RecoveryPart
from resilient.net.connection.settings import CLOSE_TIMEOUT, ManagerPlan
from resilient.net.task_group import Crew, Latch, Member, crew
from resilient.policies.recovery import Recovery

__all__ = ["Tasks", "running_loop"]

C = TypeVar("C")


class Tasks(Generic[C]):
    """The driver and the jobs of one manager, as tasks.

    Args:
        plan: the settings.
    """

    def __init__(self, plan: ManagerPlan) -> None:
        self.steward: Steward[C] = Steward(plan, self)
        self.crew: Crew | None = None
        self.loop: object = None
        self.over = Latch()
        self._running = 0

    async def open(self) -> None:
        self.loop = running_loop()
        opened = crew()
        await opened.open()
        self.crew = opened
        self._start(self._drive, "driver")

    async def close(self) -> None:
        """Waits for the last task, whatever cancels this one meanwhile; that is told in the end."""
        opened = self._opened()
        interrupt: BaseException | None = None
        try:
            while not self.over.happened:
                try:
                    with opened.shelter():
                        await self.over.wait()
                except GeneratorExit:
                    raise
                except BaseException as error:
                    interrupt = error
            await opened.close()
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt  # a frame that holds the error it raised is a cycle

    def dial(self, job: Job) -> Member:
        return self._start(partial(self._dial, job), "dial")

    def recover(self, job: Job) -> Member:
        recovery = self.steward.plan.recovery
        assert recovery is not None  # the steward has looked
        part = RecoveryPart(recovery.flight, self.steward.clock, job.ends_at)
        part.stop = self._start(partial(self._recover, recovery, part, job), "recovery").cancel
        return part

    def probe(self, job: Job, conn: C) -> Member:
        return self._start(partial(self._probe, job, conn), "probe")

    def discard(self, conn: C) -> None:
        if self.steward.plan.close is not None:
            self._start(partial(self._discard, conn), "close")

    def tell(self) -> None:
        self.steward.story.tell_all()

    def _opened(self) -> Crew:
        assert self.crew is not None  # it was entered
        return self.crew

    def _start(self, work: Callable[[], Any], what: str) -> Member:
        self._running += 1
        return self._opened().start(work, f"{self.steward.called}: {what}", self._ended)

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self.over.happen()
        elif self.steward.state is State.CLOSED:  # the driver waits for the last of them
            self.steward.stir()

    async def _drive(self) -> None:
        DEADLINE.set(None)  # that of whoever entered the manager is not the connection's
        steward, backend = self.steward, current_backend()
        try:
            while True:
                waiter = backend.waiter()
                rest = steward.turn(waiter.wake)
                if rest is not None:
                    await await_woken(waiter, steward.clock, rest.seconds)
                elif self._running > 1:  # jobs that were cancelled: what they made is yet to be closed
                    await waiter.wait()
                else:
                    return
        finally:
            steward.close("its driver ended")

    async def _dial(self, job: Job) -> None:
        steward = self.steward
        plan = steward.plan
        made: list[C] = []
        self.steward.begins(job)
        try:
            conn = cast("C", await _settled(plan.dial(job.endpoint) if plan.endpoints else plan.dial()))
            made.append(conn)
            steward.made(job, conn)
            if plan.probe is not None:
                await _settled(plan.probe(conn))
        except Exception as error:
            job.over = True
            steward.dial_failed(job, error)
        except BaseException as error:
            job.over = True
            self._interrupted(job, error)
            raise
        else:
            job.over = True
            if steward.opened(job, conn):
                made.clear()
        finally:
            for unwanted in made:
                steward.doom(unwanted)

    async def _recover(self, recovery: Recovery, part: RecoveryPart, job: Job) -> None:
        assert job.action is not None  # it is a recovery
        handler, failure = recovery.handler(job.action), None
        assert handler is not None  # the steward has looked
        self.steward.begins(job)
        try:
            while True:
                waiter = current_backend().waiter()
                asked = part.ask(job.born, waiter.wake)
                if asked is Part.LEAD:
                    await self._lead(recovery, part, handler)
                if asked is not Part.JOIN:
                    break
                try:
                    await waiter.wait()
                finally:
                    recovery.flight.leave(waiter.wake)
        except Exception as error:
            failure = error
        except BaseException as error:
            job.over = True
            self._interrupted(job, error)
            raise
        try:
            job.over = True
            self.steward.recovered(job, failure)
        finally:
            del failure  # likewise

    async def _lead(self, recovery: Recovery, part: RecoveryPart, handler: Callable[[], object]) -> None:
        clock, flight, ended_at = self.steward.clock, recovery.flight, None
        unmark = flight.lead()
        try:
            hold = flight.hold(clock.now())
            if hold:
                await pause(clock, hold)
            try:
                await _settled(handler())
            except Exception:
                ended_at = clock.now()
                raise
            ended_at = clock.now()
        finally:
            unmark()
            part.finish(ended_at)

    async def _probe(self, job: Job, conn: C) -> None:
        probe, failure = self.steward.plan.probe, None
        assert probe is not None  # heartbeats need one
        self.steward.begins(job)
        try:
            await _settled(probe(conn))
        except Exception as error:
            failure = error
        finally:
            job.over = True
        try:
            self.steward.probed(job, failure)
        finally:
            del failure  # likewise

    async def _discard(self, conn: C) -> None:
        close = self.steward.plan.close
        assert close is not None  # discard() has looked
        self.steward.begins(job := Job(0))
        try:
            with current_backend().cutoff(CLOSE_TIMEOUT, self.steward.clock):
                await _settled(close(conn))
        except Exception:
            return  # a connection that is gone seldom likes to be closed
        finally:
            job.over = True

    def _interrupted(self, job: Job, error: BaseException) -> None:
        """A job was cancelled, or its user code wants the program to end."""
        if isinstance(error, self._opened().cancelled):
            self.steward.dropped(job, error)
        else:
            self.steward.close("a hook wanted the program to end")


async def _settled(value: object) -> object:
    return await value if isawaitable(value) else value


def running_loop() -> object:
    """What tells one event loop from another: the loop, or trio's token."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()
