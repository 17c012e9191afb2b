"""Times as people type them: "2h", "3 hours ago", "2026-01-31T08:30", "1 March at noon", "yesterday", milliseconds since 1970."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import datetime

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_DAY = re.compile(
    r"(?:(?P<near>today|yesterday)|(?P<day>\d{1,2})\.?\s+(?P<month>[a-z]{3,9})(?:,?\s+(?P<year>\d{4}))?)"
    r"(?:,?\s+(?:at\s+)?(?P<time>noon|midnight|\d{1,2}:\d{2}))?",
    re.IGNORECASE,
)


def now() -> int:
    """This machine's time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Moment(click.ParamType[int]):
    """A time in milliseconds since 1970 UTC; a duration counts from now, backwards or (`ahead`) forwards."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self.ahead = ahead

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time that a text names."""
        import datetime

        from loopline.durations import milliseconds
        from loopline.errors import Invalid
        from loopline.tracking.search.dates import span

        if isinstance(value, int):
            return value
        text = str(value)
        if text.isascii() and text.isdecimal() and len(text) < 19:  # a number of 64 bits at most
            return int(text)
        try:
            return int(datetime.datetime.fromisoformat(text).astimezone().timestamp() * 1000)
        except ValueError:
            pass
        try:
            found = _day(text, datetime.datetime.now().astimezone())
            if found is not None:
                return int(found.timestamp() * 1000)
        except ValueError:  # 31 February
            pass
        if text.lower().strip().endswith(("now", "ago")) and (stretch := span(text, now())):
            return stretch.start
        try:
            return now() + milliseconds(text, "a time") * (1 if self.ahead else -1)
        except Invalid:
            self.fail(
                f'{text!r} is no time. Write "2h", "7d", "2026-01-31T08:30", "yesterday" or "1 March at noon".',
                param,
                ctx,
            )


def _day(text: str, today: datetime.datetime) -> datetime.datetime | None:
    """A day in words, in this machine's zone; without a year the last one of that name that has come."""
    import datetime

    found = _DAY.fullmatch(text.strip())
    if found is None:
        return None
    clock = (found["time"] or "midnight").lower()
    hour, minute = {"noon": (12, 0), "midnight": (0, 0)}.get(clock) or map(int, clock.split(":"))
    if found["near"]:
        near = today.date() - datetime.timedelta(days=found["near"].lower() == "yesterday")
        return datetime.datetime.combine(near, datetime.time(hour, minute)).astimezone()
    number = next((n for n, name in enumerate(_MONTHS, 1) if name.startswith(found["month"].lower())), None)
    if number is None:
        return None
    day = f"{found['year'] or today.year:>04}-{number:02}-{int(found['day']):02}"
    place = datetime.datetime.fromisoformat(f"{day}T{hour:02}:{minute:02}").astimezone()
    return place if found["year"] or place <= today else place.replace(year=today.year - 1)
