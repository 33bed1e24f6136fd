"""What is hung on errors of others: notes and causes, which not every error takes.

An error may be a frozen dataclass, look its attributes up in a payload, or make them up. Nothing of ours may be stopped
by that: what an error does not take is left out.
"""

from __future__ import annotations

from contextlib import suppress

__all__ = ["MOST_NOTES", "cause", "note"]

MOST_NOTES = 16  # on one error: an object that is raised again and again must not grow for ever


def note(error: BaseException, text: str, *, once: bool = False) -> None:
    """Adds a note to an error, if the error takes it.

    Args:
        error: carries so many notes at the most.
        text: the note.
        once: whether it is left out where it stands already.
    """
    with suppress(Exception):
        notes = error.__notes__ if hasattr(error, "__notes__") else ()
        if len(notes) < MOST_NOTES and not (once and text in notes):
            error.add_note(text)


def cause(error: BaseException, of: BaseException | None) -> None:
    """Says what an error comes of, if the error takes it."""
    with suppress(Exception):
        error.__cause__ = of
