from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from loopline.operations import Bytes
from loopline.quality.profile import profile
from loopline.quality.profile_full import Full
from loopline.quality.profile_page import HEAD, PAIRS, page, pairs, rows, telling


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


def test_of_very_many_columns_those_worth_a_look_are_pictured_first() -> None:
    text = page(profile(pl.DataFrame({f"c{i}": [1, 2, 3] if i < 700 else [7, 7, 7] for i in range(705)})))
    cards = re.findall(r"<h3>(c\d+) ", text)
    assert (len(cards), cards[:6]) == (500, ["c700", "c701", "c702", "c703", "c704", "c0"])
    assert text.count("<td>c") == 705
    assert "Shown are 500 of 705 columns" in text
    assert "more</summary>" not in text
    assert "<summary>and 21 more</summary>" in page(profile(pl.DataFrame({f"c{i}": [7, 7] for i in range(60)})))


def test_rows_for_a_terminal() -> None:
    got = {row[0]: row for row in rows(profile(_frame()))}
    assert all(len(row) == len(HEAD) for row in got.values())
    assert got["nothing"][2] == "100.0%"
    assert re.fullmatch(r"19\d\d-\d\d-\d\d", got["day"][5])
    assert got["yes"][4].endswith("%)")


def test_of_a_personal_column_counts_are_shown() -> None:
    made = profile(_frame(), full=True).marked(["size", "<script>alert(1)</script>"]).without_values()
    got = {row[0]: row for row in rows(made)}
    assert got["size"][1:] == ("number", "", "500", "(personal)", "", "", "")
    assert got["<script>alert(1)</script>"][3:5] == ("3", "(personal)")
    text = page(made)
    assert text.count("no value is shown") == 2
    assert "plain" not in text
    constant = profile(pl.DataFrame({"name": ["Quentin"] * 40})).marked(["name"]).without_values()
    assert [w.text for w in constant.warnings() if w.code == "constant"] == ["name has one value everywhere."]


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


def test_a_label_s_profile_shows_what_tells_of_it() -> None:
    frame = _frame().with_columns(copy=pl.col("yes").cast(pl.String))
    found = telling(profile(frame, label="yes"))
    assert found[0] == ("copy", "100.0%")
    assert "nothing" not in dict(found)
    text = page(profile(frame, label="yes"))
    assert text.index("What tells of yes") < text.index("<h2>Columns")
    assert telling(profile(frame)) == ()
    assert "What tells of" not in page(profile(frame))


def test_what_is_nearly_all_does_not_read_like_it() -> None:
    got = {row[0]: row[4] for row in rows(profile(pl.DataFrame({"a": ["x"] * 20_000, "b": [*["x"] * 19_999, "y"]})))}
    assert got == {"a": "x (100%)", "b": "x (99.99%)"}


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    shown = profile(_frame())._repr_html_() or ""
    frames: list[dict[str, str | None]] = []

    class Frames(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe"
            frames.append(dict(attrs))

    Frames().feed(shown)
    assert [frame["srcdoc"] for frame in frames] == [page(profile(_frame()))]
    assert Bytes(media="text/html", data=page(profile(_frame())).encode())._repr_html_() == shown
    assert Bytes(media="application/json", data=b"{}")._repr_html_() is None
