# ruff: noqa: DTZ001 - tables hold naive times
"""Days and times read by the places of their digits: what Python's own calendar gives, and nothing where it gives none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.readers_days import days, seconds

TIMES = st.datetimes(min_value=datetime(1, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
NEARLY = st.text(alphabet="0123456789-:T /+é", min_size=10, max_size=19)


def series(texts: list[str | None]) -> pl.Series:
    return pl.Series("when", texts, dtype=pl.String)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.dates(), max_size=30))
def test_days_are_those_of_the_calendar(wanted: list[date | None]) -> None:
    found = days(series([None if day is None else day.isoformat() for day in wanted]))
    if any(wanted):
        assert found is not None
        assert (found.name, found.dtype) == ("when", pl.Date)
        assert found.to_list() == wanted
    else:
        assert found is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TIMES, st.sampled_from("T ")), min_size=1, max_size=30), st.booleans())
def test_times_are_those_of_the_clock(wanted: list[tuple[datetime, str]], gap: bool) -> None:
    found = seconds(series([*(moment.isoformat(sep=between) for moment, between in wanted), *([None] if gap else [])]))
    assert found is not None
    assert (found.name, found.dtype) == ("when", pl.Datetime("us"))
    assert found.to_list() == [*(moment for moment, _ in wanted), *([None] if gap else [])]


def test_every_day_of_four_hundred_years() -> None:
    wanted = [date(1800, 1, 1) + timedelta(days=i) for i in range(146_097)]
    found = days(series([day.isoformat() for day in wanted]))
    assert found is not None
    assert found.to_list() == wanted


@settings(max_examples=300, deadline=None)
@given(
    st.dates().map(date.isoformat),
    TIMES.map(datetime.isoformat),
    NEARLY,
    st.integers(0, 18),
    st.sampled_from("0369-:T x"),
)
def test_what_is_nearly_one_is_none(day: str, moment: str, other: str, place: int, sign: str) -> None:
    for text in (day, moment):
        changed = text[:place] + sign + text[place + 1 :]
        for spelled in (changed, other):
            _is_read_only_if_it_is_one(days, 10, date.fromisoformat, spelled)
            _is_read_only_if_it_is_one(seconds, 19, datetime.fromisoformat, spelled)


def _is_read_only_if_it_is_one(
    read: Callable[[pl.Series], pl.Series | None], size: int, known: Callable[[str], date], text: str
) -> None:
    found = read(series([text]))
    try:
        shaped = (
            len(text) == size
            and text[4] == text[7] == "-"
            and (size == 10 or (text[10] in "T " and text[13::3] == "::"))
        )
        wanted = known(text) if shaped else None
    except ValueError:
        wanted = None
    assert (None if found is None else found.to_list()) == (None if wanted is None else [wanted])


@pytest.mark.parametrize("text", ["1900-02-29", "2026-04-31", "0000-01-01", "2026-1-031", "２026-01-1", "+026-01-01"])
def test_what_is_no_day_is_none(text: str) -> None:
    assert days(series([text])) is None
    assert days(series(["2026-01-31", text])) is None
