"""Models of other libraries and a user's code as bundles: runtimes keep the port's laws, parity decides, fakes are refused."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import polars as pl
import pytest
import skops.io
import xgboost
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from loopline.errors import LooplineError, MissingExtra, NotFound, Refused
from loopline.packaging.bundle import write_bundle
from loopline.packaging.child import ChildRuntime
from loopline.packaging.explaining import Explainer
from loopline.packaging.foreign import package
from loopline.packaging.manifest import read_manifest
from loopline.packaging.predictor import BundlePredictor
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.runtime import Session, predict_rows
from loopline.packaging.signing import ModelSigner
from loopline.registry import formats
from loopline.serving.explain import can_explain
from loopline.serving.model import OnnxRuntime
from loopline.testing.runtime import RuntimeLaws, Subject
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams
from loopline.training.train import train

RNG = np.random.default_rng(11)
N = 400
X, Z = RNG.normal(size=N).astype(np.float32), RNG.normal(size=N).astype(np.float32)
WARD = np.array(["east", "north", "west"])[RNG.integers(0, 3, N)]
FRAME = pl.DataFrame({"x": X, "z": Z, "ward": WARD})
NUMBERS = FRAME.select("x", "z")
BACK = np.where(X + (WARD == "north") + RNG.normal(size=N) / 2 > 0.3, "yes", "no")
CODE = """
class Model:
    def load(self, folder):
        self.weights = [float(line) for line in (folder / "weights.txt").read_text().split()]

    def predict(self, rows):
        from more import logistic
        a, b = self.weights
        return [logistic(a * row["x"] + b * (row["ward"] == "north")) for row in rows]
"""


def labelled(frame: pl.DataFrame, labels: Any) -> pl.DataFrame:
    return frame.with_columns(pl.Series("label", labels))[:200]


def boosted(folder: Path, **params: Any) -> tuple[Path, pl.DataFrame]:
    labels: Any = (X > 0.2).astype(int) + (Z > 1) * (params.get("num_class") is not None)
    if params["objective"].startswith("reg"):
        labels = (2 * X + Z).astype(np.float64)
    booster = xgboost.train({"max_depth": 3, **params}, xgboost.DMatrix(NUMBERS.to_numpy(), label=labels), 8)
    booster.save_model(folder / "model.json")
    return folder / "model.json", labelled(NUMBERS, labels)


def pipeline(
    folder: Path, estimator: Any, frame: pl.DataFrame = FRAME, labels: Any = BACK
) -> tuple[Path, pl.DataFrame]:
    estimator.fit(frame if frame.width == 3 else frame.to_numpy(), labels)
    skops.io.dump(estimator, folder / "model.skops")
    return folder / "model.skops", labelled(frame, labels)


def mixed() -> Any:
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["x", "z"]),
            (OneHotEncoder(handle_unknown="ignore"), ["ward"]),
        ),
        LogisticRegression(),
    )


def grown(folder: Path, **params: Any) -> tuple[Path, pl.DataFrame]:
    labels: Any = (X > 0.2).astype(int) + (Z > 1) * (params.get("num_class") is not None)
    if params["objective"] in ("regression", "poisson"):
        labels = np.abs(2 * X + Z).astype(np.float64)
    names = {"feature_name": ["x", "z"]} if params.pop("named", True) else {}
    table = lightgbm.Dataset(NUMBERS.to_numpy(), label=labels, free_raw_data=False, **names)
    booster = lightgbm.train(
        {"num_leaves": 6, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, **params}, table, 8
    )
    booster.save_model(folder / "model.txt")
    return folder / "model.txt", labelled(NUMBERS, labels)


def exported(folder: Path, estimator: Any, frame: pl.DataFrame, labels: Any) -> tuple[Path, pl.DataFrame]:
    """A graph as scikit-learn's converter makes it by default, with maps at its end; and the estimator beside it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    _, rows = pipeline(folder, estimator, frame, labels)
    types: Any = [(n, (StringTensorType if n == "ward" else FloatTensorType)([None, 1])) for n in frame.columns]
    if frame.width == 2:
        types = [("X", FloatTensorType([None, 2]))]
    (folder / "model.onnx").write_bytes(to_onnx(estimator, initial_types=types, target_opset=15).SerializeToString())
    return folder / "model.onnx", rows


def code(folder: Path) -> tuple[Path, pl.DataFrame]:
    place = folder / "code"
    place.mkdir()
    (place / "model.py").write_text(CODE)
    (place / "more.py").write_text("import math\n\n\ndef logistic(v):\n    return 1 / (1 + math.exp(-v))\n")
    (place / "weights.txt").write_text("1.5 0.7")
    return place, labelled(FRAME, BACK)


MODELS: dict[str, tuple[str, str, Callable[[Path], tuple[Path, pl.DataFrame]]]] = {
    # what: (kind of form, the runtime that parity chooses, how it is made)
    "xgboost-binary": ("xgboost", "onnx", lambda f: boosted(f, objective="binary:logistic")),
    "xgboost-multiclass": ("xgboost", "onnx", lambda f: boosted(f, objective="multi:softprob", num_class=3)),
    "xgboost-regression": ("xgboost", "onnx", lambda f: boosted(f, objective="reg:squarederror")),
    "lightgbm-binary": ("lightgbm", "onnx", lambda f: grown(f, objective="binary", named=False)),
    "lightgbm-multiclass": ("lightgbm", "onnx", lambda f: grown(f, objective="multiclass", num_class=3)),
    "lightgbm-regression": ("lightgbm", "onnx", lambda f: grown(f, objective="poisson")),
    "lightgbm-forest": (
        "lightgbm",
        "lightgbm",
        lambda f: grown(f, objective="regression", boosting="rf", bagging_freq=1, bagging_fraction=0.7),
    ),
    "graph-pipeline": ("onnx", "onnx", lambda f: exported(f, mixed(), FRAME, BACK)),
    "graph-matrix": ("onnx", "onnx", lambda f: exported(f, LogisticRegression(), NUMBERS, BACK)),
    "graph-regression": ("onnx", "onnx", lambda f: exported(f, RandomForestRegressor(5), NUMBERS, X * 2 + Z)),
    "sklearn-pipeline": ("skops", "onnx", lambda f: pipeline(f, mixed())),
    "sklearn-forest": ("skops", "onnx", lambda f: pipeline(f, RandomForestRegressor(5), NUMBERS, X * 2 + Z)),
    "code": ("code", "code", code),
}


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, signer: ModelSigner
) -> Callable[[str], tuple[Path, Manifest, pl.DataFrame]]:
    known: dict[str, tuple[Path, Manifest, pl.DataFrame]] = {}

    def make(what: str) -> tuple[Path, Manifest, pl.DataFrame]:
        if what not in known:
            folder = tmp_path_factory.mktemp(what)
            kind, _, making = MODELS[what]
            form, rows = making(folder)
            manifest = package(
                form, folder / "bundle", kind=kind, name="risk", rows=rows, label="label", signer=signer, created=7,
                task="regression" if "regression" in what or "forest" in what else None,
            )  # type: ignore[arg-type]  # fmt: skip
            known[what] = folder / "bundle", manifest, rows
        return known[what]

    return make


@pytest.mark.parametrize("what", MODELS)
def test_what_is_packaged_answers_as_its_library_does(what: str, made: Any, opening: Opening) -> None:
    folder, manifest, rows = made(what)
    assert manifest.runtime == MODELS[what][1], json.loads((folder / "parity.json").read_bytes())
    asked = rows.drop("label").to_dicts()
    found = predict_rows(Session(folder, opening=opening), asked)
    form = folder / "native" / ("model.ubj" if "xgboost" in what else "model.skops")
    if what.startswith("graph"):
        form = folder.parent / "model.skops"
    if what.startswith("xgboost"):
        booster = xgboost.Booster()
        booster.load_model(form)
        own = booster.predict(xgboost.DMatrix(rows.drop("label").to_numpy()))
    elif what.startswith("lightgbm"):
        own = lightgbm.Booster(model_file=folder / "native" / "model.txt").predict(rows.drop("label").to_numpy())
    elif what == "code":
        own = [1 / (1 + np.exp(-(1.5 * r["x"] + 0.7 * (r["ward"] == "north")))) for r in asked]
    else:
        estimator = skops.io.load(form, trusted=["numpy.dtype", "sklearn.tree._tree.Tree"])
        given = rows.drop("label")
        if "pipeline" in what:
            own = estimator.predict_proba(given)[:, 1]
        elif "matrix" in what:
            own = estimator.predict_proba(given.to_numpy())[:, 1]
        else:
            own = estimator.predict(given.to_numpy())
    if manifest.task == "multiclass":
        mine: Any = [list(one["probabilities"].values()) for one in found]
    elif manifest.task == "binary":
        mine = [one["probabilities"][manifest.classes[1]] for one in found]
    else:
        mine = [one["value"] for one in found]
    np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-5)
    # What evaluation measures is the very same.
    measured = BundlePredictor(folder, opening).predict(rows)
    np.testing.assert_allclose(measured, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("what", ["lightgbm-binary", "lightgbm-multiclass", "xgboost-binary", "xgboost-multiclass"])
def test_why_trees_answered_so(what: str, made: Any, opening: Opening) -> None:
    folder, manifest, rows = made(what)
    asked = rows.drop("label")[:20]
    assert can_explain(manifest)
    answers = predict_rows(Session(folder, opening=opening), asked.to_dicts())
    for why, answer in zip(Explainer(folder).explain([list(row) for row in asked.rows()]), answers, strict=True):
        assert set(why["contributions"]) == {"x", "z"}
        assert why["base"] + sum(why["contributions"].values()) == pytest.approx(why["score"], abs=1e-5)
        if manifest.task == "binary":
            chance = answer["probabilities"][why["class"]]
            assert why["score"] == pytest.approx(np.log(chance / (1 - chance)), abs=1e-3)
        else:
            assert why["class"] == answer["label"]


# The laws


class Laws(RuntimeLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, made: Any, opening: Opening, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
        runtime, folder, frame = cls.opened(made, opening, tmp_path_factory.mktemp("laws"))
        manifest = read_manifest(folder)
        numbers, strings = Session(folder, opening=opening).boundary.decode(frame[:12].to_dicts())
        yield Subject(
            runtime=runtime,
            numbers=numbers if manifest.numbers else None,
            strings=strings if manifest.strings else None,
            width=len(manifest.classes) or 1,
        )
        runtime.close()

    @classmethod
    def opened(cls, made: Any, opening: Opening, tmp_path: Path) -> Any:
        raise NotImplementedError


class TestOnnx(Laws):
    @classmethod
    def opened(cls, made: Any, opening: Opening, tmp_path: Path) -> Any:
        folder, manifest, rows = made("sklearn-pipeline")
        return OnnxRuntime(folder, manifest), folder, rows.drop("label")


class TestCode(Laws):
    @classmethod
    def opened(cls, made: Any, opening: Opening, tmp_path: Path) -> Any:
        folder, _, rows = made("code")
        return ChildRuntime(folder, opening), folder, rows.drop("label")


class Served(Laws):
    what = ""

    @classmethod
    def opened(cls, made: Any, opening: Opening, tmp_path: Path) -> Any:
        """The form itself, as where parity did not hold."""
        folder, _, rows = made(cls.what)
        copy = tmp_path / "bundle"
        shutil.copytree(folder, copy)
        manifest = json.loads((copy / "manifest.json").read_bytes())
        manifest["runtime"] = MODELS[cls.what][0]
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return ChildRuntime(copy, Opening()), copy, rows.drop("label")


class TestXGBoost(Served):
    what = "xgboost-multiclass"


class TestLightGBMText(Served):
    what = "lightgbm-multiclass"


class TestSkops(Served):
    what = "sklearn-pipeline"


class TestLightGBM(Laws):
    @classmethod
    def opened(cls, made: Any, opening: Opening, tmp_path: Path) -> Any:
        rows = FRAME.with_columns(pl.Series("back", BACK))
        problem = Problem.of(rows[:300], rows[300:], label="back")
        model = train(problem, params=BoostedParams(learning_rate=0.2, leaves=8, min_rows=5, rounds=10)).model
        asked = FRAME.select([f.name for f in model.signature.inputs])
        example = asked[:1].to_dicts()[0]
        folder = tmp_path / "native"
        manifest = write_bundle(
            model, folder, name="risk", version=1, example=example, validation_frame=rows[:0], created=0
        )
        assert manifest.runtime == "native"
        return ChildRuntime(folder, Opening()), folder, asked


del Laws, Served  # not to be collected themselves


# Parity and conversion


class Doubling(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """What no converter knows."""

    def fit(self, X: Any, y: Any = None) -> Doubling:
        return self

    def transform(self, X: Any) -> Any:
        return X * 2


def test_forms_that_differ_are_served_by_the_library_itself(tmp_path: Path, signer: ModelSigner) -> None:
    """These trees split at doubles that float32 does not tell apart."""
    values = NUMBERS.cast(pl.Float64).with_columns(pl.col("x") + pl.Series(RNG.normal(size=N) * 1e-9))
    form, rows = pipeline(tmp_path, HistGradientBoostingClassifier(max_iter=5), values)
    manifest = package(
        form, tmp_path / "b", kind="skops", name="risk", rows=rows, label="label", signer=signer, created=0
    )
    parity = json.loads((tmp_path / "b" / "parity.json").read_bytes())
    assert manifest.runtime == parity["runtime"] == "skops"
    assert parity["reason"].startswith("The forms differ by up to")
    assert predict_rows(tmp_path / "b", rows.drop("label")[:1].to_dicts())[0] == manifest.golden


def test_a_failed_conversion_names_the_operator_and_the_form_serves(
    tmp_path: Path, signer: ModelSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.kernel_approximation import RBFSampler

    form, rows = pipeline(tmp_path, make_pipeline(RBFSampler(random_state=1), LogisticRegression()), NUMBERS)
    manifest = package(
        form, tmp_path / "b", kind="skops", name="risk", rows=rows, label="label", signer=signer, created=0
    )
    parity = json.loads((tmp_path / "b" / "parity.json").read_bytes())
    assert (manifest.runtime, parity["operator"]) == ("skops", "sklearn.kernel_approximation.RBFSampler")
    assert "The conversion failed" in parity["reason"]
    assert "model.onnx" not in manifest.digests


# What is refused


def refused(form: Path, tmp_path: Path, kind: str, rows: pl.DataFrame, signer: ModelSigner) -> LooplineError:
    with pytest.raises(LooplineError) as told:
        package(form, tmp_path / "b", kind=kind, name="risk", rows=rows, label="label", signer=signer, created=0)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".b*"))
    return told.value


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, (str(Path(sys.prefix) / "trapped"), "w"))


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(("kind", "name"), [("skops", "model.skops"), ("xgboost", "model.ubj"), ("xgboost", "m.json")])
def test_a_pickle_by_any_name(tmp_path: Path, signer: ModelSigner, kind: str, name: str, protocol: int) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap(), protocol))
    told = refused(tmp_path / name, tmp_path, kind, labelled(NUMBERS, BACK), signer)
    assert told.code in ("unsafe-form", "bad-model")
    assert not (Path(sys.prefix) / "trapped").exists()


def test_a_type_that_is_not_known_is_refused_by_name(tmp_path: Path, signer: ModelSigner) -> None:
    form, rows = pipeline(tmp_path, make_pipeline(Doubling(), LogisticRegression()), NUMBERS)
    told = refused(form, tmp_path, "skops", rows, signer)
    assert told.code == "unknown-type"
    assert "Doubling" in told.message


def zipped(path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as old:
        members = {one: old.read(one) for one in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        change(new, members)


def test_a_skops_file_that_is_no_whole_zip(tmp_path: Path, signer: ModelSigner) -> None:
    form, rows = pipeline(tmp_path, LogisticRegression(), NUMBERS)
    whole = form.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        first = file.infolist()[0]
    start = first.header_offset + 30 + len(first.filename)
    bad_checksum = bytearray(whole)
    bad_checksum[start + first.compress_size // 2] ^= 1
    other_name = bytearray(whole)
    other_name[first.header_offset + 30] ^= 1  # its local header says another name than the directory
    for data in (bytes(bad_checksum), bytes(other_name), whole[: len(whole) // 2], b""):
        form.write_bytes(data)
        assert refused(form, tmp_path, "skops", rows, signer).code == "unsafe-form"


def test_what_hides_in_a_skops_file(tmp_path: Path, signer: ModelSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    form, rows = pipeline(tmp_path, LogisticRegression(), NUMBERS)
    whole = form.read_bytes()
    objects = io.BytesIO()
    np.save(objects, np.array([Trap()], dtype=object), allow_pickle=True)

    def add(name: str, data: bytes) -> None:
        form.write_bytes(whole)
        zipped(form, lambda new, old: [new.writestr(k, v) for k, v in {**old, name: data}.items()])  # type: ignore[func-returns-value]

    for name, data in (
        ("more.npy", objects.getvalue()), ("more.json", pickle.dumps(Trap())), ("more.pkl", b"x"), ("../out.json", b"{}"),
        ("/etc/out.json", b"{}"), ("deep/in.json", b"{}"),
    ):  # fmt: skip
        add(name, data)
        assert refused(form, tmp_path, "skops", rows, signer).code == "unsafe-form", name
    # A small file that unpacks to more than any model is.
    monkeypatch.setattr(formats, "_LARGEST_TEXT", 10 << 20)
    with zipfile.ZipFile(form, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros.npy", b"\0" * (11 << 20))
    assert "unpacks to more" in refused(form, tmp_path, "skops", rows, signer).message


def test_trees_and_graphs_that_are_not_what_they_should_be(tmp_path: Path, signer: ModelSigner) -> None:
    form, rows = grown(tmp_path, objective="binary")
    other = rows.rename({"x": "y"})
    assert refused(form, tmp_path, "lightgbm", other, signer).code == "other-columns"
    assert refused(form, tmp_path, "lightgbm", rows.with_columns(more=1.0), signer).code == "other-columns"
    form.write_text("no trees")
    assert refused(form, tmp_path, "lightgbm", rows, signer).code == "bad-model"
    raw, rows = grown(tmp_path, objective="cross_entropy_lambda")
    assert refused(raw, tmp_path, "lightgbm", rows, signer).code == "no-probabilities"

    for kind in ("onnx", "lightgbm", "xgboost", "skops", "pytorch", "tensorflow", "code"):
        assert refused(tmp_path / "nothing", tmp_path, kind, rows, signer).branch == "not_found"
    for kind in ("onnx", "lightgbm", "xgboost", "skops"):
        assert "is a folder" in refused(tmp_path, tmp_path, kind, rows, signer).message

    graph, rows = exported(tmp_path, LogisticRegression(), NUMBERS, BACK)
    whole = graph.read_bytes()
    assert refused(graph, tmp_path, "onnx", rows.select("x", "label"), signer).code == "other-columns"
    three = rows.with_columns(label=pl.Series(["a", "b", "c", "c"] * 50))
    assert refused(graph, tmp_path, "onnx", three, signer).code == "other-classes"
    model = onnx.load_from_string(whole)
    model.graph.output.pop()
    graph.write_bytes(model.SerializeToString())
    told = refused(graph, tmp_path, "onnx", rows, signer)
    assert (told.code, "gives no floats" in told.message) == ("bad-model", True)
    graph.write_bytes(whole[:-50])
    assert refused(graph, tmp_path, "onnx", rows, signer).code == "bad-model"
    model = onnx.load_from_string(whole)
    model.graph.node[0].domain = "com.example"
    graph.write_bytes(model.SerializeToString())
    assert refused(graph, tmp_path, "onnx", rows, signer).code == "bad-model"


def test_columns_and_classes_that_are_not_the_model_s(tmp_path: Path, signer: ModelSigner) -> None:
    form, rows = boosted(tmp_path, objective="binary:logistic")
    assert refused(form, tmp_path, "xgboost", labelled(FRAME, BACK), signer).code == "not-numbers"
    assert refused(form, tmp_path, "xgboost", rows.drop("z"), signer).code == "other-columns"
    assert refused(form, tmp_path, "xgboost", rows[:0], signer).code == "no-rows"
    form, rows = pipeline(tmp_path, mixed())
    assert refused(form, tmp_path, "skops", rows.select("z", "x", "ward", "label"), signer).code == "other-columns"
    wrong = rows.with_columns(pl.col("label").replace("yes", "maybe"))
    assert refused(form, tmp_path, "skops", wrong, signer).code == "other-classes"
    (tmp_path / "empty").mkdir()
    assert isinstance(refused(tmp_path / "empty", tmp_path, "code", rows, signer), NotFound)


@pytest.mark.parametrize(
    ("source", "said"),
    [("class Model: pass", "load"), ("import nothing_there", "nothing_there"), ("x = (", "SyntaxError"), ("", "Model")],
)
def test_code_that_does_not_load_says_why(tmp_path: Path, signer: ModelSigner, source: str, said: str) -> None:
    place, rows = code(tmp_path)
    (place / "model.py").write_text(source)
    told = refused(place, tmp_path, "code", rows, signer)
    assert told.code == "bad-code"
    assert said in told.message


def test_code_with_a_pickle_beside_it(tmp_path: Path, signer: ModelSigner) -> None:
    place, rows = code(tmp_path)
    (place / "weights.npy").write_bytes(pickle.dumps(Trap()))
    assert refused(place, tmp_path, "code", rows, signer).code == "unsafe-form"


def test_code_is_opened_in_no_other_way(made: Any, opening: Opening, tmp_path: Path) -> None:
    folder, _, rows = made("code")
    with pytest.raises(Refused, match="it holds code"):
        Session(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "code" / "more.py").write_text("raise SystemExit")
    with pytest.raises(Refused, match=r"'code/more.py' .* was changed"):
        ChildRuntime(copy, opening)
    before = set(sys.modules)
    predict_rows(Session(folder, opening=opening), rows.drop("label")[:1].to_dicts())
    assert not {"more", "model"} & (set(sys.modules) - before), "it ran elsewhere"


def test_without_the_library_the_command_is_told(
    tmp_path: Path, signer: ModelSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, rows = boosted(tmp_path, objective="binary:logistic")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    told = refused(form, tmp_path, "xgboost", rows, signer)
    assert isinstance(told, MissingExtra)
    assert "pip install 'loopline[xgboost]'" in told.hint
    monkeypatch.setitem(sys.modules, "skops", None)
    told = refused(form, tmp_path, "skops", rows, signer)
    assert isinstance(told, MissingExtra)
    assert "pip install 'loopline[skops]'" in told.hint


def test_a_threshold_is_kept(tmp_path: Path, signer: ModelSigner) -> None:
    form, rows = boosted(tmp_path, objective="binary:logistic")
    manifest = package(
        form, tmp_path / "b", kind="xgboost", name="risk", rows=rows, label="label", signer=signer, created=0, threshold=0.9
    )  # fmt: skip
    assert manifest.threshold == read_manifest(tmp_path / "b").threshold == 0.9
