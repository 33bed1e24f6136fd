"""The post of a framed client: what waits in both directions, and who waits for it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from loops import run

from resilient.core.events import Entered, Event, Panic
from resilient.core.link import State
from resilient.errors import ManagerClosed, NotConnected
from resilient.net.framed import BATCH, FrameTooLarge, OutboxFull, OutboxPlan, Post, panics_only, refuse_trio
from resilient.net.manager_plan import ManagerStats


class Sleeper:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def link(state: State = State.READY, error: Exception | None = None) -> ManagerStats:
    return ManagerStats(state, 1, None, 0, 0, 0, 0, 0, 0, 0.0, error)


def post(overflow: Any = "block", *, beats: bool = False, state: State = State.READY, **bounds: int) -> Post:
    return Post(OutboxPlan(overflow, **bounds), 200_000, "x", beats=beats, link=lambda: link(state, OSError("gone")))


def test_batches_are_frames_in_order() -> None:
    """Behind a heartbeat, if one is due; large frames are for slices."""
    box = post()
    assert [1, 2, 3] == [box.offer(frame) for frame in (b"a", bytes(BATCH), b"b")]
    batch, large, last = box.next_batch(b"beat")
    assert (b"beat\x01\0\0\0a", 2, 1) == (batch, large and large[0], last)
    assert box.written(2)
    assert (b"\x01\0\0\0b", None, 3) == box.next_batch(b"")
    assert (b"", None, 0) == box.next_batch(b"")
    box.confirmed(2)
    assert (2, 1) == (box.stats().delivered, box.stats().in_pipe)
    box.flushed()
    assert 3 == box.stats().delivered


def test_a_batch_has_an_end() -> None:
    """The rest is for the next one."""
    box = post()
    for _ in range(10):
        box.offer(bytes(BATCH // 4))
    assert 4 == box.next_batch(b"")[2]


def test_waiting_for_room() -> None:
    """Whoever waits is woken when there is some, or none to come."""
    box, waiter = post(max_items=1), Sleeper()
    assert 1 == box.offer(b"a", waiter)
    assert box.offer(b"b", waiter) is None
    with pytest.raises(OutboxFull, match="frame not accepted by 'x': the outbox is full"):
        box.offer(b"b")
    box.next_batch(b"")
    assert (1, 2) == (waiter.woken, box.offer(b"b", waiter))
    assert box.offer(b"c", waiter) is None
    box.refuse("drains")
    assert 2 == waiter.woken
    with pytest.raises(ManagerClosed, match="its client drains"):
        box.offer(b"c")
    box.forget(waiter)
    box.refuse("is closed")
    assert ("drains", 2) == (box.gone, waiter.woken)


def test_drainers_are_woken_behind_the_last_frame() -> None:
    """Or at the end."""
    box, waiter = post(), Sleeper()
    assert box.sent(waiter)
    box.offer(b"a")
    assert not box.sent(waiter)
    box.next_batch(b"")
    assert (1, True) == (waiter.woken, box.drained)
    box.offer(b"b")
    box.end()
    assert box.sent(waiter)
    news = box.news()
    assert news is not None
    assert (2, (2,), (1,)) == (waiter.woken, news.dropped, news.unconfirmed)


def test_news_come_once() -> None:
    """What was dropped, and what was in a pipe that was cut."""
    box = post("drop_newest", max_items=1)
    assert box.has_news
    box.offer(b"a")
    box.next_batch(b"")
    box.cut()
    box.offer(b"b")
    box.offer(b"c")
    news = box.news()
    assert news is not None
    assert ((3,), (1,), None) == (news.dropped, news.unconfirmed, box.news())


def test_frames_are_taken_in_order() -> None:
    """Until none is there; whoever waits is woken by the next, or by the end."""
    box, waiter = post(), Sleeper()
    assert box.keep([b"a", b"b"])
    box.count(2)
    assert (True, False) == (box.busy, box.await_frame(waiter))
    assert [b"a", b"b", None] == [box.take() for _ in range(3)]
    assert box.await_frame(waiter)
    box.keep([b"c"])
    box.keep([b"d"])
    assert (1, 2, 2) == (waiter.woken, box.stats().received, box.stats().unread)
    box.end()
    assert [b"c", b"d"] == [box.take(), box.take()]
    with pytest.raises(ManagerClosed, match="its client is closed"):
        box.await_frame(waiter)


def test_the_inbox_is_bounded() -> None:
    """By frames and by bytes."""
    box = post()
    assert not box.keep([b""] * 1000)
    assert not box.room
    for _ in range(500):
        box.take()
    assert box.room
    assert not box.keep([bytes(2**20)])
    assert not box.room


def test_giving_up_is_told_to_the_impatient() -> None:
    """With the last error."""
    box, waiter = post(state=State.FAILED), Sleeper()
    with pytest.raises(NotConnected, match="it gave up, until it is resumed") as caught:
        box.await_frame(waiter)
    assert isinstance(caught.value.__cause__, OSError)
    assert box.await_frame(waiter, patient=True)


def test_what_is_no_frame() -> None:
    """Too large, or the heartbeat."""
    with pytest.raises(FrameTooLarge):
        post().offer(bytes(200_001))
    with pytest.raises(ValueError, match="must not be empty"):
        post(beats=True).offer(b"")
    assert "x" == pickle.loads(pickle.dumps(OutboxFull("x"))).name


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
