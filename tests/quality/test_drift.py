from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from loopline.errors import Invalid
from loopline.quality.drift import compare
from loopline.quality.profile import profile
from loopline.statistics.binned import fullest_cell, rank_binned
from loopline.statistics.two_sample import ks_binned

LEVELS = (2, 5, 10, 50, 500)


def table(n: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    """15 numbers (normal, skewed, whole) and 5 categories; the first three columns shifted by `shift` deviations."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for i in range(15):
        if i < 8:
            columns[f"x{i}"] = rng.normal(size=n) + (shift if i < 3 else 0)
        elif i < 12:
            columns[f"x{i}"] = rng.lognormal(0, 1.5, n)
        else:
            columns[f"x{i}"] = rng.poisson(i - 11, n)
    for k in LEVELS:
        shares = 1 / np.arange(1, k + 1) ** 0.7
        columns[f"c{k}"] = rng.choice(np.array([f"level{j}" for j in range(k)]), n, p=shares / shares.sum())
    frame = pl.DataFrame(columns)
    hole = pl.Series(rng.random(n) < 0.05)
    return frame.with_columns(x7=pl.when(hole).then(None).otherwise(pl.col("x7")))


def flagged(n: int, seed: int, shift: float = 0.0, rate: float = 0.05) -> list[str]:
    reference = profile(table(n, 2 * seed)).freeze()
    report = compare(
        reference,
        profile(table(n, 2 * seed + 1, shift), reference=reference),
        false_alarms=rate,
        minimum_effect=0.0,
    )
    return [c.column for c in report.drifted]


@pytest.mark.parametrize(("n", "repeats"), [(500, 400), (3000, 400), (100_000, 20)])
def test_reports_without_drift_name_a_column_at_the_stated_rate(n: int, repeats: int) -> None:
    alarms = sum(bool(flagged(n, seed)) for seed in range(repeats))
    # No more than what 5 % would bring in all but one of a thousand such tests.
    assert alarms <= stats.binom.isf(0.001, repeats, 0.05)


def test_three_of_twenty_columns_shifted_by_a_tenth_are_found() -> None:
    found = [flagged(3000, seed, shift=0.1) for seed in range(100)]
    raised = sum(bool({"x0", "x1", "x2"} & set(names)) for names in found) / 100
    each = sum(len({"x0", "x1", "x2"} & set(names)) for names in found) / 300
    assert raised >= 0.95
    # With both sides noisy no test can find more than .89 of them: the shift is 3.9 standard errors.
    assert each >= 0.75


def test_against_a_large_reference_each_of_them_is_found() -> None:
    reference = profile(table(100_000, 1)).freeze()
    found = 0
    for seed in range(30):
        report = compare(reference, profile(table(3000, 100 + seed, 0.1), reference=reference))
        found += len({"x0", "x1", "x2"} & {c.column for c in report.drifted})
    assert found / 90 >= 0.95


def test_a_report_says_which_how_far_and_which_way() -> None:
    rng = np.random.default_rng(5)
    reference = profile(
        pl.DataFrame(
            {
                "visits": rng.poisson(7, 4000),
                "town": rng.choice(["Ulm", "Rom"], 4000),
                "steady": rng.random(4000),
                "spread": rng.normal(size=4000),
                "holes": [None if x < 0.02 else x for x in rng.random(4000)],
                "label": rng.random(4000) < 0.4,
            }
        ),
        label="label",
    ).freeze()
    current = pl.DataFrame(
        {
            "visits": rng.poisson(8, 4000),
            "town": rng.choice(["Ulm", "Rom", "Oslo"], 4000, p=[0.45, 0.45, 0.1]),
            "steady": rng.random(4000),
            "spread": rng.normal(size=4000) * 1.5,
            "holes": [None if x < 0.2 else x for x in rng.random(4000)],
            "label": rng.random(4000) < 0.5,
        }
    )
    report = compare(reference, profile(current, reference=reference), false_alarms=0.01)
    lines = {c.column: c for c in report.columns}
    assert set(lines) - {"steady"} == {c.column for c in report.drifted}
    assert lines["visits"].text.startswith("visits rose from ")
    assert lines["visits"].direction == "up"
    assert lines["visits"].before == pytest.approx(7, abs=0.2)
    assert lines["visits"].after == pytest.approx(8, abs=0.2)
    assert lines["town"].new_levels.keys() == {"Oslo"}
    assert "new values" in lines["town"].text
    assert "'Oslo'" in lines["town"].text
    assert "spreads wider" in lines["spread"].text
    assert lines["holes"].aspect == "missing"
    assert lines["holes"].text.startswith("missing values of holes rose from 1.9% to ")
    assert report.label_drift is not None
    assert report.label_drift.drifted
    assert report.label_drift.bars
    assert "Drift in 5 of 6 columns: " in report.verdict
    assert [c.score for c in report.drifted] == sorted((c.score for c in report.drifted), reverse=True)
    partly = compare(reference, profile(current.drop("label", "steady"), reference=reference))
    assert partly.absent == ("steady",)
    assert partly.label_drift is None


def test_small_changes_and_few_rows_are_no_drift() -> None:
    rng = np.random.default_rng(8)
    reference = profile(pl.DataFrame({"x": rng.normal(size=200_000)})).freeze()
    moved = profile(pl.DataFrame({"x": rng.normal(size=200_000) + 0.03}), reference=reference)
    assert not compare(reference, moved).drifted
    assert compare(reference, moved, minimum_effect=0.005).drifted
    few = profile(pl.DataFrame({"x": rng.normal(size=20) + 9}), reference=reference)
    assert compare(reference, few).verdict.startswith("Too few rows")
    none = profile(pl.DataFrame({"x": [None] * 500}), reference=reference)
    assert [c.aspect for c in compare(reference, none).drifted] == ["missing"]


def test_equal_rows_say_nothing_of_what_would_show() -> None:
    frame = pl.DataFrame({"x": [float(n % 50) for n in range(5000)], "c": ["a", "b"] * 2500})
    reference = profile(frame).freeze()
    same = compare(reference, profile(frame, reference=reference))
    assert same.verdict == "No drift in 2 columns (5,000 rows against 5,000)."
    other = frame.with_columns(c=pl.Series(["a", "b"] * 2490 + ["a"] * 20))
    assert "would not show" in compare(reference, profile(other, reference=reference)).verdict


def test_a_new_level_in_a_short_window_is_seen_against_a_long_reference() -> None:
    reference = profile(pl.DataFrame({"c": ["a"] * 150_000 + ["b"] * 50_000})).freeze()
    report = compare(reference, profile(pl.DataFrame({"c": ["a"] * 75 + ["b"] * 17 + ["z"] * 8}), reference=reference))
    assert [c.column for c in report.drifted] == ["c"]
    assert report.columns[0].text == "c has new values in 8.0% of the rows ('z')"


def test_profiles_on_other_edges_are_refused() -> None:
    reference = profile(table(300, 1)).freeze()
    with pytest.raises(Invalid, match="not made on the same edges"):
        compare(reference, profile(table(300, 2)).freeze())
    with pytest.raises(Invalid, match="none"):
        compare(reference, reference, false_alarms=0.0)


def test_groups_of_like_rows_do_not_alarm() -> None:
    """Every patient has the same sex and town in each of many rows: rows are far from independent."""
    alarms = naive = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        visits = rng.geometric(0.4, 2000)
        people = pl.DataFrame(
            {
                "patient": np.arange(2000),
                "sex": rng.choice(["f", "m"], 2000),
                "town": rng.choice([f"t{i}" for i in range(30)], 2000),
                "age": rng.normal(60, 12, 2000),
                "visits": visits,
            }
        )
        rows = people.select(pl.exclude("visits").repeat_by("visits").explode())
        rows = rows.with_columns(pulse=pl.Series(rng.normal(size=rows.height)))
        first, second = rows.filter(pl.col("patient") < 1000), rows.filter(pl.col("patient") >= 1000)
        names = ["sex", "town", "age", "pulse"]
        reference = profile(first, groups="patient").freeze().only(names)
        alarms += bool(compare(reference, profile(second, reference=reference), minimum_effect=0.0).drifted)
        reference = profile(first).freeze().only(names)
        naive += bool(compare(reference, profile(second, reference=reference), minimum_effect=0.0).drifted)
    assert alarms <= stats.binom.isf(0.001, 200, 0.05)
    assert naive > 60


def test_the_cell_test_is_exact_for_rare_cells() -> None:
    test = fullest_cell([1000, 0], [97, 3])
    assert test.p_value == pytest.approx(2 * 2 * (100 / 1100) ** 3)
    same = fullest_cell([900, 100], [90, 10])
    assert same.p_value == 1.0


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_test_agrees_with_scipy(ties: bool) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=300), rng.normal(size=450) + 0.2
    if ties:
        a, b = np.round(a), np.round(b)
    cells = np.unique(np.concatenate((a, b)))
    counts = [np.bincount(np.searchsorted(cells, side), minlength=len(cells)) for side in (a, b)]
    ours = rank_binned(*counts)
    theirs = stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert ours.statistic > 0
    ks = ks_binned(*counts)
    exact = stats.ks_2samp(a, b, method="asymp")
    assert ks.statistic == pytest.approx(exact.statistic)
    assert exact.pvalue <= ks.p_value <= 1.1 * exact.pvalue + 0.15


@pytest.mark.parametrize(("first", "said"), [(1000.0, "1,100 to 1,250"), (900.0, "1,000 to 1,150")])
def test_words_write_numbers_as_people_do(first: float, said: str) -> None:
    before = pl.DataFrame({"visit": np.arange(first, first + 200), "side": ["left", "right"] * 100})
    reference = profile(before).freeze()
    lines = {
        c.column: c.text
        for c in compare(reference, profile(before.with_columns(pl.col("visit") + 150), reference=reference)).columns
    }
    assert lines == {"visit": f"visit rose from {said}", "side": "the shares of side are much the same"}
