"""The outbox: order, overflow, and where every frame is."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core.outbox import Outbox, OutboxPlan, Overflow, Refusal


def outbox(**settings: Any) -> Outbox[str]:
    """An outbox with these settings."""
    return Outbox(OutboxPlan(**settings))


def filled(frames: str, **settings: Any) -> Outbox[str]:
    """One in which these frames of ten bytes wait."""
    box = outbox(**settings)
    for frame in frames:
        box.offered(frame, 10)
    return box


def send(box: Outbox[str], limit: int = 1000) -> str:
    """Writes what waits, up to so many frames; asks for no more."""
    sent = ""
    while len(sent) < limit and (taken := box.next()) is not None:
        number, frame = taken
        assert box.written(number)
        sent += frame
    return sent


def fates(box: Outbox[str]) -> tuple[int, int, int, int]:
    """Delivered, pending, dropped, unconfirmed; which add up."""
    counts = box.counts()
    parts = (counts.delivered, counts.pending, counts.dropped, counts.unconfirmed)
    assert sum(parts) == counts.accepted
    return parts


# Order


def test_frames_go_out_in_order_with_numbers() -> None:
    """From 1 on."""
    box = outbox()
    assert [1, 2] == [box.offered("a", 10), box.offered("b", 10)]
    assert [(1, "a"), (2, "b"), None] == [box.next(), box.next(), box.next()]


def test_what_was_not_handed_over_whole_goes_out_again() -> None:
    """After a cut, ahead of what waits, so that order is kept and none is torn."""
    box = filled("abc")
    box.next()
    box.next()
    assert not box.drained
    box.cut()
    assert (30, "abc") == (box.counts().waiting_bytes, send(box))


def test_a_late_writer_is_told_not_to_go_on() -> None:
    """After the cut the frame is in nobody's hand: its last byte must not go out on the old connection."""
    box = filled("ab")
    box.next()
    box.cut()
    assert not box.written(1)
    box.next()
    assert [False, True] == [box.written(2), box.written(1)]


def test_drained_when_all_is_handed_over() -> None:
    """What is in the pipe is out of our hands."""
    box = filled("ab")
    assert not box.drained
    send(box)
    assert box.drained


# Overflow


def test_block_and_error_refuse() -> None:
    """A frame that is refused gets no number."""
    for overflow in ("block", "error"):
        box = filled("ab", overflow=overflow, max_items=2)
        assert (Refusal.FULL, 2, 1) == (box.offered("c", 10), box.counts().accepted, box.counts().refused)


def test_room_comes_back_as_frames_are_taken() -> None:
    """The driver lets those that wait for room try again."""
    box = filled("ab", max_items=2)
    assert not box.fits(10)
    box.next()
    assert (True, 3) == (box.fits(10), box.offered("c", 10))


def test_drop_oldest_makes_room() -> None:
    """As much as is needed, and says which."""
    box = filled("abc", overflow="drop_oldest", max_bytes=30)
    assert (4, [1, 2], []) == (box.offered("d", 20), box.take_dropped(), box.take_dropped())
    assert ("cd", (0, 2, 2, 0)) == (send(box), fates(box))


def test_drop_newest_drops_the_frame_itself() -> None:
    """It is numbered, so that it can be reported."""
    box = filled("ab", overflow="drop_newest", max_items=2)
    assert (3, [3]) == (box.offered("c", 10), box.take_dropped())
    assert ("ab", (0, 2, 1, 0)) == (send(box), fates(box))


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "error"])
def test_what_never_fits_is_refused(overflow: Overflow) -> None:
    """Nothing is dropped for its sake, and nobody waits."""
    box = filled("a", overflow=overflow, max_bytes=30)
    assert (Refusal.TOO_LARGE, []) == (box.offered("b", 31), box.take_dropped())


# In the pipe


def test_written_is_not_delivered() -> None:
    """Nor is it after any time."""
    box = filled("abc")
    send(box)
    assert ((0, 3, 0, 0), 3) == (fates(box), box.counts().in_pipe)


def test_a_cut_leaves_what_was_in_the_pipe_unconfirmed() -> None:
    """By number, in order; the rest waits for the next connection."""
    box = filled("abc")
    send(box, 2)
    box.cut()
    assert ([1, 2], []) == (box.take_unconfirmed(), box.take_unconfirmed())
    assert ((0, 1, 0, 2), "c") == (fates(box), send(box))


def test_a_confirmation_speaks_for_all_before() -> None:
    """Streams keep their order."""
    box = filled("abcd")
    send(box, 3)
    box.confirmed(2)
    box.confirmed(2)
    assert (2, 2, 0, 0) == fates(box)
    box.confirmed(9)
    assert (3, 1, 0, 0) == fates(box)


def test_what_would_not_fit_into_the_pipe_any_more_is_delivered() -> None:
    """Not before so many bytes were handed over after its end."""
    box = filled("abcd", pipe=20)
    send(box, 3)
    assert (0, 4, 0, 0) == fates(box)  # the third may still be on its way out of our hands
    box.next()
    assert (1, 3, 0, 0) == fates(box)
    box.written(4)
    assert (1, 3, 0, 0) == fates(box)
    assert box.next() is None
    assert (2, 2, 0, 0) == fates(box)


@pytest.mark.parametrize(("pipe", "delivered"), [(0, 3), (9, 2), (10, 2), (11, 1), (20, 1), (21, 0)])
def test_a_frame_is_delivered_when_the_pipe_is_too_short_for_it(pipe: int, delivered: int) -> None:
    """To the byte, counted from its end."""
    box = filled("abc", pipe=pipe)
    send(box)
    assert delivered == fates(box)[0]


def test_each_connection_has_a_pipe_of_its_own() -> None:
    """Bytes of the last one push nothing out of this one."""
    box = filled("abcd", pipe=20)
    send(box, 2)
    box.cut()
    send(box)
    assert ((0, 2, 0, 2), [1, 2]) == (fates(box), box.take_unconfirmed())


@pytest.mark.parametrize(("left", "delivered"), [(0, 3), (1, 2), (10, 2), (11, 1), (30, 0), (99, 0)])
def test_a_measured_pipe_holds_no_more_than_measured(left: int, delivered: int) -> None:
    """All but the last so many bytes have been taken; of a frame all of it must be."""
    box = filled("abc")
    send(box)
    box.flushed(left)
    assert delivered == fates(box)[0]


# Sent again


def test_resend_puts_the_pipe_back_to_wait() -> None:
    """In order, ahead of all others; nothing is unconfirmed."""
    box = filled("abcd", resend=True)
    send(box, 2)
    box.next()
    box.cut()
    assert ((0, 4, 0, 0), [], 2) == (fates(box), box.take_unconfirmed(), box.counts().resent)
    assert "abcd" == send(box)


def test_what_is_put_back_may_exceed_the_bounds() -> None:
    """It was accepted; new frames have to wait until it is gone."""
    box = filled("ab", resend=True, max_items=2)
    send(box)
    box.offered("c", 10)
    box.cut()
    assert ((0, 3, 0, 0), Refusal.FULL) == (fates(box), box.offered("d", 10))
    assert "abc" == send(box)


def test_a_frame_sent_once_is_never_called_dropped() -> None:
    """It may have arrived, whatever makes room for others."""
    box = filled("abc", resend=True, overflow="drop_oldest", max_items=3)
    send(box, 1)
    box.cut()
    box.offered("d", 10)
    box.offered("e", 10)
    assert ([1], [2], (0, 3, 1, 1)) == (box.take_unconfirmed(), box.take_dropped(), fates(box))


# The end


@pytest.mark.parametrize("resend", [False, True])
def test_abandoned_leaves_nothing_pending(resend: bool) -> None:
    """What was in the pipe is unconfirmed, what was not is dropped."""
    box = filled("abcd", resend=resend)
    send(box, 2)
    box.next()
    box.abandoned()
    assert ([1, 2], [3, 4]) == (box.take_unconfirmed(), box.take_dropped())
    assert ((0, 0, 2, 2), 0, True) == (fates(box), box.counts().waiting_bytes, box.drained)
    assert 0 == box.counts().resent


def test_frames_are_let_go_when_nobody_needs_them() -> None:
    """In the pipe only those that may be sent again are kept."""
    kept = {}
    for resend in (False, True):
        box = filled("a", resend=resend)
        send(box)
        kept[resend] = [item.frame for item in box._pipe]
    assert {False: [None], True: ["a"]} == kept


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        (
            {"overflow": "drop"},
            ValueError,
            "overflow must be one of block, drop_oldest, drop_newest, error, got 'drop'",
        ),
        ({"max_items": 0}, ValueError, "max_items must be >= 1, got 0"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes must be a whole number >= 1, got 1.5"),
        ({"pipe": -1}, ValueError, "pipe must be >= 0, got -1"),
        ({"resend": 1}, TypeError, "resend must be True or False, got 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], kind: type[Exception], text: str) -> None:
    """By name and value."""
    with pytest.raises(kind, match=text):
        OutboxPlan(**settings)


class Traffic(RuleBasedStateMachine):
    """Any interleaving of senders, one writer, cuts and whatever tells of arrivals; a peer that really reads."""

    @initialize(
        overflow=st.sampled_from(["block", "drop_oldest", "drop_newest", "error"]),
        max_items=st.integers(1, 5),
        resend=st.booleans(),
        pipe=st.integers(0, 60),
    )
    def begin(self, overflow: Overflow, max_items: int, resend: bool, pipe: int) -> None:
        self.box = Outbox[int](OutboxPlan(overflow, max_items, 100, pipe, resend))
        self.sizes: dict[int, int] = {}
        self.hand: list[int] = []
        self.pipe: list[int] = []  # handed over, not read
        self.read: list[int] = []  # on this connection
        self.arrived: list[int] = []
        self.lost: list[int] = []  # in a pipe when it was cut
        self.dropped: list[int] = []
        self.unconfirmed: list[int] = []

    def deliver(self, until: Callable[[], bool]) -> None:
        while self.pipe and not until():
            self.read.append(self.pipe.pop(0))
            self.arrived.append(self.read[-1])

    def piped(self) -> int:
        return sum(self.sizes[number] for number in self.pipe)

    @rule(size=st.integers(1, 110))
    def offers(self, size: int) -> None:
        number = len(self.sizes) + 1
        before = self.box.counts().waiting_bytes
        fits, answer = self.box.fits(size), self.box.offered(number, size)
        assert self.box.counts().waiting_bytes <= max(before, 100)
        if isinstance(answer, Refusal):
            assert not fits
            assert (size > 100) is (answer is Refusal.TOO_LARGE)
            return
        assert number == answer
        self.sizes[number] = size

    @rule()
    def takes(self) -> None:
        taken = self.box.next()
        if taken is not None:
            number, frame = taken
            assert number == frame
            assert number not in self.hand
            self.hand.append(number)

    @precondition(lambda self: self.hand)
    @rule()
    def writes(self) -> None:
        number = self.hand.pop(0)
        assert self.box.written(number)
        self.deliver(lambda: self.piped() + self.sizes[number] <= self.box.plan.pipe)  # it blocks until there is room
        self.pipe.append(number)
        self.deliver(lambda: self.piped() <= self.box.plan.pipe)

    @rule(frames=st.integers(1, 3))
    def peer_reads(self, frames: int) -> None:
        left = max(0, len(self.pipe) - frames)
        self.deliver(lambda: len(self.pipe) <= left)

    @precondition(lambda self: self.read)
    @rule()
    def peer_answers(self) -> None:
        self.box.confirmed(self.read[-1])

    @rule(more=st.integers(0, 20))
    def pipe_is_measured(self, more: int) -> None:
        self.box.flushed(self.piped() + more)

    @rule()
    def is_cut(self) -> None:
        self.box.cut()
        self.ends()

    @rule()
    def is_given_up(self) -> None:
        self.box.abandoned()
        self.ends()
        assert 0 == self.box.counts().pending

    def ends(self) -> None:
        self.lost += self.pipe
        self.hand, self.pipe, self.read = [], [], []

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.box.counts()
        assert counts.accepted == len(self.sizes)
        assert counts.accepted == counts.delivered + counts.pending + counts.dropped + counts.unconfirmed
        self.dropped += self.box.take_dropped()
        self.unconfirmed += self.box.take_unconfirmed()
        assert (counts.dropped, counts.unconfirmed) == (len(self.dropped), len(self.unconfirmed))
        assert counts.waiting_bytes >= 0

    @invariant()
    def reports_are_true(self) -> None:
        counts = self.box.counts()
        ended = set(self.dropped) | set(self.unconfirmed)
        assert len(ended) == len(self.dropped) + len(self.unconfirmed)  # none is reported twice
        assert not set(self.dropped) & set(self.arrived)
        assert counts.delivered <= len(set(self.arrived) - ended)  # what is called delivered is there
        if not self.box.plan.resend:
            assert self.arrived == sorted(set(self.arrived))  # in order, none twice
            assert set(self.lost) <= set(self.unconfirmed)  # no loss goes unreported


TestTraffic = Traffic.TestCase
