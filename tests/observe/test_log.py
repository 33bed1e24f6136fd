"""Events as lines of a log."""

import logging
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from resilient import Action, AttemptTimeout, CircuitOpen, Verdict, events
from resilient.observe import log


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.AttemptFailed("send", 0.1, 1, Verdict(Action.RETRY), OSError()), logging.INFO),
        (events.Waiting("send", 0.1, 2, 1.0), logging.INFO),
        (events.Recovering("send", 0.1, Action.RECONNECT), logging.INFO),
        (events.Recovered("send", 0.1, Action.RECONNECT), logging.INFO),
        (events.RecoveryFailed("send", 0.1, Action.RECONNECT, None), logging.INFO),
        (events.RecoveryFailed("send", 0.1, Action.RECONNECT, OSError()), logging.WARNING),
        (events.Succeeded("send", 0.1, 2), logging.INFO),
        (events.GaveUp("send", 0.1, 1, "fail", "why", OSError()), logging.INFO),
        (events.GaveUp("send", 0.1, 3, "attempts", "why", OSError()), logging.WARNING),
        (events.Panic("plugin", "call", ValueError()), logging.ERROR),
        (events.Entered("db", 0.1, "Timeout"), logging.DEBUG),
        (events.CallRejected("db", 0.1, "CircuitBreaker", CircuitOpen("db", 4.0)), logging.DEBUG),
        (events.StateChanged("db", 0.1, "closed", "open"), logging.WARNING),
        (events.StateChanged("db", 0.1, "half_open", "closed"), logging.INFO),
        (events.StateChanged("db", 0.1, "closed", "forced_open"), logging.INFO),
        (events.TimedOut("each", 0.1, AttemptTimeout(5)), logging.INFO),
        (events.Hedged("read", 0.1, 2, 0.25), logging.INFO),
        (events.FellBack("read", 0.1, OSError()), logging.INFO),
        (events.LinkChanged("db", 0.1, "READY", "BACKING_OFF", "gone"), logging.WARNING),
        (events.LinkChanged("db", 0.1, "CONNECTING", "FAILED", "refused"), logging.WARNING),
        (events.LinkChanged("db", 0.1, "CONNECTING", "BACKING_OFF"), logging.INFO),
    ],
)
def test_each_event_is_one_line_at_its_level(event: events.Event, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """On the logger ``resilient``."""
    with caplog.at_level(logging.DEBUG, "resilient"):
        log.write(event)
    (record,) = caplog.records
    assert ("resilient", level, str(event)) == (record.name, record.levelno, record.getMessage())


def test_a_panic_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Who reads it must find where it blew up."""
    try:
        raise ValueError("boom")
    except ValueError as error:
        log.write(events.Panic("plugin", "call", error))
    assert 'raise ValueError("boom")' in caplog.text


def test_levels_are_those_of_the_logging_module() -> None:
    """Written as numbers, because logging may not be loaded."""
    assert [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR] == [
        log.DEBUG,
        log.INFO,
        log.WARNING,
        log.ERROR,
    ]


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)


SETUP = """
import resilient
from resilient.testing import Script
from resilient.observe import log
from resilient.observe.listeners import tell
policy = resilient.Retry(on=OSError, attempts=2, backoff=resilient.backoff.constant(0), name="send")
"""


def test_an_unconfigured_program_is_silent() -> None:
    """Not even the last resort handler prints."""
    assert "" == program(f"import logging{SETUP}policy.execute(Script('fail'))").stderr


def test_a_program_without_logging_does_not_load_it() -> None:
    """Nobody can have configured it."""
    text = (
        f"{SETUP}import sys\n"
        "for name in list(sys.modules):\n    if name.partition('.')[0] == 'logging': del sys.modules[name]\n"
        "policy.execute(Script('fail'))\nlog.write(None)\nlog.report(print, ValueError())\n"
        "assert 'logging' not in sys.modules"
    )
    assert "" == program(text).stderr


def test_a_configured_program_gets_its_lines() -> None:
    """One a event, from INFO on."""
    text = f"import logging; logging.basicConfig(level='INFO'){SETUP}policy.execute(Script('fail', 7))"
    assert [
        "INFO:resilient:send: attempt 1 failed with ConnectionError: call 1 fails, as the script says: RETRY",
        "INFO:resilient:send: waiting 0 s before attempt 2",
    ] == program(text).stderr.splitlines()[:2]


def test_a_module_that_is_being_imported_is_not_used_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread: it has no loggers before its end."""
    unfinished = ModuleType("logging")
    unfinished.__spec__ = SimpleNamespace(_initializing=True)  # type: ignore[assignment]  # as importlib has it
    monkeypatch.setitem(sys.modules, "logging", unfinished)
    assert log.Log().find() is None


def test_a_setting_that_will_disappoint_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Where logging is in use at all."""
    log.caution("so it is")
    assert [("resilient", logging.WARNING, "so it is")] == caplog.record_tuples


def test_a_caution_without_logging_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported for its sake."""
    monkeypatch.setattr(log.LOG, "logger", None)
    monkeypatch.delitem(sys.modules, "logging")
    log.caution("unheard")
    assert "logging" not in sys.modules
