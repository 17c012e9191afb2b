"""MLflow itself, in an environment of its own: what it holds in a folder, or behind its server, comes over alike, page by page."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import MLFLOW, environment

from loopline.adapters.mlflow import server as reading
from loopline.app import Platform
from loopline.foreign import run_source
from loopline.tracking.exchange.importing import bring

pytestmark = pytest.mark.systems

MAKER = Path(__file__).with_name("mlflow_runs.py")


@pytest.fixture(scope="module", params=MLFLOW)
def python(request: pytest.FixtureRequest) -> Path:
    return environment(request.param)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform
    platform.close()


def told(platform: Platform) -> dict[str, Any]:
    """What the runs hold, by name: all but ids and times, which each making has its own of."""
    session = platform.session()
    runs = session.runs.list(limit=1000).runs
    names, groups = {run.id: run.name for run in runs}, {g.number: g.name for g in session.groups.list().groups}
    return {
        run.name: {
            "params": run.params,
            "tags": {key for key in run.tags if not key.startswith("mlflow.source")},
            "status": run.status,
            "note": run.note,
            "parent": names.get(run.parent or ""),
            "group": groups[run.group],
            "points": {k: [(p.step, str(p.value)) for p in session.runs.history(run.id, k)] for k in run.metrics},
            "files": {f.path: f.digest for f in session.runs.artifacts(run.id)},
            "ended": run.ended is not None,
        }
        for run in runs
    }


EXPECTED = {"fold 0", "fold 1", "fold 2", "broken", "goes on"}


def test_a_folder_that_it_writes(python: Path, platform: Platform, tmp_path: Path) -> None:
    subprocess.run([python, MAKER, tmp_path / "mlruns"], check=True, capture_output=True, cwd=tmp_path)
    for state in ({"imported"}, {"imported", "there already"}):
        found = list(bring(platform.session(), run_source("mlflow", str(tmp_path / "mlruns"))))
        assert {one.state for one in found} == state, found
    runs = told(platform)
    assert len(runs) == 6
    assert runs.keys() > EXPECTED
    (parent,) = (run for name, run in runs.items() if name not in EXPECTED)
    assert len(parent["points"]["train/loss"]) == 30
    assert parent["points"]["odd"] == [(-5, "-Infinity"), (0, "NaN"), (1, "Infinity")]
    assert parent["files"].keys() == {"d.json", "notes/a.txt"}


def test_its_server_tells_the_same(
    python: Path, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        python, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}",
        "--artifacts-destination", str(tmp_path / "kept"), "--workers", "1",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    try:
        while not _answers(f"{url}/health"):
            assert server.poll() is None, (tmp_path / "log").read_text()
        subprocess.run([python, MAKER, url], check=True, capture_output=True, cwd=tmp_path)
        for name, size in (("_RUNS", 2), ("_EXPERIMENTS", 1), ("_POINTS", 7)):
            monkeypatch.setattr(reading, name, size)  # many pages
        for state in ({"imported"}, {"imported", "there already"}):
            found = list(bring(platform.session(), run_source("mlflow", url)))
            assert {one.state for one in found} == state, found
        runs = told(platform)
        subprocess.run([python, MAKER, tmp_path / "mlruns"], check=True, capture_output=True, cwd=tmp_path)
        platform.session().projects.create("folder")
        other = platform.session(project="folder")
        list(bring(other, run_source("mlflow", str(tmp_path / "mlruns"))))
        expected = told(_Within(platform, "folder"))  # type: ignore[arg-type]
        parent = next(name for name in runs if name not in EXPECTED)
        # Its database holds the largest number in place of an infinity, and its server says so.
        runs[parent]["points"]["odd"] = expected[parent]["points"]["odd"] = []
        assert runs == expected
    finally:
        os.killpg(server.pid, 15)
        server.wait()


class _Within:
    def __init__(self, platform: Platform, project: str) -> None:
        self._platform, self._project = platform, project

    def session(self) -> Any:
        return self._platform.session(project=self._project)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
