"""The demo's clients, blocking and async: everything they know about trouble is one policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol

from demo.answers import OverloadedError, SignedOutError, TooBusyError, value_of
from demo.lines import Line
from demo.process import Address
from resilient import Action, Classifier, Recovery, Retry, Rule, backoff, current_attempt, presets

__all__ = ["AsyncClient", "AsyncLine", "Client"]

ATTEMPT = 0.5  # seconds until a request counts as lost
HANDSHAKE = 5.0  # seconds for connecting, and for signing in
USER = "ada"

TROUBLE = (
    Classifier(
        Rule(TooBusyError, Action.WAIT, category="busy", delay=lambda busy: busy.seconds),
        Rule(SignedOutError, Action.RELOGIN, category="signed out", attempts=3),
        Rule(OverloadedError, Action.RETRY, category="overloaded"),
    )
    | presets.sockets  # lost connections: RECONNECT; timeouts: RETRY
)

POLICY = Retry(
    on=TROUBLE,
    attempts=12,
    timeout=30,
    attempt_timeout=ATTEMPT,
    backoff=backoff.exponential(0.05, cap=1).jitter("equal"),
)


class Client:
    """Asks the server, and gets an answer whatever happens to it meanwhile.

    Args:
        address: the server's.

    Attributes:
        policy: guards every request.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._line: Line | None = None
        self._token = ""
        self.policy = POLICY.with_(recovery=Recovery(reconnect=self.reconnect, relogin=self.relogin))

    def square(self, number: int) -> int:
        """The square of a number."""
        return self.policy.call(self._square, number)

    def reconnect(self) -> None:
        """Makes a new connection."""
        self.close()
        self._line = Line(self._address, timeout=HANDSHAKE)

    def relogin(self) -> None:
        """Signs in again."""
        self._token = self._ask(f"LOGIN {USER}", HANDSHAKE)

    def close(self) -> None:
        """Hangs up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Client:
        self.reconnect()
        self.relogin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _square(self, number: int) -> int:
        attempt = current_attempt()
        timeout = None if attempt is None else attempt.remaining
        return int(self._ask(f"GET {number} {self._token}", ATTEMPT if timeout is None else timeout))

    def _ask(self, request: str, timeout: float) -> str:
        if self._line is None:
            raise ConnectionError("not connected")
        return value_of(self._line.ask(request, timeout))


class AsyncLine(Protocol):
    """A connection as the async client needs it."""

    async def ask(self, request: str) -> str: ...

    async def close(self) -> None: ...


class AsyncClient:
    """The same for coroutines, any number of which may ask at once.

    Args:
        address: the server's.
        dial: makes a connection; this is all that asyncio and trio do differently.

    Attributes:
        policy: guards every request.
    """

    def __init__(self, address: Address, dial: Callable[[Address], Awaitable[AsyncLine]]) -> None:
        self._address = address
        self._dial = dial
        self._line: AsyncLine | None = None
        self._token = ""
        self.policy = POLICY.with_(recovery=Recovery(reconnect=self.reconnect, relogin=self.relogin))

    async def square(self, number: int) -> int:
        """The square of a number."""
        return await self.policy.call(self._square, number)

    async def reconnect(self) -> None:
        """Makes a new connection."""
        await self.close()
        self._line = await self._dial(self._address)

    async def relogin(self) -> None:
        """Signs in again."""
        self._token = await self._ask(f"LOGIN {USER}")

    async def close(self) -> None:
        """Hangs up."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def __aenter__(self) -> AsyncClient:
        await self.reconnect()
        await self.relogin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _square(self, number: int) -> int:
        return int(await self._ask(f"GET {number} {self._token}"))

    async def _ask(self, request: str) -> str:
        if self._line is None:
            raise ConnectionError("not connected")
        return value_of(await self._line.ask(request))
