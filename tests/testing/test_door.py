"""Where a fault proxy listens: what it may take, and what it must leave alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient.testing import FaultProxy
from resilient.testing.faults import Down

HANG = 60  # seconds: only a guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="queues of Unix sockets, and descriptors, are Linux's")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """Where somebody listens whose queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(os.fspath(tmp_path / "p.sock"))
        listener.listen(0)
        waiting.setblocking(False)
        waiting.connect(listener.getsockname())
        yield listener.getsockname()


def test_a_listener_whose_queue_is_full_is_alive(path: str) -> None:
    """It is neither stolen nor waited for."""
    with pytest.raises(OSError, match=f"somebody listens on unix:{path}"), FaultProxy(listen=f"unix:{path}"):
        pass
    assert os.path.exists(path)


def test_who_came_while_it_was_down_is_not_robbed(tmp_path: Path) -> None:
    """Even if the file has the number of ours, which a file system may give to the next one."""
    path = tmp_path / "p.sock"
    with FaultProxy(listen=f"unix:{path}") as proxy, socket.socket(socket.AF_UNIX) as other:
        down = proxy.add(Down())
        path.unlink()
        other.bind(os.fspath(path))
        other.listen()
        with pytest.raises(OSError, match=f"somebody listens on unix:{path}"):
            down.remove()
        proxy.close()
        assert path.exists()


STARVED = """
    import logging, os, resource, socket
    from resilient.testing import FaultProxy
    from resilient.testing.faults import AcceptThenClose

    told = []
    logging.getLogger("asyncio").addFilter(told.append)
    with FaultProxy(faults=[AcceptThenClose()]) as proxy, socket.socket() as client, socket.socket() as later:
        client.connect(proxy.address)  # what it needs is loaded and open by now
        client.recv(1)
        while proxy.connections:
            pass
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        files = []
        try:
            while True:
                files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        later.connect(proxy.address)
        later.settimeout(0.3)
        try:
            print(later.recv(1))
        except TimeoutError:
            print("waits", len(told))
        for file in files:
            os.close(file)
        later.settimeout(60)
        print(later.recv(1))
"""


def test_without_a_descriptor_clients_wait() -> None:
    """In the queue, and in silence; they are accepted when there is one again."""
    command = [sys.executable, "-c", textwrap.dedent(STARVED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert ("waits 0\nb''\n", "") == (done.stdout, done.stderr)
