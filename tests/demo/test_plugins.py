"""The demo's plugins part: what a host lacks is seen."""

from __future__ import annotations

import asyncio

import pytest

from demo import plugin_host
from demo.plugin_host import PluginHost, fetch
from demo.plugins import TROUBLES, Place, Trouble, plugins
from demo.process import ServerProcess
from demo.report import Report

LOOPS = tuple(trouble for trouble in TROUBLES if trouble.name.startswith("loop"))


def test_loops_that_stay_dead_are_not_recovered(capsys, monkeypatch):
    """The wait for their restart has an end."""

    async def lose_patience(place: Place) -> None:
        monkeypatch.setattr(plugin_host, "PATIENCE", 0.3)  # not before: a busy host may be configured later than that

    asyncio.run(plugins(Report(), "restart", (Trouble("impatience", "none", lose_patience), *LOOPS)))
    told = capsys.readouterr().out
    assert "NOT recovered: TimeoutError: not within 0.3 s: the loop runs again" in told
    assert "NOT recovered: TimeoutError: not within 0.3 s: its supervisor gives up" in told


def test_a_configuration_that_never_comes_is_not_waited_for_for_ever(monkeypatch):
    """The host says what it waited for."""
    monkeypatch.setattr(plugin_host, "PATIENCE", 0.1)

    async def main() -> None:
        with ServerProcess("control_plane") as plane:
            host = PluginHost(plane.address)
            async with host.supervisor:
                await host.until_version(1)

    with pytest.raises(TimeoutError, match=r"not within 0\.1 s: version 1 in force"):
        asyncio.run(main())


def test_the_control_plane_has_nothing_until_it_is_told():
    """After 503s, as many as were ordered, the configuration comes."""
    statuses = []
    with ServerProcess("control_plane") as plane:
        for order in ("503 0", "503 1", 'configuration {"version": 1}'):
            plane.order(order)
            try:
                statuses.append(fetch(plane.address))
            except Exception as error:
                statuses.append(str(error))
        counters = plane.order("503 0")
    assert ["status 503", "status 503", {"version": 1}] == statuses
    assert {"answered": 1, "unspent": 0} == counters
