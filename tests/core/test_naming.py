"""Classes recognised by dotted name."""

import sys
from types import ModuleType

import pytest

from resilient.core.naming import check_dotted_name, is_named


def defined(name: str, module: str, base: type[Exception] = Exception) -> type[Exception]:
    """A class as if some library had defined it."""
    return type(name, (base,), {"__module__": module})


FloodWait = defined("FloodWait", "lib.errors.exceptions.flood_420", defined("Flood", "lib.errors.rpc_error"))


@pytest.mark.parametrize(
    ("dotted", "named"),
    [
        ("lib.errors.exceptions.flood_420.FloodWait", True),
        ("lib.errors.FloodWait", True),
        ("lib.FloodWait", True),
        ("lib.errors.Flood", True),  # its base
        ("builtins.Exception", True),
        ("lib.errors.Other", False),
        ("other.FloodWait", False),
        ("lib.err.FloodWait", False),
    ],
)
def test_names_match_along_the_mro(dotted: str, named: bool) -> None:
    """A class answers to its own module, to the packages above it, and for its bases."""
    assert named is is_named(FloodWait, dotted)


def test_a_loaded_alias_counts() -> None:
    """``socket.timeout`` is ``TimeoutError`` once socket is loaded."""
    import socket

    assert socket.timeout is TimeoutError
    assert is_named(TimeoutError, "socket.timeout")
    assert not is_named(OSError, "socket.timeout")


def test_a_loaded_class_of_that_name_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the named module is loaded and has the name, only that class and its children match."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    mine, other = defined("Error", "shop.mine"), defined("Error", "shop.other")
    assert is_named(other, "shop.Error")
    module.__dict__["Error"] = mine
    assert (True, False) == (is_named(mine, "shop.Error"), is_named(other, "shop.Error"))


def test_a_class_without_a_module_has_no_dotted_name() -> None:
    """And does not break the matching of any."""
    homeless = defined("Homeless", None)  # type: ignore[arg-type]
    assert (False, True) == (is_named(homeless, "lib.Homeless"), is_named(homeless, "builtins.Exception"))


def test_nothing_is_imported() -> None:
    """Matching a name of an unloaded module loads nothing."""
    before = set(sys.modules)
    assert not is_named(ValueError, "no_such_module_at_all.Error")
    assert before == set(sys.modules)


@pytest.mark.parametrize("name", ["ConnectionError", "", ".", "a..b", "a.b c", "1a.b"])
def test_names_must_be_dotted(name: str) -> None:
    """A name without a module, or no name at all, is refused."""
    with pytest.raises(ValueError, match="on must name a module and a class"):
        check_dotted_name("on", name)


def test_good_name_passes() -> None:
    """A good one is itself."""
    assert "httpx.ConnectError" == check_dotted_name("on", "httpx.ConnectError")
