"""Registered models out of a folder of MLflow: each version once, its files where they are to be had, and served by nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Conflict
from loopline.foreign import run_source
from loopline.ports.foreign_runs import ModelSource
from loopline.registry.importing import ModelOutcome, bring_models
from loopline.tracking.exchange.importing import bring

RUN, LOGGED = "a" * 32, "m-" + "b" * 32


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    """A folder with a run, a model that it logged, and a registered model of three versions."""
    folder = tmp_path / "mlruns"
    made_by = f"source_run_id: {RUN}\n"
    made_by += "creation_timestamp: 1700000000000\nlast_updated_timestamp: 1700000000009\n"
    files = {
        "1/meta.yaml": "experiment_id: '1'\nname: visits\nlifecycle_stage: active\n",
        f"1/{RUN}/meta.yaml": f"run_id: {RUN}\nrun_name: fit\nstatus: 3\nstart_time: 1700000000000\nend_time: 1700000000009\n",
        f"1/{RUN}/artifacts/model/MLmodel": "flavors: {}",
        f"1/{RUN}/inputs/1/meta.yaml": "source_type: DATASET\nsource_id: d1\ntags:\n  mlflow.data.context: train\n",
        "1/datasets/d1/meta.yaml": "name: visits\ndigest: '12'\nsource: x\nsource_type: local\n",
        f"1/models/{LOGGED}/meta.yaml": f"model_id: {LOGGED}\nname: double\nstatus: 2\nmodel_type: agent\n{made_by}",
        f"1/models/{LOGGED}/artifacts/weights": "w",
        f"1/models/{LOGGED}/metrics/auc": f"5 0.5 1 {RUN} my visits d0\n6 0.6 2 {RUN}\n",
        "models/fraud/meta.yaml": "name: fraud\ndescription: why\n",
        "models/fraud/tags/team": "claims",
        "models/fraud/aliases/champion": "3",
        "models/fraud/aliases/_odd": "1",
        "models/fraud/version-1/meta.yaml": f"version: 1\nrun_id: {RUN}\nsource: mlflow-artifacts:/1/{RUN}/artifacts/model\n",
        "models/fraud/version-3/meta.yaml": f"version: 3\nsource: models:/{LOGGED}\ncurrent_stage: Staging\ndescription: third\n",
        "models/fraud/version-3/tags/a": "b",
        "models/fraud/version-10/meta.yaml": "version: 10\nrun_id: unknown\nsource: s3://bucket/x\n",
        "models/fraud/version-2/meta.yaml": f"version: 2\nsource: models:/{LOGGED}\ncurrent_stage: Deleted_Internal\n",
        "models/broken/meta.yaml": "- a list\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def taken(platform: Platform, folder: Path, *, refused: frozenset[str] = frozenset()) -> dict[str, ModelOutcome]:
    source: Any = run_source("mlflow", str(folder))
    assert isinstance(source, ModelSource)
    assert {one.source for one in bring(platform.session(), source) if one.state == "refused"} == refused
    return {one.source: one for one in bring_models(platform.session(), source, refused)}


def test_versions_come_over_with_their_files_and_names(either: Platform, mlruns: Path) -> None:
    found = taken(either, mlruns)
    assert {source: one.state for source, one in found.items()} == {
        "mlflow:models/broken": "refused", "mlflow:models/fraud": "imported", "mlflow:models/fraud/1": "imported",
        "mlflow:models/fraud/3": "imported", "mlflow:models/fraud/10": "imported",
    }  # fmt: skip
    assert found["mlflow:models/fraud/10"].left_out == ("its files, which are at s3://bucket/x",)
    assert found["mlflow:models/fraud"].left_out[0].startswith("the alias '_odd': ")
    session = either.session()
    (model,) = session.models.list()
    assert (model.title, model.description, model.aliases) == ("fraud", "why", {"champion": 2})
    assert model.tags == {"team": "claims", "import.source": "mlflow:models/fraud"}
    first, third, last = sorted(session.models.versions("fraud"), key=lambda one: one.version)
    assert (sorted(first.forms), sorted(third.forms), last.forms) == (["MLmodel"], ["weights"], {})
    assert (third.tags, third.description) == ({"a": "b", "mlflow.stage": "Staging"}, "third")
    assert last.facts == {"import.source": "mlflow:models/fraud/10", "source": "s3://bucket/x", "run_id": "unknown"}
    fit = next(run for run in session.runs.list().runs if run.kind == "run")
    assert (first.run, first.facts["source"]) == (fit.ref, f"mlflow-artifacts:/1/{RUN}/artifacts/model")
    assert [(one.name, one.context) for one in fit.external] == [("visits", "train")]
    for version in (first, third, last):
        assert session.models.verify("fraud", version.version).ok
        with pytest.raises(Conflict) as refused:
            session.endpoints.create("mine", f"fraud@{version.version}")
        assert refused.value.code == "not-a-bundle"


def test_a_logged_model_is_one_to_mlflows_clients(either: Platform, mlruns: Path) -> None:
    taken(either, mlruns)
    session = either.session()
    (logged,) = (run for run in session.runs.list().runs if run.kind == "model")
    fit = session.runs.show(logged.parent)
    assert (logged.name, logged.status, fit.outputs) == ("double", "finished", (logged.ref,))
    assert logged.tags["loopline.model_type"] == "agent"
    measured = [(m.key, m.value, m.step, m.run, m.dataset, m.digest) for m in session.runs.measures((logged.id,))]
    assert measured == [("auc", 0.5, 1, fit.id, "my visits", "d0"), ("auc", 0.6, 2, fit.id, "", "")]


def test_again_is_nothing_twice_and_what_is_new_follows(either: Platform, mlruns: Path) -> None:
    taken(either, mlruns)
    session = either.session()
    session.models.set_alias("fraud", "champion", 1, "better here")
    (mlruns / "models/fraud/version-11").mkdir()
    (mlruns / "models/fraud/version-11/meta.yaml").write_text(f"version: 11\nsource: runs:/{RUN}/model\n")
    found = taken(either, mlruns)
    assert [one.source for one in found.values() if one.state == "imported"] == ["mlflow:models/fraud/11"]
    assert [one.version for one in session.models.versions("fraud")] == [4, 3, 2, 1]
    assert session.models.model("fraud").aliases == {"champion": 1}, "what was said here since holds"
    assert sorted(session.models.show("fraud", 4).forms) == ["MLmodel"]


def test_a_model_of_ones_own_is_not_mixed_with_another(either: Platform, mlruns: Path) -> None:
    either.session().models.create("mine", title="fraud")
    found = taken(either, mlruns)
    assert found["mlflow:models/fraud"].state == "refused"
    assert "another one" in found["mlflow:models/fraud"].why
    assert either.session().models.list_versions() == ()


DAMAGES = {
    "its run": (f"1/{RUN}/meta.yaml", {"fraud/1", "fraud/3"}, {RUN, LOGGED}),
    "a point of its run": (f"1/{RUN}/metrics/loss", {"fraud/1", "fraud/3"}, {RUN, LOGGED}),
    "a file of its run, behind others": (f"1/{RUN}/artifacts/model/\x01", {"fraud/1"}, {RUN}),
    "its logged model": (f"1/models/{LOGGED}/meta.yaml", {"fraud/3"}, {LOGGED}),
    "a file of its logged model": (f"1/models/{LOGGED}/artifacts/\x01", {"fraud/3"}, {LOGGED}),
    "its experiment": ("1/meta.yaml", {"fraud/1", "fraud/3"}, {"1", RUN, LOGGED}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_of_a_refused_run_waits_for_it(either: Platform, mlruns: Path, damage: str) -> None:
    name, versions, runs = DAMAGES[damage]
    path = mlruns / name
    path.parent.mkdir(exist_ok=True)
    whole = path.read_bytes() if path.exists() else None
    path.write_bytes(b"no: [whole\n")
    refused = frozenset(f"mlflow:{run}" for run in runs)
    for state in ("imported", "there already"):
        found = taken(either, mlruns, refused=refused)
        others = {f"fraud/{number}" for number in (1, 3, 10)} - versions
        for one in versions:
            told = found[f"mlflow:models/{one}"]
            assert (told.state, told.ref) == ("refused", "")
            assert any(run in told.why for run in runs)
            assert "import again" in told.why
        assert {found[f"mlflow:models/{one}"].state for one in others} == {state}
        assert len(either.session().models.versions("fraud", lifecycle="all")) == len(others)
        assert ("champion" in either.session().models.model("fraud").aliases) == ("fraud/3" in others)
    if whole is None:
        path.unlink()
    else:
        path.write_bytes(whole)
    found = taken(either, mlruns)
    assert {found[f"mlflow:models/{one}"].state for one in versions} == {"imported"}
    assert {found[f"mlflow:models/{one}"].state for one in others} == {"there already"}
    session = either.session()
    forms = {
        one.facts["import.source"].rpartition("/")[2]: sorted(one.forms) for one in session.models.versions("fraud")
    }
    assert forms == {"1": ["MLmodel"], "3": ["weights"], "10": []}
    champion = session.models.show("fraud", session.models.model("fraud").aliases["champion"])
    assert champion.facts["import.source"] == "mlflow:models/fraud/3"
    (logged,) = (run for run in session.runs.list().runs if run.kind == "model")
    assert logged.parent is not None
    assert [m.value for m in session.runs.measures((logged.id,))] == [0.5, 0.6]


def test_a_version_whose_run_is_here_already_is_taken_though_that_is_damaged_now(
    either: Platform, mlruns: Path
) -> None:
    source: Any = run_source("mlflow", str(mlruns))
    list(bring(either.session(), source))
    (mlruns / f"1/{RUN}/meta.yaml").write_text("no: [whole")
    found = taken(either, mlruns, refused=frozenset({f"mlflow:{RUN}"}))
    assert {one.state for one in found.values()} == {"imported", "refused"}
    assert sorted(either.session().models.show("fraud", 1).forms) == ["MLmodel"]
