"""Models served alone: from folders without any workspace, and from a registry whose aliases move."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.app import Platform
from loopline.errors import LooplineError
from loopline.operations import Body
from loopline.packaging.foreign import package
from loopline.packaging.pulling import pull
from loopline.packaging.signing import ModelSigner
from loopline.registry.bundle_tar import pack
from loopline.serving.alone import Alone
from loopline.serving.fetched import Wanted
from loopline.serving.log import read_on

from .conftest import EXAMPLE, Load, call, expected

Bundle = Callable[..., Path]


def environment(folder: Path) -> dict[str, str]:
    """Of somebody who has no workspace."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")}
    return {**kept, "XDG_STATE_HOME": str(folder / "state")}


@contextlib.contextmanager
def served(folder: Path, *line: str) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """A running `loopline serve`: the process, its port, and the lines that it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loopline", "serve", "--port", "0", *line],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = []
        for text in process.stdout:
            said.append(text.strip())
            if "The prediction log" in text:
                break
        found = re.search(r":(\d+)/predict/", " ".join(said))
        assert found, said
        yield process, int(found[1]), said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(folder: Path, *line: str) -> str:
    """What a `loopline serve` says that does not begin."""
    ended = subprocess.run(
        [sys.executable, "-m", "loopline", "serve", "--port", "0", *line],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode in (2, 3), ended
    return ended.stderr


def test_a_folder_is_served_without_a_workspace(folder: Path, bundle: Bundle) -> None:
    made = bundle()
    with served(folder, str(made), "--folder", "own") as (process, port, said):
        assert said[0].startswith("model:risk@1 is served")
        answer = call(port, "POST", "/predict/risk", [EXAMPLE])
        assert answer.status == 200
        (found,) = answer.json["predictions"]
        assert found["probabilities"]["yes"] == pytest.approx(expected(EXAMPLE), rel=1e-5)
        assert call(port, "GET", "/v2/models/risk").json["versions"] == ["1"]
        assert call(port, "GET", "/health").json["status"] == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert {p.name for p in folder.iterdir()} <= {"own", "state"}, "no workspace is made"
    (record,) = [r for _, _, records in read_on(folder / "own" / "log", {}) for r in records]
    assert (record.id, record.model, record.row) == (found["id"], "model:risk@1", EXAMPLE)


def test_neither_server_nor_worker_needs_a_database() -> None:
    program = "import sys; import loopline.cli.serve, loopline.serving.alone; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "polars", "pandas", "sklearn", "lightgbm", "onnx"} & set(found.stdout.split())


def test_killed_it_loses_no_answer_and_begins_again(folder: Path, bundle: Bundle) -> None:
    made = str(bundle())
    with served(folder, made, "--folder", "own") as (process, port, _), Load(port, clients=2) as load:
        load.wait(20)
        process.kill()
        process.wait()
    answered = {said for status, said in load.answers if status == 200}
    with served(folder, made, "--folder", "own") as (_, port, _):
        answered.add(call(port, "POST", "/predict/risk", [EXAMPLE]).json["predictions"][0]["id"])
    kept = {r.id for _, _, records in read_on(folder / "own" / "log", {}) for r in records}
    assert answered <= kept


def test_who_calls_from_elsewhere_needs_a_token_of_the_file(folder: Path, bundle: Bundle) -> None:
    (folder / "tokens").write_text("first-secret\nsecond-secret\n")
    with served(folder, str(bundle()), "--tokens", "tokens") as (_, port, _):
        away = {"x-forwarded-for": "203.0.113.7"}
        assert call(port, "POST", "/predict/risk", [EXAMPLE], away).status == 401
        for token, status in (("second-secret", 200), ("third", 401)):
            sent = {**away, "authorization": f"Bearer {token}"}
            assert call(port, "POST", "/predict/risk", [EXAMPLE], sent).status == status
    assert "second-secret" not in (folder / "loopline-serve" / "routes.json").read_text()


def change(folder: Path, how: str) -> None:
    onnx, manifest = folder / "model.onnx", folder / "manifest.json"
    data = onnx.read_bytes()
    match how:
        case "cut":
            onnx.write_bytes(data[: len(data) // 2])
        case "changed":
            onnx.write_bytes(bytes([*data[:-1], data[-1] ^ 1]))
        case "unlisted":
            (folder / "more.onnx").write_bytes(data)
        case "pickle":
            manifest.write_text(manifest.read_text().replace("model.onnx", "model.pkl"))
            onnx.rename(folder / "model.pkl")
        case "outside":
            manifest.write_text(manifest.read_text().replace('"model.onnx"', '"model.onnx":"blake3:00","../x.json"'))
        case "mlflow":
            manifest.unlink()
            (folder / "MLmodel").write_text("flavors: {}\n")  # as MLflow writes it
        case "golden":
            said = json.loads(manifest.read_text())
            said["golden"]["probabilities"]["yes"] = 0.123
            manifest.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "[bundle-changed] 'model.onnx'"),
        ("changed", "[bundle-changed] 'model.onnx'"),
        ("unlisted", "[bundle-unlisted] 'more.onnx'"),
        ("pickle", "[bundle-incomplete]"),
        ("outside", "[bundle-path] The manifest"),
        ("mlflow", "is a model of MLflow"),
        ("golden", "[bad-bundle]"),
    ],
)
def test_what_is_no_good_bundle_is_refused_by_name(folder: Path, bundle: Bundle, how: str, said: str) -> None:
    made = bundle()
    change(made, how)
    told = refused(folder, str(made))
    assert said in told
    assert str(made) in told


def test_bad_words_are_refused_by_name(folder: Path, bundle: Bundle) -> None:
    assert "[no-bundle]" in refused(folder, "./nothing/here")
    assert "[no-workspace]" in refused(folder, "risk@champion")
    twice = refused(folder, str(bundle()), str(bundle(version=2)))
    assert "[two-models] model:risk@1 and model:risk@2 would both be served at 'risk'." in twice


def test_only_what_a_trusted_key_signed(folder: Path, bundle: Bundle, registry: Platform) -> None:
    models = registry.session().models
    draft(registry, bundle())
    pull(models, "risk", 1, folder / "signed")
    mine, other = folder / "mine.pub", folder / "other.pub"
    mine.write_text(models.signature("risk", 1)["public_key"])
    signer = ModelSigner(folder / "other-keys")
    other.write_text(signer.public_key(signer.sign({})["signatures"][0]["keyid"]))
    with served(folder, "signed", "--key", str(other), "--key", str(mine)) as (_, port, _):
        assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    assert "[bundle-unsigned]" in refused(folder, "signed", "--key", str(other))
    assert "[bundle-unsigned]" in refused(folder, str(bundle()), "--key", str(mine))
    # Who changes a file and the manifest with it is found out by the signature alone.
    other_bundle = bundle(bias=2.0)
    for name in ("model.onnx", "manifest.json"):
        shutil.copy(other_bundle / name, folder / "signed" / name)
    assert "[bundle-unsigned]" in refused(folder, "signed", "--key", str(mine))


def test_code_that_the_workspace_here_signed_is_served(folder: Path, registry: Platform) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text(
        "class Model:\n    def load(self, folder): pass\n    def predict(self, rows): return [r['x'] / 10 for r in rows]\n"
    )
    signer = ModelSigner(registry.settings.workspace / "keys")
    rows = pl.DataFrame({"x": [1.0, 2.0], "y": ["no", "yes"]})
    package(folder / "code", folder / "b", kind="code", name="risk", rows=rows, label="y", signer=signer, created=0)
    assert "it holds code" in refused(folder, "./b")
    with served(folder, "./b", "--workspace", str(registry.settings.workspace)) as (_, port, _):
        (one,) = call(port, "POST", "/predict/risk", [{"x": 7.0}]).json["predictions"]
    assert (one["label"], one["probability"]) == ("yes", pytest.approx(0.7))


# From a registry


@pytest.fixture
def registry(folder: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))
    yield platform
    platform.close()


def draft(registry: Platform, made: Path, *, alias: str = "champion", registered: bool = True) -> int:
    models = registry.session().models
    number = models.draft("risk", Body(pack(made), name="bundle.tar")).version
    if registered:
        models.register("risk", number)
        if alias:
            models.set_alias("risk", alias, number)
    return number


@pytest.fixture
def alone(folder: Path, registry: Platform) -> Iterator[Callable[..., Alone]]:
    started: list[Alone] = []

    def start(*wanted: Wanted, **options: Any) -> Alone:
        started.append(Alone(folder / "own", wanted, registry.session(), port=0, **options))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


CHAMPION = Wanted(name="risk", version="champion")


def test_an_alias_is_followed_without_one_failed_request(
    registry: Platform, alone: Callable[..., Alone], bundle: Bundle
) -> None:
    draft(registry, bundle(version=1))
    draft(registry, bundle(version=2, bias=1.0), alias="")
    server = alone(CHAMPION, workers=2)
    assert server.follow() == []
    models = registry.session().models
    with Load(server.supervisor.port) as load:
        for turn in range(10):
            models.set_alias("risk", "champion", 2 - turn % 2)
            assert server.follow() == [f"model:risk@{2 - turn % 2}"]
            load.wait(5)
    assert {status for status, _ in load.answers} == {200}
    assert call(server.supervisor.port, "POST", "/predict/risk", [EXAMPLE]).json["model"] == "model:risk@1"


def test_a_number_stays(registry: Platform, alone: Callable[..., Alone], bundle: Bundle) -> None:
    draft(registry, bundle())
    server = alone(Wanted(name="risk", version="1"))
    draft(registry, bundle(version=2, bias=1.0))
    assert server.follow() == []


def test_what_cannot_follow_leaves_what_was(
    registry: Platform, alone: Callable[..., Alone], bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    draft(registry, bundle())
    server = alone(CHAMPION)
    said = json.loads((broken := bundle(version=2, bias=1.0) / "manifest.json").read_text())
    said["golden"]["probabilities"] = {"no": 0.9, "yes": 0.1}
    broken.write_text(json.dumps(said))
    draft(registry, broken.parent)
    for _ in range(2):
        assert server.follow() == []
    assert len([r for r in caplog.records if "answers its example with" in r.getMessage()]) == 1, "told once"
    assert call(server.supervisor.port, "POST", "/predict/risk", [EXAMPLE]).json["model"] == "model:risk@1"
    registry.session().models.remove_alias("risk", "champion")
    assert server.follow() == []
    draft(registry, bundle(version=3, bias=2.0))
    assert server.follow() == ["model:risk@3"]


def test_what_the_registry_has_and_nothing_serves(registry: Platform, folder: Path, bundle: Bundle) -> None:
    models = registry.session().models
    draft(registry, bundle(), registered=False)
    run = registry.session().runs.create("files")
    models.add("loose", None, run=run.id, facts={"source": "elsewhere"})
    made = bundle(version=2)
    for file in (one for one in made.rglob("*") if one.is_file()):
        registry.session().runs.put_artifact(run.id, file.relative_to(made).as_posix(), Body(file))
    models.add("risk", f"run:{run.id}", run=run.id)
    for wanted, code in (
        (Wanted(name="risk", version="1"), "not-registered"),
        (CHAMPION, "no-alias"),
        (Wanted(name="risks", version="1"), "no-model"),
        (Wanted(name="loose", version="1"), "not-a-bundle"),
        (Wanted(name="risk", version="2"), "not-a-bundle"),
    ):
        with pytest.raises(LooplineError) as told:
            Alone(folder / "own", [wanted], registry.session(), port=0).start()
        assert told.value.code == code


def test_what_is_withdrawn_is_not_served_though_it_was_fetched_before(
    registry: Platform, alone: Callable[..., Alone], folder: Path, bundle: Bundle
) -> None:
    session = registry.session()
    data = [session.datasets.add("visits", Body(b"x,y\n1,%d\n" % n, name="visits.csv")).ref for n in range(2)]
    for made, ref in ((bundle(), data[0]), (bundle(version=2, bias=1.0), data[1])):
        number = session.models.draft("risk", Body(pack(made), name="bundle.tar"), inputs=(ref,)).version
        session.models.register("risk", number)
    session.models.set_alias("risk", "champion", 2)
    for version in ("1", "2"):
        alone(Wanted(name="risk", version=version)).stop()
    session.datasets.withdraw("visits", "2", "two clinics mixed")
    session.models.withdraw("risk", 1, "a leak")
    for wanted, code, words in (
        (Wanted(name="risk", version="1"), "not-registered", "a leak"),
        (Wanted(name="risk", version="2"), "data-withdrawn", "learnt from data:visits@2"),
        (CHAMPION, "data-withdrawn", "learnt from data:visits@2"),
    ):
        with pytest.raises(LooplineError, match=words) as told:
            Alone(folder / "own", [wanted], session, port=0).start()
        assert told.value.code == code


def test_an_alias_that_moves_to_what_learnt_from_withdrawn_data_is_not_followed(
    registry: Platform, alone: Callable[..., Alone], bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    session = registry.session()
    draft(registry, bundle())
    server = alone(CHAMPION)
    data = session.datasets.add("visits", Body(b"x,y\n1,2\n", name="visits.csv")).ref
    session.models.draft("risk", Body(pack(bundle(version=2, bias=1.0)), name="bundle.tar"), inputs=(data,))
    session.models.register("risk", 2)
    session.models.set_alias("risk", "champion", 2)
    session.datasets.withdraw("visits", "1", "two clinics mixed")
    assert server.follow() == []
    assert "learnt from data:visits@1" in caplog.text
    assert call(server.supervisor.port, "POST", "/predict/risk", [EXAMPLE]).json["model"] == "model:risk@1"


def test_what_a_killed_pull_left_is_removed_and_what_one_is_at_is_not(
    registry: Platform, folder: Path, bundle: Bundle
) -> None:
    draft(registry, bundle())
    program = (
        "import fcntl, pathlib, sys, tempfile, time; from loopline.packaging.pulling import _locked\n"
        "with tempfile.TemporaryDirectory(prefix='.pulled-', dir='.') as aside, _locked(pathlib.Path(aside)):\n"
        " print(aside, flush=True); time.sleep(60)"
    )
    pulls = [
        subprocess.Popen([sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    killed, alive = (folder / Path(str(p.stdout and p.stdout.readline()).strip()).name for p in pulls)
    try:
        pulls[0].kill()
        pulls[0].wait()
        assert killed.is_dir()
        pull(registry.session().models, "risk", 1, folder / "pulled")
        assert not killed.exists()
        assert alive.is_dir()
    finally:
        pulls[1].kill()
        pulls[1].wait()
    pull(registry.session().models, "risk", 1, folder / "again")
    assert not alive.exists()


def test_a_damaged_copy_is_fetched_anew(registry: Platform, alone: Callable[..., Alone], bundle: Bundle) -> None:
    draft(registry, bundle())
    server = alone(CHAMPION)
    server.stop()
    (copy,) = (server.supervisor.folder / "bundles").iterdir()
    change(copy, "cut")
    assert call(alone(CHAMPION).supervisor.port, "POST", "/predict/risk", [EXAMPLE]).status == 200


def test_grpc_beside_it_and_whoever_reaches_it(folder: Path, bundle: Bundle) -> None:
    import tritonclient.grpc as triton

    with served(folder, str(bundle()), "--grpc-port", "0", "--open") as (_, port, said):
        (line,) = (text for text in said if text.startswith("gRPC"))
        client = triton.InferenceServerClient(line.split()[-1].rstrip("."))
        assert client.is_model_ready("risk")
        far = {"X-Forwarded-For": "192.0.2.7"}
        assert client.get_model_metadata("risk", headers={k.lower(): v for k, v in far.items()}).name == "risk"
        client.close()
        assert call(port, "POST", "/predict/risk", [EXAMPLE], far).status == 200
        assert call(port, "POST", "/invocations", {"instances": [EXAMPLE]}, far).status == 200
        # A token that is sent is looked at all the same.
        assert call(port, "POST", "/predict/risk", [EXAMPLE], {"Authorization": "Bearer x"}).status == 401


def test_without_a_model_it_says_what_to_name(folder: Path) -> None:
    assert "Name a MODEL" in refused(folder)


def test_grpc_s_library_is_loaded_only_where_it_is_asked_for() -> None:
    program = "import sys, loopline.serving.worker, loopline.serving.alone; print('grpc' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
