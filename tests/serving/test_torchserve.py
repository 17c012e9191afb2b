"""TorchServe's inference calls: plain requests as its documentation has them, and forms as curl sends them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.serving.log import read_segment, segments
from loopline.serving.records import BUCKETS
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table
from .test_packaged import packaged, trained  # noqa: F401 - a fixture

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
Trained = tuple[Any, pl.DataFrame]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
YES = [expected(row) for row in ROWS]
LABELS = ["yes" if p >= 0.5 else "no" for p in YES]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    weights = (live(bundle(version=3), 3, BUCKETS), live(bundle(version=4, bias=-9.0), 4, 0, "challenger"))
    return serve(table(1, *weights), row_limit=100)


def form(field: str, content: bytes, kind: str = "") -> tuple[bytes, dict[str, str]]:
    head = f'--b42\r\nContent-Disposition: form-data; name="{field}"; filename="rows"\r\n'
    head += f"Content-Type: {kind}\r\n\r\n" if kind else "\r\n"
    return head.encode() + content + b"\r\n--b42--\r\n", {"Content-Type": "multipart/form-data; boundary=b42"}


def test_one_row_a_list_and_the_envelope(server: Supervisor, folder: Path) -> None:
    ids = []
    one = call(server.port, "POST", "/predictions/risk", ROWS[0], JSON)
    assert one.status == 200, one.body
    assert one.json["label"] == LABELS[0]
    assert one.json["probabilities"]["yes"] == pytest.approx(YES[0], rel=1e-4)
    assert (one.json["model"], one.json["variant"]) == ("model:risk@3", "champion")
    ids.append(one.json["id"])
    for body, name in ((ROWS, ""), ({"instances": ROWS}, "predictions")):
        answer = call(server.port, "POST", "/predictions/risk", body, JSON)
        found = answer.json[name] if name else answer.json
        assert [p["label"] for p in found] == LABELS
        assert [p["probability"] for p in found] == pytest.approx([max(p, 1 - p) for p in YES], rel=1e-4)
        ids += [p["id"] for p in found]
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == ids
    assert [r.row for r in records] == [ROWS[0], *ROWS, *ROWS]


def test_bodies_as_its_users_send_them(server: Supervisor) -> None:
    text = json.dumps(ROWS).encode()
    lines = b"age,visits,insured,admitted,ward\n61.5,2,True,2024-05-31,north\n,0,False,,west\n"
    sent: list[tuple[str, bytes, dict[str, str]]] = [
        ("PUT", text, {}),
        ("POST", text, {"Content-Type": "application/octet-stream"}),
        ("POST", text, {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", b"data=" + text.replace(b"+", b"%2B"), {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", *form("data", text)),
        ("POST", *form("body", text, "application/json")),
        ("POST", *form("data", lines, "text/csv")),
        ("POST", lines, {"Content-Type": "text/csv"}),
    ]
    for method, body, headers in sent:
        answer = call(server.port, method, "/predictions/risk", body, headers)
        assert answer.status == 200, (headers, answer.body)
        assert [p["label"] for p in answer.json] == LABELS, headers


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_as_its_documentation_has_it(server: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text(json.dumps(EXAMPLE))
    for option in (
        ["-T", "row.json"],
        ["-F", "data=@row.json"],
        ["--data-urlencode", "data@row.json"],
        ["-d", "@row.json"],
    ):
        command = ["curl", "-sf", f"http://127.0.0.1:{server.port}/predictions/risk/3", *option]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert json.loads(done.stdout)["label"] == LABELS[0], option


def test_versions(server: Supervisor) -> None:
    answer = call(server.port, "POST", "/predictions/risk/4", EXAMPLE, JSON)
    assert answer.json["probabilities"]["yes"] == pytest.approx(expected(EXAMPLE, -9.0), rel=1e-3)
    answer = call(server.port, "POST", "/predictions/risk/9", EXAMPLE, JSON)
    assert (answer.status, answer.json["type"]) == (404, "ModelVersionNotFoundException")
    assert "There are: 3, 4" in answer.json["message"]


def test_what_a_client_looks_at(server: Supervisor) -> None:
    assert call(server.port, "GET", "/ping").json["status"] == "Healthy"
    assert call(server.port, "GET", "/models").json == {"models": [{"modelName": "risk", "modelUrl": "model:risk@3"}]}
    assert call(server.port, "GET", "/models?limit=1&next_page_token=1").json == {"models": []}
    assert call(server.port, "GET", "/models?limit=x").status == 400
    for where, versions in (("risk", ["3", "4"]), ("risk/all", ["3", "4"]), ("risk/4", ["4"])):
        found = call(server.port, "GET", f"/models/{where}").json
        assert [one["modelVersion"] for one in found] == versions
        assert all(worker["status"] == "READY" for one in found for worker in one["workers"])
    answer = call(server.port, "POST", "/models?url=other.mar", b"")
    assert (answer.status, "loopline deploy" in answer.json["message"]) == (409, True)


BAD: list[tuple[bytes, dict[str, str], str]] = [
    (b"{", JSON, "not JSON"),
    (b"", JSON, "not JSON"),
    (b"7", JSON, "no rows"),
    (b"[]", JSON, "0 rows"),
    (b"[1]", JSON, "Row 0 is not an object"),
    (b'{"instances": 7}', JSON, "not a list"),
    (json.dumps({**EXAMPLE, "age": "old"}).encode(), JSON, "a number is wanted"),
    (b"data=1&data=2", {"Content-Type": "application/x-www-form-urlencoded"}, "one 'data' is wanted"),
    (b"x=1", {"Content-Type": "application/x-www-form-urlencoded"}, "the fields 'x'"),
    (b"a&" * 200, {"Content-Type": "application/x-www-form-urlencoded"}, "cannot be read"),
    (b"\xff", {"Content-Type": "application/x-www-form-urlencoded"}, "cannot be read"),
    (b"x", {"Content-Type": "multipart/form-data"}, "no boundary"),
    (b"x", {"Content-Type": "multipart/form-data; boundary=b42"}, "does not end"),
    (b"--b42\r\n\r\n\r\n--b42--", {"Content-Type": "multipart/form-data; boundary=b42"}, "has no name"),
    (*form("image", b"7"), "the fields 'image'"),
    (*form("data", b"\xff\xd8\xff"), "not JSON"),
    (b"\xff\xd8\xff", {"Content-Type": "image/jpeg"}, "not JSON"),
]  # fmt: skip


def test_bad_input_is_named_in_torchserve_s_shape_and_never_a_500(server: Supervisor) -> None:
    for body, headers, words in BAD:
        answer = call(server.port, "POST", "/predictions/risk", body, headers)
        assert answer.status == 400, (body, answer.body)
        assert answer.json.keys() == {"code", "type", "message"}
        assert (answer.json["code"], answer.json["type"]) == (400, "BadRequestException")
        assert words in answer.json["message"], (body, answer.json)
    answer = call(server.port, "POST", "/predictions/rusk", ROWS, JSON)
    assert (answer.status, answer.json["type"]) == (404, "ModelNotFoundException")
    assert call(server.port, "GET", "/predictions/risk").status == 405
    assert call(server.port, "POST", "/predictions/risk", [EXAMPLE] * 101, JSON).status == 413
    assert call(server.port, "POST", "/predictions/risk", ROWS, JSON).status == 200


def test_explanations(serve: Serve, trained: Trained, tmp_path: Path) -> None:  # noqa: F811
    packed, rows = packaged(trained, tmp_path / "b", "onnx")
    server = serve(table(1, live(packed)))

    def ask(path: str, body: Any) -> Answer:
        return call(server.port, "POST", path, body, JSON)

    wanted = ask("/predict/risk?explain=true", rows[:3]).json["explanations"]
    assert math.isclose(wanted[0]["base"] + sum(wanted[0]["contributions"].values()), wanted[0]["score"], abs_tol=1e-9)
    assert ask("/explanations/risk", rows[0]).json == wanted[0]
    assert ask("/explanations/risk/3", rows[0]).status == 404
    assert ask("/explanations/risk", rows[:3]).json == wanted
    assert ask("/explanations/risk", {"instances": rows[:3]}).json == {"explanations": wanted}
    assert ask("/v1/models/risk:explain", {"instances": rows[:3]}).json == {"explanations": wanted}
    answer = ask("/explanations/risk", (rows * 2)[:101])
    assert (answer.status, "at most 100" in answer.json["message"]) == (413, True)


def test_what_cannot_be_explained_is_refused(server: Supervisor) -> None:
    for path in ("/explanations/risk", "/v1/models/risk:explain"):
        answer = call(server.port, "POST", path, {"instances": [EXAMPLE]}, JSON)
        assert (answer.status, b"cannot be explained" in answer.body) == (400, True)
