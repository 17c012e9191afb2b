"""Load and unload of the repository extension, where models are served alone: by the unmodified tritonclient, under load."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from loopline.app import Platform
from loopline.errors import LooplineError, Unavailable
from loopline.operations import Body
from loopline.registry.bundle_tar import pack
from loopline.serving.alone import Alone
from loopline.serving.fetched import Wanted

from .conftest import EXAMPLE, Load, call, expected, write

FAR = {"Via": "1.1 elsewhere"}


def renamed(folder: Path, name: str, **options: Any) -> Path:
    """A bundle of a model of this name."""
    write(folder, **options)
    said = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**said, "name": name}))
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Alone]]:
    started: list[Alone] = []

    def begin(*wanted: Wanted, **options: Any) -> Alone:
        started.append(Alone(folder / "own", wanted, port=0, **options))
        started[-1].start()
        return started[-1]

    yield begin
    for one in started:
        one.stop()


@pytest.fixture
def repository(folder: Path) -> Path:
    """A folder of three bundles."""
    for n, name in enumerate(("first", "second", "third")):
        renamed(folder / "models" / f"m{n}", name, bias=float(n))
    return folder / "models"


def probability(port: int, name: str) -> float:
    answer = call(port, "POST", f"/predict/{name}", [EXAMPLE])
    assert answer.status == 200, answer.body
    return float(answer.json["predictions"][0]["probabilities"]["yes"])


def test_all_of_a_folder_are_served_and_one_goes_and_comes(start: Callable[..., Alone], repository: Path) -> None:
    server = start(Wanted(folder=repository), workers=2, grpc_port=0)
    port = server.supervisor.port
    http = over_http.InferenceServerClient(f"localhost:{port}")
    grpc = over_grpc.InferenceServerClient(f"localhost:{server.supervisor.grpc_port}")
    for client in (http, grpc):
        client.unload_model("second")
        assert not client.is_model_ready("second")
        assert client.is_model_ready("first")
        found = http.get_model_repository_index()
        assert [(m["name"], m["state"], m["reason"]) for m in found if m["name"] == "second"] == [
            ("second", "UNAVAILABLE", "unloaded")
        ]
        assert len(found) == 3
        gone = call(port, "POST", "/predict/second", [EXAMPLE])
        assert (gone.status, gone.json["error"]["code"]) == (404, "unloaded")
        assert "/v2/repository/models/second/load" in gone.json["error"]["hint"]
        client.unload_model("second")  # again is nothing else
        client.load_model("second")
        assert client.is_model_ready("second")
        assert {m["state"] for m in http.get_model_repository_index()} == {"READY"}
        assert probability(port, "second") == pytest.approx(expected(EXAMPLE, 1.0), rel=1e-5)
        with pytest.raises(InferenceServerException, match="There is no model 'fourth' here"):
            client.load_model("fourth")
        with pytest.raises(InferenceServerException, match="loaded as it was packaged"):
            client.load_model("second", config="{}")
    http.close()
    grpc.close()
    assert [m.name for m in grpc_index(server)] == ["first", "second", "third"]
    for name in ("first", "second", "third"):
        server.change("unload", name)
    assert call(port, "POST", "/predict/first", [EXAMPLE]).status == 404
    server.change("load", "first")
    assert probability(port, "first") == pytest.approx(expected(EXAMPLE), rel=1e-5)


def grpc_index(server: Alone) -> list[Any]:
    client = over_grpc.InferenceServerClient(f"localhost:{server.supervisor.grpc_port}")
    found = sorted(client.get_model_repository_index().models, key=lambda one: one.name)
    client.close()
    return found


def test_what_was_put_there_and_what_was_changed_is_loaded(start: Callable[..., Alone], repository: Path) -> None:
    server = start(Wanted(folder=repository))
    port = server.supervisor.port
    renamed(repository / "later", "fourth", bias=3.0)
    (repository / "torn").mkdir()
    (repository / "torn" / "manifest.json").write_text("{")
    client = over_http.InferenceServerClient(f"localhost:{port}")
    client.load_model("fourth")
    assert probability(port, "fourth") == pytest.approx(expected(EXAMPLE, 3.0), rel=1e-5)
    shutil.rmtree(repository / "m0")
    renamed(repository / "m0", "first", version=2, bias=5.0)
    assert probability(port, "first") == pytest.approx(expected(EXAMPLE), rel=1e-5), "as it was loaded"
    client.load_model("first")
    assert probability(port, "first") == pytest.approx(expected(EXAMPLE, 5.0), rel=1e-5)
    assert client.get_model_metadata("first")["versions"] == ["2"]
    client.close()


def test_what_cannot_be_loaded_leaves_what_was(start: Callable[..., Alone], repository: Path) -> None:
    server = start(Wanted(folder=repository))
    port = server.supervisor.port
    broken = repository / "m0" / "model.onnx"
    broken.write_bytes(broken.read_bytes()[:-1])
    renamed(repository / "late", "fourth", golden={"probabilities": {"no": 0.9, "yes": 0.1}})
    client = over_http.InferenceServerClient(f"localhost:{port}")
    with pytest.raises(InferenceServerException, match="was changed since the bundle was written"):
        client.load_model("first")
    with pytest.raises(InferenceServerException, match="it answers its example with"):
        client.load_model("fourth")
    shutil.rmtree(repository / "m1")
    renamed(repository / "m1", "other")
    with pytest.raises(InferenceServerException, match="In the place of 'second' there is model:other@1"):
        client.load_model("second")
    assert [probability(port, name) for name in ("first", "second", "third")] == [
        pytest.approx(expected(EXAMPLE, n), rel=1e-5) for n in (0.0, 1.0, 2.0)
    ]
    client.close()


def test_no_request_fails_by_it(start: Callable[..., Alone], repository: Path) -> None:
    for path in repository.iterdir():
        if path.name == "m0":
            said = json.loads((path / "manifest.json").read_text())
            (path / "manifest.json").write_text(json.dumps({**said, "name": "risk"}))
    server = start(Wanted(folder=repository), workers=2)
    with Load(server.supervisor.port) as load:
        for turn in range(8):
            server.change("load" if turn % 2 else "unload", "second")
            server.change("load", "risk")
            load.wait(5)
    assert {status for status, _ in load.answers} == {200}


def test_who_may(start: Callable[..., Alone], repository: Path) -> None:
    """Whoever reaches an open server may call its models, and not take them away."""
    server = start(Wanted(folder=repository), tokens=["sesame"], open=True)
    port = server.supervisor.port
    assert call(port, "POST", "/predict/first", [EXAMPLE], FAR).status == 200
    for action in ("load", "unload"):
        path = f"/v2/repository/models/first/{action}"
        assert call(port, "POST", path, {}, FAR).status == 401
        assert call(port, "POST", path, {}, {**FAR, "Authorization": "Bearer wrong"}).status == 401
        assert call(port, "POST", path, b"[", {**FAR, "Authorization": "Bearer sesame"}).status == 400
        assert call(port, "POST", path, b"x" * (65 << 10), {**FAR, "Authorization": "Bearer sesame"}).status == 413
        assert call(port, "GET", path, None, {**FAR, "Authorization": "Bearer sesame"}).status == 405
    assert (
        call(port, "POST", "/v2/repository/models/first/unload", {}, {**FAR, "Authorization": "Bearer sesame"}).status
        == 200
    )
    assert call(port, "POST", "/predict/first", [EXAMPLE]).status == 404
    index = call(port, "POST", "/v2/repository/index", {"ready": True}).json
    assert [m["name"] for m in index] == ["second", "third"]


def test_a_worker_that_dies_comes_back_with_what_is_loaded(start: Callable[..., Alone], repository: Path) -> None:
    import os
    import signal

    server = start(Wanted(folder=repository))
    server.change("unload", "second")
    (pid,) = server.supervisor.pids
    os.kill(pid, signal.SIGKILL)
    while (answer := _asked(server.supervisor.port)) is None:
        pass
    assert sorted(m["name"] for m in answer if m["state"] == "READY") == ["first", "third"]
    while not _loaded(server, "second"):  # the worker answers a moment before it is known to be ready
        pass
    assert probability(server.supervisor.port, "second") == pytest.approx(expected(EXAMPLE, 1.0), rel=1e-5)


def _loaded(server: Alone, name: str) -> bool:
    with contextlib.suppress(Unavailable):
        server.change("load", name)
        return True
    return False


def _asked(port: int) -> Any:
    try:
        return call(port, "POST", "/v2/repository/index").json
    except OSError:
        return None


def test_an_alias_is_loaded_as_it_is_then(folder: Path, tmp_path: Path) -> None:
    platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))
    try:
        session = platform.session()
        models = session.models
        for n in (1, 2):
            models.draft("risk", Body(pack(write(tmp_path / f"v{n}", version=n, bias=float(n))), name="bundle.tar"))
            models.register("risk", n)
        models.set_alias("risk", "champion", 1)
        server = Alone(folder / "own", [Wanted(name="risk", version="champion")], session, port=0)
        server.start()
        try:
            server.change("unload", "risk")
            models.set_alias("risk", "champion", 2)
            assert server.follow() == [], "what is unloaded is not followed"
            server.change("load", "risk")
            assert probability(server.supervisor.port, "risk") == pytest.approx(expected(EXAMPLE, 2.0), rel=1e-5)
            models.set_alias("risk", "champion", 1)
            assert server.follow() == ["model:risk@1"]
            with pytest.raises(LooplineError) as told:
                server.change("load", "risks")
            assert told.value.code == "no-model"
            assert "risk" in told.value.hint
        finally:
            server.stop()
    finally:
        platform.close()
