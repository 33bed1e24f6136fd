"""The server's process: it comes back where it was, and never stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from demo import process
from demo.environment import environment
from demo.process import ServerProcess
from resilient.cli.processes import running

HANG = 180  # seconds: only a run that would never end takes so long


def test_the_server_comes_back_on_its_port():
    """A killed server is started again where its clients look for it, and has forgotten everything."""
    with ServerProcess() as server:
        port = server.port
        server.order("503 2")
        server.kill()
        server.ensure_ready()
        assert (port, {"connections": 0, "logins": 0, "unspent": 0}) == (server.port, server.order("counters"))


def test_no_server_is_left_behind():
    """Where the server was, nobody answers any more, even if the demo broke down."""
    with pytest.raises(ZeroDivisionError), ServerProcess() as server:
        socket.create_connection(server.address).close()
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_server_that_hangs_is_killed(monkeypatch):
    """Nobody waits for its answer for ever."""
    monkeypatch.setattr(process, "SILENCE", 0.5)
    with ServerProcess() as server:
        (child,) = (each.pid for each in running() if each.parent == os.getpid())
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(RuntimeError, match="ended by itself"):
            server.order("counters")


@pytest.mark.parametrize("module", ["server", "loopback_server", "control_plane"])
def test_the_server_ends_with_whoever_started_it(module, tmp_path):
    """A demo that is killed leaves no server: the end of its standard input ends it."""
    arguments = (str(tmp_path / "record"),) if module == "loopback_server" else ()
    server = subprocess.Popen(
        (sys.executable, "-m", f"demo.{module}", "0", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    with server:
        assert server.stdout is not None
        assert server.stdout.readline()
        server.communicate(timeout=HANG)
    assert server.returncode == 0
