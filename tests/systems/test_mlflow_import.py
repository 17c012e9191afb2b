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
from loopline.ports.foreign_runs import ModelSource
from loopline.registry.importing import bring_models
from loopline.tracking.exchange.importing import bring

pytestmark = pytest.mark.systems

MAKER = Path(__file__).with_name("mlflow_runs.py")
MODELS = Path(__file__).with_name("mlflow_models.py")


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
    port, url = free_port()
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


def models_told(platform: Platform, place: str) -> dict[str, Any]:
    """What an import brings of models, twice; all but ids and times."""
    session = platform.session()
    for state in ({"imported"}, {"there already"}):
        outcomes = list(bring(session, run_source("mlflow", place)))
        source = run_source("mlflow", place)
        assert isinstance(source, ModelSource)
        models = list(bring_models(session, source))
        assert {one.state for one in (*outcomes, *models)} - {"there already"} == state - {"there already"}, models
        lost = sorted({what for one in models for what in one.left_out})
    runs = {run.kind: run for run in session.runs.list(limit=1000).runs}
    fit, logged = runs["run"], runs["model"]
    (measure,) = session.runs.measures((logged.id,))
    versions = session.models.list_versions()
    return {
        "lost": lost,
        "data": [(one.name, one.digest, one.context, one.source) for one in fit.external],
        "made": fit.outputs == (logged.ref,),
        "logged": (
            logged.name,
            logged.status,
            logged.parent == fit.id,
            sorted(f.path for f in session.runs.artifacts(logged.id)),
        ),
        "measure": (measure.key, measure.value, measure.step, measure.run == fit.id, measure.dataset),
        "models": [(m.title, m.description, m.tags, m.aliases) for m in session.models.list()],
        "versions": [
            (v.name, v.version, v.description, v.tags, v.run == fit.ref, sorted(v.forms), v.servable) for v in versions
        ],
        "sound": [session.models.verify(v.name, v.version).ok for v in versions],
    }


def test_models_come_over_from_a_folder_and_from_a_server(python: Path, platform: Platform, tmp_path: Path) -> None:
    subprocess.run([python, MODELS, tmp_path / "mlruns"], check=True, capture_output=True, cwd=tmp_path)
    found = models_told(platform, str(tmp_path / "mlruns"))
    assert found["data"] == [("visits", found["data"][0][1], "training", '{"uri": "visits.csv"}')]
    assert (found["made"], found["logged"][:3]) == (True, ("double", "finished", True))
    assert "MLmodel" in found["logged"][3]
    assert found["measure"] == ("auc", 0.5, 1, True, "visits")
    assert [(m[0], m[1], m[3]) for m in found["models"]] == [
        ("Fraud model's", "Who asks twice", {"champion": 1}), ("empty", "", {}), ("in use", "", {}),
    ]  # fmt: skip
    assert [(v[1], v[2], v[3], v[4]) for v in found["versions"]] == [
        (1, "first", {"a": "b", "mlflow.stage": "Production"}, True), (2, "", {}, True), (1, "first", {"a": "b"}, True),
    ]  # fmt: skip
    assert [v[5] for v in found["versions"]] == [found["logged"][3], ["weights.txt"], found["logged"][3]], "a copy, too"
    assert {v[6] for v in found["versions"]} == {False}
    assert found["sound"] == [True, True, True]
    port, url = free_port()
    command = [
        python, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}",
        "--artifacts-destination", str(tmp_path / "kept"), "--workers", "1",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    other = Platform.open(workspace=tmp_path / "other", checkpoints=str(tmp_path / "copies"))
    try:
        while not _answers(f"{url}/health"):
            assert server.poll() is None, (tmp_path / "log").read_text()
        subprocess.run([python, MODELS, url], check=True, capture_output=True, cwd=tmp_path)
        assert models_told(other, url) == found
    finally:
        other.close()
        os.killpg(server.pid, 15)
        server.wait()


def free_port() -> tuple[int, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return port, f"http://127.0.0.1:{port}"


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
