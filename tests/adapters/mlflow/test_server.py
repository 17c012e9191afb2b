"""An MLflow server that refuses, fails, breaks off or tells nonsense: what is said, and that importing again makes it whole.

The server here answers as MLflow's does, from a script; tests/systems/test_mlflow_import.py asks MLflow's own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from loopline.app import Platform
from loopline.errors import Invalid, NotFound, Refused, Unavailable
from loopline.foreign import run_source
from loopline.tracking.exchange.importing import bring

SEARCH, HISTORY = "/api/2.0/mlflow/runs/search", "/api/2.0/mlflow/metrics/get-history"

RUN = {
    "info": {
        "run_id": "a" * 32, "run_name": "fit", "status": "FINISHED", "start_time": 1_700_000_000_000, "end_time": "1700000009000",
    },
    "data": {
        "metrics": [{"key": "loss", "value": 0.5, "timestamp": 1, "step": 1}],
        "params": [{"key": "rate", "value": "0.1"}],
        "tags": [{"key": "mlflow.source.git.commit", "value": "c" * 40}, {"key": "mlflow.note.content", "value": "*n*"}],
    },
    "inputs": {
        "dataset_inputs": [
            {"dataset": {"name": name, "digest": "d", "source_type": "local", "source": "x"}, "tags": [{"key": "mlflow.data.context", "value": "train"}]}
            for name in ("a", "b")
        ]
    },
}  # fmt: skip


class Script:
    """What the server answers to each path: JSON, bytes, or a function of the request's own."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Any] = {
            "/api/2.0/mlflow/experiments/search": {"experiments": [{"experiment_id": "1", "name": "visits"}]},
            "/api/2.0/mlflow/runs/search": {"runs": [RUN]},
            "/api/2.0/mlflow/metrics/get-history": {
                "metrics": [
                    {"key": "loss", "value": 1.0, "timestamp": "1700000000001", "step": "0"},
                    {"key": "loss", "value": "NaN", "timestamp": 1_700_000_000_002, "step": 1},
                ]
            },
            "/api/2.0/mlflow/artifacts/list": {"files": [{"path": "a.txt", "is_dir": False, "file_size": "5"}]},
            "/get-artifact": b"hello",
            "/api/2.0/mlflow/logged-models/search": (404, {}, b"MLflow 2 knows of none"),
            "/api/2.0/mlflow/registered-models/search": {},
            "/api/2.0/mlflow/model-versions/search": {},
        }
        self.url = ""


@pytest.fixture
def script() -> Iterator[Script]:
    told = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)
            told.asked.append((target.path, dict(self.headers)))
            answer = told.answers[target.path]
            length = int(self.headers.get("Content-Length", 0))
            body = (
                json.loads(self.rfile.read(length)) if length else {k: v[0] for k, v in parse_qs(target.query).items()}
            )
            status, headers, content = 200, {}, answer(body) if callable(answer) else answer
            if isinstance(content, tuple):
                status, headers, content = content
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


def taken(platform: Platform, script: Script) -> list[Any]:
    return list(bring(platform.session(), run_source("mlflow", script.url)))


def test_a_run_comes_over(platform: Platform, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    (found,) = taken(platform, script)
    assert (found.state, found.left_out) == ("imported", ())
    run = platform.session().runs.show(found.run)
    assert [(one.name, one.context) for one in run.external] == [("a", "train"), ("b", "train")]
    assert (run.created, run.ended, run.status, run.note) == (1_700_000_000_000, 1_700_000_009_000, "finished", "*n*")
    assert run.environment == {"commit": "c" * 40}
    assert [(p.step, p.value) for p in platform.session().runs.history(run.id, "loss")] == [(0, 1.0), (1, "NaN")]
    assert platform.session().runs.artifact(run.id, "a.txt").read() == b"hello"
    assert {headers["Authorization"] for _, headers in script.asked} == {"Bearer t0ken"}
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    script.asked.clear()
    assert [one.state for one in taken(platform, script)] == ["there already"]
    assert script.asked[0][1]["Authorization"] == "Basic YW5uOnMzY3JldA=="


def test_where_it_breaks_off_it_goes_on(platform: Platform, script: Script) -> None:
    broken = [(200, {"Content-Length": "5"}, b"he"), (503, {}, b"busy"), b"hell", b"hello"]
    script.answers["/get-artifact"] = lambda _: broken.pop(0)
    for _ in range(3):
        with pytest.raises(Unavailable) as told:
            taken(platform, script)
        assert told.value.code == "source-away"
        (run,) = platform.session().runs.list().runs
        assert run.status == "running"
    (found,) = taken(platform, script)
    assert found.state == "imported"
    session = platform.session()
    assert session.runs.artifact(found.run, "a.txt").read() == b"hello"
    assert len(session.runs.history(found.run, "loss")) == 2
    assert session.runs.show(found.run).status == "finished"


CASES: dict[str, tuple[str, Any, type[Exception]]] = {
    "nobody": ("/api/2.0/mlflow/experiments/search", (401, {}, b"who?"), Refused),
    "forbidden": ("/api/2.0/mlflow/runs/search", (403, {}, b'{"message": "no"}'), Refused),
    "another thing": ("/api/2.0/mlflow/experiments/search", (404, {}, b"<html>"), NotFound),
    "a page": ("/api/2.0/mlflow/experiments/search", b"<html>", Unavailable),
    "a list": ("/api/2.0/mlflow/experiments/search", b"[]", Unavailable),
    "too deep": ("/api/2.0/mlflow/experiments/search", b"[" * 200_000, Unavailable),
    "failing": ("/api/2.0/mlflow/runs/search", (500, {}, b"oops"), Unavailable),
    "cut": ("/api/2.0/mlflow/runs/search", (200, {"Content-Length": "99"}, b"{"), Unavailable),
    "elsewhere": ("/api/2.0/mlflow/runs/search", (307, {"Location": "http://127.0.0.1:1/"}, b""), Invalid),
}


@pytest.mark.parametrize("case", CASES)
def test_what_it_does_wrong_is_said(platform: Platform, script: Script, case: str) -> None:
    path, answer, kind = CASES[case]
    script.answers[path] = answer
    with pytest.raises(kind, match=script.url) as told:
        taken(platform, script)
    assert type(told.value) is kind


ODD: dict[str, Callable[[Script], object]] = {
    "no id": lambda s: s.answers.update({"/api/2.0/mlflow/runs/search": {"runs": [{"info": {}}]}}),
    "no time": lambda s: s.answers.update({SEARCH: {"runs": [{"info": {**RUN["info"], "start_time": "x"}}]}}),
    "no status": lambda s: s.answers.update({SEARCH: {"runs": [{"info": {**RUN["info"], "status": "LOST"}}]}}),
    "no value": lambda s: s.answers.update({HISTORY: {"metrics": [{"key": "loss", "timestamp": 1}]}}),
    "no number": lambda s: s.answers.update(
        {"/api/2.0/mlflow/metrics/get-history": {"metrics": [{"value": "one", "timestamp": 1}]}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_a_run_that_is_told_oddly_is_refused_by_name(platform: Platform, script: Script, case: str) -> None:
    ODD[case](script)
    (found,) = taken(platform, script)
    assert found.state == "refused"
    assert platform.session().runs.list().runs == ()


def test_a_path_that_climbs_is_refused(platform: Platform, script: Script) -> None:
    script.answers["/api/2.0/mlflow/artifacts/list"] = {
        "files": [{"path": "../../up", "is_dir": False, "file_size": 5}]
    }
    (found,) = taken(platform, script)
    assert (found.state, "../../up" in found.why) == ("refused", True)


def test_pages_that_never_end_do(platform: Platform, script: Script) -> None:
    script.answers["/api/2.0/mlflow/runs/search"] = {"runs": [RUN], "next_page_token": "again"}
    script.answers["/api/2.0/mlflow/artifacts/list"] = {"files": [{"path": "d", "is_dir": True}]}
    found = taken(platform, script)
    assert [one.state for one in found] == ["imported", "there already"]


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(Invalid) as told:
        run_source("mlflow", url)
    assert told.value.code == "bad-import"


def test_nobody_at_the_address(platform: Platform) -> None:
    with pytest.raises(Unavailable):
        list(bring(platform.session(), run_source("mlflow", "http://127.0.0.1:1")))
