"""The three forms of a date in HTTP (RFC 9110, 5.6.7), all of them in UTC.

::

    Sun, 06 Nov 1994 08:49:37 GMT     IMF-fixdate, the only one that servers should still send
    Sunday, 06-Nov-94 08:49:37 GMT    RFC 850, obsolete
    Sun Nov  6 08:49:37 1994          asctime, obsolete

``email.utils`` reads them too, but imports ``socket``, keeps to another rule for years of two digits, and takes much
that is no HTTP date.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["instant_of"]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
TIME = r"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d|60)"  # 60: a leap second
ZONE = r"(?:GMT|UTC|\+0000)"  # the grammar knows GMT alone; the others are met, and mean the same

FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"[a-z]{{3}}, (?P<day>\d\d?) {MONTH} (?P<year>\d{{4}}) {TIME} {ZONE}",
        rf"[a-z]{{6,9}}, (?P<day>\d\d?)-{MONTH}-(?P<year>\d\d) {TIME} {ZONE}",
        rf"[a-z]{{3}} {MONTH} (?P<day>[ \d]\d) {TIME} (?P<year>\d{{4}})",
    )
)


def instant_of(text: str, now: float) -> float | None:
    """The instant that an HTTP date names, or None if it is no such date.

    Args:
        text: the date, without white space around it.
        now: the present, which tells the century of a year of two digits.

    Both instants are seconds since the epoch.
    """
    for form in FORMS:
        found = form.fullmatch(text)
        if found is not None:
            return _instant(found, now)
    return None


def _instant(found: re.Match[str], now: float) -> float | None:
    month = MONTHS.index(found["month"].lower()) + 1
    day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
    year = int(found["year"])
    if len(found["year"]) == 2:
        year = _full_year(year, (month, day, hour, minute, second), now)
    try:
        return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() + second
    except ValueError:  # 31 February
        return None


def _full_year(digits: int, rest: tuple[int, ...], now: float) -> int:
    """The latest year with these last digits that is not more than 50 years ahead (RFC 9110, 5.6.7)."""
    today = datetime.fromtimestamp(now, UTC)
    furthest = today.year + 50
    year = furthest - (furthest - digits) % 100
    return year - 100 if (year, *rest) > (furthest, *today.timetuple()[1:6]) else year
