"""Attacks that are tried on every endpoint of MLflow's protocol, whatever it is about; test_attacks.py has those that are about one."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from loopline.api.mlflow.endpoints import ENDPOINTS, Endpoint
from loopline.operations import Body
from loopline.tracking.records import ExternalDataset, Point

MARK = "what-only-the-clinic-knows"
JSON = {"Content-Type": "application/json"}
ASKED = [one for one in ENDPOINTS if one.action is not None and one.path != "/__reset__"]


class Clinic:
    """A project with one thing of each kind, all of them marked, and a caller of another project who knows their names."""

    def __init__(self, door: Any) -> None:
        self.door = door
        self.door.session.projects.create("clinic")
        self.there = self.door.platform.session(project="clinic")
        runs = self.there.runs
        group = self.there.groups.create("theirs", tags={"k": MARK}).number
        self.run = runs.create("theirs", params={"p": MARK}, tags={"k": MARK}, group=group).id
        runs.log(self.run, [Point(key="loss", value=0.5, step=step, time=1) for step in range(3)])
        runs.put_artifact(self.run, "model/MLmodel", Body(MARK.encode()))
        runs.use(self.run, [ExternalDataset(name=MARK, digest="1", source=MARK)])
        self.logged = runs.create("theirs", kind="model", params={"p": MARK}, tags={"k": MARK}, group=group).id
        runs.put_artifact(self.logged, "MLmodel", Body(MARK.encode()))
        self.upload = runs.start_upload(self.run, "model/part", 1).id
        source = f"mlflow-artifacts:/{group}/{self.run}/artifacts/model"
        for path, sent in (
            ("registered-models/create", {"name": "theirs", "description": MARK}),
            ("model-versions/create", {"name": "theirs", "source": source, "run_id": self.run, "description": MARK}),
            ("registered-models/alias", {"name": "theirs", "alias": "champion", "version": "1"}),
        ):
            assert self.door.post(path, sent, prefix="/clinic")[0] == 200
        self.fields: dict[str, Any] = {
            "run_id": self.run, "run_uuid": self.run, "run_ids": [self.run], "model_id": f"m-{self.logged}",
            "experiment_id": str(group), "experiment_ids": [str(group)], "experiment_name": "theirs", "name": "theirs",
            "new_name": "stolen", "run_name": "stolen", "version": "1", "alias": "champion", "key": "k", "tag_key": "k",
            "value": "1", "metric_key": "loss", "timestamp": 1, "step": 0, "status": "FINISHED", "description": "stolen",
            "stage": "Archived", "path": "model/MLmodel", "source": source, "upload_id": self.upload, "part_number": 1,
            "num_parts": 1, "parts": [{"part_number": 1, "etag": "x"}], "max_results": 100, "artifact_path": "model",
            "metrics": [{"key": "loss", "value": 9, "timestamp": 9, "step": 9}], "params": [{"key": "new", "value": "1"}],
            "tags": [{"key": "k", "value": "stolen"}], "models": [{"model_id": f"m-{self.logged}", "step": 1}],
            "datasets": [{"dataset": {"name": "stolen", "digest": "1", "source_type": "a", "source": "b"}}],
            "model_json": json.dumps({"artifact_path": "a", "flavors": {}, "utc_time_created": "x", "run_id": self.run}),
        }  # fmt: skip
        self.address = f"{group}/{self.run}/artifacts/model/MLmodel"

    def ask(self, one: Endpoint, prefix: str = "") -> tuple[int, Any]:
        """Its answer to a request that names what the clinic has, in every field that it knows."""
        placed = {"address": self.address, **self.fields}
        path = re.sub(r"{(\w+)(?::path)?}", lambda place: quote(str(placed[place[1]])), one.path)
        known = {name: self.fields[name] for name in one.kind.__struct_fields__ if name in self.fields}
        if "registered-models/search" in path or "model-versions/search" in path:
            known = {}
        if "logged-models/search" in path:
            known.pop("datasets")
        if one.method == "GET" or one.takes == "raw":
            known = {name: value for name, value in known.items() if not isinstance(value, list) or name == "run_ids"}
            query = f"?{urlencode(known, doseq=True)}" if known else ""
            return self.door.ask(one.method, prefix + path + query, b"stolen" if one.brings else None)
        return self.door.ask(one.method, prefix + path, json.dumps(known).encode(), JSON)

    def held(self) -> list[Any]:
        """Everything that the project has."""
        runs, models = self.there.runs, self.there.models
        found = runs.list(lifecycle="all").runs
        return [
            found,
            [runs.artifacts(run.id) for run in found],
            [runs.history(run.id, "loss") for run in found],
            self.there.groups.list(lifecycle="all"),
            models.list(),
            models.show("theirs", 1),
            sorted(path.name for path in (self.door.platform.settings.workspace / "uploads" / self.upload).iterdir()),
        ]


@pytest.fixture(scope="module")
def clinic(shared: Any) -> Clinic:
    return Clinic(shared)


def test_11_what_another_project_has_is_neither_told_nor_changed(clinic: Clinic) -> None:
    before = clinic.held()
    for one in ASKED:
        status, said = clinic.ask(one)
        assert status < 500 or one.path.endswith("presigned/{address:path}"), (one.method, one.path, said)
        assert MARK not in repr(said), (one.method, one.path, said)
        assert clinic.held() == before, (one.method, one.path)
    told = [one.path for one in ASKED if one.action == "read" and MARK in repr(clinic.ask(one, "/clinic")[1])]
    assert len(told) >= 18, "in its own project the same requests are answered"
    changed = 0
    for one in ASKED:
        if one.action != "read" and "delete" not in one.path and one.method != "DELETE":
            former = clinic.held()
            clinic.ask(one, "/clinic")
            changed += clinic.held() != former
    assert changed >= 18, "and change it"


def test_22_what_is_open_to_all_tells_nothing(clinic: Clinic) -> None:
    proxied = {"X-Forwarded-For": "10.0.0.9"}
    assert {one.path for one in ENDPOINTS if one.action is None} == {"/version", "/api/3.0/mlflow/server-info"}
    for prefix in ("", "/clinic", "/nowhere"):
        for path in ("/version", "/api/3.0/mlflow/server-info"):
            status, said = clinic.door.ask("GET", prefix + path, None, proxied)
            assert status == 200
            assert said == clinic.door.ask("GET", path)[1], "whether there is such a project is not told"
    for one in ASKED:
        path = re.sub(r"{\w+(:path)?}", "x", one.path)
        for method in {"HEAD", "OPTIONS", "TRACE", "POST", "PUT"} - {one.method}:
            status, said = clinic.door.ask(method, f"/clinic{path}", None, proxied)
            assert status in (401, 403, 404, 405), (method, path, status)
            assert MARK not in repr(said)


def test_36_bodies_that_cannot_be_read(clinic: Clinic) -> None:
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    bomb = gzip.compress(bytes(16 << 20))
    for one in ASKED:
        if one.method == "GET" or one.takes == "raw":
            continue
        path = re.sub(r"{\w+(:path)?}", "x", one.path)
        for body, headers in ((deep, JSON), (bomb, {**JSON, "Content-Encoding": "gzip"}), (b"\x80\x04K\x01.", JSON)):
            status, said = clinic.door.ask(one.method, path, body, headers)
            # Where nothing needs to be said, what cannot be read is nothing, as it is for MLflow's server.
            assert 400 <= status < 500 or (status == 200 and not one.needed), (one.method, path, body[:10], said)
