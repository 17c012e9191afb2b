"""int8 forms: they serve where they hold against the model's own answers, and never otherwise; a row's answer stays its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import skops.io
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.tree import DecisionTreeClassifier

from loopline.errors import Invalid
from loopline.packaging.foreign import package
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Manifest
from loopline.packaging.runtime import Session, predict_rows
from loopline.packaging.signing import ModelSigner
from loopline.serving.model import OnnxRuntime
from loopline.testing.runtime import RuntimeLaws, Subject

RNG = np.random.default_rng(5)
N = 600
ROWS = pl.DataFrame({name: RNG.normal(size=N).astype(np.float32) for name in "abcdefgh"})
SCORE = (ROWS["a"] * 2 - ROWS["b"] + ROWS["c"] * ROWS["d"]).to_numpy()


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, pl.DataFrame]]:
    """A net and a tree of two classes, and a net of amounts, with their validation rows."""
    folder, made = tmp_path_factory.mktemp("forms"), {}
    label = np.where(SCORE > 0, "yes", "no")
    for name, estimator, target in (
        (
            "net",
            MLPClassifier(hidden_layer_sizes=(64, 32), max_iter=60, tol=1.0, n_iter_no_change=40, random_state=1),
            label,
        ),
        (
            "amounts",
            MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=60, tol=1.0, n_iter_no_change=40, random_state=1),
            SCORE,
        ),
        ("tree", DecisionTreeClassifier(max_depth=4), label),
    ):
        estimator.fit(ROWS.to_numpy(), target)
        skops.io.dump(estimator, folder / f"{name}.skops")
        made[name] = folder / f"{name}.skops", ROWS.with_columns(pl.Series("label", target))
    return made


def packaged(
    forms: Any, what: str, folder: Path, signer: ModelSigner, int8: float | None
) -> tuple[Manifest, dict[str, Any]]:
    form, frame = forms[what]
    manifest = package(
        form, folder, kind="skops", name="risk", rows=frame, label="label", signer=signer, created=0, int8=int8
    )
    return manifest, json.loads((folder / "parity.json").read_bytes())


@pytest.mark.parametrize(("what", "at_most"), [("net", 0.1), ("amounts", 0.1)])
def test_where_it_holds_it_serves(forms: Any, signer: ModelSigner, tmp_path: Path, what: str, at_most: float) -> None:
    packaged(forms, what, tmp_path / "float", signer, None)
    manifest, parity = packaged(forms, what, tmp_path / "small", signer, at_most)
    said = parity["int8"]
    assert manifest.runtime == "onnx"
    assert said["accepted"], said
    assert 0 < said["difference"] <= said["tolerance"]
    assert said["n"] == N // 2, "the rows that its scales were not taken from"
    assert said["bytes"] == (tmp_path / "small" / "model.onnx").stat().st_size
    assert said["bytes_before"] == (tmp_path / "float" / "model.onnx").stat().st_size
    weights = onnx.load(tmp_path / "small" / "model.onnx").graph.initializer
    assert sum(w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 2 for w in weights) == 3, "all layers are 8-bit"
    # What is reported is what is answered.
    asked = ROWS[1::2].to_dicts()
    key = "value" if what == "amounts" else "probabilities"
    own, small = ([one[key] for one in predict_rows(tmp_path / name, asked)] for name in ("float", "small"))
    if what == "net":
        own, small = ([one["yes"] for one in answers] for answers in (own, small))
    assert np.abs(np.subtract(own, small)).max() == pytest.approx(said["difference"], rel=1e-3)
    assert manifest.golden == predict_rows(tmp_path / "small", ROWS[:1].to_dicts())[0]


def test_where_it_does_not_hold_the_graph_itself_serves(forms: Any, signer: ModelSigner, tmp_path: Path) -> None:
    manifest, parity = packaged(forms, "net", tmp_path / "b", signer, 1e-6)
    assert manifest.runtime == "onnx"
    assert not parity["int8"]["accepted"]
    assert parity["int8"]["reason"].startswith("The forms differ by up to")
    assert (tmp_path / "b" / "model.onnx").stat().st_size == parity["int8"]["bytes_before"]
    served = onnx.load(tmp_path / "b" / "model.onnx").graph
    assert not {"QuantizeLinear", "DequantizeLinear"} & {one.op_type for one in served.node}


def test_what_has_no_int8_form_is_refused(forms: Any, signer: ModelSigner, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nothing to quantise"):
        packaged(forms, "tree", tmp_path / "b", signer, 0.1)
    with pytest.raises(Invalid, match="Code has no int8 form"):
        package(
            tmp_path, tmp_path / "b", kind="code", name="risk", rows=ROWS, label="a", signer=signer, created=0, int8=0.1
        )
    assert not (tmp_path / "b").exists()


class TestInt8(RuntimeLaws):
    """The laws: above all, that a row's answer does not depend on the batch."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, forms: Any, signer: ModelSigner, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        folder = tmp_path_factory.mktemp("laws") / "b"
        packaged(forms, "net", folder, signer, 0.1)
        numbers, _ = Session(folder).boundary.decode(ROWS[:12].to_dicts())
        return Subject(runtime=OnnxRuntime(folder, read_manifest(folder)), numbers=numbers, strings=None, width=2)
