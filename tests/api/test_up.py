"""A workspace in service: what holds when a routing table cannot be put in force."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.api.up import Service
from loopline.app import Platform
from loopline.loop.table import Table, linear
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.registry.bundle_tar import pack
from loopline.settings import load


def served(folder: Path) -> Platform:
    """A platform with versions 1 and 2 of the model "risk" registered, 1 of them behind the endpoint "risk"."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    frame = pl.DataFrame({"x": x, "y": np.where(x + rng.normal(size=400) > 0, "yes", "no")})
    model = linear(Table(frame[:300], frame[300:], label="y"))
    platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"), port=0)
    session = platform.session()
    for version in (1, 2):
        place = folder / str(version)
        write_bundle(
            model,
            place,
            name="risk",
            version=version,
            example={"x": 0.5},
            validation_frame=frame[300:],
            created=version,
        )
        session.models.draft("risk", Body(pack(place), name="bundle.tar"))
        session.models.register("risk", version)
    session.endpoints.create("risk", "model:risk@1")
    return platform


def ruin(folder: Path, bundle: Path) -> Callable[[], int]:
    """Damages a bundle's manifest, unpacked and in the store; gives what mends the store's."""
    manifest = (bundle / "manifest.json").read_bytes()
    (blob,) = (p for p in (folder / "workspace" / "blobs").rglob("*") if p.is_file() and p.read_bytes() == manifest)
    blob.chmod(0o600)
    for damaged in (blob, bundle / "manifest.json"):
        damaged.write_bytes(manifest[:-1] + b"?")
    return lambda: blob.write_bytes(manifest)


def test_who_may_call_changes_also_where_the_routes_cannot(tmp_path: Path) -> None:
    platform = served(tmp_path)
    session = platform.session()
    session.access.add_principal("ann")
    session.access.grant("ann", "operator")
    settings = load(workspace=str(tmp_path / "workspace"), checkpoints=str(tmp_path / "copies"), port=0)
    with Service(settings, turn=3600) as service:

        def status(token: str, endpoint: str = "risk") -> int:
            # As through a proxy, so that nothing but the token counts.
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "10.0.0.9"}
            connection = http.client.HTTPConnection("127.0.0.1", service.supervisor.port, timeout=20)
            connection.request("POST", f"/predict/{endpoint}", b'{"x": 1.0}', headers)
            found = connection.getresponse().status
            connection.close()
            return found

        made = session.access.create_token(principal="ann")
        service.controller.tick()
        assert status(made.secret) == 200
        session.endpoints.create("second", "model:risk@2")
        bundle = Path(session.endpoints.routes().endpoints["second"].variants[0].bundle)
        ruin(tmp_path, bundle)  # the disk's doing, say
        later = session.access.create_token(principal="ann")
        session.access.revoke_token(made.token.id)
        service.controller.tick()
        assert (status(made.secret), status(later.secret), status(later.secret, "second")) == (401, 200, 404)
        session.access.revoke_token(later.token.id)
        service.controller.tick()
        assert status(later.secret) == 401
        session.endpoints.remove("second")
        service.controller.tick()
        session.access.revoke("ann", "operator")
        idle = session.access.create_token(principal="ann")
        service.controller.tick()
        assert (status(idle.secret), status("made up")) == (403, 401)
        session.access.grant("ann", "operator")
        last = session.access.create_token(principal="ann")
        service.controller.tick()
        assert (status(last.secret), status(later.secret)) == (200, 401)
    platform.close()


def ask(service: Service, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", service.supervisor.port, timeout=20)
    connection.request(method, target, body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_damaged_bundle_is_fetched_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    platform = served(tmp_path)
    bundle = Path(platform.session().endpoints.routes().endpoints["risk"].variants[0].bundle)
    whole = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(whole[:-1] + b"?")
    settings = load(workspace=str(tmp_path / "workspace"), checkpoints=str(tmp_path / "copies"), port=0)
    with Service(settings, turn=3600) as service:
        assert ask(service, "POST", "/predict/risk", b'{"x": 1.0}')[0] == 200
    assert (bundle / "model.onnx").read_bytes() == whole
    assert "model:risk@1" in caplog.text
    assert "fetched anew" in caplog.text


def test_a_bundle_that_cannot_be_had_keeps_nothing_else_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    platform = served(tmp_path)
    session = platform.session()
    session.endpoints.create("second", "model:risk@2")
    bundle = Path(session.endpoints.routes().endpoints["risk"].variants[0].bundle)
    mend = ruin(tmp_path, bundle)
    settings = load(workspace=str(tmp_path / "workspace"), checkpoints=str(tmp_path / "copies"), port=0)
    with Service(settings, turn=3600) as service:
        for target in ("/predict/risk", "/v2/models/risk/infer"):
            status, body = ask(service, "POST", target, b'{"x": 1.0}')
            assert (status, b"is not served" in body) == (503, True), body
        assert ask(service, "GET", "/v2/models/risk")[0] == 503
        assert ask(service, "POST", "/predict/second", b'{"x": 1.0}')[0] == 200
        assert [ask(service, "GET", target)[0] for target in ("/", "/health", "/api/v1/projects")] == [200] * 3
        assert "model:risk@1" in caplog.text
        service.controller.tick()
        session.endpoints.create("third", "model:risk@2")  # a new table is put in force all the same
        service.controller.tick()
        assert ask(service, "POST", "/predict/third", b'{"x": 1.0}')[0] == 200
        assert ask(service, "POST", "/predict/risk", b'{"x": 1.0}')[0] == 503
        mend()
        service.controller.tick()
        assert ask(service, "POST", "/predict/risk", b'{"x": 1.0}')[0] == 200


def test_what_changes_comes_into_force_by_itself(tmp_path: Path) -> None:
    platform = served(tmp_path)
    settings = load(workspace=str(tmp_path / "workspace"), checkpoints=str(tmp_path / "copies"), port=0)
    with Service(settings, turn=0.05) as service:
        while service.controller.due():  # until it rests; the test's own timeout ends this
            time.sleep(0.05)
        platform.session().endpoints.create("second", "model:risk@2")
        while ask(service, "POST", "/predict/second", b'{"x": 1.0}')[0] != 200:
            time.sleep(0.05)
        while not (variants := platform.session().predictions.traffic("second").variants):  # until it is collected
            time.sleep(0.05)
        assert variants["champion"].rows == 1
        platform.session().endpoints.remove("second")
        while ask(service, "POST", "/predict/second", b'{"x": 1.0}')[0] != 404:
            time.sleep(0.05)
    platform.close()


def test_what_arrives_is_collected(tmp_path: Path) -> None:
    folder = tmp_path / "clinic"
    folder.mkdir()
    (folder / "0.csv").write_text("id\n0\n")
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), port=0)
    sources = platform.session().sources
    sources.collect("visits", [{"address": str(folder)}])
    sources.schedule("visits", every="1s")
    settings = load(workspace=str(tmp_path / "workspace"), checkpoints=str(tmp_path / "copies"), port=0)
    with Service(settings, turn=0.05):
        for number in (1, 2):
            (folder / f"{number}.tmp").write_text(f"id\n{number}\n")
            (folder / f"{number}.tmp").rename(folder / f"{number}.csv")
            for _ in range(1200):
                if platform.session().datasets.show("visits").rows > number:
                    break
                time.sleep(0.05)
            assert platform.session().datasets.show("visits").rows == number + 1
    platform.close()
