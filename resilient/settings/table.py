"""One table of a settings document: its entries, where it stands, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from resilient.core.setting_errors import SettingError

__all__ = ["Table", "choices", "quoted", "suggestion"]

T = TypeVar("T")


class Table:
    """A table that notes problems instead of raising them, so that all of a document's are told together.

    Args:
        source: the file's name, or "settings".
        place: dotted name of the table; empty for the document itself.
        entries: its keys and values.
        problems: where those of the whole document are gathered.
    """

    __slots__ = ("_prefix", "entries", "place", "problems", "source")

    def __init__(self, source: str, place: str, entries: Mapping[str, Any], problems: list[str]) -> None:
        self.source = source
        self.place = place
        self.entries = entries
        self.problems = problems
        self._prefix = f"{place}." if place else ""

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def note(self, problem: str) -> None:
        """Notes a problem whose text begins with the key."""
        self.problems.append(f"{self.source}: {self._prefix}{problem}")

    def note_error(self, error: Exception) -> None:
        """Notes what an error says, in the place of the setting that it is about."""
        if isinstance(error, SettingError) and not error.subject.startswith(error.setting):
            self.note(f"{error.setting}: {error}")
        else:
            self.note(str(error))

    def attempt(self, make: Callable[[], T]) -> T | None:
        """What a function makes; or None and a problem, if it raises a ``TypeError`` or ``ValueError``."""
        try:
            return make()
        except (TypeError, ValueError) as error:
            self.note_error(error)
            return None

    def read(self, key: str, convert: Callable[[Any], T]) -> T | None:
        """The value of a key that is there, converted; None and a problem if it cannot be."""
        return self.attempt(lambda: convert(self.entries[key]))

    def check_keys(self, known: Collection[str], advice: Mapping[str, str] | None = None) -> None:
        """Notes every key that is not known.

        Args:
            known: the keys that may be there.
            advice: for keys that people are likely to try: what to do instead.
        """
        for key in self.entries:
            if key in known:
                continue
            if advice and key in advice:
                self.note(f"{key} {advice[key]}")
            else:
                self.note(f"{key} is not a known key{suggestion(key, known)}")

    def inner(self, key: str) -> Table | None:
        """The table under a key; None and a problem if it is something else."""
        return self.within(quoted(key), self.entries[key])

    def within(self, place: str, entries: object) -> Table | None:
        """A table at a place in this one, such as ``rules[0]``; None and a problem if it is something else."""
        if isinstance(entries, Mapping):
            return Table(self.source, f"{self._prefix}{place}", entries, self.problems)
        self.note(f"{place} must be a table, got {entries!r}")
        return None


def quoted(key: object) -> str:
    """A key as TOML writes it within a dotted name."""
    text = str(key)
    bare = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return text if bare else f'"{text}"'


def suggestion(word: object, known: Collection[str]) -> str:
    """A clause that names the known word which was probably meant, or all of them."""
    close = get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(known))}"


def choices(word: object, known: Collection[str]) -> str:
    """A clause that names all known words, and first the one which was probably meant."""
    hint = suggestion(word, known) if known else "; there are none"
    return hint if "there are" in hint else f"{hint} There are: {', '.join(sorted(known))}"
