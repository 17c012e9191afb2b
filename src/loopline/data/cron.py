"""Lines of cron: when the next time is that one names, in UTC.

Five fields, as POSIX's crontab has them: minute, hour, day of the month, month, day of the week (0 or 7: Sunday); each `*`, a
number, a range `a-b`, any of these with a step `/n`, or several by commas. Where both days are given, either will do.
"""

from __future__ import annotations

import datetime as dt

from loopline.errors import Invalid

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_DAYS = 366 * 8 + 2  # 29 February of a leap year comes within eight years


def following(line: str, after: int) -> int:
    """The first time of the line after a moment, both in milliseconds since 1970 UTC. Raises `Invalid` (code "bad-cron")."""
    fields = line.split()
    if len(fields) != len(_FIELDS):
        raise _bad(line, f"it has {len(fields)} fields of five")
    minutes, hours, days, months, weekdays = (
        _read(line, text, *field) for text, field in zip(fields, _FIELDS, strict=True)
    )
    weekdays = {number % 7 for number in weekdays}
    either = fields[2] != "*" and fields[4] != "*"
    start = dt.datetime.fromtimestamp(after / 1000, dt.UTC).replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
    for ahead in range(_DAYS):
        day = start.date() + dt.timedelta(days=ahead)
        by_month, by_week = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month not in months or not ((by_month or by_week) if either else (by_month and by_week)):
            continue
        for hour in sorted(hours):
            for minute in sorted(minutes):
                found = dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)
                if found >= start:
                    return int(found.timestamp() * 1000)
    raise _bad(line, "no day is of that kind")


def _read(line: str, text: str, what: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, stepped, step = part.partition("/")
        first, ranged, last = span.partition("-")
        if span == "*":
            first, last = str(least), str(most)
        elif not ranged:
            last = str(most) if stepped else first
        numbers = [first, last, step if stepped else "1"]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise _bad(line, f"{part!r} is no {what}")
        low, high, by = map(int, numbers)
        if not (least <= low <= high <= most and by):
            raise _bad(line, f"{part!r} is no {what}: {least} to {most}")
        found.update(range(low, high + 1, by))
    return found


def _bad(line: str, why: str) -> Invalid:
    return Invalid(
        f"{line!r} is no line of cron: {why}.",
        code="bad-cron",
        hint='Five fields: minute, hour, day, month, day of the week; "15 2 * * 1-5" is 02:15 UTC on working days.',
    )
