"""The demo's loopback part: what a client lacks is seen, and what the server's record says is believed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from demo import traffic
from demo.loopback import TROUBLES, Place, Trouble, framed_client, loopback, silence
from demo.messages import TORN
from demo.process import ServerProcess
from demo.report import Report
from demo.scene import Scene
from demo.traffic import Traffic


def told_without_reconnect(trouble: Trouble) -> str:
    told = StringIO()
    loopback(Report(Console(file=told)), "reconnect", (trouble,))
    return told.getvalue()


def test_a_client_that_does_not_reconnect_recovers_from_nothing():
    """Every row says so."""
    with ThreadPoolExecutor(len(TROUBLES)) as pool:  # at once: there is more to wait for than to compute
        told = list(pool.map(told_without_reconnect, TROUBLES))
    assert [1] * len(TROUBLES) == [text.count("NOT recovered") for text in told], told


def test_without_heartbeats_silence_is_not_noticed(capsys, monkeypatch):
    """The wait for it has an end."""

    def befall(place: Place) -> None:
        monkeypatch.setattr(traffic, "PATIENCE", 0.5)  # not before: a busy machine may take longer to connect
        silence(place)

    (trouble,) = (trouble for trouble in TROUBLES if trouble.befall is silence)
    loopback(Report(), "heartbeat", (replace(trouble, befall=befall),))
    assert "NOT recovered: TimeoutError: not within 0.5 s: the silence is noticed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (lambda labels: labels, ""),
        (lambda labels: labels[:-1], "1 messages are lost"),
        (lambda labels: [*labels, labels[-1]], "1 messages came twice"),
        (lambda labels: [labels[1], labels[0], *labels[2:]], "the order was broken 1 times"),
        (lambda labels: [*labels, TORN], "1 messages were torn"),
        (lambda labels: [*labels, "somebody.0:1"], ""),
    ],
    ids=["as it was", "lost", "doubled", "swapped", "torn", "of somebody else"],
)
def test_the_server_s_record_decides(tamper, complaint, tmp_path, capsys):
    """Whatever the client believes."""
    record = tmp_path / "record"
    record.touch()
    with ServerProcess("loopback_server", str(record)) as server:
        make = partial(framed_client, "tcp://{}:{}".format(*server.address), 5, None)
        with Scene(Report(), "test", "test", "a lie") as scene, Traffic("test", make, record) as sending:
            sending.send(5)
            labels = recorded(record, 5)
            record.write_text("".join(f"{label}\n" for label in tamper(labels)))
            sending.judge(scene, cuts=False, keeps=True)
    told = capsys.readouterr().out
    assert complaint == (told.partition("NOT recovered: ")[2].strip())


def test_a_fault_that_never_happened_is_no_recovery(tmp_path, capsys):
    """Where a connection should have been lost, one must have been."""
    record = tmp_path / "record"
    record.touch()
    with ServerProcess("loopback_server", str(record)) as server:
        make = partial(framed_client, "tcp://{}:{}".format(*server.address), 5, None)
        with Scene(Report(), "test", "test", "nothing") as scene, Traffic("test", make, record) as sending:
            sending.send(5)
            sending.judge(scene, cuts=True, keeps=True)
    assert "NOT recovered: no connection was lost" in capsys.readouterr().out


def recorded(record: Path, messages: int) -> list[str]:
    """The labels in the record, as soon as there are so many."""
    end = time.monotonic() + 20
    while len(labels := record.read_text().splitlines()) < messages:
        assert time.monotonic() < end
        time.sleep(0.001)
    return labels
