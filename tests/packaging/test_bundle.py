from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.features.table import raw_rows
from loopline.hashing import digest_bytes
from loopline.packaging.bundle import write_bundle
from loopline.packaging.external import points_outside
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Manifest
from loopline.packaging.runtime import Session, predict_rows
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams
from loopline.training.train import train

QUICK = BoostedParams(learning_rate=0.2, leaves=8, min_rows=5, rounds=15)


def problem(kind: str) -> Problem:
    rng = np.random.default_rng(0)
    n = 500
    x = rng.normal(size=n)
    ward = np.array(["A", "B", "C"])[rng.integers(0, 3, n)]
    signal = x + (ward == "B") + rng.normal(size=n) / 2
    labels: dict[str, Any] = {
        "binary": np.where(signal > 0, "yes", "no"),
        "multiclass": np.array(["x", "y", "z"])[np.digitize(signal, [-0.5, 0.5])],
        "regression": signal,
    }
    day = pl.Series(np.datetime64("2022-01-01") + rng.integers(0, 400, n).astype("timedelta64[D]")).cast(pl.Date)
    frame = pl.DataFrame({"x": x, "ward": ward, "day": day, "label": labels[kind]})
    frame = frame.with_columns(pl.when(pl.Series(x > 1.5)).then(None).otherwise(pl.col("ward")).alias("ward"))
    return Problem.of(frame[:350], frame[350:], label="label")


PROBLEMS = {kind: problem(kind) for kind in ("binary", "multiclass", "regression")}
MODELS = {kind: train(ready, params=QUICK).model for kind, ready in PROBLEMS.items()}


def write(kind: str, folder: Path, model: Model | None = None, created: int = 1_700_000_000_000) -> Manifest:
    model = model or MODELS[kind]
    validation = PROBLEMS[kind].validation
    example = raw_rows(validation[:1], model.signature.inputs)[0]
    return write_bundle(
        model, folder, name="visits", version=3, example=example, validation_frame=validation, created=created
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_bundle_answers_as_the_model_does(kind: str, tmp_path: Path) -> None:
    manifest = write(kind, tmp_path / "b")
    assert read_manifest(tmp_path / "b") == manifest
    assert manifest.runtime == "onnx"
    assert predict_rows(tmp_path / "b", [manifest.example]) == [manifest.golden]
    model, validation = MODELS[kind], PROBLEMS[kind].validation
    rows = json.loads(json.dumps(raw_rows(validation, model.signature.inputs)))
    answers = predict_rows(Session(tmp_path / "b"), rows)
    native = model.predict(validation)
    if kind == "binary":
        np.testing.assert_allclose([[*a["probabilities"].values()][1] for a in answers], native, atol=1e-5)
        assert model.threshold is not None
        expected = ["yes" if p >= model.threshold else "no" for p in native]
        assert [a["label"] for a in answers] == expected
        assert manifest.threshold == model.threshold
    elif kind == "multiclass":
        np.testing.assert_allclose([list(a["probabilities"].values()) for a in answers], native, atol=1e-5)
        assert [a["label"] for a in answers] == [model.classes[k] for k in native.argmax(axis=1)]
        assert all(a["probability"] == max(a["probabilities"].values()) for a in answers)
    else:
        np.testing.assert_allclose([a["value"] for a in answers], native, atol=1e-5)


def test_the_native_form_answers_alike_where_parity_chose_it(tmp_path: Path) -> None:
    validation = PROBLEMS["binary"].validation
    write("binary", tmp_path / "onnx")
    nothing = write_bundle(
        MODELS["binary"],
        tmp_path / "native",
        name="visits",
        version=1,
        example=raw_rows(validation[:1], MODELS["binary"].signature.inputs)[0],
        validation_frame=validation[:0],  # no rows to show parity on
        created=0,
    )
    assert nothing.runtime == "native"
    rows = raw_rows(validation, MODELS["binary"].signature.inputs)
    native, converted = predict_rows(tmp_path / "native", rows), predict_rows(tmp_path / "onnx", rows)
    assert [a["label"] for a in native] == [a["label"] for a in converted]
    np.testing.assert_allclose([a["probability"] for a in native], [a["probability"] for a in converted], atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnx", "native"])
def test_a_server_needs_no_frame_library(runtime: str, tmp_path: Path) -> None:
    validation = PROBLEMS["binary"].validation
    manifest = write_bundle(
        MODELS["binary"],
        tmp_path / "b",
        name="visits",
        version=1,
        example=raw_rows(validation[:1], MODELS["binary"].signature.inputs)[0],
        validation_frame=validation if runtime == "onnx" else validation[:0],
        created=0,
    )
    assert manifest.runtime == runtime
    code = (
        "import sys, json; from pathlib import Path; from loopline.packaging.runtime import Session, predict_rows\n"
        "session = Session(Path(sys.argv[1])); print(json.dumps(predict_rows(session, [session.manifest.example])))\n"
        "heavy = {'polars', 'pandas', 'sqlalchemy', 'onnx', 'optuna', 'pyarrow'}\n"
        "heavy |= {'sklearn', 'lightgbm'} if sys.argv[2] == 'onnx' else set()\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b"), runtime], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [manifest.golden]


def test_the_same_model_is_the_same_bytes_but_for_the_time(tmp_path: Path) -> None:
    write("multiclass", tmp_path / "a", created=1)
    again = train(problem("multiclass"), params=QUICK).model
    write("multiclass", tmp_path / "b", model=again, created=2)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    different = [str(f) for f in files if (tmp_path / "a" / f).read_bytes() != (tmp_path / "b" / f).read_bytes()]
    assert different == ["manifest.json"]
    first, second = (json.loads((tmp_path / n / "manifest.json").read_bytes()) for n in "ab")
    assert first | {"created": 2} == second


def test_a_folder_that_exists_and_a_wrong_example_are_refused_with_nothing_written(tmp_path: Path) -> None:
    write("binary", tmp_path / "b")
    with pytest.raises(Conflict):
        write("binary", tmp_path / "b")
    with pytest.raises(Invalid):
        write_bundle(
            MODELS["binary"],
            tmp_path / "c",
            name="visits",
            version=1,
            example={"x": "much"},
            validation_frame=PROBLEMS["binary"].validation,
            created=0,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def relisted(folder: Path, name: str, data: bytes) -> None:
    """Write a file and list it with its true digest, as an attacker who can edit the manifest would."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["digests"][name] = digest_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def external(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    relisted(folder, "model.onnx", model.SerializeToString())


def linked(folder: Path) -> None:
    (folder / "parity.json").rename(folder.parent / "outside.json")
    (folder / "parity.json").symlink_to(folder.parent / "outside.json")


ATTACKS: dict[str, tuple[Any, str]] = {
    "changed": (lambda f: (f / "transform.json").write_text("{}"), "bundle-changed"),
    "one byte": (
        lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-1] + b"!"),
        "bundle-changed",
    ),
    "missing": (lambda f: (f / "native" / "trees.txt").unlink(), "bundle-incomplete"),
    "unlisted": (lambda f: (f / "more.json").write_text("{}"), "bundle-unlisted"),
    "pickle": (lambda f: relisted(f, "native/model.pkl", b"\x80\x04."), "bundle-format"),
    "unlisted pickle": (lambda f: (f / "native" / "model.pkl").write_bytes(b"\x80\x04."), "bundle-unlisted"),
    "traversal": (lambda f: relisted(f, "../outside.json", b"{}"), "bundle-path"),
    "absolute": (lambda f: relisted(f, str(f.parent / "outside.json"), b"{}"), "bundle-path"),
    "link": (linked, "bundle-path"),
    "external data": (external, "bundle-external-data"),
    "no onnx": (lambda f: relisted(f, "model.onnx", b"\xff\xff\xff"), "unsafe-form"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no-bundle"),
    "damaged manifest": (lambda f: (f / "manifest.json").write_text("{"), "bad-manifest"),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "b"
    write("binary", folder)
    return folder


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tampered_bundle_is_refused(attack: str, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(bundle, folder)
    read_manifest(folder)
    act, code = ATTACKS[attack]
    act(folder)
    with pytest.raises(LooplineError) as caught:
        read_manifest(folder)
    assert caught.value.code == code
    assert isinstance(caught.value, Refused | Invalid | NotFound)


def test_signatures_may_stand_beside_the_listed_files(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(bundle, folder)
    (folder / "signatures").mkdir()
    (folder / "signatures" / "manifest.dsse.json").write_text("{}")
    assert read_manifest(folder).name == "visits"


def test_external_data_is_found_wherever_it_hides() -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, dtype=np.float32), "t")
    plain = onnx.helper.make_node("Constant", [], ["a"], value=tensor)
    outside = onnx.TensorProto()
    outside.CopyFrom(tensor)
    outside.data_location = onnx.TensorProto.EXTERNAL
    hidden = onnx.helper.make_node("Constant", [], ["a"], value=outside)
    for node, expected in ((plain, False), (hidden, True)):
        inner = onnx.helper.make_graph([node], "inner", [], [])
        branch = onnx.helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner)
        for nodes in ([node], [branch]):
            graph = onnx.helper.make_graph(nodes, "outer", [], [])
            assert points_outside(onnx.helper.make_model(graph).SerializeToString()) is expected


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"x": "1", "ward": "A", "day": "2022-05-01"}, "wrong-type"),
        ({"x": 1.0, "ward": "A", "day": "May"}, "wrong-type"),
        ({"ward": "A", "day": "2022-05-01"}, "missing-value"),
        ({"x": 1.0, "ward": "A", "day": "2022-05-01", "extra": 1}, "unknown-column"),
    ],
)
def test_bad_rows_are_refused_by_name(row: dict[str, Any], code: str, bundle: Path) -> None:
    with pytest.raises(Invalid) as caught:
        predict_rows(bundle, [row])
    assert caught.value.code == code


def test_an_unknown_category_and_a_missing_one_are_answered(bundle: Path) -> None:
    rows = [{"x": 1.0, "ward": ward, "day": "2022-05-01"} for ward in ("never seen", None, "")]
    unknown, missing, empty = predict_rows(bundle, rows)
    assert 0 < unknown["probability"] < 1
    assert missing == empty
