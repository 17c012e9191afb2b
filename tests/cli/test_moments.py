"""Times as people type them, in any zone of the machine."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

import click
import pytest

from loopline.cli.moments import Moment, now

DAY = 86_400_000


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str, *, ahead: bool = False) -> int:
    return Moment(ahead=ahead).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "back"),
    [("now", 0), ("5 minutes ago", 300_000), ("3 hours ago", 10_800_000), ("2d", 2 * DAY), ("1 week ago", 7 * DAY)],
)
def test_so_long_ago(text: str, back: int) -> None:
    before = now()
    assert before - back <= at(text) <= now() - back


def test_days_in_words_are_of_this_machine() -> None:
    today = datetime.datetime.now().astimezone().date()
    for text, days, hour in (
        ("today", 0, 0),
        ("yesterday", 1, 0),
        ("Yesterday at noon", 1, 12),
        ("yesterday 18:30", 1, 18.5),
    ):
        local = datetime.datetime.combine(
            today - datetime.timedelta(days=days), datetime.time(int(hour), int(hour % 1 * 60))
        )
        assert at(text) == local.astimezone().timestamp() * 1000
    assert at("1 March 2026 at noon") == datetime.datetime(2026, 3, 1, 12).astimezone().timestamp() * 1000
    assert at("1 March 2026") == at("2026-03-01") == at(" 1. mar 2026 at midnight")


@pytest.mark.parametrize(
    "text", ["", "ago", "soon", "yesterday at 25:00", "31 February", "1 Smarch", "3 lightyears ago", "9" * 40]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        at(text)
