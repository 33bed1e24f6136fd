"""A proxy that stands between a client and its upstream, and injects faults of the network as told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from inspect import iscoroutinefunction
from random import Random
from types import TracebackType
from typing import TypeVar

from resilient.core.addresses import Address, AddressLike, TcpAddress, UnixAddress, read_address
from resilient.core.backoff import Rng
from resilient.core.duration import Duration, number, seconds
from resilient.testing.connection import Connection
from resilient.testing.door import Door
from resilient.testing.faults import Down, Fault
from resilient.testing.play import Play, Script, in_steps, read_steps
from resilient.testing.proxy_stats import ConnectionStats, ProxyStats, bytes_of
from resilient.testing.relay import Direction, Injection, Relay, Upstream

__all__ = ["FaultProxy"]

T = TypeVar("T")


class FaultProxy:
    """Passes bytes between clients and an upstream, and injects faults: ``with FaultProxy(upstream) as proxy:``.

    It runs an event loop in a daemon thread of its own, so that blocking, asyncio and trio tests use it alike; its
    methods may be called from any thread, and what they do has happened when they return. It lives in real time,
    whatever clock the test has. Connections and faults are told on the logger ``resilient.proxy``.

    Args:
        upstream: where to pass connections on: ``"tcp://host:port"``, ``"unix:/path"``, ``(host, port)``; a function
            that gives one of these, asked for each connection in the proxy's thread (it must not block); None: set
            ``upstream`` later. A host name is looked up for each connection. A client whose upstream cannot be reached
            is reset.
        listen: where clients connect, in the same forms; port 0 takes any that is free.
        faults: at work from the beginning, in both directions.
        rng: source of chance: any object with ``random()`` in [0, 1). From the same seed each connection, in the order
            of their accepts, draws the same chances, byte by byte.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.
        OSError: on entering: it cannot listen there.
    """

    def __init__(
        self,
        upstream: Upstream = None,
        *,
        listen: AddressLike = "tcp://127.0.0.1:0",
        faults: Iterable[Fault] = (),
        rng: Rng | None = None,
    ) -> None:
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must have a random() method, such as random.Random(7), got {rng!r}")
        self._relay = Relay(Random() if rng is None else rng)
        self.upstream = upstream
        self._listen = read_address("listen", listen)
        self._lock = threading.Lock()  # over every use of the loop from outside
        self._closing = threading.Event()
        self._leaving = False
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address: Address | None = None
        self._plays: list[Play] = []
        for fault in faults:
            self.add(fault)

    @property
    def upstream(self) -> Upstream:
        """Where new connections are passed on to; may be changed at any time."""
        return self._relay.upstream

    @upstream.setter
    def upstream(self, upstream: Upstream) -> None:
        fixed = upstream is None or callable(upstream)
        self._relay.upstream = upstream if fixed else read_address("upstream", upstream)

    @property
    def address(self) -> Address:
        """Where clients connect: what ``socket.connect`` takes, a (host, port) or the path of a Unix socket."""
        if self._address is None:
            raise RuntimeError("the proxy has no address before it is entered")
        return self._address

    @property
    def url(self) -> str:
        """The address as text: ``tcp://127.0.0.1:40123`` or ``unix:/path``."""
        return self.address.url

    @property
    def host(self) -> str:
        """Where clients connect by TCP."""
        return self._tcp().host

    @property
    def port(self) -> int:
        """Where clients connect by TCP."""
        return self._tcp().port

    @property
    def path(self) -> str:
        """Where clients connect, if that is a Unix socket."""
        if not isinstance(self.address, UnixAddress):
            raise TypeError(f"the proxy listens on {self.url}, which has no path")
        return str(self.address)

    @property
    def faults(self) -> tuple[Injection, ...]:
        """The faults at work, in the order in which they came."""
        return self._relay.faults

    @property
    def connections(self) -> tuple[ConnectionStats, ...]:
        """The open connections, in the order of their accepts."""
        return self._call(lambda: tuple(ConnectionStats(c.number, **bytes_of(c)) for c in self._open()))

    def stats(self) -> ProxyStats:
        """What has happened so far."""
        return self._call(self._relay.stats)

    def add(self, fault: Fault, direction: Direction = "both", *, toxicity: float = 1.0) -> Injection:
        """Injects a fault, into the connections that are there and into new ones.

        Args:
            fault: one of ``resilient.testing.faults``.
            direction: "up", "down" or "both"; faults of whole connections (accept_then_close, down) have none.
            toxicity: the share of connections that it meets, 0 to 1, drawn for each.

        Raises:
            TypeError, ValueError: an argument is of the wrong type or out of range.
        """
        if not isinstance(fault, Fault):
            raise TypeError(f"fault must be one of resilient.testing.faults, such as Latency(0.05), got {fault!r}")
        if direction not in ("up", "down", "both"):
            raise ValueError(f'direction must be "up", "down" or "both", got {direction!r}')
        if not fault.directed and direction != "both":
            raise ValueError(f"direction must be left out: {fault.name} works on whole connections, got {direction!r}")
        number("toxicity", toxicity, least=0, most=1)
        if isinstance(fault, Down) and toxicity < 1:
            raise ValueError(f"toxicity must be 1 for down, which is a state of the whole service, got {toxicity!r}")
        return self._call(lambda: self._relay.add(fault, direction, toxicity, self.remove))

    def remove(self, injection: Injection) -> None:
        """Takes a fault away; again does nothing."""
        self._call(lambda: self._relay.remove(injection))

    def clear(self) -> None:
        """Takes all faults away."""
        self._call(self._relay.clear)

    def cut(self, connection: int | None = None, *, reset: bool = True) -> int:
        """Ends connections now; how many.

        Args:
            connection: the number of one; all if None.
            reset: both sides see a reset; False: an orderly close.
        """
        return self._call(lambda: self._relay.cut(connection, reset=reset))

    def play(self, script: Script[FaultProxy]) -> Play:
        """Changes faults by a script, while the test goes on.

        Args:
            script: a list of (after, change): seconds from now, and what is done then: a fault that is added in both
                directions, or a function that is given the proxy, such as ``FaultProxy.clear``. Or a function that is
                given the proxy and drives it: an async one in the proxy's event loop (it is cancelled when the proxy
                closes), a blocking one in a thread (it should wait by ``proxy.wait``).

        Raises:
            RuntimeError: the proxy is not running.
            TypeError, ValueError: the script is none of these.
        """
        loop = self._loop
        if loop is None:
            raise RuntimeError("a script can be played while the proxy runs, within its `with`")
        if not callable(script):
            steps = read_steps(script, FaultProxy.add)
            play = Play(asyncio.run_coroutine_threadsafe(in_steps(steps, self), loop))
        elif iscoroutinefunction(script):
            play = Play(asyncio.run_coroutine_threadsafe(script(self), loop))
        else:
            play = Play.in_thread(partial(script, self))
        self._plays.append(play)
        return play

    def wait(self, duration: Duration) -> bool:
        """Waits, for scripts in threads: True after the time, False as soon as the proxy closes.

        Args:
            duration: seconds, >= 0.
        """
        return not self._closing.wait(min(seconds("duration", duration), threading.TIMEOUT_MAX))

    def start(self) -> None:
        """Begins to listen, as entering does.

        Raises:
            OSError: it cannot listen there.
            RuntimeError: it was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a proxy runs once: make another")
        begun: concurrent.futures.Future[None] = concurrent.futures.Future()
        thread = threading.Thread(target=self._run, args=(begun,), name="resilient fault proxy", daemon=True)
        try:
            with self._lock:
                thread.start()
                self._thread = thread
                begun.result()
        except Exception:
            if self._thread is not None:
                thread.join()
            raise
        except BaseException:  # interrupted: only what has begun can be ended
            self._thread = thread
            concurrent.futures.wait([begun])
            self.close()
            raise
        finally:
            del begun  # a frame that holds the error it raised is a cycle

    def close(self) -> None:
        """What leaving does: ends every connection and script; nothing is left. Again does nothing.

        Raises:
            BaseException: what a script raised that nobody has asked about.
        """
        self._closing.set()
        if threading.current_thread() is self._thread:
            self._stop.set()
            return
        for play in self._plays:
            play.stop()
        self._leave()
        if self._thread is not None:
            self._thread.join()
        failures = [*self._relay.failures, *(error for play in self._plays if (error := play.unheard()) is not None)]
        self._relay.failures.clear()
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # a frame that holds the error it raised is a cycle

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            with suppress(Exception):  # the block's own error says more
                self.close()

    async def __aenter__(self) -> FaultProxy:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        where = self._listen.url if self._address is None else self._address.url
        return f"<FaultProxy on {where}, {len(self._relay.connections)} connections, {len(self.faults)} faults>"

    def _tcp(self) -> TcpAddress:
        if not isinstance(self.address, TcpAddress):
            raise TypeError(f"the proxy listens on {self.url}, which has no host and port")
        return self.address

    def _open(self) -> tuple[Connection, ...]:
        return tuple(self._relay.connections.values())

    def _call(self, change: Callable[[], T]) -> T:
        """Makes a change in the loop's thread, and waits for the connections that it ends."""
        if threading.current_thread() is self._thread:
            return change()
        with self._lock:
            if self._thread is None:
                return change()
            if self._loop is not None and not self._leaving:
                return asyncio.run_coroutine_threadsafe(self._settled(change), self._loop).result()
        self._thread.join()
        with self._lock:  # nobody else is there any more
            return change()

    async def _settled(self, change: Callable[[], T]) -> T:
        made = change()
        ending = [each.task for each in self._open() if each.ending is not None and each.task]
        if ending:
            await asyncio.wait(ending)
        return made

    def _leave(self) -> None:
        """Ends the loop, once the changes that are being made in it are done."""
        self._leaving = True  # first: whoever asks for one after the other would keep the lock from us
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
                self._loop = None

    def _run(self, begun: concurrent.futures.Future[None]) -> None:
        # The plain loop of asyncio, whatever the program has chosen for itself: only sockets of its own are in it.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._main(begun))
        except BaseException as error:
            if begun.done():
                self._relay.failures.append(error)
            else:
                begun.set_exception(error.with_traceback(None))  # the frames of the loop hold it
        finally:
            del begun  # the caller's frame holds its error

    async def _main(self, begun: concurrent.futures.Future[None]) -> None:
        self._relay.door = door = Door(self._listen, self._relay.accept)
        try:
            self._address = door.address
            self._loop = asyncio.get_running_loop()
            self._relay.mind_the_door()
            begun.set_result(None)
            await self._stop.wait()
            if self._loop is not None:  # a script has closed it: whoever asks for something still gets it
                await asyncio.to_thread(self._leave)
        finally:
            self._relay.door = self._loop = None
            door.close()
            left = [each.task for each in self._open() if each.task is not None]
            self._relay.cut(None, reset=False)
            if left:
                await asyncio.wait(left)
