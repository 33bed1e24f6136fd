"""``retry_after``: every form of hint, every place it may be in, and all that is none."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilient
from resilient import Action, Classifier, Retry, Rule, retry_after
from resilient.testing import FakeClock, Script

NOON = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)  # a Thursday
IN_90_SECONDS = {
    "IMF-fixdate": "Thu, 29 Feb 2024 12:01:30 GMT",
    "RFC 850": "Thursday, 29-Feb-24 12:01:30 GMT",
    "asctime": "Thu Feb 29 12:01:30 2024",
}


class Headed:
    """Anything with headers: a response, or an error."""

    def __init__(self, headers: object) -> None:
        self.headers = headers


class Broken:
    """An object whose every attribute raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class BrokenMapping(Mapping[str, str]):
    """A mapping that raises when it is looked through."""

    def __getitem__(self, key: str) -> str:
        raise RuntimeError(key)

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


def test_public_name_is_the_function_of_this_module() -> None:
    """``resilient.retry_after`` is there without importing its module by hand."""
    from resilient.presets.server_hints import retry_after as here

    assert here is resilient.retry_after


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("  30\t", 30.0),
        (b"120", 120.0),
        (b" 30 ", 30.0),
        (5, 5.0),
        (2.5, 2.5),
        (0, 0.0),
        ("9999999999", 9999999999.0),
    ],
)
def test_seconds(source: object, expected: float) -> None:
    """Seconds are read from text, bytes and numbers."""
    hint = retry_after(source)

    assert expected == hint
    assert float is type(hint)


@pytest.mark.parametrize(
    "source",
    [
        None,
        "",
        "   ",
        b"",
        "soon",
        "-1",
        "+5",
        "1e3",
        "1_000",
        "0x10",
        "5s",
        "5, 10",
        ".5",
        "5.",
        "nan",
        "inf",
        "Infinity",
        "٣٠",
        "²",
        "9" * 11,
        "9" * 400,
        "1." + "0" * 100,
        b"\xff\xfe",
        -1,
        -0.5,
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        -(10**400),
        1e10,
        True,
        False,
        [],
        {},
        object(),
        dict,
        timedelta(seconds=5),
        ValueError("wait 5"),
        Broken(),
        BrokenMapping(),
        {"Retry-After": None},
        {"Retry-After": ["120"]},
        {"Retry-After": "soon"},
        {None: "120", 7: "120"},
        {"Retry-Afterwards": "120"},
        Headed(None),
        Headed("120"),
        Headed({}),
        SimpleNamespace(response=None),
        SimpleNamespace(response=Headed(None)),
    ],
    ids=lambda source: type(source).__name__,  # no addresses: the same in every process
)
def test_garbage_is_no_hint(source: object) -> None:
    """What makes no sense gives None and never raises."""
    assert None is retry_after(source, now=NOON)


class Rejected(Exception):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


@pytest.mark.parametrize(("own", "expected"), [(7, 7.0), ("30", 30.0), (None, None), (-1, None), ([], None)])
def test_an_error_may_carry_the_hint_itself(own: object, expected: float | None) -> None:
    """As ``.retry_after``, the attribute of rejections by other policies."""
    assert expected == retry_after(Rejected(own))


@pytest.mark.parametrize("text", IN_90_SECONDS.values(), ids=IN_90_SECONDS)
@pytest.mark.parametrize(
    "now",
    [NOON, NOON.timestamp(), int(NOON.timestamp()), NOON.astimezone(timezone(timedelta(hours=-7)))],
    ids=["datetime", "float", "int", "other zone"],
)
def test_dates(text: str, now: datetime | float) -> None:
    """The three forms of HTTP dates are read against a given present."""
    assert 90.0 == retry_after(text, now=now)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thu, 29 Feb 2024 11:59:59 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Thu, 29 Feb 2024 12:00:00 GMT", 0.0),
        ("thu, 29 feb 2024 12:00:05 gmt", 5.0),
        ("Thu, 29 Feb 2024 12:00:05 UTC", 5.0),
        ("Thu, 29 Feb 2024 12:00:05 +0000", 5.0),
        (b" Thu, 29 Feb 2024 12:00:05 GMT ", 5.0),
        ("Fri, 1 Mar 2024 12:00:00 GMT", 86400.0),
        ("Fri Mar  1 12:00:00 2024", 86400.0),
        ("Thu, 29 Feb 2024 12:00:60 GMT", 60.0),
        ("Mon, 29 Feb 2024 12:00:05 GMT", 5.0),
    ],
)
def test_dates_past_lenient_and_odd(text: str, expected: float) -> None:
    """The past gives 0.0; case, zone names that mean UTC, leap seconds and a wrong weekday do no harm."""
    assert expected == retry_after(text, now=NOON)


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 30 Feb 2024 12:00:00 GMT",
        "Thu, 29 Feb 2024 24:00:00 GMT",
        "Thu, 29 Feb 2024 12:60:00 GMT",
        "Thu, 29 Feb 2024 12:00:61 GMT",
        "Thu, 00 Feb 2024 12:00:00 GMT",
        "Thu, 29 Foo 2024 12:00:00 GMT",
        "Thu, 29 Feb 0000 12:00:00 GMT",
        "Thu, 29 Feb 24 12:00:00 GMT",
        "Thu, 29 Feb 2024 12:00:00 PST",
        "Thu, 29 Feb 2024 12:00:00 +0100",
        "Thu, 29 Feb 2024 12:00:00",
        "2024-02-29T12:00:00Z",
        "Thu, 29 Feb 2024",
        "Thu, ٢٩ Feb 2024 12:00:00 GMT",
    ],
)
def test_impossible_dates_are_no_hint(text: str) -> None:
    """A date that does not exist, or is in no form of HTTP, gives None."""
    assert None is retry_after(text, now=NOON)


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("Thursday, 29-Feb-24 12:00:00 GMT", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(2024, 1, 1, tzinfo=UTC), None),
        ("Tuesday, 01-Jan-74 00:00:00 GMT", datetime(2024, 1, 1, tzinfo=UTC), datetime(2074, 1, 1, tzinfo=UTC)),
        ("Tuesday, 01-Jan-74 00:00:01 GMT", datetime(2024, 1, 1, tzinfo=UTC), None),
        ("Tuesday, 01-Jan-75 00:00:00 GMT", datetime(2024, 1, 1, tzinfo=UTC), None),
        ("Thursday, 01-Jan-05 00:00:00 GMT", datetime(2099, 12, 31, tzinfo=UTC), datetime(2105, 1, 1, tzinfo=UTC)),
        ("Friday, 01-Jan-00 00:00:00 GMT", datetime(2099, 12, 31, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)),
    ],
)
def test_years_of_two_digits(text: str, now: datetime, expected: datetime | None) -> None:
    """A year more than 50 years ahead means the past century (RFC 9110, 5.6.7)."""
    wait = 0.0 if expected is None else (expected - now).total_seconds()

    assert wait == retry_after(text, now=now)


@given(instant=st.datetimes(datetime(2024, 2, 29, 12), datetime(2073, 12, 31)))
def test_every_form_names_the_same_instant(instant: datetime) -> None:
    """Whatever the instant, its three forms agree with it to the second."""
    instant = instant.replace(microsecond=0, tzinfo=UTC)
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    day, month = days[instant.weekday()], months[instant.month - 1]
    forms = (
        f"{day[:3]}, {instant:%d} {month} {instant:%Y %H:%M:%S} GMT",
        f"{day}, {instant:%d}-{month}-{instant:%y %H:%M:%S} GMT",
        f"{day[:3]} {month} {instant.day:2} {instant:%H:%M:%S %Y}",
    )

    assert [(instant - NOON).total_seconds()] * 3 == [retry_after(form, now=NOON) for form in forms]


@given(st.text() | st.binary() | st.floats() | st.integers() | st.dictionaries(st.text(), st.text()))
def test_never_raises_and_never_goes_below_zero(source: object) -> None:
    """Whatever a server sends, the hint is None or a finite number of seconds >= 0."""
    hint = retry_after(source, now=NOON)

    assert hint is None or (hint >= 0 and math.isfinite(hint))


@given(st.text())
def test_a_header_never_raises(text: str) -> None:
    """The same through a mapping."""
    hint = retry_after({"Retry-After": text}, now=NOON)

    assert hint is None or hint >= 0


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER", b"retry-after", b"Retry-After"])
def test_header_names_have_no_case(name: str | bytes) -> None:
    """A plain dict is looked through in any case, bytes included."""
    assert 120.0 == retry_after({"Server": "x", name: "120"})


@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms", "X-MS-Retry-After-Ms"])
def test_milliseconds_are_finer_and_go_first(name: str) -> None:
    """Azure's headers in milliseconds win over the coarser standard one."""
    assert 0.25 == retry_after({"Retry-After": "1", name: "250"})


def test_garbage_in_milliseconds_leaves_the_standard_header() -> None:
    """A date or nonsense in a header of milliseconds is passed over."""
    assert 1.0 == retry_after({"retry-after-ms": IN_90_SECONDS["asctime"], "Retry-After": "1"}, now=NOON)


def _message() -> Message:
    message = Message()
    message["retry-AFTER"] = "7"
    return message


@pytest.mark.parametrize(
    "source",
    [
        _message(),
        Headed({"Retry-After": 7}),
        Headed(_message()),
        SimpleNamespace(response=Headed({"Retry-After": "7"})),
        SimpleNamespace(headers=None, response=Headed({"Retry-After": "7"})),
        urllib.error.HTTPError("http://x", 503, "no", _message(), None),
    ],
    ids=["message", "response", "urllib response", "error", "error without headers", "urllib error"],
)
def test_responses_and_errors(source: object) -> None:
    """The headers are found on the source itself or on its response."""
    assert 7.0 == retry_after(source)


def test_httpx(http_server: Any) -> None:
    """httpx's response, headers and error are understood."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    response = httpx.get(f"{http_server.url}503?Retry-After=7", trust_env=False)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()

    assert [7.0] * 3 == [retry_after(source) for source in (response, response.headers, caught.value)]


def test_httpx_error_without_a_response() -> None:
    """A transport error of httpx, whose ``request`` raises, has no hint."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")

    assert None is retry_after(httpx.ConnectError("refused"))


def test_requests(http_server: Any) -> None:
    """requests' response (which is false for a 503), headers and error are understood."""
    requests = pytest.importorskip("requests", reason="requests is not installed")
    with requests.get(f"{http_server.url}503?Retry-After=7", timeout=5) as response:
        with pytest.raises(requests.HTTPError) as caught:
            response.raise_for_status()

        assert [7.0] * 3 == [retry_after(source) for source in (response, response.headers, caught.value)]


def test_aiohttp(http_server: Any) -> None:
    """aiohttp's response, headers and error are understood."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    async def fetch() -> list[float | None]:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{http_server.url}503?Retry-After=7") as response:
                with pytest.raises(aiohttp.ClientResponseError) as caught:
                    response.raise_for_status()
                return [retry_after(source) for source in (response, response.headers, caught.value)]

    assert [7.0] * 3 == asyncio.run(fetch())


def test_urllib(http_server: Any) -> None:
    """urllib's error is understood."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{http_server.url}503?Retry-After=7", timeout=5)
    with caught.value as error:
        assert 7.0 == retry_after(error)


def test_the_present_is_the_wall_clock_of_the_policy() -> None:
    """Under a fake clock a date is read against virtual time."""
    with FakeClock() as clock:
        at = datetime.fromtimestamp(clock.wall() + 100, UTC)
        text = f"{at:%a, %d %b %Y %H:%M:%S} GMT"
        before = retry_after(text)
        clock.advance(60)
        after = retry_after(text)

    assert before is not None
    assert after is not None
    assert 60 == pytest.approx(before - after)
    assert 100 == pytest.approx(before, abs=1.1)


@pytest.mark.parametrize("now", [datetime(2024, 1, 1), math.nan, -1.0])
def test_a_bad_present_is_the_callers_mistake(now: datetime | float) -> None:
    """A naive datetime, or no instant at all, raises."""
    with pytest.raises(ValueError, match="now must be"):
        retry_after(IN_90_SECONDS["asctime"], now=now)


def test_as_the_delay_of_a_rule() -> None:
    """A rule takes the function as it is: a hint replaces the backoff, no hint leaves it."""

    class Busy(Exception):
        def __init__(self, headers: dict[str, str]) -> None:
            self.headers = headers

    retry = Retry(
        on=Classifier(Rule(Busy, Action.WAIT, delay=retry_after)),
        backoff=resilient.backoff.constant(0.5),
    )
    with FakeClock() as clock:
        assert "ok" == retry.call(Script(Busy({"Retry-After": "12"}), Busy({}), "ok"))

    assert [12.0, 0.5] == clock.sleeps


def test_imports_nothing_heavy() -> None:
    """The presets and the hint load no network library, not even the standard one."""
    program = (
        "import sys, resilient; from resilient import presets; resilient.retry_after('Thu Feb 29 12:01:30 2024');"
        "presets.http(OSError()), presets.sockets(OSError());"
        "print([name for name in ('httpx', 'requests', 'aiohttp', 'socket', 'ssl', 'asyncio', 'urllib.request')"
        " if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()
