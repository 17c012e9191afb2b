"""Spark itself, in an environment of its own: it reads a version by its Parquet files, and what it writes becomes a version."""

from __future__ import annotations

import datetime as dt
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from peers import environment

from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.versions import storable
from loopline.hashing import digest_table
from loopline.operations import Body

pytestmark = pytest.mark.systems

ROWS = 5_000


@pytest.fixture(scope="module")
def python() -> Path:
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not on PATH")
    return environment("pyspark==4.2.0", "pyarrow", "pandas<3")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform.session()
    platform.close()


def visits() -> pl.DataFrame:
    start = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).replace(tzinfo=None)
    return pl.DataFrame(
        {
            "id": range(ROWS),
            "day": [None if n % 9 == 0 else dt.date(2020, 1, 1) + dt.timedelta(n) for n in range(ROWS)],
            "at": [None if n % 8 == 0 else start + dt.timedelta(seconds=n, microseconds=n) for n in range(ROWS)],
            "cost": [None if n % 7 == 0 else n / 3 for n in range(ROWS)],
            "small": pl.Series([n % 100 for n in range(ROWS)], dtype=pl.Int8),
            "ward": [None if n % 11 == 0 else f"ward {n % 4}, é “{n}”\n" for n in range(ROWS)],
            "back": [n % 3 == 0 for n in range(ROWS)],
        }
    )


@pytest.mark.timeout(900)  # Spark takes a minute to start on a busy machine
def test_spark_reads_a_version_and_what_it_writes_is_a_version(python: Path, session: Session, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    visits().write_parquet(buffer)
    version = session.datasets.add("visits", Body(buffer.getvalue(), name="visits.parquet"))
    files = session.datasets.files("visits").files
    home = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)}
    program = Path(__file__).with_name("spark_tables.py")
    done = subprocess.run(
        [python, program, tmp_path, "id", *files], env=home, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]

    with pa.ipc.open_file(tmp_path / "read.arrow") as file:
        read = pl.DataFrame(pl.from_arrow(file.read_all()))
    assert digest_table(storable(read).to_arrow()) == version.digest, "what Spark read is what the version holds"

    written = session.sources.collect("back", ({"address": str(tmp_path / "written"), "options": {}},)).version  # type: ignore[arg-type]
    assert written.rows == ROWS
    assert written.digest == version.digest, "and what it wrote is the same content again"
