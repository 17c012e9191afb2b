"""NDJSON that is read a block of lines at a time: the same table wherever the blocks end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data import readers_encoding
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
