"""Who hears events."""

import logging

import pytest
from threads import together

from resilient import Retry, backoff, events, listen
from resilient.observe.listeners import hearers, tell
from resilient.testing import Script

SUCCEEDED = events.Succeeded("send", 0.1, 2)
policy = Retry(on=OSError, backoff=backoff.constant(0))


def test_a_global_listener_hears_every_policy() -> None:
    """Until it is closed; closing twice is nothing."""
    heard: list[events.Event] = []
    with listen(heard.append) as subscription:
        policy.call(Script("fail", 7))
    subscription.close()
    policy.call(Script("fail", 7))
    assert ["AttemptFailed", "Waiting", "Succeeded"] == [type(event).__name__ for event in heard]


def test_a_policys_listener_hears_that_policy_only() -> None:
    """Per policy."""
    heard: list[events.Event] = []
    policy.with_(listeners=(heard.append,)).call(Script("fail", 7))
    policy.call(Script("fail", 7))
    assert 3 == len(heard)


def test_one_function_may_listen_twice() -> None:
    """Each subscription ends on its own."""
    heard: list[events.Event] = []
    one, other = listen(heard.append), listen(heard.append)
    tell(SUCCEEDED, hearers(()))
    one.close()
    tell(SUCCEEDED, hearers(()))
    other.close()
    tell(SUCCEEDED, hearers(()))
    assert 3 == len(heard)


def test_threads_may_subscribe_at_once() -> None:
    """No subscription is lost, and none stays."""
    before = hearers((), logging.CRITICAL)

    def work(n: int) -> None:
        for _ in range(300):
            with listen(print):
                pass

    assert [] == together(8, work)
    assert before == hearers((), logging.CRITICAL)


def test_a_listener_that_raises_hurts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The call goes on, the others hear, and the log says which listener failed."""
    heard: list[events.Event] = []

    def broken(event: events.Event) -> None:
        raise ValueError("broken")

    assert 7 == policy.with_(listeners=(broken, heard.append)).call(Script("fail", 7))
    assert 3 == len(heard)
    assert "broken at 0x" in caplog.text
    assert "ValueError: broken" in caplog.text


def test_nothing_is_built_for_nobody() -> None:
    """Without listeners, and with the log off, nobody hears."""
    logging.disable(logging.CRITICAL)
    try:
        assert () == hearers(())
        assert (print,) == hearers((print,))
    finally:
        logging.disable(logging.NOTSET)


def test_a_listener_must_be_a_function() -> None:
    """Anything else is refused where it is given."""
    with pytest.raises(TypeError, match="listener must be a function of an event, got 3"):
        listen(3)  # type: ignore[arg-type]
