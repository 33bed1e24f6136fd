"""The loopback message client: a server that is down, killed, cut off or silent, and what becomes of the messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

from demo.process import ServerProcess
from demo.report import Report
from demo.scene import Scene
from demo.traffic import PATIENCE, Traffic
from resilient import Event, load
from resilient.net import OutboxPlan
from resilient.net.sync import FramedClient
from resilient.testing import FaultProxy
from resilient.testing.faults import Down, LimitData, Stall

__all__ = ["TROUBLES", "framed_client", "loopback"]

# The client's own keys, its times 20 times shorter than they usually are.
KEYS = {"reconnect_interval_ms": 50, "reconnect_backoff_ms": 100}
RETRIES = 5  # as usual
PATIENT = 200  # where it is not about giving up: a server may take longer to start than the usual 5 last
CONNECT_TIMEOUT = 2.0  # seconds
HEARTBEAT = 0.1  # seconds
MISSES = 3
LATE = 2.0  # seconds by which a busy machine may notice something later than it should
ROOM = 5000  # messages: more than are sent in one trouble, so that nobody has to wait for a client that gave up
LIMIT = 60  # kB: some hundred messages
THREADS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where the client meets its faults.

    Attributes:
        server: receives the messages.
        proxy: is on the way.
        traffic: sends them.
        scene: what is told of it.
    """

    server: ServerProcess
    proxy: FaultProxy
    traffic: Traffic
    scene: Scene

    def down(self) -> None:
        """Kills the server; connections are refused from now on."""
        self.server.kill()
        self.proxy.add(Down())

    def up(self) -> None:
        """Starts it again."""
        self.server.ensure_ready()
        self.proxy.clear()


def offline(place: Place) -> None:
    """Messages for a server that is not there yet."""
    place.traffic.send(200)
    place.traffic.until(lambda: place.traffic.refused >= 2, "2 dials are refused")
    place.up()
    place.scene.recovered = "kept, and sent in order"


def killed(place: Place) -> None:
    """A server that dies while it receives."""
    place.traffic.send(400)
    place.down()
    place.traffic.send(300)
    place.up()
    place.traffic.send(300)


def resets(place: Place) -> None:
    """A connection that is reset again and again."""
    with place.proxy.add(LimitData(LIMIT * 1000, reset=True), "up"):
        place.traffic.send(2400)


def silence(place: Place) -> None:
    """A connection through which nothing comes any more."""
    traffic = place.traffic
    traffic.send(100)
    losses, begun = traffic.losses, time.monotonic()
    with place.proxy.add(Stall()):
        traffic.send(100)
        traffic.until(lambda: traffic.losses > losses, "the silence is noticed")
        noticed = time.monotonic() - begun
        place.proxy.cut()  # what it held must not arrive after what is sent by the next connection
    place.scene.recovered = f"noticed after {noticed:.2f} s"
    place.scene.expect(noticed <= MISSES * HEARTBEAT + LATE, f"noticed only after {noticed:.2f} s")
    traffic.send(100)


def gives_up(place: Place) -> None:
    """A server that stays away for longer than the client tries."""
    traffic = place.traffic
    traffic.send(100)
    place.down()
    traffic.send(100)
    traffic.until_given_up()
    place.scene.expect(traffic.refused == RETRIES, f"it gave up after {traffic.refused} dials, not after {RETRIES}")
    place.up()
    traffic.client.resume()
    place.scene.recovered = f"resume() after {traffic.refused} refused dials"


def threads(place: Place) -> None:
    """Threads that send at once, by a connection that is reset meanwhile."""
    halfway = Barrier(THREADS)

    def send(sender: int) -> None:
        place.traffic.send(150, sender)
        if halfway.wait(PATIENCE) == 0:  # for one of them
            place.proxy.cut()
        place.traffic.send(150, sender)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(send, range(THREADS)):
            pass


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls the client.

    Attributes:
        name: what it is.
        injected: how it is made.
        befall: makes it, while the client sends.
        up: whether the server is there at first.
        retries: dials that may fail in a row before the client gives up.
        keeps: whether everything must arrive, even what was in the pipe of a lost connection.
    """

    name: str
    injected: str
    befall: Callable[[Place], None]
    up: bool = True
    retries: int = PATIENT
    keeps: bool = False


TROUBLES = (
    Trouble("server is down", "refused, 200 sent", offline, up=False, keeps=True),
    Trouble("server is killed", "SIGKILL among 1000 sent", killed),
    Trouble("resets", f"after each {LIMIT} kB, 2400 sent", resets),
    Trouble("silence", "all held back, 100 sent", silence),
    Trouble("server stays away", f"SIGKILL, {RETRIES} dials refused", gives_up, retries=RETRIES),
    Trouble(f"reset of {THREADS} threads", f"1 among {300 * THREADS} sent", threads),
)


def loopback(report: Report, without: str | None = None, troubles: Iterable[Trouble] = TROUBLES) -> None:
    """Troubles, each met by a framed client with the settings of the loopback message client.

    Args:
        report: what is told of it.
        without: "reconnect" or "heartbeat", which the client shall not have.
        troubles: which, in order.
    """
    with TemporaryDirectory(prefix="resilient-demo-") as directory:
        record = Path(directory, "record")
        record.touch()
        with ServerProcess("loopback_server", str(record)) as server, FaultProxy(server.address) as proxy:
            for trouble in troubles:
                make = partial(framed_client, proxy.url, trouble.retries, without)
                with Scene(report, "loopback", trouble.name, trouble.injected) as scene:
                    place = Place(server, proxy, Traffic(trouble.befall.__name__, make, record), scene)
                    meet(trouble, place)


def meet(trouble: Trouble, place: Place) -> None:
    """One trouble, from its beginning to the judgement."""
    if trouble.up:
        place.up()
    else:
        place.down()
    with place.traffic as traffic:
        if trouble.up:
            traffic.until_connected()
        trouble.befall(place)
        traffic.judge(place.scene, cuts=trouble.up, keeps=trouble.keeps)


def framed_client(
    url: str,
    retries: int,
    without: str | None,
    on_unconfirmed: Callable[[tuple[int, ...]], object],
    listener: Callable[[Event], object],
) -> FramedClient:
    """A client with the loopback message client's keys."""
    keys = KEYS | {"max_reconnect_attempts": retries, "enable_auto_reconnect": without != "reconnect"}
    schedule = load({"policies": {"loopback": keys}}).retries["loopback"]
    return FramedClient(
        url,
        attempts=schedule.attempts,
        backoff=schedule.backoff,
        stable_after=0,  # a mere connect is a success to this client
        heartbeat=None if without == "heartbeat" else HEARTBEAT,
        misses=MISSES,
        connect_timeout=CONNECT_TIMEOUT,
        outbox=OutboxPlan(max_items=ROOM),
        on_unconfirmed=on_unconfirmed,
        listeners=(listener,),
        name="loopback",
    )
