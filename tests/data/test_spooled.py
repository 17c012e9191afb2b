"""A text that is read in blocks, of which what was typed is kept: the same rows as read at once, whatever a later block tells."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data import readers_encoding, spooled
from loopline.data.readers_csv import read_csv
from loopline.data.readers_encoding import records
from loopline.data.readers_types import MISSING
from loopline.data.spooled import Spool
from loopline.quality.blocks import Blocks

WHOLE = ["1", "-7", "+3", "0", "120"]
SPELLED = {
    "whole": WHOLE,
    "fractions": ["1.5", "-0.25", ".5", "1e3", "-0", "inf"],
    "spaced": [" 1", "2 ", " 2.5 ", " "],
    "codes": ["007", "-01", "0.5", "1234567890123456789012"],
    "truth": ["true", "false", "True", "FALSE"],
    "days": ["2026-01-31", "2024-02-29", " 2026-01-01"],
    "no day": ["2026-02-30", "-020-01-31"],
    "times": ["2026-01-31T10:20:30", "2026-01-31 10:20:30", "2026-01-31T10:20", "2026-01-31T10:20:30.25"],
    "zoned": ["2026-01-31T10:20:30Z", "2026-01-31 10:20:30+0200"],
    "missing": ["", "NA", "?"],
    "placeholders": ["-", "none"],
    "words": ["fine", "so, so", "a line\nbreak", "longer than what stands in a view"],
}
FAMILIES = st.sampled_from(sorted(SPELLED))


@st.composite
def columns(draw: st.DrawFn) -> list[str]:
    """Texts of one family, then of another one, with some of a third among them."""
    return [
        draw(st.sampled_from(SPELLED[family]))
        for family in (draw(FAMILIES), draw(FAMILIES), draw(FAMILIES))
        for _ in range(draw(st.integers(0, 6)))
    ]


def read(rows: pl.DataFrame) -> tuple[Blocks, tuple[str, ...]]:
    content = rows.write_csv(quote_style="necessary").encode()
    blocks, _, warnings = read_csv(content, "t.csv", MISSING)
    return blocks, warnings


def in_pieces(rows: pl.DataFrame, size: int, chosen: list[str]) -> tuple[Blocks, tuple[str, ...], pl.DataFrame, int]:
    """What `read` gives of blocks of so many bytes that lie in a file; some of its columns; how many blocks they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers_encoding, "_RECORDS", size)
        patch.setattr(spooled, "_IN_MEMORY", 0)
        blocks, warnings = read(rows)
        some = blocks.only(chosen).frame()
        return Blocks.of(blocks.frame()), warnings, some, len(list(blocks))


@settings(max_examples=150, deadline=None)
@given(st.lists(columns(), min_size=1, max_size=4), st.integers(8, 60))
def test_blocks_give_what_the_whole_gives(spelled: list[list[str]], size: int) -> None:
    height = 1 + max(map(len, spelled))
    rows = pl.DataFrame({"row": [f"r{i}" for i in range(height)]}).with_columns(
        pl.Series(f"c{i}", (texts + [texts[0] if texts else ""] * height)[:height]) for i, texts in enumerate(spelled)
    )
    whole, said = read(rows)
    chosen = rows.columns[::-2]
    pieces, told, some, _ = in_pieces(rows, size, chosen)
    assert_frame_equal(pieces.frame(), whole.frame())
    assert_frame_equal(some, whole.frame().select(chosen))
    assert told == said


def test_a_quote_that_is_never_closed_takes_no_more_than_a_field_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_encoding, "_RECORDS", 100)
    monkeypatch.setattr(readers_encoding, "_LONGEST", 1000)
    lines = b"1,2\n" * 50 + b'5" pipe,3\n' + b"1,2\n" * 2000
    assert max(map(len, records(lines, 0))) < 1100
    assert b"".join(records(lines, 0)) == lines
    rows, _, _ = read_csv(b"what,n\n" + lines, "t.csv", MISSING)
    assert rows.height == 2051
    assert rows.rows([50]).row(0) == ('5" pipe', 3)


def test_a_type_that_a_late_block_tells_holds_for_the_first_ones() -> None:
    rows = pl.DataFrame(
        {
            "whole": ["1"] * 200,
            "late fraction": ["1"] * 199 + ["2.5"],
            "late word": ["2026-01-31"] * 199 + ["unknown to us"],
            "early fraction": ["1.5"] + ["1"] * 199,
            "late zone": ["2026-01-31"] * 199 + ["2026-01-31T10:00:00Z"],
            "placeholder": ["1"] * 199 + ["-"],
        }
    )
    pieces, warnings, some, count = in_pieces(rows, 1000, ["late word", "whole"])
    assert count > 5
    assert list(pieces.schema.values()) == [
        pl.Int64,
        pl.Float64,
        pl.String,
        pl.Float64,
        pl.Datetime("us", "UTC"),
        pl.Int64,
    ]
    assert pieces.frame()["late fraction"].to_list() == [1.0] * 199 + [2.5]
    assert pieces.frame()["placeholder"].to_list() == [1] * 199 + [None]
    assert some["late word"].to_list() == rows["late word"].to_list()
    assert ["'late word' stays text" in said or "'placeholder': 1 values" in said for said in warnings] == [True, True]


def test_what_is_kept_has_no_name_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "_IN_MEMORY", 100)
    kept = Spool(tmp_path)
    blocks = [pl.DataFrame({"a": [i, None], "b": ["word", "x" * 100 * i]}) for i in range(4)]
    blocks.append(blocks[0].with_columns(pl.col("a").cast(pl.Float64)))
    for block in blocks:
        kept.add(block)
    assert len(kept) == len(blocks)
    assert list(tmp_path.iterdir()) == []
    for names in (["a", "b"], ["b"], ["b", "a"]):
        for place, block in enumerate(blocks):
            assert_frame_equal(kept.read(place, names), block.select(names))
            kept.release(place)
