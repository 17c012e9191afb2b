# ruff: noqa: DTZ001 - tables hold naive times
"""Cleaning at serving: a row of a request gets, to the last bit, what a table's rows got at training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.features import table
from loopline.features.boundary import Boundary
from loopline.features.infer import described
from loopline.features.raw import raw_signature
from loopline.features.records import Field, Signature
from loopline.features.table import raw_rows
from loopline.hashing import canonical_json, digest_bytes
from loopline.loop.table import Table, boosted, linear
from loopline.packaging.bundle import write_bundle
from loopline.packaging.cleaned import ArrayCleaning, Cleaned
from loopline.packaging.manifest import CLEANING, MANIFEST
from loopline.packaging.predictor import BundlePredictor
from loopline.packaging.runtime import Session, predict_rows
from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_frame import kind
from loopline.quality.cleaning_steps import Step, clean
from loopline.serving.model import load

_AT = {"time": "cycle", "group": "unit"}
_STEPS = [
    clean.placeholders(),
    clean.repair("sex", "ward"),
    clean.number("weight", units={"kg": 1, "g": 0.001, "lb": 0.45359237}),
    clean.date("seen", format="%d.%m.%Y"),
    clean.date("stamp"),
    clean.boolean("smokes"),
    clean.recode("sex", to={"f": "female"}),
    clean.recode("code", to={"1": "one", "2": "two"}, other="more"),
    clean.rare("ward", below=2),
    clean.rare("code", below=2),
    clean.constant("sex", value="unknown"),
    clean.constant("ok", value=True),
    clean.median("age", group="sex"),
    clean.mean("dose"),
    clean.mode("ok", group="code"),
    clean.median("dose", group="unit"),
    clean.forward("dose", rows=3, **_AT),
    clean.forward("ward", rows=2, **_AT),
    clean.forward("day", **_AT),
    clean.smooth("dose", rows=3, **_AT),
    clean.lag("dose", rows=[1, 2], **_AT),
    clean.lag("sex", **_AT),
    clean.window("age", rows=3, take=["mean", "std", "min", "max"], **_AT),
    clean.clip("age", by="iqr"),
    clean.clip("dose", low=0.1, high=0.9),
    clean.flag("age", by="mad"),
    clean.scale("age"),
    clean.scale("dose", by="robust"),
    clean.ordinal("ward", order=["a", "b", "c"]),
    clean.one_hot("sex"),
    clean.one_hot("code"),
    clean.date_parts("day"),
    clean.date_parts("at", parts=["hour", "weekday", "year"]),
    clean.hashed("note", into=4),
    clean.deduplicate("code"),
]
_SCHEMA = {
    "unit": pl.Int64,
    "cycle": pl.Int64,
    "sex": pl.String,
    "ward": pl.Categorical,
    "note": pl.String,
    "weight": pl.String,
    "seen": pl.String,
    "stamp": pl.String,
    "smokes": pl.String,
    "code": pl.Int64,
    "age": pl.Int64,
    "dose": pl.Float64,
    "ok": pl.Boolean,
    "day": pl.Date,
    "at": pl.Datetime("us"),
}
_TRAIN = pl.DataFrame(
    {
        "unit": [1, 1, 1, 2, 2, 2],
        "cycle": [1, 2, 3, 1, 2, 3],
        "sex": ["f", "f ", "male", None, "male", "F"],
        "ward": ["a", "a", "b", "c", None, "b"],
        "note": ["chest pain", "pain", None, "x", "well again", ""],
        "weight": ["70 kg", "900 g", "12.5", None, "3 lb", "7"],
        "seen": ["01.02.2024", None, "31.12.1999", "1.1.1970", "29.02.2024", "01.02.2024"],
        "stamp": ["2024-02-01T10:30:00Z", None, "2024-02-01", "1999-01-01 08:00", "2024-02-01", "2023-05-06"],
        "smokes": ["yes", "No", None, "y", "n", "T"],
        "code": [1, 1, 2, 2, 3, None],
        "age": [20, 30, 41, None, 55, 300],
        "dose": [0.1, 0.25, None, 4.75, 5.5, 6.0],
        "ok": [True, False, None, True, True, False],
        "day": [date(2024, 2, 29), date(1970, 1, 1), None, date(1899, 12, 31), date(2030, 6, 1), date(2024, 1, 1)],
        "at": [datetime(2024, 2, 29, 23, 59, 59), None, datetime(1969, 12, 31, 1), *[datetime(2024, 1, 1, 10)] * 3],
    },
    schema=_SCHEMA,
)
_TEXTS = st.none() | st.text(max_size=4)
_LARGEST = 1e30
_ROW = st.fixed_dictionaries(
    {
        "unit": st.none() | st.integers(1, 3),
        "cycle": st.integers(0, 4),
        "sex": _TEXTS | st.sampled_from(["f", " F", "MALE", "?", "female"]),
        "ward": _TEXTS | st.sampled_from(["a", "B", "c ", "new"]),
        "note": _TEXTS | st.sampled_from(["Chest  PAIN", "well well"]),
        "weight": _TEXTS | st.sampled_from(["1,250 g", "7e2kg", " 12", "-3 lb", "1e999", "5 stone"]),
        "seen": _TEXTS | st.sampled_from(["29.02.2023", "29.02.2024", "1.1.0001", "31.12.9999"]),
        "stamp": _TEXTS | st.sampled_from(["2024-02-01T10:30:00+05:30", "0001-01-01", "2024-13-01"]),
        "smokes": _TEXTS | st.sampled_from(["YES", "n", "0"]),
        "code": st.none() | st.integers(-3, 5) | st.integers(-(2**53), 2**53),
        "age": st.none() | st.integers(-(10**6), 10**6),
        "dose": st.none() | st.floats(-_LARGEST, _LARGEST) | st.just(math.nan),
        "ok": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "at": st.none() | st.datetimes(),
    }
)


def _fitted(steps: Sequence[Step]) -> Cleaning:
    taken: list[Step] = []
    for step in steps:
        try:
            Cleaning.fit(_TRAIN, [*taken, step])
        except Invalid:
            continue
        taken.append(step)
    return Cleaning.fit(_TRAIN, taken)


def _signature(frame: pl.DataFrame) -> Signature:
    """All columns of a cleaned frame as what a model takes."""
    kinds = {"moment": "date", "text": "category"}
    fields = [
        described(frame[c], kinds.get(k, k), nullable=True) for c in frame.columns if (k := kind(frame.schema[c]))
    ]  # type: ignore[arg-type]
    return Signature(inputs=tuple(fields), task="regression")


def _served(fitted: Cleaning, model: Signature, raw: Signature) -> Any:
    """From raw rows to the model's arrays, as a bundle does it."""
    boundary, taken = Boundary(raw.inputs, np.float64), Boundary(model.inputs)
    rows = fitted.rows.reads(f.name for f in model.inputs)
    cleaned = Cleaned(cleaning=rows, numbers=taken.numbers, strings=taken.strings)
    again = msgspec.json.decode(canonical_json(cleaned), type=Cleaned)
    cleaning = ArrayCleaning(again, boundary.numbers, boundary.strings)

    def answer(sent: list[dict[str, Any]], requests: Any = None) -> tuple[Any, Any]:
        numbers, texts = boundary.decode(json.loads(json.dumps(sent)))
        return cleaning.apply(numbers, texts.tolist(), requests)

    return answer


def _arrays(frame: pl.DataFrame, fields: Sequence[Field]) -> tuple[Any, Any]:
    texts = [table.strings(frame, f).to_list() for f in fields if f.kind in ("category", "text")]
    return table.numbers(frame, fields), [list(row) for row in zip(*texts, strict=True)]


@settings(deadline=None, max_examples=200)
@given(st.lists(_ROW, min_size=1, max_size=6), st.lists(st.sampled_from(_STEPS), max_size=7, unique_by=id))
def test_a_request_gets_what_a_table_gets(rows: list[dict[str, Any]], steps: list[Step]) -> None:
    fitted = _fitted(steps)
    model = _signature(fitted.apply(_TRAIN).kept)
    raw = raw_signature(_TRAIN, model, fitted.rows.reads(f.name for f in model.inputs))
    answer = _served(fitted, model, raw)
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    numbers, texts = _arrays(fitted.apply(frame).kept, model.inputs)
    sent = raw_rows(frame, raw.inputs)
    found = answer(sent)
    np.testing.assert_array_equal(found[0], numbers)
    if texts:
        assert found[1].tolist() == texts
    # Rows of several requests that are scored together know nothing of each other.
    twice = answer([*sent, *sent], np.repeat([0, 1], len(sent)))
    np.testing.assert_array_equal(twice[0], np.concatenate([numbers, numbers]))
    if fitted.rows.history is None:
        for place, row in enumerate(sent):
            np.testing.assert_array_equal(answer([row])[0][0], numbers[place])


def test_steps_that_are_joined_do_to_each_column_what_they_do_alone() -> None:
    """Many columns of numbers, with gaps, through the steps that are done to all at once, and texts filled in between."""
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {f"x{i}": np.where(rng.random(60) < 0.2, np.nan, rng.normal(size=60) * 10**i) for i in range(6)}
        | {"code": rng.integers(0, 4, 60), "g": rng.choice(["a", "b"], 60), "t": rng.choice(["u", "v", ""], 60)}
    ).with_columns(pl.col(f"x{i}").fill_nan(None) for i in range(6))
    steps = [
        clean.median("x0", "x1"), clean.median("x2", group="g"), clean.mean("x3", "x4"), clean.constant("code", value=7),
        clean.mode("t"), clean.clip("x0", "x1", "x2", "x3", by="iqr"), clean.scale("x0", "x2", "x4"),
        clean.recode("code", to={"7": "seven"}),
    ]  # fmt: skip
    fitted = Cleaning.fit(frame, steps)
    model = _signature(fitted.apply(frame).kept)
    raw = raw_signature(frame, model, fitted.rows.reads(f.name for f in model.inputs))
    answer, sent = _served(fitted, model, raw), raw_rows(frame, raw.inputs)
    numbers, texts = _arrays(fitted.apply(frame).kept, model.inputs)
    for place, row in enumerate(sent):
        found = answer([row])
        np.testing.assert_array_equal(found[0][0], numbers[place])
        assert found[1].tolist() == [texts[place]]
    np.testing.assert_array_equal(answer(sent)[0], numbers)


def _learned(folder: Path, model: str = "boosted") -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """A bundle of a model on cleaned rows of sensors, with the raw and the cleaned validation rows."""
    rng = np.random.default_rng(1)
    n = 600
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(n // 20), 20),
            "cycle": np.tile(np.arange(20), n // 20),
            "weight": [f"{x:.2f} kg" if i % 7 else f"{x * 1000:.0f} g" for i, x in enumerate(rng.normal(70, 9, n))],
            "ward": rng.choice(["A", "a ", "B", "rare", "?"], n, p=[0.4, 0.2, 0.35, 0.01, 0.04]),
            "sensor": rng.normal(size=n).cumsum(),
        }
    ).with_columns(y=pl.col("sensor").rolling_mean(4, min_samples=1).over("unit") + (pl.col("ward") == "B"))
    steps = [
        clean.number("weight", units={"kg": 1, "g": 0.001}),
        clean.placeholders("ward"),
        clean.repair("ward"),
        clean.rare("ward"),
        clean.window("sensor", rows=4, take=["mean"], **_AT),
        clean.median("weight", group="ward"),
    ]
    train, validation = frame[:400], frame[400:]
    fitted = Cleaning.fit(train, steps, keep=("unit", "cycle"), hidden=("y",))
    rows, held = (fitted.apply(side).kept for side in (train, validation))
    made = Table(rows, held, label="y", ignore=["unit", "cycle"])
    fit = boosted(made, leaves=8, rounds=30) if model == "boosted" else linear(made)
    cleaning = fitted.rows.reads(f.name for f in fit.signature.inputs)
    raw = raw_signature(train, fit.signature, cleaning)
    write_bundle(
        fit,
        folder,
        name="sensors",
        version=1,
        example=raw_rows(train.head(1), raw.inputs)[0],
        validation_frame=held,
        created=1_700_000_000_000,
        cleaning=cleaning,
        signature=raw,
    )
    return folder, validation, held.with_columns(predicted=pl.Series(fit.predict(held)))


def test_a_bundle_takes_raw_rows_and_answers_as_the_model_did(tmp_path: Path) -> None:
    folder, raw, held = _learned(tmp_path / "b")
    session = Session(folder)
    fields = {f.name: f for f in session.manifest.signature.inputs}
    assert {name: f.kind for name, f in fields.items()} == {
        "unit": "integer", "cycle": "integer", "weight": "category", "ward": "category", "sensor": "number",
    }  # fmt: skip
    assert [f.name for f in fields.values() if not f.nullable] == ["cycle"]
    predicted = held["predicted"].to_numpy()
    np.testing.assert_allclose(BundlePredictor(folder).predict(raw), predicted, rtol=1e-5, atol=1e-4)
    sent = raw_rows(raw, session.manifest.signature.inputs)
    answers = [row["value"] for row in predict_rows(session, sent)]
    np.testing.assert_allclose(answers, predicted, rtol=1e-5, atol=1e-4)
    served = load(folder)
    order = (*served.manifest.numbers, *served.manifest.strings)
    rows = [tuple("" if row[c] is None and c in served.manifest.strings else row[c] for c in order) for row in sent]
    np.testing.assert_allclose(served.run(rows)[:, 0], predicted, rtol=1e-5, atol=1e-4)
    alone = served.run(rows[19:21])[:, 0]  # the last row of a unit without its history is another row
    together = served.run([*rows[16:20], *rows[19:20]], [4, 1])[:, 0]
    assert together[3] == pytest.approx(predicted[19], rel=1e-5, abs=1e-4)
    assert together[4] == pytest.approx(alone[0])
    assert abs(together[4] - together[3]) > 1e-3
    with pytest.raises(Invalid, match="cycle"):
        session.decode([{**sent[0], "cycle": None}])
    assert predict_rows(session, [{**sent[0], "weight": None, "ward": "never seen"}])


def test_a_model_that_is_served_natively_is_cleaned_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopline.packaging.parity.TOLERANCE", 0.0)
    monkeypatch.setattr("loopline.packaging.parity.convert.__kwdefaults__", {"tolerance": 0.0})
    folder, raw, held = _learned(tmp_path / "b", model="linear")
    assert Session(folder).manifest.runtime == "native"
    served = load(folder)
    try:
        order = (*served.manifest.numbers, *served.manifest.strings)
        sent = raw_rows(raw, served.manifest.signature.inputs)
        found = served.run([tuple(row[c] if row[c] is not None else "" for c in order) for row in sent])[:, 0]
    finally:
        served.close()
    np.testing.assert_allclose(found, held["predicted"].to_numpy(), rtol=1e-5, atol=1e-4)


def test_serving_loads_neither_polars_nor_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    folder, raw, _ = _learned(tmp_path / "b")
    row = raw_rows(raw.head(1), Session(folder).manifest.signature.inputs)[0]
    code = (
        "import json, sys; from loopline.packaging.runtime import predict_rows; from loopline.serving.model import load; "
        "load(__import__('pathlib').Path(sys.argv[1])); "
        "assert predict_rows(__import__('pathlib').Path(sys.argv[1]), [json.loads(sys.argv[2])]); "
        "print(sorted({'polars', 'pandas', 'sklearn', 'pyarrow', 'lightgbm', 'scipy'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(row)], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_a_damaged_cleaning_is_refused(tmp_path: Path) -> None:
    folder, _, _ = _learned(tmp_path / "b")
    (folder / CLEANING).write_text('{"cleaning": {"steps": [{"step": "magic"}]}, "numbers": [], "strings": []}')
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["digests"][CLEANING] = digest_bytes((folder / CLEANING).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Invalid, match="damaged"):
        Session(folder)
