"""Files in parts over MLflow's protocol: whole beyond what one body may have, and refused without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from conftest import Door

PROXY = "/api/2.0/mlflow-artifacts"
RAW = {"Content-Type": "application/octet-stream"}
LIMIT = 100_000


@pytest.fixture
def small(database_url: str, tmp_path: Path) -> Iterator[Door]:
    """A platform that takes bodies of at most LIMIT bytes."""
    made = Door(tmp_path, database=database_url, body_limit=LIMIT)
    yield made
    made.close()


def mpu(door: Any, step: str, run: str, given: dict[str, Any], folder: str = "", **headers: str) -> tuple[int, Any]:
    target = f"{PROXY}/mpu/{step}/0/{run}/artifacts{folder}"
    return door.ask("POST", target, json.dumps(given).encode(), {"Content-Type": "application/json", **headers})


def bring(door: Any, credential: dict[str, Any], data: bytes) -> tuple[int, str, Any]:
    """The status and the ETag of a part that is sent as clients send it: to its URL, with the headers that were told."""
    import http.client

    url = urlsplit(credential["url"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.request("PUT", f"{url.path}?{url.query}", data, credential["headers"])
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers.get("ETag", ""), json.loads(content) if content[:1] == b"{" else content


def test_a_file_larger_than_any_body_comes_in_parts(small: Any) -> None:
    run = small.run()
    pieces = [bytes([number]) * LIMIT for number in range(5)] + [b"end"]
    target = f"{PROXY}/artifacts/0/{run}/artifacts/sub/f.bin"
    status, told = small.ask("PUT", target, b"".join(pieces), RAW)
    assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    status, begun = mpu(small, "create", run, {"path": "data/f.bin", "num_parts": 6}, "/sub")
    assert status == 200
    assert [one["part_number"] for one in begun["credentials"]] == [1, 2, 3, 4, 5, 6]
    parts = []
    for credential, piece in reversed(list(zip(begun["credentials"], pieces, strict=True))):
        status, etag, _ = bring(small, credential, piece)
        assert status == 200
        parts.insert(0, {"part_number": credential["part_number"], "etag": etag, "url": credential["url"]})
    end = {"path": "data/f.bin", "upload_id": begun["upload_id"], "parts": parts}
    assert mpu(small, "complete", run, end, "/sub") == (200, {})
    assert small.ask("GET", target) == (200, b"".join(pieces))
    assert mpu(small, "complete", run, end, "/sub") == (200, {})


def test_what_is_wrong_with_parts_is_told_as_such(small: Any) -> None:
    run, other = small.run(), small.run()
    status, begun = mpu(small, "create", run, {"path": "C:\\data\\f.bin", "num_parts": 2})
    assert status == 200
    first, second = begun["credentials"]
    status, _, told = bring(small, first, b"x" * (LIMIT + 1))
    assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    etags = [bring(small, one, b"x")[1] for one in (first, second)]
    named = [{"part_number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
    end = {"path": "f.bin", "upload_id": begun["upload_id"], "parts": named}
    wrong: list[tuple[dict[str, Any], int]] = [
        ({"parts": named[:1]}, 400), ({"parts": named[::-1]}, 400), ({"parts": [named[0], named[0]]}, 400),
        ({"parts": [named[0], {"part_number": 2}]}, 400), ({"parts": [{"etag": etags[0]}] * 2}, 400), ({"parts": []}, 400),
        ({"upload_id": "0" * 32}, 404), ({"upload_id": "../../x"}, 404), ({"upload_id": None}, 400), ({"path": ""}, 400),
        ({"path": "a/.."}, 400),
    ]  # fmt: skip
    for change, expected in wrong:
        status, told = mpu(small, "complete", run, {**end, **change})
        assert status == expected, (change, told)
    assert mpu(small, "complete", other, end)[0] == 404
    assert mpu(small, "abort", other, end)[0] == 404
    for count in (-1, 10_001, 2**62):
        assert mpu(small, "create", run, {"path": "f", "num_parts": count})[0] == 400
    assert small.get("artifacts/list", {"run_id": run})[1].get("files") is None
    assert mpu(small, "abort", run, end) == (200, {})
    assert mpu(small, "complete", run, end)[0] == 404
    assert bring(small, first, b"x")[0] == 404
    assert list((small.platform.settings.workspace / "uploads").iterdir()) == []
    assert list((small.platform.settings.workspace / "incoming").iterdir()) == []


@pytest.mark.parametrize(("path", "folder"), [("g.bin", "/sub"), ("f.bin", "/other"), ("f.bin", "")])
def test_an_upload_ends_under_the_path_that_it_was_begun_for(small: Any, path: str, folder: str) -> None:
    run = small.run()
    begun = mpu(small, "create", run, {"path": "data/f.bin", "num_parts": 1}, "/sub")[1]
    _, etag, _ = bring(small, begun["credentials"][0], b"x")
    end = {"path": "f.bin", "upload_id": begun["upload_id"], "parts": [{"part_number": 1, "etag": etag}]}
    for step in ("complete", "abort"):
        status, told = mpu(small, step, run, {**end, "path": path}, folder)
        assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert "'sub/f.bin'" in told["message"]
        assert small.session.runs.artifacts(run) == ()
    assert mpu(small, "complete", run, end, "/sub") == (200, {})
    assert mpu(small, "complete", run, {**end, "path": path}, folder)[0] == 400, "nor once it is complete"
    assert [file.path for file in small.session.runs.artifacts(run)] == ["sub/f.bin"]


def test_the_client_is_told_its_own_token_and_nobody_elses(small: Any) -> None:
    run = small.run()
    assert mpu(small, "create", run, {"path": "f", "num_parts": 1})[1]["credentials"][0]["headers"] == {}
    secret = small.session.access.create_token().secret
    given = {"Authorization": f"Bearer {secret}", "Host": "localhost", "X-Forwarded-Proto": "https"}
    status, begun = mpu(small, "create", run, {"path": "f", "num_parts": 1}, **given)
    (credential,) = begun["credentials"]
    assert (status, credential["headers"]) == (200, {"Authorization": f"Bearer {secret}"})
    assert credential["url"].startswith(f"https://localhost/api/2.0/mlflow-artifacts/mpu/part/0/{run}/artifacts?")
    small.session.projects.create("clinic")
    other = small.session.access.create_token(project="clinic").secret
    local = {"url": credential["url"].replace("https://localhost", small.url), "headers": {}}
    status, _, told = bring(small, {**local, "headers": {"Authorization": f"Bearer {other}"}}, b"x")
    assert (status, told["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), "its holder may know of no other project"
    status, _, told = bring(small, {**local, "headers": {"Authorization": "Bearer ll_" + "A" * 43}}, b"x")
    assert (status, told["error_code"]) == (401, "UNAUTHENTICATED")
    assert bring(small, {**local, "headers": credential["headers"]}, b"x")[0] == 200


def test_parts_are_of_the_project_in_the_address(small: Any) -> None:
    small.session.projects.create("clinic")
    status, answer = small.post("runs/create", {"experiment_id": "0"}, prefix="/ann/clinic.mlflow")
    run = answer["run"]["info"]["run_id"]
    target = f"/ann/clinic.mlflow{PROXY}/mpu/create/0/{run}/artifacts"
    body = json.dumps({"path": "f", "num_parts": 1}).encode()
    status, begun = small.ask("POST", target, body, {"Content-Type": "application/json"})
    assert status == 200
    assert bring(small, begun["credentials"][0], b"x")[0] == 200
    assert (
        bring(
            small,
            {**begun["credentials"][0], "url": begun["credentials"][0]["url"].replace("/ann/clinic.mlflow", "")},
            b"x",
        )[0]
        == 404
    )
