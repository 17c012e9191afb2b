from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.quality.profile import Profile, profile

RNG = np.random.default_rng(1)
N = 3000
LABEL = RNG.random(N) < 0.1


def warned(column: list[object] | np.ndarray, *, label: bool = True) -> set[str]:
    frame = pl.DataFrame({"x": column, "y": LABEL[: len(column)]}, strict=False)
    return {w.code for w in profile(frame, label="y" if label else None).warnings() if w.column == "x"}


@pytest.mark.parametrize(
    ("column", "code"),
    [
        (["same"] * N, "constant"),
        ([f"id{i}" for i in range(N)], "near-unique"),
        (list(range(N)), "near-unique"),
        ([None] * 2000 + [1.0] * 500 + [2.0] * 500, "many-missing"),
        ([None] * N, "all-missing"),
        (np.append(RNG.normal(size=N - 1), 1e6), "outliers"),
        (RNG.poisson(0.05, N), "skewed"),
        (["?", "north", "south"] * 1000, "disguised-missing"),
        ([999 if i % 100 == 3 else i % 90 for i in range(N)], "disguised-missing"),
        (["no"] * (N - 2) + ["yes"] * 2, "nearly-constant"),
        ([f"c{i % 200}" for i in range(N)], "many-levels"),
        ([float("inf")] + [1.0, 2.0] * 1499, "infinite"),
        (np.where(LABEL, RNG.normal(9, 1, N), RNG.normal(-9, 1, N)), "leak-suspect"),
        (np.where(LABEL, "was readmitted", "was not"), "leak-suspect"),
        ([1.5 if y else None for y in LABEL], "leak-suspect"),
    ],
)
def test_each_warning_is_given(column: list[object], code: str) -> None:
    assert code in warned(column)


def test_ordinary_columns_are_left_in_peace() -> None:
    assert warned(RNG.normal(size=N)) == set()
    assert warned(RNG.choice(["a", "b", "c"], N)) == set()
    assert warned(LABEL + RNG.normal(size=N)) == set()


def test_what_might_stand_for_a_missing_value_is_told_with_its_share() -> None:
    frame = pl.DataFrame({"ward": [*["?"] * 10, " ", *["north", "south"] * 45], "age": [*[-99] * 8, *range(93)]})
    texts = [w.text for w in profile(frame).warnings() if w.code == "disguised-missing"]
    assert texts == [
        "ward is '?' or ' ' in 11 rows (10.9%): it may stand for a missing value.",
        "age is -99 in 8 rows, far from all other values: it may stand for a missing one.",
    ]
    many = pl.DataFrame({"pay": [*[9_999_999] * 6, *range(200)], "year": [2015] * 206})
    assert {w.text for w in profile(many).warnings()} >= {
        "pay is 9999999 in 6 rows, far from all other values: it may stand for a missing one.",
        "year has the one value 2015 everywhere.",
    }
    assert warned([99 if i % 50 == 3 else i % 90 for i in range(N)], label=False) == set()
    assert warned(["?"] * N, label=False) == {"constant"}


def test_days_are_told_as_days() -> None:
    days = pl.Series([*range(19_000, 19_400), 2_932_896]).cast(pl.Date)
    (found,) = profile(pl.DataFrame({"left": days})).warnings()
    assert found.code == "outliers"
    assert found.text == "left reaches 9999-12-31 while half of its values lie between 2022-04-18 and 2022-11-04."


def test_a_copy_of_a_number_to_predict_is_a_suspect_and_noise_is_none() -> None:
    y = RNG.normal(size=N)
    frame = pl.DataFrame({"copy": y * 3 + 1, "weak": y + RNG.normal(size=N), "noise": RNG.choice(400, N), "y": y})
    got = profile(frame, label="y")
    assert {w.column for w in got.warnings() if w.code == "leak-suspect"} == {"copy"}
    hints = {n: c.association.value for n, c in got.columns.items() if c.association is not None}
    assert hints["noise"] < 0.02 < hints["weak"] < 0.6


def test_the_worst_comes_first_and_the_label_matters_most() -> None:
    frame = pl.DataFrame({"x": ["s"] * 99 + [None], "y": [True] * 99 + [None]})
    found = profile(frame, label="y").warnings()
    assert [w.severity for w in found] == sorted((w.severity for w in found), reverse=True)
    assert {(w.column, w.code) for w in found if w.severity == 3} >= {("y", "missing"), ("y", "constant")}
    assert any(w.code == "duplicate-rows" for w in found)


def test_hints_survive_merging_as_a_mean() -> None:
    frame = pl.DataFrame({"x": LABEL, "y": LABEL})
    merged = profile(frame[:1000], label="y").merge(profile(frame[1000:], label="y"))
    hint = merged.columns["x"].association
    assert hint is not None
    assert (hint.rows, hint.value) == (N, pytest.approx(1.0, abs=0.01))
    assert isinstance(merged, Profile)
