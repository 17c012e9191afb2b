from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from loopline.quality.profile import profile
from loopline.quality.profile_full import Full
from loopline.quality.profile_page import HEAD, PAIRS, page, pairs, rows


def _frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "<script>alert(1)</script>": rng.choice(["<b>&", 'a"b', "plain"], 500),
            "size": rng.lognormal(0, 1, 500),
            "count": rng.poisson(3, 500),
            "yes": rng.random(500) < 0.5,
            "day": pl.Series(rng.integers(0, 9000, 500)).cast(pl.Date),
            "nothing": pl.Series([None] * 500, dtype=pl.Float64),
            "list": [[1]] * 500,
            "huge": [1e308, -1e308] * 250,
        }
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "rect", "line"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("frozen", [False, True])
def test_the_page_stands_alone_and_escapes_what_comes_from_the_data(frozen: bool) -> None:
    made = profile(_frame(), label="yes")
    text = page(made.freeze() if frozen else made, title="visits <1>")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert "b" not in tags.seen
    assert tags.seen.count("svg") >= 5
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", text)
    assert "prefers-color-scheme:dark" in text
    assert "nothing has no value in any row." in text


def test_an_empty_table_has_a_page() -> None:
    assert "The table has no rows." in page(profile(pl.DataFrame({"x": pl.Series([], dtype=pl.Float64)})))


def test_rows_for_a_terminal() -> None:
    got = {row[0]: row for row in rows(profile(_frame()))}
    assert all(len(row) == len(HEAD) for row in got.values())
    assert got["nothing"][2] == "100.0%"
    assert re.fullmatch(r"19\d\d-\d\d-\d\d", got["day"][5])
    assert got["yes"][4].endswith("%)")


def test_a_full_profile_shows_what_goes_together() -> None:
    text = page(profile(_frame(), label="yes", full=True), title="visits")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert 'aria-label="What goes together"' in text
    assert "spelled like" in text
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", text)
    table = pairs(profile(_frame(), full=True).full or Full(rows=0))
    assert all(len(row) == len(PAIRS) for row in table)
    assert "What goes together" not in page(profile(_frame()))


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    shown = profile(_frame())._repr_html_()
    frames: list[dict[str, str | None]] = []

    class Frames(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe"
            frames.append(dict(attrs))

    Frames().feed(shown)
    assert [frame["srcdoc"] for frame in frames] == [page(profile(_frame()))]
