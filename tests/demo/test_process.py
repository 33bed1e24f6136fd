"""The server's process: it comes back where it was, and never stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

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
    with ServerProcess() as server:
        monkeypatch.setattr(process, "SILENCE", 0.1)  # not before: it may take its time to start
        (child,) = (each.pid for each in running() if each.parent == os.getpid())
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(RuntimeError, match="ended by itself"):
            server.order("counters")


def test_the_servers_end_with_whoever_started_them(tmp_path):
    """A demo that is killed leaves no server: the end of its standard input ends each."""
    modules = {"server": (), "loopback_server": (str(tmp_path / "record"),), "control_plane": ()}
    with ExitStack() as stack:
        servers = {
            module: stack.enter_context(
                subprocess.Popen(
                    (sys.executable, "-m", f"demo.{module}", "0", *arguments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment(),
                    cwd=tmp_path,
                )
            )
            for module, arguments in modules.items()
        }
        assert all(server.stdout.readline() for server in servers.values())
        for server in servers.values():
            server.stdin.close()
        ended = {module: server.wait(HANG) for module, server in servers.items()}
    assert dict.fromkeys(modules, 0) == ended
