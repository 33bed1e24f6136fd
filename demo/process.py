"""The server's process, as the demo holds it: started, given orders, killed, started again."""

from __future__ import annotations

import json
import subprocess
import sys
from threading import Timer
from types import TracebackType

from demo.environment import environment

__all__ = ["Address", "ServerProcess"]

Address = tuple[str, int]
SILENCE = 30.0  # seconds after which a server that says nothing is killed


class ServerProcess:
    """A server on one port, however often it dies; as a context manager it leaves no process behind.

    Args:
        module: what it runs, in this package; its first argument is the port, 0 for any.
        arguments: its further ones.

    Attributes:
        port: where it listens; 0 until it was started for the first time.
    """

    def __init__(self, module: str = "server", *arguments: str) -> None:
        self.port = 0
        self._module = f"{__package__}.{module}"
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._listens = False

    @property
    def address(self) -> Address:
        """Where clients find it."""
        return "127.0.0.1", self.port

    def __enter__(self) -> ServerProcess:
        try:
            self.ensure_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, on the port that it had before; it listens a moment later."""
        # Its standard input is a pipe of ours: were we killed, it would read the end of that, and end too. In a
        # session of its own it does not hear of Ctrl-C, which is for us.
        self._process = subprocess.Popen(
            (sys.executable, "-m", self._module, str(self.port), *self._arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(),
        )

    def ensure_ready(self) -> None:
        """Starts it unless somebody has, and waits until it listens.

        Raises:
            RuntimeError: it ended instead.
        """
        if self._process is None:
            self.start()
        if not self._listens:
            self.port = int(self._read())
            self._listens = True

    def order(self, *orders: str) -> dict[str, int]:
        """Gives it orders; returns its counters after the last."""
        counters: dict[str, int] = {}
        for order in orders:
            print(order, file=self._alive().stdin, flush=True)
            counters = json.loads(self._read())
        return counters

    def kill(self) -> dict[str, int]:
        """Kills it (SIGKILL), if it lives; what it counted is lost with it."""
        self._listens = False
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # reaps it, and closes the pipes
            self._process = None  # not before: an interrupt in between must not let it be forgotten
        return {}

    def _read(self) -> str:
        process = self._alive()
        watchdog = Timer(SILENCE, process.kill)
        watchdog.daemon = True  # an interrupt may strike while it starts: nobody is to wait for it then
        try:
            watchdog.start()
            line = process.stdout.readline() if process.stdout is not None else ""
        finally:
            watchdog.cancel()
            if watchdog.is_alive():
                watchdog.join()
        if not line:
            raise RuntimeError("the demo's server ended by itself")
        return line

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the demo's server is not running")
        return self._process
