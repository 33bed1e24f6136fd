"""A connection for asyncio: numbered lines there and back, any number of them under way at once."""

from __future__ import annotations

import asyncio
from itertools import count

from demo.process import Address

__all__ = ["AioLine"]


class AioLine:
    """One connection; made by :meth:`dial`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._asked: dict[str, asyncio.Future[str]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def dial(cls, address: Address) -> AioLine:
        """A new connection.

        Raises:
            OSError: nobody answers there.
        """
        return cls(*await asyncio.open_connection(*address))

    async def ask(self, request: str) -> str:
        """The answer to a request.

        Raises:
            OSError: the connection is lost.
        """
        if self._writer.is_closing():  # by us, or because a send failed
            raise ConnectionResetError("the server hung up")
        number = str(next(self._numbers))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._writer.write(f"{number} {request}\n".encode())
            await self._writer.drain()
            return await answer
        finally:
            del self._asked[number]

    async def close(self) -> None:
        """Hangs up."""
        self._writer.close()
        await self._listening

    async def _listen(self) -> None:
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):
                number, _, answer = line.decode().strip().partition(" ")
                asked = self._asked.get(number)
                if asked is not None and not asked.done():  # else whoever asked was cut off
                    asked.set_result(answer)
        except OSError:
            pass  # a reset ends a connection as well as a farewell
        finally:
            self._writer.close()
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(ConnectionResetError("the server hung up"))
