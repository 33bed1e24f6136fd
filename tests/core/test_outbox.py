"""The outbox: order, overflow, and where every frame is."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core.outbox import CUTS, PARTS, Batch, Outbox, Refusal
from resilient.core.outbox_plan import OutboxPlan, Overflow

TEN = 10  # bytes of each frame here


def outbox(**settings: Any) -> Outbox:
    """An outbox with these settings."""
    return Outbox(OutboxPlan(**settings))


def frame(letter: str, size: int = TEN) -> bytes:
    return letter.encode() * size


def filled(letters: str, **settings: Any) -> Outbox:
    """One in which these frames of ten bytes wait."""
    box = outbox(**settings)
    for letter in letters:
        box.offered(frame(letter))
    return box


def took(box: Outbox, frames: int = 1000) -> Batch:
    """Takes so many frames of ten bytes."""
    batch = box.next_batch(frames * TEN)
    assert batch is not None
    return batch


def send(box: Outbox, frames: int = 1000, *, one_by_one: bool = False) -> str:
    """Writes what waits, up to so many frames."""
    sent = ""
    while len(sent) < frames and (batch := box.next_batch(1 if one_by_one else (frames - len(sent)) * TEN)) is not None:
        assert box.written(batch)
        sent += "".join(chr(frame[0]) for frame in batch.frames)
    return sent


def fates(box: Outbox) -> tuple[int, int, int, int]:
    """Delivered, pending, dropped, unconfirmed; which add up."""
    counts = box.counts()
    parts = (counts.delivered, counts.pending, counts.dropped, counts.unconfirmed)
    assert sum(parts) == counts.accepted
    return parts


# Order


def test_frames_go_out_in_order_with_numbers() -> None:
    """From 1 on."""
    box = outbox()
    assert [1, 2] == [box.offered(frame("a")), box.offered(frame("b"))]
    batch = took(box)
    assert ([1, 2], [frame("a"), frame("b")], 20) == (batch.numbers, batch.frames, batch.size)
    box.written(batch)
    assert box.next_batch(100) is None


@pytest.mark.parametrize(("limit", "numbers"), [(1, [1]), (10, [1]), (29, [1, 2]), (30, [1, 2, 3]), (99, [1, 2, 3])])
def test_a_batch_is_as_many_frames_as_fit(limit: int, numbers: list[int]) -> None:
    """And at least one."""
    box = filled("abc")
    batch = box.next_batch(limit)
    assert batch is not None
    assert (numbers, 10 * len(numbers)) == (batch.numbers, batch.size)
    assert 30 - batch.size == box.counts().waiting_bytes


def test_what_was_not_handed_over_whole_goes_out_again() -> None:
    """After a cut, ahead of what waits, so that order is kept and none is torn."""
    box = filled("abc")
    took(box, 2)
    assert (False, 3) == (box.drained, box.counts().pending)
    box.cut()
    assert (30, "abc") == (box.counts().waiting_bytes, send(box))


def test_a_late_writer_is_told_not_to_go_on() -> None:
    """After the cut the batch is in nobody's hand: its last byte must not go out on the old connection."""
    box = filled("ab")
    late = took(box, 1)
    box.cut()
    assert not box.written(late)
    again = took(box, 1)
    assert [False, True] == [box.written(late), box.written(again)]


def test_drained_when_all_is_handed_over() -> None:
    """What is in the pipe is out of our hands."""
    box = filled("ab")
    assert not box.drained
    send(box)
    assert box.drained


# Frames that the other side refuses


@pytest.mark.parametrize("resend", [False, True])
def test_a_frame_at_which_every_connection_is_cut_is_given_up(resend: bool) -> None:
    """After some cuts in a row with it in hand: the others are to be sent."""
    box = Outbox(OutboxPlan(resend=resend))
    for text in "gba":
        box.offered(frame(text))
    given_up = []
    for _ in range(CUTS):
        while (batch := box.next_batch(1)) is not None and batch.frames != [frame("b")]:
            box.written(batch)
        given_up.append(box.cut())
    assert [0] * (CUTS - 1) + [2] == given_up
    assert [2] == box.take_dropped()
    assert [frame("a")] == took(box).frames[-1:]


def test_a_frame_that_gets_through_in_the_end_is_not_given_up() -> None:
    """Nor do cuts count that came at other frames."""
    box = outbox()
    for text in "ab":
        box.offered(frame(text))
    for cut in range(3 * CUTS):
        if cut % (CUTS - 1) == 0:
            assert box.cut() == 0  # with nothing in hand
        assert box.next_batch(1) is not None
        assert box.cut() == 0
    assert [] == box.take_dropped()


# At once


def test_a_frame_is_passed_when_nothing_is_ahead_of_it() -> None:
    """It is accepted and written in one step, and counts like any other."""
    box = filled("a")
    assert box.passed(frame("b")) is None  # one waits
    batch = took(box)
    assert box.passed(frame("b")) is None  # one is in hand
    box.written(batch)
    assert (2, 2, True) == (box.passed(frame("b")), box.last, box.drained)
    assert ((0, 2, 0, 0), 2) == (fates(box), box.counts().in_pipe)
    box.cut()
    assert [1, 2] == box.take_unconfirmed()


def test_a_frame_that_is_too_large_is_not_passed() -> None:
    """It is refused, as when it is offered."""
    box = outbox(max_bytes=TEN)
    assert (None, Refusal.TOO_LARGE) == (box.passed(frame("b", 11)), box.offered(frame("b", 11)))
    assert 1 == box.passed(frame("b"))


def test_what_is_passed_pushes_others_out_of_the_pipe() -> None:
    """As what is written does."""
    box = outbox(pipe=20)
    assert [1, 2, 3, 4] == [box.passed(frame(letter)) for letter in "abcd"]
    assert (1, 3, 0, 0) == fates(box)


def test_a_frame_that_was_passed_is_sent_again_if_asked_for() -> None:
    """As all that was in the pipe."""
    box = filled("a", resend=True)
    send(box)
    box.passed(frame("b"))
    box.cut()
    assert "ab" == send(box)


# Overflow


def test_block_and_error_refuse() -> None:
    """A frame that is refused gets no number."""
    for overflow in ("block", "error"):
        box = filled("ab", overflow=overflow, max_items=2)
        assert (Refusal.FULL, 2, 1) == (box.offered(frame("c")), box.counts().accepted, box.counts().refused)


def test_room_comes_back_as_frames_are_taken() -> None:
    """The driver lets those that wait for room try again."""
    box = filled("ab", max_items=2)
    assert not box.fits(10)
    took(box, 1)
    assert (True, 3) == (box.fits(10), box.offered(frame("c")))


def test_drop_oldest_makes_room() -> None:
    """As much as is needed, and says which."""
    box = filled("abc", overflow="drop_oldest", max_bytes=30)
    assert (4, True) == (box.offered(frame("d", 20)), box.has_news)
    assert ([1, 2], [], False) == (box.take_dropped(), box.take_dropped(), box.has_news)
    assert ("cd", (0, 2, 2, 0)) == (send(box), fates(box))


def test_drop_newest_drops_the_frame_itself() -> None:
    """It is numbered, so that it can be reported."""
    box = filled("ab", overflow="drop_newest", max_items=2)
    assert (3, [3]) == (box.offered(frame("c")), box.take_dropped())
    assert ("ab", (0, 2, 1, 0)) == (send(box), fates(box))
    assert 4 == box.offered(frame("d"))
    assert [4] == took(box).numbers


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "error"])
def test_what_never_fits_is_refused(overflow: Overflow) -> None:
    """Nothing is dropped for its sake, and nobody waits."""
    box = filled("a", overflow=overflow, max_bytes=30)
    assert (Refusal.TOO_LARGE, []) == (box.offered(frame("b", 31)), box.take_dropped())


# In the pipe


def test_written_is_not_delivered() -> None:
    """Nor is it after any time."""
    box = filled("abc")
    assert 0 == box.last
    send(box)
    assert ((0, 3, 0, 0), 3, 3) == (fates(box), box.counts().in_pipe, box.last)


def test_a_cut_leaves_what_was_in_the_pipe_unconfirmed() -> None:
    """By number, in order; the rest waits for the next connection."""
    box = filled("abc")
    send(box, 2)
    box.cut()
    assert (True, 0) == (box.has_news, box.last)
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


def test_a_confirmation_may_end_within_a_stretch() -> None:
    """What follows it is unconfirmed if the pipe is cut, or sent again."""
    for resend, outcome in ((False, ((2, 0, 0, 1), [3])), (True, ((2, 1, 0, 0), []))):
        box = filled("abc", resend=resend)
        send(box)
        box.confirmed(2)
        box.cut()
        assert outcome == (fates(box), box.take_unconfirmed())
        assert ("c" if resend else "") == send(box)


def test_what_would_not_fit_into_the_pipe_any_more_is_delivered() -> None:
    """Not before so many bytes were handed over after its end."""
    box = filled("abcd", pipe=20)
    send(box, 3, one_by_one=True)
    assert (0, 4, 0, 0) == fates(box)  # the third may still be on its way out of our hands
    batch = took(box, 1)
    assert (0, 4, 0, 0) == fates(box)
    box.written(batch)
    assert (1, 3, 0, 0) == fates(box)


@pytest.mark.parametrize(("pipe", "delivered"), [(0, 3), (9, 2), (10, 2), (11, 1), (20, 1), (21, 0)])
def test_a_frame_is_delivered_when_the_pipe_is_too_short_for_it(pipe: int, delivered: int) -> None:
    """To the byte, counted from its end, in a pipe of few bytes."""
    box = filled("abcd", pipe=pipe)
    send(box, one_by_one=True)
    assert delivered == fates(box)[0]


def test_a_full_pipe_is_few_things_to_keep() -> None:
    """Small frames are counted together; each is delivered a part of the pipe late at most."""
    pipe = PARTS * 50
    box = outbox(pipe=pipe)
    for _ in range(2000):
        box.offered(frame("a"))
        send(box)
        counts = box.counts()
        assert len(box._pipe) <= PARTS + 2
        assert counts.accepted - pipe // TEN - 2 * 5 <= counts.delivered <= max(0, counts.accepted - pipe // TEN)


def test_each_connection_has_a_pipe_of_its_own() -> None:
    """Bytes of the last one push nothing out of this one."""
    box = filled("abcd", pipe=20)
    send(box, 2)
    box.cut()
    send(box)
    assert ((0, 2, 0, 2), [1, 2]) == (fates(box), box.take_unconfirmed())


def test_a_pipe_that_is_flushed_holds_nothing() -> None:
    """All that was handed over has been taken; what waits has not."""
    box = filled("abc")
    send(box, 2)
    box.flushed()
    assert ((2, 1, 0, 0), 0) == (fates(box), box.counts().in_pipe)


# Sent again


def test_resend_puts_the_pipe_back_to_wait() -> None:
    """In order, ahead of all others; nothing is unconfirmed."""
    for one_by_one in (False, True):
        box = filled("abcd", resend=True, pipe=0 if one_by_one else 2**20)
        send(box, 2)
        took(box, 1)
        box.cut()
        assert ((0, 4, 0, 0), [], 2) == (fates(box), box.take_unconfirmed(), box.counts().resent)
        assert "abcd" == send(box)


def test_what_is_put_back_may_exceed_the_bounds() -> None:
    """It was accepted; new frames have to wait until it is gone."""
    box = filled("ab", resend=True, max_items=2)
    send(box)
    box.offered(frame("c"))
    box.cut()
    assert ((0, 3, 0, 0), Refusal.FULL) == (fates(box), box.offered(frame("d")))
    assert "abc" == send(box)


def test_a_frame_sent_once_is_never_called_dropped() -> None:
    """It may have arrived, whatever makes room for others."""
    box = filled("abc", resend=True, overflow="drop_oldest", max_items=3)
    send(box, 1)
    box.cut()
    box.offered(frame("d"))
    box.offered(frame("e"))
    assert ([1], [2], (0, 3, 1, 1)) == (box.take_unconfirmed(), box.take_dropped(), fates(box))


# The end


@pytest.mark.parametrize("resend", [False, True])
def test_abandoned_leaves_nothing_pending(resend: bool) -> None:
    """What was in the pipe is unconfirmed, what was not is dropped."""
    box = filled("abcd", resend=resend)
    send(box, 2)
    took(box, 1)
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
        box.passed(frame("b"))
        kept[resend] = [stretch.frames for stretch in box._pipe]
    assert {False: [[]], True: [[frame("a"), frame("b")]]} == kept


class Traffic(RuleBasedStateMachine):
    """Any interleaving of senders, one writer, cuts and whatever tells of arrivals; a peer that really reads."""

    @initialize(
        overflow=st.sampled_from(["block", "drop_oldest", "drop_newest", "error"]),
        max_items=st.integers(1, 5),
        resend=st.booleans(),
        pipe=st.integers(0, 60) | st.just(PARTS * 60),
    )
    def begin(self, overflow: Overflow, max_items: int, resend: bool, pipe: int) -> None:
        self.box = Outbox(OutboxPlan(overflow, max_items, 100, pipe, resend))
        self.hand: Batch | None = None
        self.sizes: dict[int, int] = {}
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

    def hands_over(self, number: int) -> None:
        room = self.box.plan.pipe or 0
        self.deliver(lambda: self.piped() + self.sizes[number] <= room)  # it blocks until there is room
        self.pipe.append(number)
        self.deliver(lambda: self.piped() <= room)

    @rule(size=st.integers(1, 110))
    def offers(self, size: int) -> None:
        number = len(self.sizes) + 1
        before = self.box.counts().waiting_bytes
        fits, answer = self.box.fits(size), self.box.offered(bytes(size))
        assert self.box.counts().waiting_bytes <= max(before, 100)
        if isinstance(answer, Refusal):
            assert not fits
            assert (size > 100) is (answer is Refusal.TOO_LARGE)
            return
        assert number == answer
        self.sizes[number] = size

    @rule(size=st.integers(1, 110))
    def passes(self, size: int) -> None:
        drained, number = self.box.drained, self.box.passed(bytes(size))
        if number is not None:
            assert (True, len(self.sizes) + 1) == (drained and size <= 100, number)
            self.sizes[number] = size
            self.hands_over(number)

    @precondition(lambda self: self.hand is None)
    @rule(limit=st.integers(1, 120))
    def takes(self, limit: int) -> None:
        self.hand = batch = self.box.next_batch(limit)
        if batch is not None:
            assert [self.sizes[number] for number in batch.numbers] == [len(frame) for frame in batch.frames]
            assert batch.size == sum(map(len, batch.frames))
            assert batch.size <= limit or len(batch.frames) == 1

    @precondition(lambda self: self.hand is not None)
    @rule()
    def writes(self) -> None:
        assert self.hand is not None
        batch, self.hand = self.hand, None
        assert self.box.written(batch)
        for number in batch.numbers:
            self.hands_over(number)
        assert self.box.last == batch.numbers[-1]

    @rule(frames=st.integers(1, 3))
    def peer_reads(self, frames: int) -> None:
        left = max(0, len(self.pipe) - frames)
        self.deliver(lambda: len(self.pipe) <= left)

    @precondition(lambda self: self.read)
    @rule()
    def peer_answers(self) -> None:
        self.box.confirmed(self.read[-1])

    @precondition(lambda self: not self.pipe)
    @rule()
    def pipe_is_measured(self) -> None:
        self.box.flushed()

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
        self.hand, self.pipe, self.read = None, [], []

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.box.counts()
        assert counts.accepted == len(self.sizes)
        assert counts.accepted == counts.delivered + counts.pending + counts.dropped + counts.unconfirmed
        self.dropped += self.box.take_dropped()
        self.unconfirmed += self.box.take_unconfirmed()
        assert (counts.dropped, counts.unconfirmed) == (len(self.dropped), len(self.unconfirmed))
        assert counts.waiting_bytes >= 0
        assert self.box.has_news is False

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
