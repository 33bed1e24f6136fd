"""A connection for trio: numbered lines there and back, any number of them under way at once."""

from __future__ import annotations

import math
from itertools import count

import trio

from demo.process import Address

__all__ = ["TrioLine"]


class TrioLine:
    """One connection; made by :meth:`dial`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self._listening = trio.CancelScope()
        self._numbers = count(1)
        self._asked: dict[str, trio.MemorySendChannel[str]] = {}
        self._lost = False

    @classmethod
    async def dial(cls, nursery: trio.Nursery, address: Address) -> TrioLine:
        """A new connection.

        Args:
            nursery: where it listens for answers.
            address: where to.

        Raises:
            OSError: nobody answers there.
        """
        line = cls(await trio.open_tcp_stream(*address))
        nursery.start_soon(line._listen)
        return line

    async def ask(self, request: str) -> str:
        """The answer to a request.

        Raises:
            OSError, trio.BrokenResourceError: the connection is lost.
        """
        if self._lost:
            raise ConnectionResetError("the server hung up")
        number = str(next(self._numbers))
        self._asked[number], answers = trio.open_memory_channel[str](math.inf)
        try:
            async with self._sending:
                await self._stream.send_all(f"{number} {request}\n".encode())
            return await answers.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):  # perhaps by another caller, who reconnects
            raise ConnectionResetError("the server hung up") from None
        finally:
            self._asked.pop(number).close()
            answers.close()

    async def close(self) -> None:
        """Hangs up."""
        self._listening.cancel()
        await self._stream.aclose()

    async def _listen(self) -> None:
        received = b""
        with self._listening:
            try:
                async for chunk in self._stream:
                    *lines, received = (received + chunk).split(b"\n")
                    for line in lines:
                        self._answered(line.decode())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # a reset ends a connection as well as a farewell
        self._lost = True
        for asked in self._asked.values():
            asked.close()

    def _answered(self, line: str) -> None:
        number, _, answer = line.partition(" ")
        if number in self._asked:  # else whoever asked was cut off
            self._asked[number].send_nowait(answer)
