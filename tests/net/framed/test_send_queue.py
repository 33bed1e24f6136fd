"""What is to be sent by a framed client, and who waits for it to leave."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from threads import together

from resilient.core.outbox import Batch
from resilient.errors import ManagerClosed
from resilient.net.framed.send_queue import SendQueue
from resilient.net.framed.settings import BATCH, FrameTooLarge, OutboxFull, OutboxPlan


class Sleeper:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def send_queue(overflow: Any = "block", *, beats: bool = False, **bounds: int) -> SendQueue:
    return SendQueue(OutboxPlan(overflow, **bounds), 200_000, "x", beats=beats)


def batch(queue: SendQueue) -> Batch:
    found = queue.next_batch()
    assert found is not None
    return found


def test_batches_are_frames_in_order() -> None:
    """Large frames come alone, for slices."""
    queue = send_queue()
    assert [1, 2, 3] == [queue.offer(frame) for frame in (b"a", bytes(BATCH), b"b")]
    first, large = batch(queue), batch(queue)
    assert ([b"\1\0\0\0a"], 1, [2]) == (first.frames, queue.last, large.numbers)
    assert (True, 2) == (queue.written(large), queue.last)
    last = batch(queue)
    assert ([b"\1\0\0\0b"], None) == (last.frames, queue.next_batch())
    queue.confirmed(2)
    assert (2, 1) == (queue.counts().delivered, queue.counts().in_pipe)
    queue.flushed()
    assert (3, 0) == (queue.counts().delivered, queue.last)


def test_a_batch_has_an_end() -> None:
    """The rest is for the next one."""
    queue = send_queue()
    for _ in range(10):
        queue.offer(bytes(BATCH // 4))
    assert [1, 2, 3] == batch(queue).numbers


def test_a_frame_is_passed_on_when_nothing_is_ahead_of_it() -> None:
    """Else it has to be offered."""
    queue, sent = send_queue(), list[bytes]()
    queue.offer(b"a")
    assert queue.pass_on(b"b", sent.append) is None
    batch(queue)
    assert (2, [b"\1\0\0\0b"]) == (queue.pass_on(b"b", sent.append), sent)
    assert queue.pass_on(bytes(BATCH), sent.append) is None
    queue.refuse("drains")
    assert (None, 1) == (queue.pass_on(b"c", sent.append), len(sent))
    with pytest.raises(FrameTooLarge):
        queue.pass_on(bytes(200_001), sent.append)


def test_waiting_for_room() -> None:
    """Whoever waits is woken when there is some, or none to come."""
    queue, waiter = send_queue(max_items=1), Sleeper()
    assert 1 == queue.offer(b"a", waiter.wake)
    assert queue.offer(b"b", waiter.wake) is None
    with pytest.raises(OutboxFull, match="frame not accepted by 'x': the outbox is full"):
        queue.offer(b"b")
    batch(queue)
    assert (1, 2) == (waiter.woken, queue.offer(b"b", waiter.wake))
    assert queue.offer(b"c", waiter.wake) is None
    queue.refuse("drains")
    assert 2 == waiter.woken
    with pytest.raises(ManagerClosed, match="its client drains"):
        queue.offer(b"c", waiter.wake)
    queue.forget(waiter.wake)
    queue.refuse("is closed")
    assert ("drains", 2) == (queue.gone, waiter.woken)


def test_nobody_waits_in_vain() -> None:
    """By the other rules, and for what never fits, the answer is an error at once."""
    waiter = Sleeper()
    for queue in (send_queue("error", max_items=1), send_queue(max_bytes=5)):
        queue.offer(b"a")
        with pytest.raises(OutboxFull):
            queue.offer(b"bc", waiter.wake)


def test_whoever_forgets_is_not_woken() -> None:
    """Others are."""
    queue, gone, there = send_queue(max_items=1), Sleeper(), Sleeper()
    queue.offer(b"a")
    for waiter in (gone, there):
        assert queue.offer(b"b", waiter.wake) is None
    queue.forget(gone.wake)
    batch(queue)
    assert (0, 1) == (gone.woken, there.woken)


def test_drainers_are_woken_behind_the_last_frame() -> None:
    """Or at the end."""
    queue, waiter = send_queue(), Sleeper()
    assert queue.sent(waiter.wake)
    queue.offer(bytes(BATCH))
    assert not queue.sent(waiter.wake)
    large = batch(queue)
    assert not queue.sent(waiter.wake)
    queue.written(large)
    assert (2, True) == (waiter.woken, queue.drained)
    queue.offer(b"b")
    assert not queue.sent(waiter.wake)
    queue.end()
    assert queue.sent(waiter.wake)
    news = queue.news()
    assert news is not None
    assert (3, (2,), (1,)) == (waiter.woken, news.dropped, news.unconfirmed)


def test_news_come_once() -> None:
    """What was dropped, and what was in a pipe that was cut."""
    queue = send_queue("drop_newest", max_items=1)
    assert queue.news() is None
    queue.offer(b"a")
    batch(queue)
    queue.cut()
    queue.offer(b"b")
    queue.offer(b"c")
    news = queue.news()
    assert news is not None
    assert ((3,), (1,), None) == (news.dropped, news.unconfirmed, queue.news())


def test_what_is_no_frame() -> None:
    """Too large, or the heartbeat; the lock is free afterwards."""
    queue = send_queue(beats=True)
    with pytest.raises(FrameTooLarge):
        queue.offer(bytes(200_001))
    with pytest.raises(ValueError, match="must not be empty"):
        queue.offer(b"")
    assert [] == together(1, lambda _: queue.offer(b"a"))
    assert "x" == pickle.loads(pickle.dumps(OutboxFull("x"))).name


def test_errors_leave_the_lock_free() -> None:
    """Other threads go on."""
    queue = send_queue()
    queue.refuse("is closed")
    for _ in range(2):
        assert [ManagerClosed] == [type(error) for error in together(1, lambda _: queue.offer(b"a"))]
    queue = send_queue()
    tracing = sys.gettrace()

    def interrupt(frame: Any, event: str, arg: object) -> Any:
        if event == "call" and frame.f_code.co_name in ("offered", "passed"):
            raise KeyboardInterrupt
        return interrupt

    for call in (lambda: queue.offer(b"a"), lambda: queue.pass_on(b"a", print)):
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            sys.settrace(tracing)
    assert [] == together(1, lambda _: queue.offer(b"a"))


def test_each_frame_of_a_crowd_has_a_number_of_its_own() -> None:
    """And all of them are in the outbox."""
    queue, numbers = send_queue(max_items=10_000), list[int | None]()

    def work(_: int) -> None:
        for _ in range(200):
            numbers.append(queue.offer(b"a"))

    assert [] == together(6, work)
    assert list(range(1, 1201)) == sorted(number for number in numbers if number is not None)
    assert list(range(1, 1201)) == batch(queue).numbers
