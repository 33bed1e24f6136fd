"""What has come and nobody has taken, and who waits for it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from threads import together

from resilient.core.link import State
from resilient.errors import ManagerClosed, NotConnected
from resilient.net.connection.settings import ManagerStats
from resilient.net.framed.receive_queue import Inbox
from resilient.net.framed.settings import MOST_BYTES, MOST_FRAMES


class Client:
    """An inbox, and what it asks and tells."""

    def __init__(self) -> None:
        self.state, self.resumed, self.woken = State.READY, 0, 0
        self.inbox = Inbox("x", self.stats, self.resume)

    def stats(self) -> ManagerStats:
        return ManagerStats(self.state, 1, None, 0, 0, 0, 0, 0, 0, 0.0, OSError("gone"))

    def resume(self) -> None:
        self.resumed += 1

    def wake(self) -> None:
        self.woken += 1


def test_frames_are_taken_in_order() -> None:
    """Until none is there; whoever waits is woken by the next, or by the end."""
    client = Client()
    inbox = client.inbox
    assert inbox.keep([b"a", b"b"])
    assert not inbox.await_frame(client.wake)
    assert [b"a", b"b", None] == [inbox.take() for _ in range(3)]
    assert inbox.await_frame(client.wake)
    inbox.keep([b"c"])
    inbox.keep([b"d"])
    assert (1, 4, True) == (client.woken, inbox.received, inbox.fresh)
    inbox.end()
    assert [b"c", b"d"] == [inbox.take(), inbox.take()]
    with pytest.raises(ManagerClosed, match="its client is closed"):
        inbox.await_frame(client.wake)


def test_the_end_wakes_whoever_waits() -> None:
    """And nobody whom it forgot."""
    client, gone = Client(), Client()
    for waiter in (client, gone):
        assert client.inbox.await_frame(waiter.wake)
    client.inbox.forget(gone.wake)
    client.inbox.forget(gone.wake)
    client.inbox.end()
    assert (1, 0) == (client.woken, gone.woken)


def test_a_task_that_was_cancelled_is_passed_over() -> None:
    """The next one is woken all the same."""

    async def main() -> None:
        client = Client()
        cancelled, waits = (asyncio.get_running_loop().create_future() for _ in range(2))
        for future in (cancelled, waits):
            assert client.inbox.await_frame(partial(future.set_result, None))
        cancelled.cancel()
        client.inbox.keep([b"a"])
        await waits

    asyncio.run(main())


@pytest.mark.parametrize(
    ("frames", "taken"), [([b""] * MOST_FRAMES, MOST_FRAMES // 2), ([bytes(MOST_BYTES // 2)] * 2, 1)]
)
def test_it_is_bounded(frames: list[bytes], taken: int) -> None:
    """By frames and by bytes; with half of them gone reading goes on, which is said once."""
    client = Client()
    inbox = client.inbox
    assert not inbox.keep(frames)
    for _ in range(taken - 1):
        inbox.take()
    assert (True, 0) == (inbox.full, client.resumed)
    inbox.take()
    assert (False, 1) == (inbox.full, client.resumed)
    inbox.take()
    assert 1 == client.resumed


def test_what_comes_by_a_new_connection_waits_as_well() -> None:
    """While the old one's frames are many: memory is one."""
    inbox = Client().inbox
    assert not inbox.keep([b""] * MOST_FRAMES)
    assert not inbox.keep([b""])


def test_what_was_taken_counts_no_more() -> None:
    """Bytes add up only as long as they are there."""
    inbox = Client().inbox
    inbox.keep([b"first"])
    for _ in range(10):
        assert inbox.keep([bytes(MOST_BYTES // 3)])
        inbox.take()


def test_giving_up_is_told_to_the_impatient() -> None:
    """With the last error, as long as it is so."""
    client = Client()
    inbox = client.inbox
    client.state, inbox.hopeless = State.FAILED, True
    with pytest.raises(NotConnected, match="it gave up, until it is resumed") as caught:
        inbox.await_frame(client.wake)
    assert isinstance(caught.value.__cause__, OSError)
    assert inbox.await_frame(client.wake, patient=True)
    client.state = State.CONNECTING
    assert inbox.await_frame(client.wake)
    inbox.keep([b"a"])
    assert not inbox.await_frame(client.wake)
    assert 2 == client.woken


def test_a_crowd_takes_each_frame_once() -> None:
    """However they hurry; reading goes on whenever it had paused."""
    client, taken = Client(), list[bytes]()
    inbox = client.inbox

    def work(n: int) -> None:
        if n == 0:
            for k in range(2000):
                inbox.keep([b"%d" % k])
        else:
            while len(taken) < 2000:
                frame = inbox.take()
                if frame is not None:
                    taken.append(frame)

    assert [] == together(4, work)
    assert sorted(b"%d" % k for k in range(2000)) == sorted(taken)
    assert not inbox.full
