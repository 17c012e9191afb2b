"""Dataset versions are Delta tables: other programs open them by their folder, each version as it was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import deltalake
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from loopline.app import Platform
from loopline.catalog import Session
from loopline.operations import Body


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform.session()
    platform.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "tables" / "default" / "visits"


def frame(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "day": pl.Series([None if n % 9 == 0 else 18_000 + n for n in range(rows)], dtype=pl.Int32).cast(pl.Date),
            "cost": [None if n % 7 == 0 else n / 3 for n in range(rows)],
            "ward": [f"ward {n % 4}, é" for n in range(rows)],
            "back": [n % 3 == 0 for n in range(rows)],
        }
    )


def body(rows: pl.DataFrame) -> Body:
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return Body(buffer.getvalue(), name="visits.parquet")


def test_polars_and_delta_rs_read_each_version(session: Session, folder: Path) -> None:
    first, second = frame(50), frame(80).with_columns(extra=pl.lit(1))
    session.datasets.add("visits", body(first))
    session.datasets.add("visits", body(second))
    for version, rows in ((0, first), (1, second)):
        assert_frame_equal(pl.read_delta(str(folder), version=version).sort("id"), rows, check_dtypes=False)
        table = deltalake.DeltaTable(folder, version=version)
        assert table.to_pyarrow_table().num_rows == rows.height


def test_its_log_is_as_the_protocol_says(session: Session, folder: Path) -> None:
    """The log read by hand: a commit is a file of JSON lines whose added files hold all rows (protocol, "Delta Log Entries")."""
    rows = frame(50)
    session.datasets.add("visits", body(rows))
    commit = (folder / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    actions = [json.loads(line) for line in commit]
    (protocol,) = [a["protocol"] for a in actions if "protocol" in a]
    assert protocol["minReaderVersion"] == 1, "the oldest readers can open it"
    added = [a["add"] for a in actions if "add" in a]
    found = pl.concat([pl.read_parquet(folder / file["path"]) for file in added])
    assert_frame_equal(found.sort("id"), rows)
