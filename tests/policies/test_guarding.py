"""How a policy takes hold of what it decorates."""

import pytest

from resilient.drivers.wrap import Kind
from resilient.policies.guarding import check_kind, decorated


def numbers():  # type: ignore[no-untyped-def]
    yield 1


def plain() -> int:
    return 1


class Callme:
    def __call__(self) -> int:
        return 1


def test_functions_become_functions_and_objects_stay_objects() -> None:
    """The guard's wrapper itself, or a proxy that keeps the object's type."""
    assert 2 == decorated(plain, lambda call, kind: lambda: 2, policy="Retry", streams=False)()
    guarded = decorated(Callme(), lambda call, kind: lambda: 2, policy="Retry", streams=False)
    assert (2, True) == (guarded(), isinstance(guarded, Callme))


def test_descriptors_are_guarded_inside() -> None:
    """classmethod and staticmethod keep their kind."""
    made = decorated(staticmethod(plain), lambda call, kind: lambda: 2, policy="Retry", streams=False)
    assert (2, staticmethod) == (made.__func__(), type(made))


@pytest.mark.parametrize(
    ("call", "streams", "kind"),
    [
        (plain, False, Kind.SYNC),
        (numbers, True, Kind.GENERATOR),
        (len, False, Kind.EITHER),
        (len, True, Kind.GENERATOR),
    ],
)
def test_what_fits_has_a_kind(call: object, streams: bool, kind: Kind) -> None:
    """Generators where streams are wanted, all else where not; the undecidable is let through."""
    assert kind is check_kind(call, policy="Retry", streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize(("call", "streams"), [(numbers, False), (plain, True)])
def test_what_does_not_fit_is_refused(call: object, streams: bool) -> None:
    """Either way the error says what to do."""
    with pytest.raises(TypeError, match="streaming=True"):
        check_kind(call, policy="Retry", streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [Callme, 3])
def test_neither_classes_nor_values(target: object) -> None:
    """Both are refused with advice."""
    with pytest.raises(TypeError, match="Retry can"):
        decorated(target, lambda call, kind: call, policy="Retry", streams=False)
