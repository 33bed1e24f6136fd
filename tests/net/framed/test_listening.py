"""Sockets that listen: dead ones are replaced, live ones never."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from threads import together

from resilient.net.framed.listening import listen_tcp, listen_unix


def test_of_many_servers_one_gets_a_dead_socket(tmp_path: Path) -> None:
    """However close they start."""
    path = str(tmp_path / "s")
    for _ in range(20):
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
        won: list[socket.socket] = []
        raised = together(4, lambda n: won.append(listen_unix(path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert (1, [OSError] * 3) == (len(won), [type(error) for error in raised])
        won[0].close()
        os.unlink(path)


def test_a_file_stays(tmp_path: Path) -> None:
    """One that is no socket was put there by somebody."""
    path = tmp_path / "s"
    path.write_text("a file")
    with pytest.raises(FileExistsError, match="there is a file that is no socket"):
        listen_unix(str(path))
    assert "a file" == path.read_text()


def test_a_socket_whose_queue_is_full_is_alive(tmp_path: Path) -> None:
    """Whoever finds no room there finds nobody dead."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="somebody listens there"):
            listen_unix(path)


def test_a_port_is_taken_once() -> None:
    """The error is the system's."""
    with listen_tcp(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        with pytest.raises(OSError, match="in use"):
            listen_tcp(socket.AF_INET, listener.getsockname())
