"""NDJSON and arrays that are read a block of rows at a time: the same table wherever the blocks end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data import readers_array, readers_encoding
from loopline.data.readers import read_table
from loopline.errors import Invalid

_TEXTS = st.sampled_from(["x", "1", "2.5", "NA", "-", "", "2026-01-02"])
_VALUES = (
    st.none(), st.integers(-5, 5), st.floats(-2, 2), _TEXTS, st.booleans(), st.just(2**70), st.just([1]), st.just(["x"]),
    st.just({"q": 1}), st.just({"q": "s", "w": 2.5}),
)  # fmt: skip
_COLUMN = st.lists(st.sampled_from(range(len(_VALUES))), min_size=1, max_size=2).map(
    lambda n: st.one_of(*(_VALUES[i] for i in n))
)


@st.composite
def tables(draw: Any) -> list[dict[str, Any]]:
    """Rows of up to three columns, each of one kind of values or of two."""
    columns = {name: draw(_COLUMN) for name in draw(st.sampled_from(["a", "ab", "abc"]))}
    return draw(st.lists(st.fixed_dictionaries({}, optional=columns), min_size=1, max_size=12))  # type: ignore[no-any-return]


def _read(path: Path, block: int) -> tuple[pl.DataFrame | str, tuple[str, ...]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers_encoding, "_BLOCK", block)
        patch.setattr(readers_array, "_PIECE", block)
        try:
            read = read_table(path)
        except Invalid as refused:
            return refused.code, ()
        return read.frame, read.facts.warnings


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([1, 30, 100]))
def test_a_table_does_not_depend_on_where_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    (whole, told), (found, said) = _read(path, 1 << 20), _read(path, block)
    assert sorted(said) == sorted(told)
    if isinstance(whole, str) or isinstance(found, str):
        assert found == whole
    else:
        assert_frame_equal(found, whole, check_column_order=False)


@pytest.mark.parametrize(
    ("first", "later", "dtype", "last"),
    [
        ("1", "2.5", pl.Float64(), 2.5),
        ("1", '"two"', pl.String(), "two"),
        ("null", "true", pl.Boolean(), True),
        ('"2026-01-02"', '"2026-03-04"', pl.Date(), None),
        ("1", '"NA"', pl.Int64(), None),
        ('{"x": 1}', '{"x": 2.5}', pl.Float64(), 2.5),
    ],
)
def test_what_comes_late_decides_about_the_type_all_the_same(
    tmp_path: Path, first: str, later: str, dtype: pl.DataType, last: Any
) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text(f'{{"a": {first}}}\n' * 1000 + f'{{"a": {later}, "b": 7}}\n')
    found, _ = _read(path, 1000)
    assert isinstance(found, pl.DataFrame)
    assert (found.height, found.dtypes[0], found["b"][-1]) == (1001, dtype, 7)
    if last is not None:
        assert found.to_series(0)[-1] == last


def test_a_line_late_in_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_encoding, "_BLOCK", 100)
    path = tmp_path / "t.ndjson"
    for bad, code in (('{"a": 1', "json-broken"), ("7", "json-broken"), ('{"a": 1, "a": 2}', "duplicate-key")):
        path.write_text('{"a": 1}\n' * 999 + f'{bad}\n{{"a": 1}}\n')
        with pytest.raises(Invalid, match="line 1000 ") as caught:
            read_table(path)
        assert caught.value.code == code


_ODD = st.sampled_from(
    ["plain", "}, {", '"', "\\", '\\"', "[", "]}", ",", "line\nbreak", "\r", "é", "\u2028", "\U0001f600"]
)
_NESTED = st.recursive(
    st.one_of(_ODD, st.integers(-5, 5), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_ODD, inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "}, {"]), _NESTED, max_size=3), max_size=12),
    st.integers(1, 60),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.sampled_from(["", "\ufeff", " \n"]),
)
def test_an_array_is_taken_apart_where_its_items_end(
    rows: list[dict[str, Any]], size: int, indent: int | None, ascii_only: bool, before: str
) -> None:
    text = (before + json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + "\r\n").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers_array, "_PIECE", size)
        lines = b"".join(readers_array.lines_of(text, 3 if before == "\ufeff" else 0, "t"))
    assert lines.count(b"\n") == len(rows)
    assert [json.loads(line) for line in lines.split(b"\n")[:-1]] == rows


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([1, 30, 100]), st.sampled_from([None, 2]))
def test_an_array_is_the_same_table_as_its_items_in_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int, indent: int | None
) -> None:
    folder = tmp_path_factory.mktemp("t")
    (folder / "t.json").write_text(json.dumps(rows, indent=indent))
    (folder / "t.ndjson").write_text("\n".join(map(json.dumps, rows)))
    (found, said), (lines, told) = _read(folder / "t.json", block), _read(folder / "t.ndjson", 1 << 20)
    assert sorted(said) == sorted(told)
    if isinstance(found, str) or isinstance(lines, str):
        assert found == lines
    else:
        assert_frame_equal(found, lines, check_column_order=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": 2}, {"a": 3}', "is not JSON: Input data was truncated"),
        ('[{"a": 1}, {"a": 2}, {"a": 3},]', "is not JSON"),
        ('[{"a": 1}, {"a": 2}, {"a": 3}] [4]', "is not JSON"),
        ('[{"a": 1}, {"a": 2},, {"a": 3}]', "is not JSON"),
        ('[, {"a": 1}, {"a": 2}]', "is not JSON"),
        ('[{"a": 1}, {"a": 2}, {"a": "x\ny"}]', "invalid character (byte 29)"),
        ('[{"a": 1}, {"a": 2}, {"a": 1e400}]', "item 3 of the array is not JSON (Number out of range"),
        ('[{"a": 1}, {"a": 2}, [{"a": 3}]]', "item 3 of the array is an array, not an object"),
        ('[{"a": 1}, {"a": 2}, {"a": 3, "a": 4}]', "item 3 of the array has the key 'a' twice"),
        ('[{"a": 1}, {"a": 2}, {"a": "' + "x" * 5000, "has an item of more than"),
    ],
)
@pytest.mark.parametrize("size", [5, 20, 1 << 20])
def test_an_array_that_is_none_is_refused_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str, size: int
) -> None:
    monkeypatch.setattr(readers_array, "_PIECE", size)
    monkeypatch.setattr(readers_array, "_LONGEST", 1000)
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(Invalid) as caught:
        read_table(tmp_path / "t.json")
    whole = len(text) > 5000 and size > 5000
    assert ("truncated" if whole else says) in caught.value.message
    assert caught.value.code == ("duplicate-key" if "twice" in says else "json-broken")
