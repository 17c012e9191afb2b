"""Days since 1970, as a profile holds dates, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def day_text(days: float) -> str:
    """The date, with the time of day where there is one; the number itself where no calendar has it."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        return f"day {days:.0f}"
    return moment.strftime("%Y-%m-%d" if days == int(days) else "%Y-%m-%d %H:%M")
