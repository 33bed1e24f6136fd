"""The locals of frames that run."""

import gc
import sys
import weakref

from resilient.drivers.stack import locals_of


def test_locals_are_read_by_name() -> None:
    """A name that is not bound reads as None."""

    def look() -> list[object]:
        return locals_of(sys._getframe(1), "number", "nothing")

    number = 7
    assert [number, None] == look()


def test_a_frame_keeps_nothing_of_what_was_read() -> None:
    """An object ends with the last local that holds it, though the frame runs on."""

    class Local:
        pass

    def look() -> object:
        (found,) = locals_of(sys._getframe(1), "local")
        return found

    local = Local()
    watched = weakref.ref(local)
    assert look() is local
    gc.disable()
    try:
        del local
        assert watched() is None
    finally:
        gc.enable()
