"""The demo's messages: whole ones are known, anything else is torn."""

from __future__ import annotations

import pytest

from demo.messages import TORN, label_of, message


@pytest.mark.parametrize("number", [1, 2, 200, 12345])
def test_a_whole_message_is_known_by_its_label(number):
    """Whatever its length."""
    assert f"demo.1:{number}" == label_of(message("demo.1", number))


@pytest.mark.parametrize(
    "received",
    [
        b"",
        message("demo", 7)[:-1],
        message("demo", 7) + b".",
        message("demo", 7)[1:] + message("demo", 7)[:1],
        message("demo", 7) + message("demo", 8),
        b"\xff\xfe",
        b"demo:\xb2 ",
    ],
    ids=["empty", "cut short", "too long", "shifted", "two in one", "no text", "no number"],
)
def test_anything_else_is_torn(received):
    """No part of a message passes for one, nor do two."""
    assert TORN == label_of(received)
