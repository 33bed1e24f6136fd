"""The settings of managers: one signature, and what type checkers are told of it."""

from __future__ import annotations

import inspect

from resilient.net import ConnectionManager
from resilient.net.connection.base import BaseConnectionManager
from resilient.net.connection.settings import ManagerSettings
from resilient.net.sync import ConnectionManager as ThreadManager


def test_both_kinds_take_the_same_settings() -> None:
    """And show them, with their defaults."""
    assert (
        inspect.signature(BaseConnectionManager)
        == inspect.signature(ConnectionManager)
        == inspect.signature(ThreadManager)
    )


def test_type_checkers_are_told_of_all_settings() -> None:
    """Each has the same name and type as in the signature."""
    settings = dict(inspect.signature(BaseConnectionManager).parameters)
    del settings["connect"]
    told = {name: kind.__forward_arg__ for name, kind in ManagerSettings.__annotations__.items()}
    assert {name: setting.annotation for name, setting in settings.items()} == told | {"on": "object"}
    assert {name for name, setting in settings.items() if setting.default is setting.empty} == {"on"}
    assert "Required[object]" == told["on"]


def test_every_setting_is_documented() -> None:
    """Where it is written."""
    documented = inspect.getdoc(BaseConnectionManager.__init__)
    assert documented is not None
    assert [] == [
        name for name in inspect.signature(BaseConnectionManager).parameters if f"\n    {name}: " not in documented
    ]
