"""Attacks on MLflow's endpoints, each under the number of its class; tests/tracking/test_attacks.py has those on our own."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import socket
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from loopline.api.mlflow.endpoints import ENDPOINTS
from loopline.operations import Body

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream"}
SECRET = b"what nobody may read"


@pytest.fixture(scope="module")
def run(shared: Any) -> str:
    """A run with two files, and beside its workspace a file that is nobody's business."""
    made: str = shared.run()
    shared.session.runs.put_artifact(made, "plots/a.png", Body(b"png"))
    shared.session.runs.put_artifact(made, "b.txt", Body(b"text"))
    (outside(shared) / "secret.txt").write_bytes(SECRET)
    return made


def outside(door: Any) -> Path:
    return Path(door.platform.settings.workspace.parent)


def names(door: Any) -> set[str]:
    return {str(path) for path in outside(door).rglob("*") if ".db" not in path.name}


def refused(door: Any, run: str, paths: list[str]) -> None:
    """No verb takes one of these paths, which are sent as they stand; afterwards everything is as it was."""
    files, kept = names(door), door.session.runs.artifacts(run)
    for path in paths:
        for method in ("PUT", "GET", "DELETE"):
            status, said = door.ask(
                method,
                f"{PROXY}/0/{run}/artifacts/{path}",
                b"x" if method == "PUT" else None,
                RAW if method == "PUT" else {},
            )
            assert status in (400, 404, 405), (method, path, status, said)
            assert SECRET not in repr(said).encode()
        for target in (f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}", f"/get-artifact?run_id={run}&path={path}",
                       f"{PROXY}?path=0/{run}/artifacts/{path}"):  # fmt: skip
            status, said = door.ask("GET", target)
            assert status in (400, 404) or said in ({}, {"root_uri": f"mlflow-artifacts:/0/{run}/artifacts"}), (
                target,
                said,
            )
            assert SECRET not in repr(said).encode()
        target = f"/api/2.0/mlflow-artifacts/mpu/create/0/{run}/artifacts/{path}"
        status, said = door.ask("POST", target, b'{"path": "x"}', JSON)
        assert status in (400, 404), (target, said)
        status, said = door.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={path}", b"x", RAW)
        assert status in (400, 404), (path, said)
    assert (names(door), door.session.runs.artifacts(run)) == (files, kept)


def test_01_dots_in_the_path_of_a_file(shared: Any, run: str) -> None:
    refused(shared, run, ["../x", "../../../../secret.txt", "plots/../../x", "..", "./b.txt", "plots/.."])


def test_02_absolute_paths_and_file_addresses(shared: Any, run: str) -> None:
    there = str(outside(shared) / "secret.txt")
    refused(shared, run, [there, quote(there, safe=""), "C:/x", "c%3A%2fx", "c:../x", "%2fetc%2fpasswd"])
    assert shared.post("registered-models/create", {"name": "attacked"})[0] == 200
    for source in (
        f"file://{there}",
        there,
        f"file:{outside(shared)}",
        f"mlflow-artifacts:/0/{run}/artifacts/../../..",
        f"runs:/{run}/../x",
    ):
        given = {"name": "attacked", "source": source}
        status, said = shared.post("model-versions/create", given)
        assert status == 400, (source, said)
        status, said = shared.post("model-versions/create", {**given, "run_id": run})
        assert status == 400, (source, said)


def test_02_an_experiment_that_is_kept_in_a_folder_of_the_server(shared: Any, run: str) -> None:
    """Its location is what clients are told: the server itself opens nothing there."""
    for number, location in enumerate((f"file://{outside(shared)}", str(outside(shared)), "file:///etc", "s3://[x/")):
        made = shared.post("experiments/create", {"name": f"outside {number}", "artifact_location": location})[1]
        own = shared.run(experiment_id=made["experiment_id"])
        for target in (
            f"/api/2.0/mlflow/artifacts/list?run_id={own}", f"/get-artifact?run_id={own}&path=secret.txt",
            f"{PROXY}?path={made['experiment_id']}/{own}/artifacts", f"{PROXY}/{made['experiment_id']}/{own}/artifacts/secret.txt",
        ):  # fmt: skip
            status, said = shared.ask("GET", target)
            assert status in (200, 404), said
            assert "files" not in said
            assert SECRET not in repr(said).encode()
        for source in (
            f"{location}/secret.txt",
            f"{location}/{own}/artifacts/../../secret.txt",
            f"mlflow-artifacts:/{own}",
        ):
            given = {"name": "attacked", "source": source, "run_id": own}
            assert shared.post("model-versions/create", given)[0] == 400, source


def test_03_backslashes(shared: Any, run: str) -> None:
    refused(shared, run, ["%5c..%5cx", "plots%5c..%5c..%5cx", "a%5cb", "..%5cx"])


def test_04_paths_that_are_encoded_twice_and_three_times(shared: Any, run: str) -> None:
    for times in range(1, 4):
        for path in ("../../x", "/etc/passwd", "..\\x"):
            for _ in range(times):
                path = "".join(f"%{ord(c):02x}" if c in "./\\%" else c for c in path)
            refused(shared, run, [path])


@pytest.mark.timeout(60)
def test_04_what_is_encoded_very_often_takes_no_time(shared: Any, run: str) -> None:
    """Decoding it round by round would take hours: each takes off two characters."""
    often = "%" + "25" * 1_000_000 + "2e"
    for call in ("create", "complete", "abort"):
        address = f"/api/2.0/mlflow-artifacts/mpu/{call}/0/{run}/artifacts"
        given = json.dumps({"path": often, "num_parts": 1, "upload_id": "1", "parts": []}).encode()
        assert shared.ask("POST", address, given, JSON)[0] == 400, call
    for path, given in (
        ("model-versions/create", {"name": "attacked", "source": f"mlflow-artifacts:/0/{run}/artifacts/{often}", "run_id": run}),
        ("model-versions/create", {"name": "attacked", "source": f"s3://bucket/{often}"}),
        ("artifacts/presigned-upload-url", {"run_id": run, "path": often}),
        ("artifacts/presigned-download-url", {"run_id": run, "path": often}),
    ):  # fmt: skip
        assert shared.post(path, given)[0] == 400, path


def test_05_parameters_queries_and_fragments(shared: Any, run: str) -> None:
    refused(shared, run, ["a;/../../x", "a%3f/../x", "a%23/../../x", "..;/x", "%2e%2e;/x"])
    for source in (
        f"mlflow-artifacts:/0/{run}/artifacts?/../x",
        f"mlflow-artifacts:/0/{run}/artifacts#/../x",
        "http://x/?y=/../z",
        "mlflow-artifacts://[/x",
        "file://[::1/x",
        "s3://a\u2100b/x",
        "s3://a%5Bb/x",
        f"models:/attacked/{'9' * 5000}",
        f"models:/attacked/{2**70}",
    ):
        status, said = shared.post("model-versions/create", {"name": "attacked", "source": source, "run_id": run})
        assert status in (400, 404), (source, said)


def test_06_removing_what_is_outside(shared: Any, run: str) -> None:
    before = names(shared)
    for address in ("", "/", "0", "..", f"0/{run}", f"0/{run}/../..", "%2e%2e/%2e%2e", f"0/{run}/artifacts/..",
                    quote(str(outside(shared)), safe=""), f"../0/{run}/artifacts"):  # fmt: skip
        status, said = shared.ask("DELETE", f"{PROXY}/{address}")
        assert status in (400, 404, 405), (address, said)
    assert names(shared) == before
    assert len(shared.session.runs.artifacts(run)) == 2


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["07_a_link", "08_a_hard_link"])
def test_07_and_08_archives_are_kept_as_bytes(shared: Any, run: str, kind: bytes) -> None:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("plots")
        member.type, member.linkname = kind, "/tmp"
        tar.addfile(member)
        tar.addfile(tarfile.TarInfo("plots/pwned"))
    before = names(shared)
    address = f"{PROXY}/0/{run}/artifacts/model/archive.tar"
    assert shared.ask("PUT", address, data.getvalue(), RAW)[0] == 200
    assert shared.ask("GET", address) == (200, data.getvalue())
    assert shared.ask("DELETE", address)[0] == 200
    assert len([name for name in names(shared) - before if Path(name).is_file()]) <= 1
    assert not Path("/tmp/pwned").exists()


def test_09_names_that_are_no_names(shared: Any, run: str) -> None:
    refused(shared, run, ["a%00b", "%ff", "%c0%ae%c0%ae/x", "%ef%bc%8e%ef%bc%8e/x", "%e2%80%a5/x", "a.", "x" * 5000])
    for name in ("a\0b", "x" * 501):
        assert shared.post("experiments/create", {"name": name})[0] == 400
    for key in ("../x", "a\0b", "x" * 251, "", "/abs"):
        status, said = shared.post(
            "runs/log-metric", {"run_id": run, "key": key, "value": 1, "timestamp": 1, "step": 0}
        )
        assert status == 400, (key, said)


def test_10_links_in_place_of_parts(shared: Any, run: str) -> None:
    """Whoever could write into the workspace while an upload goes on: what a link leads to is neither read nor written."""
    runs, uploads = shared.session.runs, shared.platform.settings.workspace / "uploads"
    kept = runs.artifacts(run)
    upload = runs.start_upload(run, "linked", 1).id
    digest = runs.put_part(run, upload, 1, Body(SECRET)).digest
    (part,) = uploads.joinpath(upload).glob("0*")
    part.unlink()
    part.symlink_to(outside(shared) / "secret.txt")
    address = f"/api/2.0/mlflow-artifacts/mpu/complete/0/{run}/artifacts"
    given = {"path": "linked", "upload_id": upload, "parts": [{"part_number": 1, "etag": digest}]}
    assert shared.ask("POST", address, json.dumps(given).encode(), JSON)[0] == 400
    aside = outside(shared) / "aside"
    aside.mkdir()
    (uploads / upload / "upload.json").rename(aside / "upload.json")
    shutil.rmtree(uploads / upload)
    (uploads / upload).symlink_to(aside)
    target = f"/api/2.0/mlflow-artifacts/mpu/part/0/{run}/artifacts/linked?upload_id={upload}&part_number=1"
    assert shared.ask("PUT", target, b"x", RAW)[0] == 404
    assert [path.name for path in aside.iterdir()] == ["upload.json"]
    assert runs.artifacts(run) == kept
    (uploads / upload).unlink()
    shutil.rmtree(aside)


def test_11_versions_of_what_another_project_has(shared: Any, run: str) -> None:
    shared.session.projects.create("clinic")
    there = shared.platform.session(project="clinic")
    foreign = there.runs.create("theirs").id
    there.runs.put_artifact(foreign, "model/MLmodel", Body(SECRET))
    for source in (f"mlflow-artifacts:/0/{foreign}/artifacts/model", f"runs:/{foreign}/model", f"models:/m-{foreign}"):
        for more in ({}, {"run_id": foreign}, {"run_id": run}):
            status, said = shared.post("model-versions/create", {"name": "attacked", "source": source, **more})
            if status == 200:  # it only says where its files are said to be: nothing of them is here
                version = said["model_version"]["version"]
                status, said = shared.get("model-versions/get-download-uri", {"name": "attacked", "version": version})
            assert SECRET not in repr(said).encode()
    for method, body in (("GET", None), ("DELETE", None), ("PUT", b"x")):
        status, said = shared.ask(method, f"{PROXY}/0/{foreign}/artifacts/model/MLmodel", body, RAW if body else {})
        assert status == 404 or (method == "DELETE" and said == {}), (method, said)
    assert shared.get("artifacts/list", {"run_id": foreign})[0] == 404
    assert shared.ask("GET", f"/get-artifact?run_id={foreign}&path=model/MLmodel")[0] == 404
    assert there.runs.artifact(foreign, "model/MLmodel").read() == SECRET
    assert shared.ask("GET", f"/clinic{PROXY}/0/{foreign}/artifacts/model/MLmodel") == (200, SECRET)


def test_20_what_a_shell_would_run(shared: Any, run: str) -> None:
    for word in ("$(touch pwned)", "`touch pwned`", "; touch pwned", "&& touch pwned", "a' OR '1"):
        assert shared.post("runs/set-tag", {"run_id": run, "key": "mlflow.source.git.commit", "value": word})[0] == 200
        assert (
            shared.post("runs/log-parameter", {"run_id": shared.run(run_name=word), "key": "p", "value": word})[0]
            == 200
        )
        assert shared.ask("PUT", f"{PROXY}/0/{run}/artifacts/odd/{quote(word)}", b"x", RAW)[0] == 200
    assert shared.ask("DELETE", f"{PROXY}/0/{run}/artifacts/odd")[0] == 200
    assert not Path("pwned").exists()
    assert not (outside(shared) / "pwned").exists()


def test_22_callers_without_credentials(shared: Any, run: str) -> None:
    """As through a proxy, since nobody is the server's own user then."""
    for one in ENDPOINTS:
        if one.action is None:
            continue
        path = (
            one.path.replace("{address:path}", f"0/{run}/artifacts/b.txt")
            .replace("{model_id}", "m-1")
            .replace("{key}", "k")
        )
        for form in (path, path.replace("/api/", "/ajax-api/", 1), f"/clinic{path}"):
            for more in ({}, {"Authorization": "Bearer ll_" + "A" * 43}, {"Authorization": "Basic !!!"}):
                headers = {"X-Forwarded-For": "10.0.0.9", "Content-Type": "application/json", **more}
                body = None if one.method == "GET" else b"{}"
                status, said = shared.ask(one.method, form, body, headers)
                assert status == 401, (one.method, form, said)
    assert len(shared.session.runs.artifacts(run)) == 2


def test_36_sizes(shared: Any, run: str) -> None:
    cases = {
        "33 MB of JSON": (b'{"run_id": "' + b"x" * (33 << 20) + b'"}', {}),
        "a million params": (b'{"run_id": "%b", "params": [%b]}' % (run.encode(), b",".join([b'{"key":"p","value":"1"}'] * 1_000_000)), {}),
        "nested 100,000 deep": (b'{"run_id": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, {}),
        "lists 100,000 deep": (b'{"metrics": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
        "compressed zeros": (gzip.compress(bytes(64 << 20)), {"Content-Encoding": "gzip"}),
        "a boundary of 1 MB": (b"--" + b"b" * (1 << 20), {"Content-Type": "multipart/form-data; boundary=b"}),
    }  # fmt: skip
    for what, (body, headers) in cases.items():
        status, said = shared.post("runs/log-batch", body, **headers)
        assert 400 <= status < 500, (what, status, repr(said)[:200])
    assert shared.session.runs.show(run).params == {}


def test_36_requests_that_never_end(shared: Any, run: str) -> None:
    """Many that send a head, or a body, byte by byte, keep nobody else waiting."""
    host, port = "127.0.0.1", int(shared.url.rpartition(":")[2])
    head = b"POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nHost: localhost\r\n"
    with contextlib.ExitStack() as opened:
        for number in range(100):
            slow = opened.enter_context(socket.create_connection((host, port)))
            whole = head + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            slow.sendall(head if number % 2 else whole)
        for _ in range(5):
            assert shared.get("runs/get", {"run_id": run})[0] == 200


def test_37_searches_of_the_registry(shared: Any, run: str) -> None:
    if shared.get("registered-models/get", {"name": "attacked"})[0] == 404:
        assert shared.post("registered-models/create", {"name": "attacked"})[0] == 200
    assert shared.post("registered-models/set-tag", {"name": "attacked", "key": "long", "value": "a" * 5000})[0] == 200
    before = shared.session.models.list()
    for text in (
        "tags.long LIKE '" + "%a" * 500 + "b'", "tags.long ILIKE '%" + "_%" * 400 + "b'", "name = 'x'; DROP TABLE models",
        "name = 'x' OR 1=1 --", "tags.`') OR 1=1 --` = 'x'", "tags.\"$.a\" = 'x'", "name IN (" + ", ".join(["'x'"] * 2000) + ")",
        "name LIKE '" + "%" * 9000 + "'",
    ):  # fmt: skip
        for what in ("registered-models", "model-versions"):
            status, said = shared.get(f"{what}/search", {"filter": text})
            assert status in (200, 400), (what, text[:80], said)
            assert status == 400 or not (said.get("registered_models") or said.get("model_versions")) or "LIKE" in text
    for order in ("name; DROP TABLE models", "(SELECT 1)", "name DESC, (SELECT 1)", "name --"):
        for what in ("registered-models", "model-versions"):
            assert shared.get(f"{what}/search", {"order_by": [order]})[0] == 400, order
    for token in ("eyJvZmZzZXQiOiAiJyBPUiAxPTEifQ==", "eyJvZmZzZXQiOiAxfQ=="):
        for what in ("registered-models", "model-versions"):
            assert shared.get(f"{what}/search", {"page_token": token})[0] == 400
    assert shared.session.models.list() == before


def test_37_searches(shared: Any, run: str) -> None:
    shared.post("runs/set-tag", {"run_id": run, "key": "text", "value": "a" * 5000})
    before = shared.session.runs.list().runs
    for text in (
        "tags.text LIKE '" + "%a" * 2000 + "b'", "tags.text ILIKE '%" + "_%" * 2000 + "b'", "attributes.run_name = 'x'; DROP TABLE runs",
        "attributes.run_name = 'x' OR 1=1 --", "tags.text = '' UNION SELECT * FROM tokens", "params.`a` = 1) OR (1=1", "(" * 20_000,
        "run_id IN (" + ", ".join(["'x'"] * 50_000) + ")", "metrics.a > 1 AND " * 5000 + "metrics.a > 1", "tags.\"a' = 'b",
    ):  # fmt: skip
        status, said = shared.post("runs/search", {"experiment_ids": ["0"], "filter": text})
        assert status in (200, 400), (text[:80], status, repr(said)[:200])
        assert "DROP" not in text or status == 400
    for order in ("name; DROP TABLE runs", "(SELECT 1)", "metrics.a) DESC, (SELECT 1", "start_time DESC --"):
        assert shared.post("runs/search", {"experiment_ids": ["0"], "order_by": [order]})[0] == 400, order
    assert shared.session.runs.list().runs == before


def test_37_searches_of_everything_else(shared: Any, run: str) -> None:
    whole = {"experiments/search": {"max_results": 5}, "logged-models/search": {"experiment_ids": ["0"]}}
    before = shared.session.groups.list().groups
    for text in (
        "name = 'x'; DROP TABLE run_groups", "name = 'x' OR 1=1 --", "tags.`') OR 1=1 --` = 'x'", "name = '' UNION SELECT * FROM tokens",
        "name LIKE '" + "%a" * 4000 + "b'", "(" * 9_000, "name = 'a' AND " * 500 + "name = 'a'", "params.`a` = 1) OR (1=1", "tags.\"a' = 'b",
    ):  # fmt: skip
        for path, given in whole.items():
            status, said = shared.post(path, {**given, "filter": text})
            assert status in (200, 400), (path, text[:80], said)
            assert status == 400 or not said.get("experiments", said.get("models")), (path, text[:80], said)
    for order in ("name; DROP TABLE run_groups", "(SELECT 1)", "name --"):
        assert shared.post("experiments/search", {"max_results": 5, "order_by": [order]})[0] == 400, order
    for field in ("name; DROP TABLE runs", "(SELECT 1)", "metrics.a) DESC, (SELECT 1"):
        given = {"experiment_ids": ["0"], "order_by": [{"field_name": field}]}
        status, said = shared.post("logged-models/search", given)
        assert status == 400 or (status == 200 and field.startswith("metrics")), (field, said)
    for given in ({"order_by": [{"field_name": "name"}] * 100_000}, {"datasets": [{"dataset_name": "a"}] * 100_000}):
        assert shared.post("logged-models/search", {"experiment_ids": ["0"], **given})[0] == 400
    for numbers in (["9" * 5000], ["x"], ["' OR 1=1"]):
        for path in ("runs/search", "logged-models/search", "experiments/search-datasets"):
            assert shared.post(path, {"experiment_ids": numbers})[0] == 400, (path, numbers)
    assert shared.session.groups.list().groups == before


def test_38_numbers(shared: Any, run: str) -> None:
    fine = {"key": "fine", "value": 1.0, "step": 0, "timestamp": 1}
    for bad in (
        {"step": 2**63}, {"step": "9223372036854775808"}, {"step": 1.5}, {"timestamp": 2**63}, {"value": "nan?"}, {"value": None},
        {"key": None}, {"key": ""}, {"value": True, "key": {}}, {"timestamp": None}, {"step": [1]},
    ):  # fmt: skip
        status, said = shared.post("runs/log-batch", {"run_id": run, "metrics": [fine, {**fine, "key": "bad", **bad}]})
        assert status == 400, (bad, said)
    assert shared.session.runs.show(run).metrics == {}, "not half of a batch"
    for number in ("NaN", "Infinity", "-Infinity", 1e308, -1e308, "1e999"):
        status, said = shared.post(
            "runs/log-metric", {"run_id": run, "key": "odd", "value": number, "timestamp": 1, "step": -1}
        )
        assert status in (200, 400), (number, said)
    assert shared.get("runs/get", {"run_id": run})[0] == 200
