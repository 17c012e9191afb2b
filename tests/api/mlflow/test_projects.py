"""Which project an address names, who is let in there, and the fresh projects of the test mode."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest


@pytest.mark.parametrize("prefix", ["/clinic", "/clinic.mlflow", "/team/clinic", "/team/clinic.mlflow", "/t/clinic"])
def test_an_address_names_its_project(shared: Any, prefix: str) -> None:
    if "clinic" not in [project.name for project in shared.session.projects.list()]:
        shared.session.projects.create("clinic")
    status, answer = shared.post("runs/create", {"run_name": prefix}, prefix)
    assert status == 200
    run = answer["run"]["info"]["run_id"]
    assert shared.get("runs/get", {"run_id": run}, prefix)[0] == 200
    assert shared.get("runs/get", {"run_id": run})[0] == 404
    assert shared.platform.session(project="clinic").runs.show(run).name == prefix
    assert shared.post("runs/create", {}, "/nowhere")[1]["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert shared.post("runs/create", {}, "/a/b/clinic")[0] == 404


def test_a_token_is_sent_in_either_way(shared: Any) -> None:
    shared.session.access.grant(shared.session.access.whoami().name, "viewer")
    secret = shared.session.access.create_token(project="default", roles=["viewer"]).secret
    pair = base64.b64encode(f"anybody:{secret}".encode()).decode()
    for header in (f"Bearer {secret}", f"Basic {pair}"):
        assert shared.get("experiments/get", {"experiment_id": "0"}, Authorization=header)[0] == 200
        status, answer = shared.post("runs/create", {}, Authorization=header)
        assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    status, answer = shared.get("experiments/get", {"experiment_id": "0"}, Authorization="Bearer ll_wrong")
    assert (status, answer["error_code"]) == (401, "UNAUTHENTICATED")


def test_there_is_no_reset_but_in_test_mode(shared: Any, tmp_path: Path) -> None:
    sent = {"Content-Type": "application/json"}
    assert shared.ask("POST", "/__reset__", b"{}", sent)[0] == 404
    before = shared.session.projects.list()
    door = type(shared)(tmp_path, test_mode=True)
    try:
        urls = [
            door.ask("POST", "/__reset__", b'{"backend_uri": "x", "artifact_root": "y"}', sent)[1]["url"]
            for _ in range(2)
        ]
        assert len(set(urls)) == 2
        first, second = (urlsplit(url).path for url in urls)
        assert door.post("experiments/create", {"name": "a"}, first) == (200, {"experiment_id": "1"})
        assert door.post("experiments/create", {"name": "a"}, second) == (200, {"experiment_id": "1"})
        assert door.get("experiments/get", {"experiment_id": "0"}, first)[1]["experiment"]["name"] == "Default"
    finally:
        door.close()
    assert shared.session.projects.list() == before
