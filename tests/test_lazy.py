"""Names that are loaded on first use."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from resilient.lazy import lazy_names


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with two lazy names: what a module defines, and a module."""
    made = ModuleType("lazy_package")
    monkeypatch.setitem(sys.modules, "lazy_package", made)
    homes = {"Action": "resilient.core.action", "backoff": "resilient.core.backoff:"}
    made.__getattr__, made.__dir__ = lazy_names("lazy_package", homes)  # type: ignore[method-assign]
    return made


def test_a_name_is_loaded_once(package: ModuleType) -> None:
    """It is an attribute from then on."""
    from resilient.core.action import Action

    assert "Action" not in vars(package)
    assert Action is package.Action is vars(package)["Action"]


def test_a_colon_means_the_module(package: ModuleType) -> None:
    """As for ``resilient.backoff``."""
    from resilient.core import backoff

    assert backoff is package.backoff


def test_other_names_are_missing(package: ModuleType) -> None:
    """As in any module; those that there are get listed."""
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'nothing'"):
        _ = package.nothing
    assert {"Action", "backoff"} <= set(dir(package))
