"""Runs as tables: what other programs read of them, in types of their own, and no text that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.app import Platform
from loopline.errors import Invalid, Unavailable
from loopline.failpoints import arm
from loopline.tracking.exchange.tables import points, table, write
from loopline.tracking.records import Point, Run

ATTACKS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x","y")',
    "=",
    "-",
    "+",
]
HARMLESS = ["-5", "+1e-3", "-.5", "a=b", "", "'", "1-2"]


def run(**given_: Any) -> Run:
    fixed = {
        "id": "1",
        "ref": "run:1",
        "name": "fit",
        "kind": "run",
        "status": "finished",
        "created": 0,
        "creator": "ann",
    }
    return Run(**(fixed | given_))


def as_csv(frame: pl.DataFrame, path: Path) -> list[dict[str, str]]:
    write([frame], path, "csv")
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_columns_have_types(tmp_path: Path) -> None:
    given_ = [
        run(params={"n": 1, "rate": 0.5, "on": True, "text": "a", "list": [1, "b"], "mixed": 1}, metrics={"loss": "NaN"}),
        run(params={"n": 2, "rate": 2, "on": None, "mixed": "x"}, metrics={"loss": 0.25, "acc": "Infinity"}, ended=5),
    ]  # fmt: skip
    frame = table(given_)
    write([frame], tmp_path / "x.parquet", "parquet")
    back = pl.read_parquet(tmp_path / "x.parquet")
    assert back.equals(frame)
    kinds = {name: str(kind) for name, kind in back.schema.items()}
    assert kinds["created"] == "Datetime(time_unit='ms', time_zone='UTC')"
    assert [kinds[f"params.{key}"] for key in ("n", "rate", "on", "text", "list", "mixed")] == [
        "Int64", "Float64", "Boolean", "String", "String", "String",
    ]  # fmt: skip
    assert back["params.list"].to_list() == ['[1, "b"]', None]
    assert back["params.mixed"].to_list() == ["1", "x"]
    assert math.isnan(back["metrics.loss"][0])
    assert back["metrics.acc"].to_list() == [None, math.inf]
    assert pq.read_schema(tmp_path / "x.parquet").names == frame.columns


def test_texts_that_are_formulas_are_made_harmless_in_csv(tmp_path: Path) -> None:
    for attack in ATTACKS:
        (row,) = as_csv(
            table([run(name=attack, params={attack: attack}, tags={"t": attack}, note=attack)]), tmp_path / "x.csv"
        )
        assert {row["name"], row["note"], row["tags.t"]} == {f"'{attack}"}
        assert row[f"params.{attack}"] == f"'{attack}"
    for text in HARMLESS:
        (row,) = as_csv(table([run(name=text)]), tmp_path / "x.csv")
        assert row["name"] == text


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_no_cell_begins_a_formula(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write([table([run(name=text, tags={"a": text})])], path, "csv")
    for row in csv.reader(io.StringIO(path.read_bytes().decode(), newline="")):
        for cell in row:
            if cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
                float(cell)


def test_points_come_in_pieces(either: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopline.tracking.exchange.tables._AT_ONCE", 7)
    runs = either.session().runs
    made = [runs.create(f"fit {number}").id for number in range(3)]
    for one in made[:2]:
        for key in ("a", "b"):
            runs.log(
                one,
                [Point(key=key, value=v, step=n, time=1_000 + n) for n, v in enumerate([0.5, math.nan, -math.inf] * 3)],
            )
    shown = [runs.show(one) for one in made]
    for form in ("csv", "parquet"):
        path = tmp_path / f"x.{form}"
        assert write(points(runs, shown), path, form) == 36  # type: ignore[arg-type]
        back = pl.read_parquet(path) if form == "parquet" else pl.read_csv(path)
        assert back["run"].to_list() == [one for one in made[:2] for _ in range(18)]
        assert back["step"].to_list() == list(range(9)) * 4
        assert [repr(v) for v in back["value"].to_list()] == [repr(v) for v in [0.5, math.nan, -math.inf] * 12]
    assert (tmp_path / "x.csv").read_text().splitlines()[1].split(",")[3] == "1970-01-01T00:00:01.000Z"


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write([table([run()])], path, "csv")
    before = path.read_bytes()
    arm("tracking.table.before_rename=ENOSPC")
    try:
        with pytest.raises(Unavailable):
            write([table([run(name="other")])], path, "csv")
    finally:
        arm("")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(Invalid):
        write([table([run()])], tmp_path / "no" / "x.csv", "csv")


def test_no_runs_are_a_table_without_rows(tmp_path: Path) -> None:
    assert write([table([])], tmp_path / "x.parquet", "parquet") == 0
    assert pl.read_parquet(tmp_path / "x.parquet").columns[:3] == ["id", "name", "kind"]
