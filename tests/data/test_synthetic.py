"""Synthetic patients: the real file's form, drift and breaches; something to learn; the same for a seed."""

from __future__ import annotations

import os
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from loopline.data.readers import check_label, read_table
from loopline.data.split import split
from loopline.data.synthetic import synthetic_readmission, synthetic_table
from loopline.errors import Invalid
from loopline.quality.contract import column, contract, rule, unique
from loopline.quality.contract_check import check

REAL = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).parents[3] / "shared/data")) / "readmission.parquet"


@pytest.fixture(scope="module")
def visits() -> pl.DataFrame:
    return synthetic_readmission()


def _tenths(frame: pl.DataFrame, value: pl.Expr) -> list[float]:
    numbered = frame.select(value.cast(pl.Float64).alias("v"), (pl.int_range(pl.len()) * 10 // pl.len()).alias("t"))
    return numbered.group_by("t").agg(pl.col("v").mean()).sort("t")["v"].to_list()


def test_the_drift_is_the_published_one(visits: pl.DataFrame) -> None:
    assert visits.shape == (96_921, 47)
    published = [0.49, 0.45, 0.40, 0.47, 0.54, 0.51, 0.50, 0.49, 0.42, 0.37]
    assert _tenths(visits, pl.col("readmitted") == "YES") == pytest.approx(published, abs=0.02)
    diagnoses = _tenths(visits, pl.col("number_diagnoses"))
    assert diagnoses == sorted(diagnoses)
    assert (diagnoses[0], diagnoses[-1]) == pytest.approx((6.8, 8.2), abs=0.15)
    insulin = _tenths(visits, pl.col("insulin") != "No")
    assert (insulin[0], insulin[-1]) == pytest.approx((0.47, 0.60), abs=0.02)


def test_patients_come_again_in_order_of_time(visits: pl.DataFrame) -> None:
    assert visits["encounter_id"].is_unique().all()
    assert visits["encounter_id"].is_sorted()
    assert visits["patient_nbr"].n_unique() == pytest.approx(68_188, rel=0.05)
    fixed = visits.group_by("patient_nbr").agg(pl.col("race", "age").n_unique())
    assert (fixed["race"].max(), fixed["age"].max()) == (1, 1)
    last = pl.col("encounter_id") == pl.col("encounter_id").max().over("patient_nbr")
    rates = visits.group_by(last.alias("last")).agg((pl.col("readmitted") == "YES").mean().alias("rate")).sort("last")
    assert rates["rate"].to_list() == pytest.approx([0.98, 0.26], abs=0.05)  # "has a later row" nearly is the label


def test_some_rows_break_a_sensible_contract(visits: pl.DataFrame) -> None:
    report = check(
        visits,
        contract(
            unique("encounter_id"),
            column("time_in_hospital").between(1, 14),
            column("gender").one_of("Female", "Male"),
            column("diag_1").not_null(),
            rule("discharged alive", "discharge_disposition_id NOT IN (11, 19, 20, 21)"),
            rule("third diagnosis coded", "number_diagnoses < 3 OR diag_3 IS NOT NULL"),
            rule("who died does not come back", "discharge_disposition_id <> 11 OR readmitted = 'NO'"),
            rule("a moved dose is a change", "change = 'Ch' OR insulin NOT IN ('Up', 'Down')"),
        ),
    )
    broken = {r.name: r.broken for r in report.rules}
    assert broken["discharged alive"] == pytest.approx(1_600, rel=0.15)
    assert broken["third diagnosis coded"] > 50
    assert 1 <= broken["gender.one_of(Female, Male)"] <= 10
    assert 1 <= broken["diag_1.not_null()"] <= 60
    assert broken["unique(encounter_id)"] == broken["time_in_hospital.between(1, 14)"] == 0
    assert broken["who died does not come back"] == broken["a moved dose is a change"] == 0


def test_there_is_something_to_learn(visits: pl.DataFrame) -> None:
    made = split(visits, label="readmitted", time="encounter_id", group="patient_nbr", seed=0)
    codes = {
        c: pl.Enum(visits[c].drop_nulls().unique().sort())
        for c, t in visits.schema.items()
        if t == pl.String and c != "readmitted"
    }

    def numbers(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        features = frame.drop("encounter_id", "patient_nbr", "readmitted").with_columns(
            pl.col(c).cast(t).to_physical() for c, t in codes.items()
        )
        return features.cast(pl.Float64).to_numpy(), (frame["readmitted"] == "YES").to_numpy()

    x, y = numbers(made.train)
    settings = {"objective": "binary", "verbose": -1, "num_threads": 2, "seed": 1, "learning_rate": 0.2, "max_bin": 63}
    model = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=25)
    x, y = numbers(made.test)
    ranks = pl.Series(np.asarray(model.predict(x))).rank().to_numpy()
    auc = (ranks[y].mean() - (y.sum() + 1) / 2) / (~y).sum()
    assert 0.64 < auc < 0.72


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    one = synthetic_readmission(rows=2_000, seed=3)
    assert_frame_equal(one, synthetic_readmission(rows=2_000, seed=3))
    assert not one.equals(synthetic_readmission(rows=2_000, seed=4))
    assert synthetic_readmission(rows=100).height == 100
    with pytest.raises(Invalid, match="99 synthetic rows"):
        synthetic_readmission(rows=99)


def test_it_says_that_it_is_synthetic() -> None:
    made = synthetic_table(rows=500, seed=1)
    assert (made.format, made.facts.synthetic, made.facts.rows) == ("synthetic", True, 500)
    assert "synthetic" in made.facts.source
    assert "synthetic" in made.facts.warnings[0]
    assert check_label(made.frame, "readmitted").classes == ("NO", "YES")
    assert made.facts.digest == synthetic_table(rows=500, seed=1).facts.digest


@pytest.mark.skipif(not REAL.exists(), reason="the real file is not here")
def test_it_has_the_real_files_form(visits: pl.DataFrame) -> None:
    real = read_table(REAL).frame
    assert visits.schema == real.schema
    for name, dtype in real.schema.items():
        if dtype == pl.String and not name.startswith("diag_"):
            unknown = set(visits[name].unique()) - set(real[name].unique())
            assert unknown <= {"Unknown/Invalid"}, name
        elif dtype != pl.String and not name.endswith(("_id", "_nbr")):
            assert visits[name].mean() == pytest.approx(real[name].mean(), rel=0.2), name
    # Nobody's row is in it.
    keys = [c for c in real.columns if c not in ("encounter_id", "patient_nbr")]
    assert visits.join(real, on=keys, how="semi", nulls_equal=True).height == 0
