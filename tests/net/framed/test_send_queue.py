"""What is to be sent by a framed client, and who waits for it to leave."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from threads import together

from resilient.core.outbox import Batch
from resilient.errors import ManagerClosed
from resilient.net.framed.send_queue import Post
from resilient.net.framed.settings import BATCH, FrameTooLarge, OutboxFull, OutboxPlan


class Sleeper:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def post(overflow: Any = "block", *, beats: bool = False, **bounds: int) -> Post:
    return Post(OutboxPlan(overflow, **bounds), 200_000, "x", beats=beats)


def batch(box: Post) -> Batch:
    found = box.next_batch()
    assert found is not None
    return found


def test_batches_are_frames_in_order() -> None:
    """Large frames come alone, for slices."""
    box = post()
    assert [1, 2, 3] == [box.offer(frame) for frame in (b"a", bytes(BATCH), b"b")]
    first, large = batch(box), batch(box)
    assert ([b"\1\0\0\0a"], 1, [2]) == (first.frames, box.last, large.numbers)
    assert (True, 2) == (box.written(large), box.last)
    last = batch(box)
    assert ([b"\1\0\0\0b"], None) == (last.frames, box.next_batch())
    box.confirmed(2)
    assert (2, 1) == (box.counts().delivered, box.counts().in_pipe)
    box.flushed()
    assert (3, 0) == (box.counts().delivered, box.last)


def test_a_batch_has_an_end() -> None:
    """The rest is for the next one."""
    box = post()
    for _ in range(10):
        box.offer(bytes(BATCH // 4))
    assert [1, 2, 3] == batch(box).numbers


def test_a_frame_is_passed_on_when_nothing_is_ahead_of_it() -> None:
    """Else it has to be offered."""
    box, sent = post(), list[bytes]()
    box.offer(b"a")
    assert box.pass_on(b"b", sent.append) is None
    batch(box)
    assert (2, [b"\1\0\0\0b"]) == (box.pass_on(b"b", sent.append), sent)
    assert box.pass_on(bytes(BATCH), sent.append) is None
    box.refuse("drains")
    assert (None, 1) == (box.pass_on(b"c", sent.append), len(sent))
    with pytest.raises(FrameTooLarge):
        box.pass_on(bytes(200_001), sent.append)


def test_waiting_for_room() -> None:
    """Whoever waits is woken when there is some, or none to come."""
    box, waiter = post(max_items=1), Sleeper()
    assert 1 == box.offer(b"a", waiter.wake)
    assert box.offer(b"b", waiter.wake) is None
    with pytest.raises(OutboxFull, match="frame not accepted by 'x': the outbox is full"):
        box.offer(b"b")
    batch(box)
    assert (1, 2) == (waiter.woken, box.offer(b"b", waiter.wake))
    assert box.offer(b"c", waiter.wake) is None
    box.refuse("drains")
    assert 2 == waiter.woken
    with pytest.raises(ManagerClosed, match="its client drains"):
        box.offer(b"c", waiter.wake)
    box.forget(waiter.wake)
    box.refuse("is closed")
    assert ("drains", 2) == (box.gone, waiter.woken)


def test_nobody_waits_in_vain() -> None:
    """By the other rules, and for what never fits, the answer is an error at once."""
    waiter = Sleeper()
    for box in (post("error", max_items=1), post(max_bytes=5)):
        box.offer(b"a")
        with pytest.raises(OutboxFull):
            box.offer(b"bc", waiter.wake)


def test_whoever_forgets_is_not_woken() -> None:
    """Others are."""
    box, gone, there = post(max_items=1), Sleeper(), Sleeper()
    box.offer(b"a")
    for waiter in (gone, there):
        assert box.offer(b"b", waiter.wake) is None
    box.forget(gone.wake)
    batch(box)
    assert (0, 1) == (gone.woken, there.woken)


def test_drainers_are_woken_behind_the_last_frame() -> None:
    """Or at the end."""
    box, waiter = post(), Sleeper()
    assert box.sent(waiter.wake)
    box.offer(bytes(BATCH))
    assert not box.sent(waiter.wake)
    large = batch(box)
    assert not box.sent(waiter.wake)
    box.written(large)
    assert (2, True) == (waiter.woken, box.drained)
    box.offer(b"b")
    assert not box.sent(waiter.wake)
    box.end()
    assert box.sent(waiter.wake)
    news = box.news()
    assert news is not None
    assert (3, (2,), (1,)) == (waiter.woken, news.dropped, news.unconfirmed)


def test_news_come_once() -> None:
    """What was dropped, and what was in a pipe that was cut."""
    box = post("drop_newest", max_items=1)
    assert box.news() is None
    box.offer(b"a")
    batch(box)
    box.cut()
    box.offer(b"b")
    box.offer(b"c")
    news = box.news()
    assert news is not None
    assert ((3,), (1,), None) == (news.dropped, news.unconfirmed, box.news())


def test_what_is_no_frame() -> None:
    """Too large, or the heartbeat; the lock is free afterwards."""
    box = post(beats=True)
    with pytest.raises(FrameTooLarge):
        box.offer(bytes(200_001))
    with pytest.raises(ValueError, match="must not be empty"):
        box.offer(b"")
    assert [] == together(1, lambda _: box.offer(b"a"))
    assert "x" == pickle.loads(pickle.dumps(OutboxFull("x"))).name


def test_errors_leave_the_lock_free() -> None:
    """Other threads go on."""
    box = post()
    box.refuse("is closed")
    for _ in range(2):
        assert [ManagerClosed] == [type(error) for error in together(1, lambda _: box.offer(b"a"))]
    box = post()
    tracing = sys.gettrace()

    def interrupt(frame: Any, event: str, arg: object) -> Any:
        if event == "call" and frame.f_code.co_name in ("offered", "passed"):
            raise KeyboardInterrupt
        return interrupt

    for call in (lambda: box.offer(b"a"), lambda: box.pass_on(b"a", print)):
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            sys.settrace(tracing)
    assert [] == together(1, lambda _: box.offer(b"a"))


def test_each_frame_of_a_crowd_has_a_number_of_its_own() -> None:
    """And all of them are in the outbox."""
    box, numbers = post(max_items=10_000), list[int | None]()

    def work(_: int) -> None:
        for _ in range(200):
            numbers.append(box.offer(b"a"))

    assert [] == together(6, work)
    assert list(range(1, 1201)) == sorted(number for number in numbers if number is not None)
    assert list(range(1, 1201)) == batch(box).numbers
