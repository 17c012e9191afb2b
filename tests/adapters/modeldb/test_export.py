"""Answers of ModelDB's REST interface, made here by its published messages: what each field becomes, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Invalid
from loopline.foreign import run_source
from loopline.tracking.exchange.importing import SOURCE, bring

RUN: dict[str, Any] = {
    "id": "6f1a", "project_id": "p1", "experiment_id": "e1", "name": "boosted", "description": "*first*",
    "date_created": "1600000000000", "date_updated": "1600000050000", "start_time": "1600000001000", "end_time": "1600000040000",
    "tags": ["best"], "owner": "ann",
    "attributes": [{"key": "team", "value": "clinic", "value_type": "STRING"}, {"key": "sizes", "value": [1, 2]}],
    "hyperparameters": [{"key": "rate", "value": 0.1, "value_type": "NUMBER"}, {"key": "kind", "value": "gbm"}],
    "metrics": [{"key": "auc", "value": 0.7, "value_type": "NUMBER"}],
    "observations": [
        {"attribute": {"key": "loss", "value": 0.5}, "timestamp": "1600000002000", "epoch_number": 0},
        {"attribute": {"key": "loss", "value": 0.4}, "timestamp": "1600000003000", "epoch_number": 1},
        {"attribute": {"key": "acc", "value": "0.25"}, "timestamp": "1600000003000"},
        {"attribute": {"key": "acc", "value": 0.5}, "timestamp": "1600000004000"},
        {"attribute": {"key": "said", "value": "fine"}, "timestamp": "1600000004000"},
        {"artifact": {"key": "picture", "path": "s3://b/p.png"}, "timestamp": "1600000004000"},
    ],
    "artifacts": [{"key": "model", "path": "m.pkl", "artifact_type": "MODEL"}],
    "datasets": [{"key": "rows", "path": "r.csv", "artifact_type": "DATA"}],
    "features": [{"name": "age"}], "versioned_inputs": {"repository_id": "1", "commit": "c"}, "code_version_from_blob": {},
    "code_version_snapshot": {"git_snapshot": {"hash": "c" * 40, "repo": "git@host:x.git", "is_dirty": "TRUE"}},
}  # fmt: skip
CHILD = {"id": "7b2c", "parentId": "6f1a", "name": "fold", "dateCreated": "1600000005000"}


def taken(platform: Platform, place: Path) -> list[Any]:
    return list(bring(platform.session(), run_source("modeldb", str(place))))


def test_each_field_is_mapped(either: Platform, tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps({"experiment_runs": [RUN], "total_records": "2"}))
    (tmp_path / "2.json").write_text(json.dumps({"experimentRuns": [RUN, CHILD]}))  # pages that overlap; camelCase
    for states in (["imported"] * 2, ["there already"] * 2):
        found = taken(either, tmp_path)
        assert [one.state for one in found] == states
    assert found[0].left_out == (
        "the bytes of model, rows, which ModelDB's answers do not hold",
        "2 observations that are no numbers",
        "names of features",
        "inputs in a repository of ModelDB",
    )
    session = either.session()
    run, child = (session.runs.show(one.run) for one in found)
    assert (run.name, run.note, run.created, run.ended, run.status) == (
        "boosted", "*first*", 1600000001000, 1600000040000, "finished",
    )  # fmt: skip
    assert run.params == {"rate": 0.1, "kind": "gbm"}
    assert run.tags == {
        "best": "true", "team": "clinic", "sizes": "[1, 2]", "modeldb.owner": "ann", "modeldb.project_id": "p1",
        SOURCE: "modeldb:6f1a",
    }  # fmt: skip
    assert run.environment == {"commit": "c" * 40, "remote": "git@host:x.git", "dirty": True}
    points = {key: [(p.step, p.value) for p in session.runs.history(run.id, key)] for key in run.metrics}
    assert points == {"auc": [(0, 0.7)], "loss": [(0, 0.5), (1, 0.4)], "acc": [(0, 0.25), (1, 0.5)]}
    assert child.parent == run.id
    assert session.groups.show(run.group).name == "e1"


BAD: dict[str, Any] = {
    "no JSON": b"{", "a list": b"[]", "no runs": b"{}", "too deep": b"[" * 200_000, "no UTF-8": b'{"a": "\xff"}',
    "no id": {"experiment_runs": [{"name": "x"}]}, "a text": {"experiment_runs": ["x"]},
    "no time": {"experiment_runs": [{**RUN, "start_time": "soon"}]},
    "far off": {"experiment_runs": [{**RUN, "start_time": 10**18}]},
    "no metric": {"experiment_runs": [{**RUN, "metrics": [{"key": "auc", "value": "high"}]}]},
    "no key": {"experiment_runs": [{**RUN, "hyperparameters": [{"value": 1}]}]},
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_none_is_named(platform: Platform, tmp_path: Path, case: str) -> None:
    content = BAD[case]
    (tmp_path / "x.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    (found,) = taken(platform, tmp_path / "x.json")
    assert (found.state, bool(found.why)) == ("refused", True)
    assert platform.session().runs.list().runs == ()


def test_a_place_without_answers(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(Invalid):
            run_source("modeldb", str(place))
