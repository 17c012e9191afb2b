"""TensorFlow and Keras themselves, in an environment of their own: SavedModels answer in our runtimes as they do in them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from peers import environment

from loopline.errors import LooplineError, Refused
from loopline.packaging.child import ChildRuntime
from loopline.packaging.foreign import package
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.runtime import Session, predict_rows
from loopline.packaging.signing import ModelSigner
from loopline.serving.model import load
from loopline.testing.runtime import RuntimeLaws, Subject

pytestmark = [pytest.mark.systems, pytest.mark.timeout(900)]

RNG = np.random.default_rng(4)
N = 300
FRAME = pl.DataFrame(
    {
        "x": RNG.normal(size=N).astype(np.float32),
        "y": RNG.normal(size=N).astype(np.float32),
        "z": RNG.integers(0, 9, N),
        "ward": np.array(["east", "north", "west"])[RNG.integers(0, 3, N)],
    }
)
LABELS = {
    "binary": ["no" if n % 3 else "yes" for n in range(N)],
    "multiclass": ["abc"[n % 3] for n in range(N)],
    "regression": [n / 7 for n in range(N)],
}
TASKS = {"multiclass": "multiclass", "regression": "regression", "numbers": "regression"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the models; while it is used, child processes find TensorFlow."""
    folder = tmp_path_factory.mktemp("tensorflow")
    FRAME.write_csv(folder / "rows.csv")
    python = environment("tensorflow==2.21.0", "tf2onnx==1.17.0")
    done = subprocess.run(
        [python, "-W", "ignore", Path(__file__).with_name("tensorflow_models.py"), folder],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (place,) = python.parents[1].glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        yield folder


@pytest.fixture(scope="module")
def bundled(made: Path, signer: ModelSigner, tmp_path_factory: pytest.TempPathFactory) -> Any:
    known: dict[str, tuple[Path, Manifest, dict[str, Any]]] = {}

    def make(what: str) -> tuple[Path, Manifest, dict[str, Any]]:
        if what not in known:
            folder = tmp_path_factory.mktemp(what) / "bundle"
            manifest = packaged(made, what, folder, signer)
            known[what] = folder, manifest, json.loads((folder / "parity.json").read_bytes())
        return known[what]

    return make


def rows_of(what: str) -> pl.DataFrame:
    return FRAME if what == "columns" else FRAME.drop("ward")


def packaged(made: Path, what: str, folder: Path, signer: ModelSigner, rows: pl.DataFrame | None = None) -> Manifest:
    task = TASKS.get(what, "binary")
    frame = (rows_of(what) if rows is None else rows).with_columns(pl.Series("label", LABELS[task]))
    return package(
        made / what, folder, kind="tensorflow", name="risk", rows=frame, label="label", signer=signer, created=0, task=task
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "runtime"),
    [
        ("binary", "onnx"),
        ("multiclass", "onnx"),
        ("regression", "onnx"),
        ("numbers", "onnx"),
        ("columns", "tensorflow"),
    ],
)
def test_a_saved_model_answers_as_in_tensorflow(
    made: Path, bundled: Any, opening: Opening, what: str, runtime: str
) -> None:
    folder, manifest, parity = bundled(what)
    assert manifest.runtime == parity["runtime"] == runtime, parity
    session = Session(folder, opening=opening)
    found = predict_rows(session, rows_of(what).to_dicts())
    session.close()
    wanted = np.array(json.loads((made / "answers.json").read_text())[what], np.float32)
    if manifest.task == "regression":
        mine: Any = [one["value"] for one in found]
    elif manifest.task == "binary":
        mine = [one["probabilities"]["yes"] for one in found]
    else:
        mine = [list(one["probabilities"].values()) for one in found]
    np.testing.assert_allclose(mine, wanted.reshape(np.shape(mine)), rtol=1e-4, atol=1e-5)
    load(folder, opening).close()
    if runtime == "onnx":
        assert {name.rpartition(".")[2] for name in manifest.digests} == {"onnx", "json"}, "it holds no program"


def test_why_the_graph_does_not_serve_is_said(bundled: Any) -> None:
    _, _, parity = bundled("columns")
    assert parity["reason"].startswith("The conversion failed: "), parity
    assert parity["operator"]


class TestSavedModel(RuntimeLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, bundled: Any, opening: Opening) -> Iterator[Subject]:
        folder, _, _ = bundled("columns")
        assert read_manifest(folder).runtime == "tensorflow"
        numbers, strings = Session(folder, opening=opening).boundary.decode(FRAME[:12].to_dicts())
        runtime = ChildRuntime(folder, opening)
        yield Subject(runtime=runtime, numbers=numbers, strings=strings, width=2)
        runtime.close()


def test_what_cannot_be_served_is_refused_by_its_reason(made: Path, signer: ModelSigner, tmp_path: Path) -> None:
    def refusal(what: str, rows: pl.DataFrame | None = None) -> LooplineError:
        with pytest.raises(LooplineError) as told:
            packaged(made, what, tmp_path / "b", signer, rows)
        assert not (tmp_path / "b").exists()
        assert told.value.hint
        return told.value

    for what, code in (
        ("logits", "no-probabilities"), ("several", "bad-model"), ("silent", "bad-model"), ("binary.keras", "no-form"),
        ("nothing", "no-form"),
    ):  # fmt: skip
        assert refusal(what).code == code, what
    assert refusal("binary", FRAME.select("x", "y")).code == "other-columns"
    assert refusal("columns", FRAME.drop("ward")).code == "other-columns"
    assert refusal("columns", FRAME.with_columns(pl.col("z").cast(pl.String))).code == "other-columns"
    gaps = FRAME.with_columns(pl.when(pl.col("x") > 1).then(None).otherwise(pl.col("z")).alias("z"))
    told = refusal("columns", gaps)
    assert told.code == "fails-on-rows"
    assert "no missing values" in told.message


def test_a_program_runs_only_where_a_trusted_key_signed_it(bundled: Any, opening: Opening, tmp_path: Path) -> None:
    folder, _, _ = bundled("columns")
    with pytest.raises(Refused, match="it holds code"):
        Session(folder)
    shutil.copytree(folder, tmp_path / "copy")
    (shard,) = (tmp_path / "copy").rglob("variables.data-*")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(Refused, match="was changed"):
        ChildRuntime(tmp_path / "copy", opening)
