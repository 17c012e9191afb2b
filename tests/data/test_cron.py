"""Lines of cron: the next time of each, by hand and against a plain search; what is none is named."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from loopline.data.cron import following
from loopline.errors import Invalid


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("* * * * *", "2026-03-01T10:00:30", "2026-03-01T10:01"),
        ("* * * * *", "2026-03-01T10:00:00", "2026-03-01T10:01"),
        ("15 2 * * 1-5", "2026-02-27T03:00", "2026-03-02T02:15"),
        ("*/20 8-10/2 * * *", "2026-03-01T08:45", "2026-03-01T10:00"),
        ("5/20 * * * *", "2026-03-01T08:46", "2026-03-01T09:05"),
        ("0 0 29 2 *", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 0 13 * 5", "2026-03-01T00:00", "2026-03-06T00:00"),
        ("0 0 1,15 * *", "2026-12-16T00:00", "2027-01-01T00:00"),
        ("0 12 * * 7", "2026-03-02T00:00", "2026-03-08T12:00"),
        ("0 12 * * 0", "2026-03-02T00:00", "2026-03-08T12:00"),
    ],
)
def test_the_next_time(line: str, after: str, expected: str) -> None:
    assert following(line, ms(after)) == ms(expected)


def test_the_next_time_is_the_first_that_fits() -> None:
    drawn = random.Random(7)
    for _ in range(200):
        minute, hour, day, month = (
            drawn.choice(["*", "7", "*/15"]),
            drawn.choice(["*", "3-5"]),
            drawn.choice(["*", "2"]),
            "*",
        )
        after = ms("2026-01-01T00:00") + drawn.randrange(40 * 86_400_000)
        found = following(f"{minute} {hour} {day} {month} *", after)
        at = after // 60_000 * 60_000 + 60_000
        while True:
            moment = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
            fits = minute == "*" or (moment.minute == 7 if minute == "7" else moment.minute % 15 == 0)
            fits = fits and (hour == "*" or 3 <= moment.hour <= 5) and (day == "*" or moment.day == 2)
            if fits:
                break
            at += 60_000
        assert found == at


@pytest.mark.parametrize(
    "line", [
        "", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "a * * * *", "5-2 * * * *", "*/0 * * * *", "1,, * * * *",
        "0 0 31 2 *", "-1 * * * *", "@daily",
    ]
)  # fmt: skip
def test_what_is_no_line_of_cron_is_named(line: str) -> None:
    with pytest.raises(Invalid) as caught:
        following(line, 0)
    assert caught.value.code == "bad-cron"
    assert caught.value.hint
