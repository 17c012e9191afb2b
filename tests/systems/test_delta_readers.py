"""pandas and DuckDB, in an environment of their own: they read each version by its Delta table and by its files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import deltalake
import msgspec
import pytest
from peers import environment
from tests.systems.test_delta_lake import body, frame

from loopline.app import Platform

pytestmark = pytest.mark.systems

_READ = """
import json, sys
import deltalake, duckdb, pandas
said = json.loads(sys.stdin.read())
frame = deltalake.DeltaTable(said["table"], version=said["delta_version"]).to_pandas()
rows = duckdb.execute("SELECT count(*), sum(id), count(cost) FROM read_parquet($1)", [said["files"]]).fetchall()[0]
held = deltalake.DeltaTable(said["table"], version=said["delta_version"]).to_pyarrow_dataset()
print(json.dumps([len(frame), int(frame["id"].sum()), int(frame["cost"].notna().sum()), list(frame.columns)]))
print(json.dumps([*map(int, rows)]))
print(json.dumps([*map(int, duckdb.sql("SELECT count(*), sum(id), count(cost) FROM held").fetchall()[0])]))
"""


@pytest.mark.timeout(600)
def test_pandas_and_duckdb_read_a_version(tmp_path: Path) -> None:
    python = environment("duckdb==2.0.0", "pandas<3", f"deltalake=={deltalake.__version__}", "pyarrow")
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    session, folder = platform.session(), tmp_path / "workspace" / "tables" / "default" / "visits"
    for rows in (50, 80, 90):
        session.datasets.add("visits", body(frame(rows)))
    session.datasets.restore("visits", "1")
    for version, rows in (("1", 50), ("2", 80), ("4", 50)):
        files = session.datasets.files("visits", version)
        assert (files.table, files.rows) == (str(folder), rows)
        said = msgspec.json.encode(files)
        done = subprocess.run([python, "-c", _READ], input=said, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        told = done.stdout.splitlines()
        counts = [rows, sum(range(rows)), rows - frame(rows)["cost"].null_count()]
        assert [json.loads(line) for line in told] == [[*counts, frame(rows).columns], counts, counts]
    platform.close()
