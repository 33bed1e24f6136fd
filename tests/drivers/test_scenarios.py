"""The one scenario table through every form, blocking and async, under asyncio and under trio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from scenarios import SCENARIOS, Half, Handlers, Scenario, policy_of, script_of

from resilient import Retry
from resilient.testing import FakeClock, Script

trio = pytest.importorskip("trio")


class Client:
    """A client whose one method plays a script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def fetch(self, key: str) -> Any:
        return self.script(key)

    async def afetch(self, key: str) -> Any:
        return self.script(key)


def by_function(policy: Retry, script: Script) -> Any:
    @policy
    def fetch(key: str) -> Any:
        return script(key)

    return fetch("k")


def by_call(policy: Retry, script: Script) -> Any:
    return policy.call(script, "k")


def by_execute(policy: Retry, script: Script) -> Any:
    return policy.execute(script, "k").unwrap()


def by_proxy(policy: Retry, script: Script) -> Any:
    return policy.proxy(Client(script), methods=("fetch",)).fetch("k")


def by_block(policy: Retry, script: Script) -> Any:
    value = None
    for attempt in policy:
        with attempt:
            value = script("k")
            if policy.plan.judges_results:
                attempt.set_result(value)
    return value


async def by_async_function(policy: Retry, script: Script) -> Any:
    @policy
    async def fetch(key: str) -> Any:
        return script(key)

    return await fetch("k")


async def by_async_call(policy: Retry, script: Script) -> Any:
    return await policy.call(script.call_async, "k")


async def by_async_execute(policy: Retry, script: Script) -> Any:
    return (await policy.execute(script.call_async, "k")).unwrap()


async def by_async_lambda(policy: Retry, script: Script) -> Any:
    return await policy(lambda key: script.call_async(key))("k")


async def by_async_proxy(policy: Retry, script: Script) -> Any:
    return await policy.proxy(Client(script)).afetch("k")


async def by_async_block(policy: Retry, script: Script) -> Any:
    value = None
    async for attempt in policy:
        with attempt:
            value = script("k")
            if policy.plan.judges_results:
                attempt.set_result(value)
    return value


SYNC: list[Callable[[Retry, Script], Any]] = [by_function, by_call, by_execute, by_proxy, by_block]
ASYNC: list[Callable[[Retry, Script], Awaitable[Any]]] = [
    by_async_function,
    by_async_call,
    by_async_execute,
    by_async_lambda,
    by_async_proxy,
    by_async_block,
]


def check(scenario: Scenario, run: Callable[[], Any], script: Script, handlers: Handlers, clock: FakeClock) -> None:
    """The outcome, the waits, the recoveries and the note are those of the table."""
    if isinstance(scenario.expected, type):
        with pytest.raises(scenario.expected) as caught:
            run()
        assert scenario.expected is type(caught.value)
        assert scenario.note in "\n".join(caught.value.__notes__)
    else:
        assert scenario.expected == run()
    assert (scenario.calls, scenario.waits, scenario.performed) == (script.calls, clock.sleeps, handlers.performed)


@pytest.mark.parametrize("driver", SYNC, ids=lambda driver: driver.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_blocking(scenario: Scenario, driver: Callable[[Retry, Script], Any]) -> None:
    """Every scenario through every blocking form."""
    handlers, script = Handlers(scenario), script_of(scenario)
    with FakeClock(Half()) as clock:
        policy = policy_of(scenario, handlers)
        check(scenario, lambda: driver(policy, script), script, handlers, clock)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("driver", ASYNC, ids=lambda driver: driver.__name__)
@pytest.mark.parametrize(
    ("scenario", "handlers_are"),
    [(scenario, "async") for scenario in SCENARIOS]
    + [(scenario, "blocking") for scenario in SCENARIOS if scenario.handlers],
    ids=lambda part: part.name if isinstance(part, Scenario) else part,
)
def test_async(
    scenario: Scenario, driver: Callable[[Retry, Script], Awaitable[Any]], handlers_are: str, loop: str
) -> None:
    """Every scenario through every async form, under asyncio and under trio."""
    handlers, script = Handlers(scenario), script_of(scenario)
    with FakeClock(Half()) as clock:
        policy = policy_of(scenario, handlers, is_async=handlers_are == "async")

        async def main() -> Any:
            return await driver(policy, script)

        run = (lambda: asyncio.run(main())) if loop == "asyncio" else (lambda: trio.run(main))
        check(scenario, run, script, handlers, clock)
