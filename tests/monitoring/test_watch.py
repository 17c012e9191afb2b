from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy import stats

from loopline.errors import Invalid
from loopline.monitoring.watch import Budget, Finding, WatchState, begin, look
from loopline.quality.profile import Profile, ProfileBuilder, profile

HOUR = 3_600_000


def traffic(n: int, seed: int, memory: float = 0.0) -> pl.DataFrame:
    """Rows of numbers and categories; each column follows its own stationary process that remembers (AR(1))."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, 6))
    walk = np.empty_like(noise)
    walk[0] = noise[0]
    for i in range(1, n):
        walk[i] = memory * walk[i - 1] + np.sqrt(1 - memory**2) * noise[i]
    shares = stats.norm.cdf(walk)
    return pl.DataFrame(
        {
            "normal": walk[:, 0],
            "skewed": np.exp(2 * walk[:, 1]),
            "whole": np.floor(-np.log(shares[:, 2]) * 3),
            "rare": shares[:, 3] < 0.02,
            "five": pl.Series(np.floor(shares[:, 4] * 5)).cast(pl.Int8).cast(pl.String),
            "many": pl.Series(np.floor(shares[:, 5] ** 2 * 500)).cast(pl.Int16).cast(pl.String),
        }
    )


def quarter(reference: Profile, rows: pl.DataFrame, size: int, budget: Budget) -> int:
    """In how many looks of a quarter something was found, were each column told of again and again."""
    state, alarms = begin(budget), 0
    for i in range(budget.looks):
        window = profile(rows[i * size : (i + 1) * size], reference=reference)
        state, found = look(state, reference, window, start=i * HOUR, end=(i + 1) * HOUR, minimum_effect=0.0)
        alarms += found is not None
        state = msgspec.structs.replace(state, raised=())
    return alarms


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_a_quarter_of_hourly_looks_keeps_its_budget(memory: float) -> None:
    budget = Budget.parse("1/quarter", every=HOUR)
    assert budget.looks == 2190
    size, blocks = 40, None if memory == 0 else 100
    reference = profile(traffic(20_000, 1, memory), blocks=blocks).freeze()
    alarms = quarter(reference, traffic(2190 * size, 2, memory), size, budget)
    assert alarms <= stats.poisson.isf(0.01, 1.0)


def test_without_blocks_rows_that_remember_do_alarm() -> None:
    """The check of the check: what the blocks are for."""
    budget = Budget(alarms=1.0, looks=200)
    reference = profile(traffic(20_000, 1, 0.9)).freeze()
    assert quarter(reference, traffic(200 * 100, 2, 0.9), 100, budget) > 20


def test_the_levels_spend_the_budget_and_no_more() -> None:
    for looks in (1, 7, 90, 2190, 50_000):
        budget = Budget(alarms=1.0, looks=looks)
        spent = sum((looks >> j) * budget.level(j) for j in range(budget.lengths))
        assert 0.2 <= spent <= 1.0 + 1e-9


def _drifting(start: int, shift: float, seed: int = 3) -> tuple[WatchState, list[Finding]]:
    rng = np.random.default_rng(seed)
    reference = profile(pl.DataFrame({"x": rng.normal(size=20_000), "y": rng.normal(size=20_000)})).freeze()
    state, found = begin(Budget.parse("1/quarter", every=HOUR)), []
    for i in range(200):
        builder = ProfileBuilder(reference)
        x = rng.normal(size=50) + (shift if i >= start else 0)
        builder.add([{"x": a, "y": b} for a, b in zip(x.tolist(), rng.normal(size=50).tolist(), strict=True)])
        state, one = look(state, reference, builder.take(), start=i * HOUR, end=(i + 1) * HOUR)
        state = WatchState.from_json(state.to_json())
        if one is not None:
            found.append(one)
    return state, found


def test_a_small_lasting_shift_is_found_once_and_since_when() -> None:
    state, found = _drifting(60, 0.3)
    assert len(found) == 1
    assert found[0].columns == ("x",)
    assert state.raised == ("x",)
    assert 60 * HOUR < found[0].at <= 100 * HOUR
    assert abs(found[0].since - 60 * HOUR) <= 10 * HOUR
    assert found[0].report.drifted[0].text.startswith("x rose from ")


def test_a_large_shift_is_found_at_the_first_look() -> None:
    _, found = _drifting(60, 3.0)
    assert (found[0].at, found[0].since) == (61 * HOUR, 60 * HOUR)


def test_budgets_are_read_and_refused() -> None:
    assert Budget.parse("2 / week", every=HOUR) == Budget(alarms=2.0, looks=168)
    for text in ("1/fortnight", "often", "0/day", "-1/day"):
        with pytest.raises(Invalid, match="no budget"):
            Budget.parse(text, every=HOUR)
    with pytest.raises(Invalid, match="no state"):
        WatchState.from_json(b"[]")
