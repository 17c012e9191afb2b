"""`loopline runs import` and `export`: what they do, what they say, and their exit codes."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.app import Platform
from loopline.tracking.records import Point

Shell = Any  # conftest's
GOLDEN = Path(__file__).parents[1] / "adapters" / "tensorboard" / "golden"


@pytest.fixture
def kept(bare: Shell) -> str:
    """A workspace with two runs that have ended; the id of the first."""
    platform = Platform.open(workspace=bare.workspace, checkpoints=str(bare.state / "copies"))
    runs = platform.session().runs
    ids = []
    for number in range(2):
        run = runs.create(f"fit {number}", params={"rate": number / 10}, tags={"said": "=1+1"}).id
        runs.log(run, [Point(key="loss", value=1 / (n + 1), step=n, time=1 + n) for n in range(5)])
        runs.finish(run)
        ids.append(run)
    platform.close()
    return str(ids[0])


def test_event_files_in_and_out(bare: Shell, tmp_path: Path) -> None:
    told = bare("runs", "import", "tensorboard", str(GOLDEN))
    assert told.out.startswith("2 imported, 0 there already, 0 refused")
    assert "left out 1 of histograms" in told.err
    again = bare("runs", "import", "tensorboard", str(GOLDEN), "--json").json
    assert [one["state"] for one in again] == ["there already"] * 2
    assert len(bare("runs", "search", "tags.`import.source` LIKE 'tensorboard:%'", "--json").json["runs"]) == 2
    bare("runs", "export", "tensorboard", str(tmp_path / "logs"), "--filter", "name = 'train'")
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name.startswith("train-")
    bare("--project", "default", "runs", "import", "tensorboard", str(tmp_path / "logs"))
    assert len(bare("runs", "ls", "--json").json["runs"]) == 3


def test_what_is_refused_is_named_and_told_by_the_exit_code(bare: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    told = bare("runs", "import", "modeldb", str(tmp_path / "x.json"), code=2)
    assert "modeldb:x.json is refused" in told.err
    assert "1 refused" in told.out
    assert "no experiments of MLflow" in bare("runs", "import", "mlflow", str(tmp_path), code=2).err
    assert "does not answer" in bare("runs", "import", "mlflow", "http://127.0.0.1:1", code=4).err


def test_a_registered_version_waits_for_its_damaged_run(bare: Shell, tmp_path: Path) -> None:
    run = "a" * 32
    files = {
        "1/meta.yaml": "experiment_id: '1'\nname: visits\n",
        f"1/{run}/meta.yaml": f"run_id: {run}\nrun_name: fit\nstatus: 3\nstart_time: 1700000000000\n",
        f"1/{run}/artifacts/model/weights": "w",
        "models/fraud/meta.yaml": "name: fraud\n",
        "models/fraud/version-1/meta.yaml": f"version: 1\nrun_id: {run}\nsource: runs:/{run}/model\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / f"1/{run}/metrics").mkdir()
    (tmp_path / f"1/{run}/metrics/loss").write_text("soon\n")
    told = bare("runs", "import", "mlflow", str(tmp_path), code=2)
    assert f"mlflow:models/fraud/1 is refused: mlflow:{run}, which it is of, was refused" in told.err
    assert told.out.startswith("1 imported, 0 there already, 2 refused")
    (tmp_path / f"1/{run}/metrics/loss").write_text("1700000000000 0.5 1\n")
    assert bare("runs", "import", "mlflow", str(tmp_path)).out.startswith("2 imported, 1 there already, 0 refused")
    assert bare("models", "verify", "fraud@1").code == 0


def test_tables(bare: Shell, kept: str, tmp_path: Path) -> None:
    bare("runs", "export", "csv", str(tmp_path / "runs.csv"))
    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["fit 1", "fit 0"]
    assert [row["tags.said"] for row in rows] == ["'=1+1"] * 2
    bare("runs", "export", "parquet", str(tmp_path / "points.parquet"), kept, "--points")
    assert pl.read_parquet(tmp_path / "points.parquet")["step"].to_list() == [0, 1, 2, 3, 4]
    bare("runs", "export", "csv", str(tmp_path / "none.csv"), "--filter", "name = 'none'")
    assert (tmp_path / "none.csv").read_text().count("\n") == 1
    assert "cannot be written" in bare("runs", "export", "csv", str(tmp_path / "no" / "x.csv"), code=2).err
    assert (
        "Name runs, or give a filter"
        in bare("runs", "export", "csv", "x.csv", kept, "--filter", "name = 'a'", code=2).err
    )


def test_a_bundle_between_two_workspaces(bare: Shell, kept: str, tmp_path: Path) -> None:
    file = str(tmp_path / "run.tar")
    told = bare("runs", "export", "bundle", file, kept).err
    key = re.findall(r"[0-9a-f]{64}", told)[0]
    other = type(bare)(tmp_path / "other", tmp_path / "other-state")
    refused = other("runs", "import", "bundle", file, code=3).err
    assert f"--key {key}" in refused
    taken = other("runs", "import", "bundle", file, "--key", key, "--json").json
    assert (taken["name"], taken["tags"]["import.source"]) == ("fit 0", f"loopline:{key}/{kept}")
    assert "loopline runs delete" in other("runs", "import", "bundle", file, "--key", key).out
    assert len(other("runs", "ls", "--json").json["runs"]) == 1
