"""What an error was made of: HTTP libraries wrap the socket's error, and each in its own way.

httpx chains with ``raise ... from``, requests and urllib3 carry it in ``args`` or ``reason``, aiohttp and urllib do
both. Only these explicit links are followed. ``__context__`` is not: it also names whatever else was being handled
at the time, such as the failure of an earlier attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resilient.core.naming import is_named
from resilient.core.rule import Predicate

__all__ = ["CausedBy", "causes"]


@dataclass(frozen=True, slots=True)
class CausedBy:
    """A predicate: an error, or one that it was made of, is of this name.

    Args:
        name: dotted name of an error class.
        when: a predicate of that inner error, which must hold too.
    """

    name: str
    when: Predicate | None = None

    def __call__(self, error: BaseException) -> bool:
        return any(is_named(type(link), self.name) and (self.when is None or self.when(link)) for link in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error itself, then all that it was made of, each once."""
    pending, seen = [error], set[int]()
    while pending:
        link = pending.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            linked = (link.__cause__, getattr(link, "reason", None), *link.args)
            pending.extend(each for each in linked if isinstance(each, BaseException))
