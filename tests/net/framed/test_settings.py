"""What everything framed shares."""

from __future__ import annotations

from typing import Any

import pytest
from loops import run

from resilient.core.addresses import TcpAddress, UnixAddress
from resilient.core.events import Entered, Event, Panic
from resilient.net.framed.settings import panics_only, read_addresses, refuse_trio


def test_only_panics_are_passed_on() -> None:
    """Not every call."""
    heard: list[Event] = []
    assert () == panics_only(())
    (hear,) = panics_only((heard.append,))
    panic = Panic("x", "call", ValueError())
    hear(Entered("x", 0.0, "Catch"))
    hear(panic)
    assert [panic] == heard


def test_trio_is_refused_where_it_runs() -> None:
    """Elsewhere nothing happens."""

    async def main() -> None:
        refuse_trio("it", "do otherwise")

    run("asyncio", main)
    with pytest.raises(RuntimeError, match=r"it runs on asyncio \(or uvloop\), not on trio: do otherwise"):
        run("trio", main)


HERE, THERE = TcpAddress("127.0.0.1", 1), UnixAddress("/there")


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("tcp://127.0.0.1:1", (HERE,)),
        (("127.0.0.1", 1), (HERE,)),
        (HERE, (HERE,)),
        (["tcp://127.0.0.1:1"], (HERE,)),
        (["unix:/there", ("127.0.0.1", 1)], (THERE, HERE)),
    ],
    ids=repr,
)
def test_one_address_or_a_list(given: Any, addresses: tuple[object, ...]) -> None:
    """In order; a pair is a host and a port."""
    assert addresses == read_addresses(given)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([], ValueError, r"address must be one, or a list of at least one, none named twice, got \[\]"),
        (["unix:/there", "unix:///there"], ValueError, "none named twice"),
        (["unix:/there", 3], TypeError, r"address\[1\] must be .*, got 3"),
        (["127.0.0.1", 1], ValueError, r"address\[0\] must be"),
        (("unix:/here", "unix:/there"), TypeError, "address must be"),
    ],
    ids=repr,
)
def test_what_are_no_addresses(given: Any, error: type[Exception], text: str) -> None:
    """Told by its place in the list."""
    with pytest.raises(error, match=text):
        read_addresses(given)
