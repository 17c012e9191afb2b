"""Dates and durations in words. A date is as long as it is written: '2026-03' is a month, 'yesterday' a day. All in UTC."""

from __future__ import annotations

import datetime
import re

from loopline.tracking.search.tree import Span

EXAMPLES = "'2026-03-01', '2026-03-01T12:00', 'today', 'this week', 'last 7 days', '3 hours ago', 'since 2026-03-01'"

_UNITS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
_SHORT = {
    "ms": 1,
    "s": 1_000,
    "sec": 1_000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_SHORT |= _UNITS | {f"{unit}s": size for unit, size in _UNITS.items()}
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)\s*")
_COUNTED = r"(?P<count>\d{1,6}) (?P<unit>second|minute|hour|day|week|month|year)s?"
_LAST = re.compile(rf"(?:last|past) {_COUNTED}")
_AGO = re.compile(rf"{_COUNTED} ago")
_CALENDAR = re.compile(r"(?P<which>this|last) (?P<unit>day|week|month|year)")
_ISO = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[t ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?(?P<zone>z|[+-]\d\d:?\d\d)?)?)?)?"
)


def span(text: str, now: int) -> Span | None:
    """The stretch of time that a text names, `now` in milliseconds since 1970 UTC; None: it names none."""
    words = " ".join(text.lower().split())
    moment = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
    try:
        if words == "now":
            return Span(now, now + 1)
        if words in ("today", "yesterday"):
            day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            return _between(day if words == "today" else day - datetime.timedelta(days=1), "day")
        if found := _LAST.fullmatch(words):
            return Span(_before(moment, int(found["count"]), found["unit"]), None)
        if found := _AGO.fullmatch(words):
            start = _before(moment, int(found["count"]), found["unit"])
            return Span(start, start + 1)
        if found := _CALENDAR.fullmatch(words):
            start_of = _start(moment, found["unit"])
            if found["which"] == "last":
                start_of = _start(start_of - datetime.timedelta(days=1), found["unit"])
            return _between(start_of, found["unit"])
        if words.startswith("since ") and (since := span(words.removeprefix("since "), now)):
            return Span(since.start, None)
        return _iso(words)
    except (ValueError, OverflowError):  # 30 February, or a time that no calendar has
        return None


def duration(text: str) -> float | None:
    """The milliseconds that a text such as '2h', '1h 30m' or '2 days' names; None: it names none."""
    rest, total = text.lower().strip(), 0.0
    while rest and (found := _AMOUNT.match(rest)) and found[2] in _SHORT:
        total += float(found[1]) * _SHORT[found[2]]
        rest = rest[found.end() :]
    return None if rest or not text.strip() else total


def _iso(words: str) -> Span | None:
    found = _ISO.fullmatch(words)
    if found is None:
        return None
    given = {name: int(found[name]) for name in ("year", "month", "day", "hour", "minute", "second") if found[name]}
    start = datetime.datetime(**{"month": 1, "day": 1, **given}, tzinfo=datetime.UTC)
    if found["zone"] and found["zone"] != "z":
        start = start.replace(tzinfo=datetime.datetime.strptime(found["zone"], "%z").tzinfo)
    if found["fraction"]:
        begin = _milliseconds(start) + int(found["fraction"].ljust(3, "0")[:3])
        return Span(begin, begin + 1)
    return _between(start, list(given)[-1])


def _between(start: datetime.datetime, unit: str) -> Span:
    begin = _milliseconds(start)
    if unit in _UNITS:
        return Span(begin, begin + _UNITS[unit])
    return Span(begin, _milliseconds(_shift(start, 12 if unit == "year" else 1)))


def _start(moment: datetime.datetime, unit: str) -> datetime.datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":  # of ISO 8601: it begins on Monday
        return day - datetime.timedelta(days=day.weekday())
    return day.replace(day=1, month=1) if unit == "year" else day.replace(day=1) if unit == "month" else day


def _before(moment: datetime.datetime, count: int, unit: str) -> int:
    if unit in _UNITS:
        return _milliseconds(moment) - count * _UNITS[unit]
    return _milliseconds(_shift(moment, -count * (12 if unit == "year" else 1)))


def _shift(moment: datetime.datetime, months: int) -> datetime.datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    first_of_next = datetime.date(year + (month == 11), (month + 1) % 12 + 1, 1)
    longest = (first_of_next - datetime.timedelta(days=1)).day  # a month before 31 March is the last day of February
    return moment.replace(year=year, month=month + 1, day=min(moment.day, longest))


def _milliseconds(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * 1000)
