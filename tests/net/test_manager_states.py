"""What connection managers make of what is asked of them, in any state: close, drain, resume, reconnect_now."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from loops import LOOPS, run
from net.at_once import at_once
from net.hand_clocks import PATIENCE, TaskClock, until
from net.manager_scenarios import ON, Fatal
from threads import together

from resilient import backoff
from resilient.core.link import State
from resilient.drivers.loops.current import current_backend
from resilient.errors import ManagerClosed
from resilient.net import ConnectionManager
from resilient.net.sync import ConnectionManager as ThreadManager

# What each state makes of what its user asks for: the state after it, or the error.
ASKED: dict[str, dict[State, Any]] = {
    "close": dict.fromkeys(State, State.CLOSED),
    "drain": {**dict.fromkeys(State, State.CLOSED), State.IDLE: RuntimeError},
    "resume": {
        **{state: state for state in State},
        State.IDLE: RuntimeError,
        State.FAILED: State.CONNECTING,
        State.DRAINING: ManagerClosed,
        State.CLOSED: ManagerClosed,
    },
    "reconnect_now": {
        **dict.fromkeys(State, State.CONNECTING),
        State.IDLE: RuntimeError,
        State.DRAINING: ManagerClosed,
        State.CLOSED: ManagerClosed,
    },
}
every_state = pytest.mark.parametrize("state", State, ids=str)
whatever_is_asked = pytest.mark.parametrize("ask", ASKED)


class Dials:
    """What brings a manager to a state: the first dial does, and the others hang."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.begun = 0

    def first(self) -> object:
        """What the next dial comes to; None if it hangs."""
        self.begun += 1
        if self.begun > 1 or self.state is State.CONNECTING:
            return None
        if self.state is State.FAILED:
            raise Fatal
        if self.state is State.BACKING_OFF:
            raise ConnectionRefusedError
        return "a connection"


HANGING = {"on": ON, "backoff": backoff.constant(1e9), "connect_timeout": None}


@pytest.mark.parametrize("loop", LOOPS)
@every_state
@whatever_is_asked
def test_a_manager_of_tasks_is_asked_in_any_state(loop: str, state: State, ask: str) -> None:
    """Twice at once, and again."""

    async def main() -> None:
        with TaskClock() as clock:
            dials, released = Dials(state), list[int]()

            async def connect() -> object:
                return dials.first() or await clock.asleep(1e12)

            async def turns(number: int = 1) -> None:
                for _ in range(number):
                    await current_backend().sleep(0)

            async def operation(conn: object) -> None:
                while not released:
                    await turns()

            async def drain() -> None:
                while not manager.stats().operations:
                    await turns()
                await manager.drain()

            async def release() -> None:
                await turns(20)
                released.append(1)

            async def asked() -> State:
                done = getattr(manager, ask)()
                if done is not None:
                    await done
                return manager.state

            async def ask_it() -> None:
                while manager.state is not state:
                    await turns()
                outcomes = await at_once(asked, asked, release)
                outcomes[2:] = await at_once(asked)
                for outcome in outcomes:
                    assert ASKED[ask][state] in {outcome, type(outcome)}

            manager = ConnectionManager(connect, **HANGING)
            if state is State.IDLE:
                await ask_it()
                return
            async with manager:
                if state is State.CLOSED:
                    await manager.close()
                busy = [lambda: manager.call(operation), drain] if state is State.DRAINING else []
                assert None is (await at_once(*busy, ask_it))[-1]

    run(loop, main)


@every_state
@whatever_is_asked
def test_a_manager_of_threads_is_asked_in_any_state(state: State, ask: str) -> None:
    """Twice at once, and again."""
    dials, released = Dials(state), threading.Event()

    def connect() -> object:
        return dials.first() or released.wait(PATIENCE)

    def asked(n: int) -> None:
        if n == 2:
            released.set()
            return
        try:
            getattr(manager, ask)()
            outcomes.append(manager.state)
        except RuntimeError as error:
            outcomes.append(type(error))
        except ManagerClosed as error:
            outcomes.append(type(error))

    def ask_it() -> None:
        until(lambda: manager.state is state)
        assert [] == together(3 if state is State.DRAINING else 2, asked)
        asked(0)
        assert [ASKED[ask][state]] * 3 == outcomes

    manager: ThreadManager[object] = ThreadManager(connect, **HANGING)
    outcomes: list[object] = []
    if state is State.IDLE:
        ask_it()
        return
    with manager:
        if state is State.CLOSED:
            manager.close()
        busy: list[threading.Thread] = []
        if state is State.DRAINING:
            busy = [
                threading.Thread(target=manager.call, args=(lambda conn: released.wait(PATIENCE),)),
                threading.Thread(target=lambda: (until(lambda: manager.stats().operations), manager.drain())),
            ]
        for thread in busy:
            thread.start()
        ask_it()
        for thread in busy:
            thread.join(PATIENCE)
        released.set()
