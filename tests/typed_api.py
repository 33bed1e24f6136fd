"""What type checkers infer of the public API: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import timedelta
from typing import Any, assert_type

from resilient import (
    Action,
    Attempt,
    Backoff,
    Catch,
    Classifier,
    Event,
    Outcome,
    Policy,
    Recovery,
    Retry,
    Rule,
    Verdict,
    backoff,
    catch,
    current_attempt,
    listen,
    load,
    presets,
    retry,
    retry_after,
)
from resilient.testing import FakeClock, Script

policy = Retry(on=ConnectionError, attempts=None, timeout=timedelta(minutes=1), attempt_timeout=3, max_wait=0)


@retry(on=ConnectionError, attempts=5)
def pull(a: int, /, b: str = "", *, c: bytes = b"") -> list[int]:
    return [a]


@policy
async def apull(a: int) -> list[int]:
    return [a]


@policy.with_(streaming=True)
def items(n: int) -> Iterator[int]:
    yield n


@policy.with_(streaming=True)
async def aitems(n: int) -> AsyncIterator[int]:
    yield n


class Client:
    @policy
    def method(self, key: str) -> bytes:
        return key.encode()

    @policy
    @classmethod
    def of_class(cls, key: str) -> bytes:
        return key.encode()

    @policy
    @staticmethod
    def static(key: str) -> bytes:
        return key.encode()


def decorated() -> None:
    assert_type(pull(1, b="x", c=b"y"), list[int])
    assert_type(Client().method("k"), bytes)
    assert_type(Client.of_class("k"), bytes)
    assert_type(Client.static("k"), bytes)
    assert_type(items(1), Iterator[int])
    assert_type(aitems(1), AsyncIterator[int])
    pull("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pull(a=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Client().method(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def adecorated() -> None:
    assert_type(await apull(1), list[int])
    assert_type(await policy.call(apull, 1), list[int])
    assert_type(await policy.execute(apull, 1), Outcome[list[int]])
    async for attempt in policy:
        with attempt as entered:
            assert_type(entered.number, int)


def called() -> None:
    assert_type(policy.call(pull, 1, b="x"), list[int])
    assert_type(policy.execute(pull, 1), Outcome[list[int]])
    assert_type(policy.execute(pull, 1).value, list[int] | None)
    assert_type(policy.execute(pull, 1).unwrap(), list[int])
    assert_type(policy.execute(pull, 1).stopped_by, str | None)
    assert_type(policy.execute(pull, 1).timeline, tuple[Event, ...])
    policy.call(pull, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for attempt in policy:
        with attempt:
            assert_type(attempt.remaining, float | None)
            assert_type(attempt.last_error, Exception | None)
            attempt.set_result(3)
    assert_type(current_attempt(), Attempt | None)


def settings() -> None:
    assert_type(policy.with_(attempts=None, name="x"), Retry)
    assert_type(policy.proxy(Client(), methods=["method"]), Client)
    Retry()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_(speed=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry(on=lambda error: isinstance(error, OSError))
    Retry(on=("httpx.ConnectError", OSError), backoff=backoff.exponential(0.1).jitter("full").floor(0.01))
    assert_type(backoff.constant(1), Backoff)
    assert_type(backoff.constant(1).delay(1), float)
    assert_type(next(backoff.constant(1).delays()), float)
    rule = Rule(OSError, Action.WAIT, when=lambda error: True, delay=retry_after)
    assert_type(Classifier(rule, Rule.result(lambda value: value is None)) | presets.http, Classifier)
    assert_type(presets.sockets(OSError()), Verdict)
    assert_type(retry_after("120"), float | None)
    Recovery(reconnect=pull_nothing, relogin=apull_nothing, throttle=timedelta(seconds=5))


def loaded() -> None:
    policies = load("resilient.toml")
    assert_type(policies["db"], Policy)
    assert_type(policies["db"].with_(listeners=()), Policy)
    assert_type(policies["db"].call(pull, 1), list[int])
    assert_type(policies.retries["db"], Retry)
    assert_type(policies.retries["db"].with_(recovery=Recovery(reconnect=pull_nothing)), Retry)
    assert_type(policies.retries["db"].attempts, int | None)


def pull_nothing() -> None: ...


async def apull_nothing() -> None: ...


@catch(default=0)
def caught(a: str) -> int:
    return int(a)


@catch(name="x")
async def acaught(a: str) -> int:
    return int(a)


async def caught_async() -> None:
    assert_type(await acaught("1"), int | None)
    assert_type(await catch("x", default="d").call(apull, 1), list[int] | str)


def caught_calls() -> None:
    assert_type(caught("1"), int)
    assert_type(catch.call("x", pull, 1), list[int] | None)
    assert_type(catch("x"), Catch[None])
    assert_type(catch("x", default="d").call(caught, "1"), int | str)
    with catch("load plugin") as blown:
        pass
    assert_type(blown.error, BaseException | None)
    caught(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def observed() -> None:
    def hear(event: Event) -> None:
        assert_type(str(event), str)

    with listen(hear), FakeClock() as clock:
        assert_type(clock.sleeps, list[float])
        assert_type(clock.now(), float)
    assert_type(Script("fail", 7).calls, int)
    waiting: Awaitable[Any] = Script(7).call_async()
    del waiting
