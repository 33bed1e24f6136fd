"""Real servers in processes of their own, which can be killed, frozen and started again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

__all__ = ["DRIP", "HOST", "PATIENCE", "Daemon", "Nginx", "Postgres", "Redis", "serving", "until"]

PATIENCE = 20  # seconds
HOST = "127.0.0.1"
# Where Debian has servers: not on the path of an ordinary user.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

D = TypeVar("D", bound="Daemon")


class Daemon:
    """A server on a port of the loopback, with a directory of its own.

    Attributes:
        home: its directory.
        port: the same for all its life, however often it is started.
    """

    program: str
    # As whom it runs: as we do, but for what refuses to run as root.
    identity: dict[str, Any] = {}

    def __init__(self) -> None:
        # Not under pytest's own directory, where only its own user may go.
        self.home = Path(tempfile.mkdtemp(prefix="server-", dir="/tmp"))
        self.home.chmod(0o755)
        self.port = free_port()
        self._log = self.home / "log"
        self._process: subprocess.Popen[Any] | None = None

    @classmethod
    def found(cls) -> str | None:
        """The path of its program; None if it is not installed."""
        return shutil.which(cls.program, path=PATH)

    def arguments(self, settings: dict[str, object]) -> list[str]:
        """What makes it run in the foreground with these settings."""
        raise NotImplementedError

    def serves(self, said: str) -> bool:
        """Whether it takes requests, by what its log says since it was started."""
        raise NotImplementedError

    def start(self, *, wait: bool = True, **settings: object) -> None:
        """Starts it, and waits until it serves. The settings are those of its own manual."""
        assert self._process is None, "it runs"
        told = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [str(self.found()), *self.arguments(settings)],
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.identity,
            )

        def serves() -> bool:
            said = self._log.read_bytes()[told:].decode(errors="replace")
            assert process.poll() is None, said
            return self.serves(said)

        if wait:
            until(serves)

    def kill(self) -> None:
        """Ends it and all its children at once: nobody is told anything."""
        process = self._running()
        self._process = None
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGSTOP)  # so that it makes no more of them
        family = [process.pid, *children(process.pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        until(lambda: not any(map(is_alive, family)))

    def stop(self, how: signal.Signals) -> None:
        """Ends it in one of its own ways."""
        self.tell(how)
        self._running().wait(PATIENCE)
        self._process = None

    def tell(self, what: signal.Signals) -> None:
        """Sends it a signal."""
        self._running().send_signal(what)

    def freeze(self) -> None:
        """Makes it stand still: its connections stay, and nobody answers."""
        self._tell_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._tell_all(signal.SIGCONT)

    @property
    def unread(self) -> bool:
        """Whether something was sent to it that it has yet to read."""
        local, established = f":{self.port:04X}", "01"  # proc(5)
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[1].endswith(local) and row[3] == established and int(row[4][9:], 16) for row in rows)

    def restart(self, *, wait: bool = True, **settings: object) -> None:
        """Kills it if it runs, and starts it."""
        if self._process is not None:
            self.kill()
        self.start(wait=wait, **settings)

    def remove(self) -> None:
        """Ends it, and takes away what it kept."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.home)

    def _running(self) -> subprocess.Popen[Any]:
        assert self._process is not None, "it does not run"
        return self._process

    def _tell_all(self, what: signal.Signals) -> None:
        pid = self._running().pid
        for each in [pid, *children(pid)]:
            with suppress(ProcessLookupError):  # some children come and go
                os.kill(each, what)


class Redis(Daemon):
    """A Redis server; each write is in its file before it is answered, so that killing it loses none."""

    program = "redis-server"

    def arguments(self, settings: dict[str, object]) -> list[str]:
        own = {"bind": HOST, "port": self.port, "save": "", "appendonly": "yes", "appendfsync": "no"}
        return [
            part for name, value in (own | settings).items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]

    def serves(self, said: str) -> bool:
        return "Ready to accept connections" in said

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"


class Postgres(Daemon):
    """A PostgreSQL server whose one user needs no password."""

    program = "postgres"

    def __init__(self) -> None:
        super().__init__()
        if os.geteuid() == 0:
            self.identity = unprivileged("postgres", "nobody")
            os.chown(self.home, self.identity["user"], self.identity["group"])
        initdb = [self.tool("initdb"), "-D", "data", "-U", "postgres", "-A", "trust"]
        quickly = ["-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions", "--wal-segsize=1"]
        subprocess.run([*initdb, *quickly], cwd=self.home, stdout=subprocess.DEVNULL, check=True, **self.identity)

    @classmethod
    def found(cls) -> str | None:
        # Debian keeps each version in a directory of its own.
        places = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda place: float(place.parent.name))
        return shutil.which(cls.program, path=os.pathsep.join([*map(str, reversed(places)), PATH]))

    def arguments(self, settings: dict[str, object]) -> list[str]:
        own = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        small = {"shared_buffers": "1MB", "max_wal_senders": 0, "superuser_reserved_connections": 0}
        told = [part for name, value in (own | small | settings).items() for part in ("-c", f"{name}={value}")]
        return ["-D", "data", *told]

    def serves(self, said: str) -> bool:
        return "ready to accept connections" in said

    def promote(self) -> None:
        """Makes a standby the one that is written to."""
        subprocess.run(
            [self.tool("pg_ctl"), "promote", "-W", "-s", "-D", "data"], cwd=self.home, check=True, **self.identity
        )

    def tool(self, name: str) -> str:
        """The path of another program of this version."""
        return str(Path(str(self.found())).with_name(name))

    def remove(self) -> None:
        # In good order: what is killed leaves its shared memory to its successor.
        self.restart()
        self.stop(signal.SIGINT)
        super().remove()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"


DRIP = "drop\n" * 300
# /drip answers any method, its first half at once and the second after a second.
NGINX = """
daemon off;
{user}
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    server {{
        listen {host}:{port};
        location = /health {{ return {health}; }}
        location = /version {{ return 200 "{version}\\n"; }}
        location = /broken {{ return 500; }}
        location = /drip {{ root .; limit_rate 1k; error_page 405 =200 /drip; }}
    }}
}}
"""


class Nginx(Daemon):
    """An nginx with two workers."""

    program = "nginx"

    def __init__(self) -> None:
        super().__init__()
        (self.home / "drip").write_text(DRIP)

    def configure(self, version: int = 1, health: int = 200) -> None:
        """Writes its configuration, which it reads when it is started or reloaded."""
        user = "" if os.geteuid() else "user root;"  # its workers are to reach what we have written
        text = NGINX.format(user=user, host=HOST, port=self.port, version=version, health=health)
        (self.home / "nginx.conf").write_text(text)

    def arguments(self, settings: dict[str, object]) -> list[str]:
        self.configure(**settings)  # type: ignore[arg-type]  # these are its settings
        return ["-p", str(self.home), "-c", "nginx.conf", "-e", "stderr"]

    def serves(self, said: str) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port)):
            return True
        return False

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextmanager
def serving(kind: type[D]) -> Iterator[D]:
    """A server that is yet to be started; the test is skipped where it cannot be had."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("killing a server with all its children needs the /proc of Linux")
    if kind.found() is None:
        pytest.skip(f"{kind.program} is not installed: see tests/servers/install.sh")
    daemon = kind()
    try:
        yield daemon
    finally:
        daemon.remove()


def until(holds: Callable[[], object]) -> None:
    """Waits until something is so."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to no connection while its server is down."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = Random()
    while True:
        port = ports.randrange(lowest // 2, lowest)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


def unprivileged(*names: str) -> dict[str, Any]:
    """The first of these users that exists, as subprocess wants it."""
    import pwd  # where there is no such module, nobody is root

    for name in names:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": ()}
    raise LookupError(f"none of these users exists: {names}")


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs, or stands still; not if all that is left is its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
