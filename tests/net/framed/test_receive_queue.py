"""What has come and nobody has taken, and who waits for it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from threads import together

from resilient.core.link import State
from resilient.errors import ManagerClosed, NotConnected
from resilient.net.connection.settings import ManagerStats
from resilient.net.framed.receive_queue import ReceiveQueue
from resilient.net.framed.settings import MOST_BYTES, MOST_FRAMES


class Client:
    """An queue, and what it asks and tells."""

    def __init__(self) -> None:
        self.state, self.resumed, self.woken = State.READY, 0, 0
        self.queue = ReceiveQueue("x", self.stats, self.resume)

    def stats(self) -> ManagerStats:
        return ManagerStats(self.state, 1, None, 0, 0, 0, 0, 0, 0, 0.0, OSError("gone"))

    def resume(self) -> None:
        self.resumed += 1

    def wake(self) -> None:
        self.woken += 1


def test_frames_are_taken_in_order() -> None:
    """Until none is there; whoever waits is woken by the next, or by the end."""
    client = Client()
    queue = client.queue
    assert queue.keep([b"a", b"b"])
    assert not queue.await_frame(client.wake)
    assert [b"a", b"b", None] == [queue.take() for _ in range(3)]
    assert queue.await_frame(client.wake)
    queue.keep([b"c"])
    queue.keep([b"d"])
    assert (1, 4, True) == (client.woken, queue.received, queue.fresh)
    queue.end()
    assert [b"c", b"d"] == [queue.take(), queue.take()]
    with pytest.raises(ManagerClosed, match="its client is closed"):
        queue.await_frame(client.wake)


def test_the_end_wakes_whoever_waits() -> None:
    """And nobody whom it forgot."""
    client, gone = Client(), Client()
    for waiter in (client, gone):
        assert client.queue.await_frame(waiter.wake)
    client.queue.forget(gone.wake)
    client.queue.forget(gone.wake)
    client.queue.end()
    assert (1, 0) == (client.woken, gone.woken)


def test_a_task_that_was_cancelled_is_passed_over() -> None:
    """The next one is woken all the same."""

    async def main() -> None:
        client = Client()
        cancelled, waits = (asyncio.get_running_loop().create_future() for _ in range(2))
        for future in (cancelled, waits):
            assert client.queue.await_frame(partial(future.set_result, None))
        cancelled.cancel()
        client.queue.keep([b"a"])
        await waits

    asyncio.run(main())


@pytest.mark.parametrize(
    ("frames", "taken"), [([b""] * MOST_FRAMES, MOST_FRAMES // 2), ([bytes(MOST_BYTES // 2)] * 2, 1)]
)
def test_it_is_bounded(frames: list[bytes], taken: int) -> None:
    """By frames and by bytes; with half of them gone reading goes on, which is said once."""
    client = Client()
    queue = client.queue
    assert not queue.keep(frames)
    for _ in range(taken - 1):
        queue.take()
    assert (True, 0) == (queue.full, client.resumed)
    queue.take()
    assert (False, 1) == (queue.full, client.resumed)
    queue.take()
    assert 1 == client.resumed


def test_what_comes_by_a_new_connection_waits_as_well() -> None:
    """While the old one's frames are many: memory is one."""
    queue = Client().queue
    assert not queue.keep([b""] * MOST_FRAMES)
    assert not queue.keep([b""])


def test_what_was_taken_counts_no_more() -> None:
    """Bytes add up only as long as they are there."""
    queue = Client().queue
    queue.keep([b"first"])
    for _ in range(10):
        assert queue.keep([bytes(MOST_BYTES // 3)])
        queue.take()


def test_giving_up_is_told_to_the_impatient() -> None:
    """With the last error, as long as it is so."""
    client = Client()
    queue = client.queue
    client.state, queue.hopeless = State.FAILED, True
    with pytest.raises(NotConnected, match="it gave up, until it is resumed") as caught:
        queue.await_frame(client.wake)
    assert isinstance(caught.value.__cause__, OSError)
    assert queue.await_frame(client.wake, patient=True)
    client.state = State.CONNECTING
    assert queue.await_frame(client.wake)
    queue.keep([b"a"])
    assert not queue.await_frame(client.wake)
    assert 2 == client.woken


def test_a_crowd_takes_each_frame_once() -> None:
    """However they hurry; reading goes on whenever it had paused."""
    client, taken = Client(), list[bytes]()
    queue = client.queue

    def work(n: int) -> None:
        if n == 0:
            for k in range(2000):
                queue.keep([b"%d" % k])
        else:
            while len(taken) < 2000:
                frame = queue.take()
                if frame is not None:
                    taken.append(frame)

    assert [] == together(4, work)
    assert sorted(b"%d" % k for k in range(2000)) == sorted(taken)
    assert not queue.full
