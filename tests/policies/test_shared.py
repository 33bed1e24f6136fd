"""State by name: one for all who ask, read together, set back."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from threads import together

from resilient import (
    AdaptiveLimiter,
    AdaptiveRate,
    AdaptiveThrottle,
    CircuitBreaker,
    CircuitOpen,
    RetryBudget,
    snapshot,
)
from resilient.policies.shared import PROCESS, Home, ProcessHome, Snapshot, Stateful

S = TypeVar("S")


@pytest.fixture
def home() -> ProcessHome:
    """Another home than the process, which other tests share."""
    return ProcessHome()


def fail(policy: CircuitBreaker) -> None:
    def fails() -> None:
        raise OSError

    with suppress(OSError, CircuitOpen):
        policy.call(fails)


def test_a_name_is_one_policy(home: ProcessHome) -> None:
    """The settings may be left out afterwards, or given again."""
    made = CircuitBreaker.named("db", home=home, window=20)
    assert made is CircuitBreaker.named("db", home=home)
    assert made is CircuitBreaker.named("db", home=home, window=20)
    assert ("db", 20, home) == (made.name, made.window, made.home)


def test_names_are_apart(home: ProcessHome) -> None:
    """By name, by kind of policy, and by home."""
    first = CircuitBreaker.named("db", home=home)
    fail(first)
    others = [CircuitBreaker.named("api", home=home), CircuitBreaker.named("db", home=ProcessHome())]
    assert [1, 0, 0] == [policy.metrics().failures for policy in (first, *others)]
    assert isinstance(AdaptiveThrottle.named("db", home=home), AdaptiveThrottle)


def test_other_settings_are_refused(home: ProcessHome) -> None:
    """Who asks for something else must hear that it is there already."""
    CircuitBreaker.named("db", home=home, window=20)
    with pytest.raises(ValueError, match=r"named\('db'\) was first asked for as .*window=20.*, now as .*window=30"):
        CircuitBreaker.named("db", home=home, window=30)


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_name_is_a_text(name: Any) -> None:
    """And not empty."""
    with pytest.raises(ValueError, match="name must be a text that is not empty, got"):
        CircuitBreaker.named(name)


def test_the_process_is_the_usual_home() -> None:
    """One for all modules."""
    made = RetryBudget.named("test_shared")
    assert made is RetryBudget.named("test_shared", home=PROCESS)


@pytest.mark.parametrize(
    "make",
    [
        lambda home: CircuitBreaker(name="db", home=home),
        lambda home: AdaptiveLimiter(name="db", home=home),
        lambda home: AdaptiveThrottle(name="db", home=home),
        lambda home: AdaptiveRate(on=OSError, name="db", home=home),
    ],
)
def test_two_policies_may_share_a_state(make: Callable[[Home], Any], home: ProcessHome) -> None:
    """What one sees the other shows, and a reset is one for both."""
    first, second = make(home), make(home)
    for _ in range(3):
        first.call(int)
    assert first.metrics() == second.metrics() != make(ProcessHome()).metrics()
    second.reset()
    assert first.metrics() == make(ProcessHome()).metrics()


@pytest.mark.parametrize(
    "make",
    [
        lambda home: CircuitBreaker(name="db", home=home).with_(window=5),
        lambda home: AdaptiveLimiter(name="db", home=home).with_(initial=7),
        lambda home: AdaptiveThrottle(name="db", home=home).with_(k=3),
        lambda home: AdaptiveRate(on=OSError, name="db", home=home).with_(beta=0.5),
    ],
)
def test_a_copy_has_a_state_of_its_own(make: Callable[[Home], Any], home: ProcessHome) -> None:
    """Its settings are others; unless a home is given with them."""
    copy = make(home)
    assert copy.home is None
    assert copy.with_(home=home).home is home


def test_a_home_may_be_any_store() -> None:
    """It is asked once, and told how to make a fresh state."""
    asked: list[tuple[str, str]] = []

    class Store:
        def state(self, kind: str, name: str, make: Callable[[], S]) -> S:
            asked.append((kind, name))
            return make()

    store = Store()
    assert CircuitBreaker.named("db", home=store) is CircuitBreaker.named("db", home=store)
    assert [("CircuitBreaker", "db")] == asked


def test_a_home_may_forget(home: ProcessHome) -> None:
    """Who holds a policy keeps it; the next of that name begins anew, also with other settings."""
    held = CircuitBreaker.named("db", home=home)
    elsewhere = ProcessHome()
    other = CircuitBreaker.named("db", home=elsewhere)
    fail(held)
    home.forget()
    fresh = CircuitBreaker.named("db", home=home, window=7)
    assert (1, 0) == (held.metrics().failures, fresh.metrics().failures)
    assert other is CircuitBreaker.named("db", home=elsewhere)


def test_a_home_is_pickled_as_the_place_it_is() -> None:
    """The process is that of whoever reads it; any other home arrives empty."""
    assert PROCESS is pickle.loads(pickle.dumps(PROCESS))
    assert isinstance(pickle.loads(pickle.dumps(ProcessHome())), ProcessHome)


def test_threads_get_the_same_one(home: ProcessHome) -> None:
    """Whoever is first."""
    got: list[CircuitBreaker] = []
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait()
        got.append(CircuitBreaker.named("db", home=home, window=20))

    assert [] == together(8, work)
    assert (8, 1) == (len(got), len(set(map(id, got))))


def seen(name: str) -> list[Snapshot]:
    return [shot for shot in snapshot() if shot.name.startswith(name)]


def test_a_snapshot_shows_every_live_policy() -> None:
    """By kind and name, with the numbers that each gives of itself; equal ones are shown each."""
    policies: list[Any] = [
        RetryBudget(name="shot b"),
        CircuitBreaker(name="shot c"),
        CircuitBreaker(name="shot a"),
        CircuitBreaker(name="shot a"),
        AdaptiveLimiter(name="shot z"),
    ]
    expected = sorted(
        (Snapshot(policy.kind, policy.name, policy.metrics()) for policy in policies),
        key=lambda shot: (shot.kind, shot.name),
    )
    assert expected == seen("shot")


def test_nobody_lives_on_for_being_watched() -> None:
    """What nobody holds is not shown any more."""
    policy = CircuitBreaker(name="gone soon")
    assert 1 == len(seen("gone"))
    del policy
    gc.collect()
    assert [] == seen("gone")


@pytest.mark.parametrize("kind", [CircuitBreaker, RetryBudget])
def test_a_policy_that_is_being_made_is_not_shown(kind: Any) -> None:
    """It asks for its state while a snapshot is taken."""

    class Looking(ProcessHome):
        def state(self, kind: str, name: str, make: Callable[[], S]) -> S:
            assert [] == seen("unborn")
            return super().state(kind, name, make)

    policy = kind(name="unborn", home=Looking())
    assert [policy.metrics()] == [shot.metrics for shot in seen("unborn")]


def test_metrics_that_are_broken_are_heard_of() -> None:
    """Nothing is hidden."""

    @dataclass(frozen=True, slots=True, weakref_slot=True)
    class Broken(Stateful):
        name: str = "broken"
        home: Home | None = None
        kind: str = "Broken"

        def metrics(self) -> object:
            return self.name.metrics  # type: ignore[attr-defined]

    policy = Broken()
    policy.found_state("Broken", "broken", dict)
    with pytest.raises(AttributeError, match="metrics"):
        snapshot()


def test_policies_may_come_and_go_during_a_snapshot() -> None:
    """Also those whose metrics are being read, by this very thread."""

    @dataclass(frozen=True, slots=True, weakref_slot=True)
    class Restless(Stateful):
        name: str = "restless"
        home: Home | None = None
        kind: str = "Restless"

        def __post_init__(self) -> None:
            self.found_state("Restless", "restless", dict)

        def metrics(self) -> object:
            CircuitBreaker(name="restless too")
            return None

        def reset(self) -> None: ...

    policy = Restless()

    def work(n: int) -> None:
        for _ in range(200):
            if n % 2:
                CircuitBreaker(name="restless too")
            else:
                assert [policy.name] == [shot.name for shot in snapshot() if shot.kind == "Restless"]

    assert [] == together(4, work)


def test_a_home_keeps_states() -> None:
    """Whatever does not is refused by name."""
    with pytest.raises(TypeError, match="home must have a method state"):
        CircuitBreaker(home="redis")  # type: ignore[arg-type]
