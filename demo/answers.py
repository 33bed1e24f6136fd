"""What the server answers, as values and errors."""

from __future__ import annotations

__all__ = ["OverloadedError", "SignedOutError", "TooBusyError", "value_of"]


class SignedOutError(Exception):
    """401: the token means nothing to the server."""


class TooBusyError(Exception):
    """429: the server says when to come back.

    Attributes:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"come back in {seconds:g} s")
        self.seconds = seconds


class OverloadedError(Exception):
    """503: not now."""


def value_of(answer: str) -> str:
    """The value that an answer carries.

    Raises:
        SignedOutError, TooBusyError, OverloadedError: it says why it carries none.
        ValueError: it is no answer at all.
    """
    match answer.split():
        case ["200", value]:
            return value
        case ["401"]:
            raise SignedOutError("sign in again")
        case ["429", seconds]:
            raise TooBusyError(float(seconds))
        case ["503"]:
            raise OverloadedError("not now")
        case _:
            raise ValueError(f"answer must begin with 200, 401, 429 or 503, got {answer!r}")
