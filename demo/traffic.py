"""Messages through one framed client, and what became of each: by the client's numbers, and by the server's record."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import TypeAlias

from demo.evidence import times
from demo.messages import TORN, message
from demo.scene import Scene
from resilient import Event, events
from resilient.core.link import State
from resilient.net import FramedStats
from resilient.net.sync import FramedClient

__all__ = ["PATIENCE", "Made", "Traffic"]

PATIENCE = 10.0  # seconds after which what does not happen is given up
WHOSE = 0  # number of a message that nobody knows
BURST, PAUSE = 2, 0.001  # messages, and seconds between them: slow enough for a fault to strike in the midst

Made: TypeAlias = Callable[[Callable[[tuple[int, ...]], object], Callable[[Event], object]], FramedClient]
"""Makes a client with this ``on_unconfirmed`` and this listener."""


class Traffic:
    """Sends messages by a client, and finds out what became of them; a context manager, as the client is.

    Args:
        name: tells its messages from those of others.
        make: makes the client.
        record: where the server writes down what it receives.

    Attributes:
        client: the client.
        refused: dials that failed.
        losses: connections that ended by themselves.
    """

    def __init__(self, name: str, make: Made, record: Path) -> None:
        self.refused = self.losses = 0
        self._name = name
        self._record = record
        self._begin = record.stat().st_size
        self._senders: dict[int, Iterator[int]] = defaultdict(lambda: count(1))
        self._numbers: dict[str, int] = {}  # that the client gave, by label
        self._unconfirmed: set[int] = set()
        self._state = ""
        self._waited = 0.0
        self._changed = Condition()
        self.client = make(self._unconfirmed.update, self._hear)

    def __enter__(self) -> Traffic:
        self.client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()

    def send(self, messages: int, sender: int = 0) -> None:
        """Sends so many messages, one after the other; each thread is a sender of its own."""
        numbers, name = self._senders[sender], f"{self._name}.{sender}"
        for _ in range(messages):
            number = next(numbers)
            self._numbers[f"{name}:{number}"] = self.client.send(message(name, number), timeout=PATIENCE)
            if number % BURST == 0:
                time.sleep(PAUSE)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds.

        Raises:
            TimeoutError: it never did.
            ConnectionError: it never will, because the client has given up.
        """
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not holds():
                if self._state == State.FAILED:
                    raise ConnectionError(f"the client gave up, instead of: {what}")
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"not within {PATIENCE:g} s: {what}")

    def until_connected(self) -> None:
        """Waits until the client has a connection.

        Raises:
            TimeoutError, ConnectionError: it never had.
        """
        self.until(lambda: self._state == State.READY, "a connection")

    def until_given_up(self) -> None:
        """Waits until the client has.

        Raises:
            TimeoutError: it never did.
        """
        self.until(lambda: self._state == State.FAILED, "the client gives up")

    def judge(self, scene: Scene, *, cuts: bool, keeps: bool) -> None:
        """Lets the client send what waits, closes it, and compares its numbers with the record.

        Args:
            scene: what is told of it.
            cuts: whether a connection must have been lost.
            keeps: whether everything must have arrived, even what was in the pipe of a lost connection.
        """
        sent_all = self.client.drain(PATIENCE)
        stats = self.client.stats()
        received = self._received()
        gone = set(self._numbers.values()) - set(received)
        scene.say(
            f"{stats.accepted} accepted = {stats.delivered} delivered + {stats.unconfirmed} unconfirmed + "
            f"{stats.dropped} dropped + {stats.pending} pending; the server received {len(received)}"
        )
        scene.recovered = ", ".join(filter(None, (scene.recovered, times({"RECONNECT": stats.link.connects - 1}))))
        scene.attempts = stats.link.connects + stats.link.failures
        scene.waited = self._waited
        scene.lost, scene.unconfirmed = len(gone), stats.unconfirmed
        scene.expect(sent_all, "not everything was sent")
        scene.expect(stats.link.losses or not cuts, "no connection was lost")
        scene.expect(not (gone if keeps else gone - self._unconfirmed), f"{len(gone)} messages are lost")
        self._judge_numbers(scene, stats)
        self._judge_order(scene, received)

    def _judge_numbers(self, scene: Scene, stats: FramedStats) -> None:
        fates = stats.delivered + stats.unconfirmed + stats.dropped + stats.pending
        scene.expect(len(self._numbers) == stats.accepted == fates, "the numbers do not add up")
        scene.expect(len(self._unconfirmed) == stats.unconfirmed, "not every unconfirmed message was told")

    def _judge_order(self, scene: Scene, received: list[int]) -> None:
        torn = received.count(WHOSE)
        whole = [number for number in received if number != WHOSE]
        doubled = len(whole) - len(set(whole))
        swapped = sum(later < earlier for earlier, later in pairwise(whole))
        scene.expect(not torn, f"{torn} messages were torn")
        scene.expect(not doubled, f"{doubled} messages came twice")
        scene.expect(not swapped, f"the order was broken {swapped} times")

    def _received(self) -> list[int]:
        """The numbers of the messages in the record, in order; that of a torn one nobody knows."""
        with self._record.open(encoding="utf-8") as record:
            record.seek(self._begin)
            labels = record.read().split()
        return [self._numbers.get(label, WHOSE) for label in labels if label == TORN or label in self._numbers]

    def _hear(self, event: Event) -> None:
        with self._changed:
            match event:
                case events.LinkChanged(before=before, after=after):
                    self._state = after
                    self.refused += before == State.CONNECTING and after != State.READY
                    self.losses += before == State.READY and after in (State.BACKING_OFF, State.FAILED)
                case events.Waiting(seconds=seconds):
                    self._waited += seconds
                case _:
                    pass
            self._changed.notify_all()
