from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import lightgbm
import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.features import table
from loopline.features.infer import infer_fields
from loopline.features.records import Signature
from loopline.features.transform import TableTransform
from loopline.packaging.export import to_onnx
from loopline.packaging.frames import arrays
from loopline.packaging.graph import Graph
from loopline.packaging.parity import convert
from loopline.packaging.preprocessing import _blocks, category_means, numeric_features
from loopline.packaging.runtime import open_session, run_session
from loopline.training.boosted import binned, fit_boosted
from loopline.training.estimators import Boosted, Linear, LinearForm
from loopline.training.linear import fit_constant, fit_linear
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams

QUICK = BoostedParams(learning_rate=0.2, leaves=12, min_rows=5, rounds=25)
SCHEMA = {
    "number": pl.Float64,
    "integer": pl.Int64,
    "boolean": pl.Boolean,
    "day": pl.Date,
    "moment": pl.Datetime("us"),
    "first": pl.String,
    "second": pl.String,
}
MOMENTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001
TEXT = st.sampled_from(["", "a", "b", "c", "location", "Überweisung", "never seen"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
            "integer": st.none() | st.integers(-(2**30), 2**30),
            "boolean": st.none() | st.booleans(),
            "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
            "moment": st.none() | MOMENTS,
            "first": st.none() | TEXT,
            "second": st.none() | TEXT,
        }
    ),
    min_size=1,
    max_size=20,
)


def rows(n: int = 600) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    start = datetime(2020, 1, 1, 6)  # noqa: DTZ001
    made: list[dict[str, Any]] = [
        {
            "number": None if i % 9 == 0 else float(rng.normal()),
            "integer": int(rng.integers(0, 9)),
            "boolean": bool(rng.random() < 0.5),
            "day": None if i % 50 == 0 else (start + timedelta(days=int(rng.integers(0, 900)))).date(),
            "moment": start + timedelta(hours=int(rng.integers(0, 9000))),
            "first": None if i % 33 == 0 else "abc"[int(rng.integers(0, 3))],
            "second": ["location", "Überweisung", "a"][int(rng.integers(0, 3))],
        }
        for i in range(n)
    ]
    return pl.DataFrame(made, schema=SCHEMA)


def problem(kind: str) -> Problem:
    frame = rows()
    rng = np.random.default_rng(1)
    signal = (
        frame["number"].fill_null(0.8).to_numpy()
        + (frame["first"].fill_null("c") == "b").to_numpy() * 1.5
        + frame["moment"].dt.weekday().to_numpy() / 4
        + rng.normal(size=frame.height)
    )
    labels: dict[str, Any] = {
        "binary": signal > 1,
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(signal, [0.5, 2])],
        "regression": signal * 30,
    }
    frame = frame.with_columns(label=pl.Series(labels[kind]))
    return Problem.of(frame[:450], frame[450:], label="label")


def fitted(kind: str, family: str) -> Model:
    ready = problem(kind)
    if family == "boosted":
        return fit_boosted(binned(ready), QUICK)[0]
    return (fit_linear if family == "linear" else fit_constant)(ready)[0]


MODELS = {
    (kind, family): fitted(kind, family)
    for kind in ("binary", "multiclass", "regression")
    for family in ("boosted", "linear", "constant")
}
SESSIONS = {key: open_session(to_onnx(model).SerializeToString()) for key, model in MODELS.items()}


@pytest.mark.parametrize("key", MODELS, ids="-".join)
@given(drawn=ROWS)
@settings(max_examples=15, deadline=None)
def test_both_forms_agree_on_any_row(key: tuple[str, str], drawn: list[dict[str, Any]]) -> None:
    model, frame = MODELS[key], pl.DataFrame(drawn, schema=SCHEMA)
    output = run_session(SESSIONS[key], *arrays(model, frame))
    assert output.dtype == np.float32
    native = model.predict(frame)
    if model.task == "binary":
        np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-6)
        output = output[:, 1]
    elif model.task == "regression":
        output = output[:, 0]
    np.testing.assert_allclose(output, native, rtol=2e-5, atol=2e-5 if model.task != "regression" else 2e-3)


@given(drawn=ROWS)
@settings(max_examples=30, deadline=None)
def test_the_graph_makes_the_features_that_the_transform_makes(drawn: list[dict[str, Any]]) -> None:
    model, frame = MODELS["multiclass", "boosted"], pl.DataFrame(drawn, schema=SCHEMA)
    transform = model.transform
    graph = Graph(len(transform.number_fields), len(transform.string_fields))
    numeric, means = numeric_features(graph, transform), category_means(graph, transform)
    assert numeric is not None
    assert means is not None
    output = graph.add("Identity", [graph.join([numeric, means])], output="features")
    session = open_session(graph.model(output, len(transform.names)).SerializeToString())
    np.testing.assert_array_equal(run_session(session, *arrays(model, frame)), transform.apply(frame))


def test_the_interface_is_the_one_that_serving_feeds() -> None:
    for (kind, _), model in MODELS.items():
        proto = to_onnx(model)
        onnx.checker.check_model(proto, full_check=True)
        assert [i.name for i in proto.graph.input] == ["numbers", "strings"]
        assert [o.name for o in proto.graph.output] == ["value" if kind == "regression" else "probabilities"]
        shape = [d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim]
        assert shape[1] == {"binary": 2, "multiclass": 3, "regression": 1}[kind]
        kinds = [i.type.tensor_type.elem_type for i in proto.graph.input]
        assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.STRING]
        assert {o.domain: o.version for o in proto.opset_import} == {"": 15, "ai.onnx.ml": 3}


@pytest.mark.parametrize("family", ["boosted", "linear"])
@pytest.mark.parametrize("columns", [["number", "integer"], ["first", "second"], ["day"]])
def test_an_input_without_columns_is_left_out(family: str, columns: list[str]) -> None:
    frame = rows().with_columns(label=pl.Series(np.arange(600) % 3 == 0))
    ready = Problem.of(
        frame[:450], frame[450:], label="label", fields=infer_fields(frame.select(columns), label="label")
    )
    model = fit_boosted(binned(ready), QUICK)[0] if family == "boosted" else fit_linear(ready)[0]
    data, report = convert(model, ready.validation)
    assert (report.runtime, report.n) == ("onnx", 150)
    assert data is not None
    assert len(onnx.load_from_string(data).graph.input) == 1


def test_many_large_categories_are_split_over_several_dictionaries() -> None:
    n, columns = 4_000, 300
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({f"c{i}": np.char.add(f"{i}-", rng.integers(0, 20, n).astype(str)) for i in range(columns)})
    labels = rng.integers(0, 2, n).astype(np.float64)
    fields = infer_fields(frame, label="none")
    transform = TableTransform.fit(frame, fields, targets=labels[:, None])
    assert len(_blocks(transform.plan.categories)) > 1
    graph = Graph(0, columns)
    means = category_means(graph, transform)
    assert means is not None
    session = open_session(graph.model(graph.add("Identity", [means], output="features"), columns).SerializeToString())
    strings = np.stack([table.strings(frame, f).to_numpy() for f in fields], axis=1)[:50]
    got = run_session(session, np.empty((50, 0), dtype=np.float32), strings)
    np.testing.assert_array_equal(got, transform.apply(frame[:50]))


def booster(x: np.ndarray, y: np.ndarray, **params: Any) -> str:  # type: ignore[type-arg]
    dataset = lightgbm.Dataset(x, y, params={"verbosity": -1, "min_data_in_bin": 1, "num_threads": 1}, **params)
    options = {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 1}
    return str(lightgbm.train(options, dataset, 20).model_to_string())


def numeric_model(text: str, columns: int) -> Model:
    frame = pl.DataFrame({f"x{i}": [0.5, 1.5, None] for i in range(columns)})
    fields = infer_fields(frame, label="none")
    return Model(Signature(inputs=fields, task="regression"), TableTransform.fit(frame, fields), Boosted(text))


@pytest.mark.parametrize("with_missing", [False, True])
def test_trees_decide_alike_at_their_thresholds_at_zero_and_where_values_are_missing(with_missing: bool) -> None:
    rng = np.random.default_rng(4)
    x = np.round(rng.normal(size=(800, 3)), 1).astype(np.float32)
    y = np.sin(3 * x[:, 0]) + np.abs(x[:, 1]) + (x[:, 2] > 0)
    if with_missing:
        hidden = rng.random(x.shape) < 0.2
        x[hidden] = np.nan
        y = y + hidden[:, 0]
    text = booster(x, y)
    model = numeric_model(text, 3)
    thresholds = [float(v) for line in text.splitlines() if line.startswith("threshold=") for v in line[10:].split()]
    edges = np.unique(np.array(thresholds, dtype=np.float32))
    probes = np.concatenate(
        [edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9)), [0, np.nan]]
    )
    grid = np.array(
        [[a, b, c] for a in probes[::3] for b in probes[::5] for c in (np.nan, 0.0, -0.05, 0.05)], dtype=np.float32
    )
    session = open_session(to_onnx(model).SerializeToString())
    got = run_session(session, grid, np.empty((len(grid), 0), dtype=object))[:, 0]
    np.testing.assert_allclose(got, model.estimator.score(grid, "regression"), atol=1e-5)


def test_what_onnx_lacks_is_served_natively_with_the_operator_named() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    codes = rng.integers(0, 5, 400)
    x[:, 1] = codes
    text = booster(x, x[:, 0] + (codes == 3), categorical_feature=[1])
    data, report = convert(numeric_model(text, 2), pl.DataFrame({"x0": [1.0], "x1": [2.0]}))
    assert data is None
    assert (report.runtime, report.operator) == ("native", "TreeEnsembleRegressor")
    assert "categorical splits" in report.reason


def test_forms_that_differ_are_found_out() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "z": [1.0, 0.0, 3.0]})
    fields = infer_fields(frame, label="none")
    transform = TableTransform.fit(frame, fields, style="linear")
    signature = Signature(inputs=fields, task="regression")
    # Two coefficients beyond 32 bits cancel in 64 bits only.
    form = LinearForm(coefficients=((1e9 + 1.0, -1e9),), intercepts=(0.0,))
    same = pl.DataFrame({"x": [1.0, 2.0, 3.0], "z": [1.0, 2.0, 3.0]})
    twin = TableTransform.fit(same, fields, style="linear")
    data, report = convert(Model(signature, twin, Linear(form)), same)
    assert data is not None
    assert report.runtime == "native"
    assert "differ by up to" in report.reason
    assert convert(Model(signature, transform, Linear(form)), same[:0])[1].runtime == "native"


def test_rows_near_the_threshold_are_listed_and_do_not_count_as_disagreement() -> None:
    model = MODELS["binary", "boosted"]
    ready = problem("binary")
    scores = model.predict(ready.validation)
    near = model.with_threshold(float(np.float32(scores[7])))
    _, report = convert(near, ready.validation)
    assert report.runtime == "onnx"
    assert 7 in [row.row for row in report.near_threshold]
    assert report.disagreeing == 0
    assert all(abs(row.native - row.onnx) < 1e-6 for row in report.near_threshold)


def test_equal_models_are_equal_bytes() -> None:
    first = to_onnx(fitted("multiclass", "boosted")).SerializeToString(deterministic=True)
    assert first == to_onnx(MODELS["multiclass", "boosted"]).SerializeToString(deterministic=True)
