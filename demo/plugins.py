"""The plugin host's troubles: its control plane, its configuration, its loops and its plugins fail."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import count
from threading import Thread

from demo.evidence import Evidence, times
from demo.panics import quiet_threads
from demo.plugin_host import PluginHost
from demo.process import ServerProcess
from demo.report import Report
from demo.scene import Scene
from resilient import backoff, catch, events, listen, panic_hooks
from resilient.net import Supervisor

__all__ = ["TROUBLES", "plugins"]

RESTARTS = backoff.constant(0.05)
DEATHS = 2
FATAL = 3  # restarts of a loop that dies at every start, until it is given up


@dataclass(frozen=True, slots=True)
class Place:
    """Where the host meets its faults.

    Attributes:
        plane: its control plane.
        host: the host.
        scene: what is told of it.
        restarts: whether loops that die are started again.
    """

    plane: ServerProcess
    host: PluginHost
    scene: Scene
    restarts: bool

    def configure(self, version: int, beats: int = 5) -> None:
        """Gives the control plane a new configuration."""
        self.plane.order(f"configuration {json.dumps({'version': version, 'beats': beats})}")

    async def restart(self) -> None:
        """Starts the control plane again."""
        await asyncio.to_thread(self.plane.ensure_ready)

    async def succeeded_by(self, version: int, failures: int) -> None:
        """Waits for this configuration, and judges what went before it.

        Args:
            version: the new one.
            failures: fetches that must have failed.
        """
        before = self.host.version
        await self.host.until_version(version)
        seen = Evidence(self.host.heard)
        scene = self.scene
        scene.waited, scene.attempts = seen.waited, seen.failures + 1
        scene.recovered = f"{seen.recovered_by()}; version {before} kept until {version}"
        scene.expect(seen.failures >= failures, f"{seen.failures} fetches failed, not {failures}")
        scene.expect(self.host.in_force == {before}, f"in force meanwhile: {sorted(self.host.in_force)}")


async def unavailable(place: Place) -> None:
    """A control plane that has no answer for a while."""
    version = place.host.version + 1
    place.plane.order("503 3")
    place.configure(version)
    await place.succeeded_by(version, failures=3)


async def killed(place: Place) -> None:
    """A control plane that is gone for a while, and comes back with another configuration."""
    version = place.host.version + 1
    place.plane.kill()
    await place.host.until(lambda: Evidence(place.host.heard).failures >= 2, "2 fetches fail")
    await place.restart()
    place.configure(version)
    await place.succeeded_by(version, failures=2)


async def blows_up(place: Place) -> None:
    """A configuration that cannot be applied, and a better one after it."""
    host, before = place.host, place.host.version
    place.configure(before + 1, beats=0)
    await host.until(lambda: host.poller.rejected > 0, "a configuration is rejected")
    kept = host.version
    place.configure(before + 2)
    await host.until_version(before + 2)
    panics = panics_of(host)
    place.scene.recovered = f"caught; version {kept} kept until {before + 2}"
    place.scene.expect(kept == before, f"{kept} was in force, not {before}")
    place.scene.expect(set(panics) == {"configuration: apply"}, f"panics: {times(panics)}")
    place.scene.expect(before + 1 not in host.applied, "it was applied")


async def loop_dies(place: Place) -> None:
    """A background loop that dies twice."""
    host, starts = place.host, count(1)
    lives = asyncio.Event()

    async def beat() -> None:
        if next(starts) <= DEATHS:
            raise OSError("the line is down")
        lives.set()
        host.changed()

    host.supervisor.add("beat", beat, backoff=RESTARTS, temporary=not place.restarts)
    await host.until(lives.is_set, "the loop runs again")
    panics = panics_of(host)
    place.scene.recovered = times({"RESTART": host.supervisor.stats().restarts["beat"]})
    place.scene.expect(panics == {"beat": DEATHS}, f"panics: {times(panics)}")


async def loop_keeps_dying(place: Place) -> None:
    """A background loop that dies at every start: its supervisor gives up, and whoever supervises that goes on."""
    host = place.host
    plugins = Supervisor(name="plugins", listeners=(host.hear,))

    async def index() -> None:
        raise OSError("the disk is gone")

    plugins.add("index", index, backoff=RESTARTS, intensity=(FATAL, 60), temporary=not place.restarts)
    host.supervisor.add("plugins", plugins.run, temporary=True)
    await host.until(lambda: "plugins" in panics_of(host), "its supervisor gives up")
    panics = panics_of(host)
    place.scene.recovered = f"{times({'RESTART': FATAL})}, then escalated"
    place.scene.expect(panics == {"index": FATAL + 1, "plugins": 1}, f"panics: {times(panics)}")
    place.scene.expect("configuration" in host.supervisor.stats().running, "the host's own loop ended, too")


async def plugin_panics(place: Place) -> None:
    """Plugins that blow up: when they are called, blocking and async, and in a thread of their own."""

    def blow_up() -> int:
        raise ZeroDivisionError("a plugin's own mistake")

    async def blow_up_later() -> int:
        return blow_up()

    with listen(place.host.hear):
        results = [
            catch.call("resize", blow_up),
            catch.call("resize", blow_up),
            await catch.call("find", blow_up_later),
        ]
        thread = Thread(target=blow_up, name="watch")
        thread.start()
        thread.join()
    panics = panics_of(place.host)
    place.scene.recovered = f"caught: {times(panics)}"
    place.scene.expect(panics == {"resize": 2, "find": 1, "watch": 1}, f"panics: {times(panics)}")
    place.scene.expect(results == [None] * 3, f"results: {results}")


def panics_of(host: PluginHost) -> Counter[str]:
    """What blew up, by its name."""
    return Counter(event.name for event in host.heard if isinstance(event, events.Panic))


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls the host.

    Attributes:
        name: what goes wrong.
        injected: how it is made to.
        befall: makes it, and judges what the host made of it.
    """

    name: str
    injected: str
    befall: Callable[[Place], Awaitable[None]]


TROUBLES = (
    Trouble("control plane fails", "503 to 3 requests", unavailable),
    Trouble("control plane dies", "SIGKILL, 2 fetches refused", killed),
    Trouble("bad configuration", "0 beats a second", blows_up),
    Trouble("loop dies", f"raises, {DEATHS} times", loop_dies),
    Trouble("loop keeps dying", "raises at every start", loop_keeps_dying),
    Trouble("plugins panic", "3 calls and a thread raise", plugin_panics),
)


async def plugins(report: Report, without: str | None = None, troubles: Iterable[Trouble] = TROUBLES) -> None:
    """Troubles, all met by one plugin host.

    Args:
        report: what is told of it.
        without: "restart": loops that die stay dead.
        troubles: which, in order.
    """
    with ServerProcess("control_plane") as plane, quiet_threads(), panic_hooks():
        host = PluginHost(plane.address)
        async with host.supervisor:
            for trouble in troubles:
                with Scene(report, "plugin host", trouble.name, trouble.injected) as scene:
                    await meet(trouble, Place(plane, host, scene, without != "restart"))


async def meet(trouble: Trouble, place: Place) -> None:
    """One trouble, for a host that has a configuration."""
    await place.restart()
    if not place.host.version:
        place.configure(1)
        await place.host.until_version(1)
    place.host.forget()
    await trouble.befall(place)
