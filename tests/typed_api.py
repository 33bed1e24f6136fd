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
    OutcomeUnknown,
    Policy,
    Recovery,
    Retry,
    Rule,
    Verdict,
    backoff,
    catch,
    current_attempt,
    events,
    listen,
    load,
    presets,
    retry,
    retry_after,
)
from resilient.core.link import State
from resilient.net import (
    ConnectionManager,
    FramedClient,
    FramedServer,
    FramedStats,
    ManagerStats,
    OutboxPlan,
    Peer,
    Poller,
    Reconnector,
    Supervisor,
    SupervisorStats,
    sync,
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


class Line:
    """A connection of a user's own."""

    def ask(self, question: str) -> list[int]:
        return [len(question)]

    async def aask(self, question: str) -> list[int]:
        return [len(question)]

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


def connect() -> Line:
    return Line()


async def aconnect() -> Line:
    return Line()


async def aconnect_to(host: str, port: int = 80) -> Line:
    return Line()


def count(line: Line) -> list[int]:
    return line.ask("?")


async def acount(line: Line) -> list[int]:
    return await line.aask("?")


async def managed() -> None:
    manager = ConnectionManager(
        aconnect, close=Line.aclose, probe=lambda line: line.aask("?"), on=OSError, heartbeat=30
    )
    assert_type(manager, ConnectionManager[Line])
    assert_type(
        ConnectionManager(connect, close=Line.close, on=presets.sockets, attempts=None), ConnectionManager[Line]
    )
    assert_type(ConnectionManager(Line, on=(OSError, "x.Error"), backoff=backoff.linear(1)), ConnectionManager[Line])
    assert_type(ConnectionManager(aconnect_to, on=OSError, endpoints=["a", "b"]), ConnectionManager[Line])
    async with manager as entered:
        assert_type(entered, ConnectionManager[Line])
        assert_type(await manager.call(count), list[int])
        assert_type(await manager.call(acount, idempotent=True), list[int])
        assert_type(await manager.call(lambda line: line.ask("?")), list[int])
        counted: list[int] = await manager.call(lambda line: line.aask("?"))  # mypy knows less of async lambdas
        del counted
        async with manager.use() as line:
            assert_type(line, Line)
            manager.lost(None, line)
    assert_type(manager.state, State)
    assert_type(manager.stats(), ManagerStats)
    assert_type(await manager.drain(timeout=timedelta(seconds=1)), bool)
    manager.on_event(hear)(events.LinkChanged("db", 0.0, "IDLE", "CONNECTING"))
    await manager.call(lambda line: line.no)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def blocking_managed() -> None:
    manager = sync.ConnectionManager(connect, close=Line.close, probe=lambda line: line.ask("?"), on=OSError)
    with manager as entered:
        assert_type(entered, sync.ConnectionManager[Line])
        assert_type(manager.call(lambda line: line.ask("?"), idempotent=True), list[int])
        with manager.use() as line:
            assert_type(line, Line)
    assert_type(manager.drain(), bool)
    sync.ConnectionManager(connect)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    try:
        manager.call(Line.close)
    except OutcomeUnknown as error:
        assert_type(error.name, str)


async def framed() -> None:
    async def answer(frame: bytes, peer: Peer) -> bytes:
        assert_type(peer.send(frame), bool)
        return frame

    client = FramedClient("tcp://127.0.0.1:9000", outbox=OutboxPlan("drop_oldest", max_items=9), on_dropped=print)
    async with FramedServer(("127.0.0.1", 0), answer) as server, client as entered:
        assert_type(server.url, str)
        assert_type(server.connections, tuple[Peer, ...])
        assert_type(entered, FramedClient)
        assert_type(client.send(b"x"), int)
        assert_type(await client.send_when_room(memoryview(b"x")), int)
        assert_type(await client.receive(), bytes)
        async for frame in client:
            assert_type(frame, bytes)
        assert_type(client.stats(), FramedStats)
        assert_type(await client.drain(1), bool)
        client.send("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def blocking_framed() -> None:
    with sync.FramedClient("unix:/run/app.sock", on_frame=lambda frame: print(frame.hex()), heartbeat=30) as client:
        assert_type(client, sync.FramedClient)
        assert_type(client.send(b"x", timeout=1), int)
        assert_type(client.receive(timeout=1), bytes)
        for frame in client:
            assert_type(frame, bytes)


async def supervised() -> None:
    async def fetch() -> dict[str, int]:
        return {}

    async def loop() -> int:
        return 1

    poller = Poller(fetch, lambda value: value["port"], interval=timedelta(minutes=1))
    assert_type(poller, Poller[dict[str, int]])
    assert_type(poller.value, dict[str, int] | None)
    assert_type(poller.age, float | None)
    supervisor = Supervisor(name="host", listeners=(hear,))
    supervisor.add("poller", poller.run, permanent=True)
    assert_type(await supervisor.add("loop", intensity=None)(loop)(), int)
    assert_type(await supervisor.add("again", loop)(), int)
    async with supervisor as entered:
        assert_type(entered, Supervisor)
    assert_type(supervisor.stats(), SupervisorStats)
    supervisor.add("blocking", connect)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    Poller(connect, interval=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def blocking_supervised() -> None:
    def loop(stop: sync.StopSignal) -> None:
        assert_type(stop.wait(1), bool)

    poller = sync.Poller(lambda: 7, interval=1)
    assert_type(poller.value, int | None)
    with sync.Supervisor() as supervisor:
        supervisor.add("poller", poller.run)
        supervisor.add("loop", loop)(sync.StopSignal())
        assert_type(supervisor.wait(timeout=1), bool)


def counted() -> None:
    reconnector = Reconnector(backoff.exponential(1), attempts=None)
    assert_type(reconnector.can_attempt(), bool)
    assert_type(reconnector.next_delay(), float)
    assert_type(reconnector.failures, int)


def hear(event: Event) -> None:
    if isinstance(event, events.LinkChanged):
        assert_type(event.why, str)
