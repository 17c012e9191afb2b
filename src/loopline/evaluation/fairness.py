"""Differences between the groups of a protected column, honest about noise.

The largest of several noisy differences is large even when all groups are equal, so its plain value is read with two
things beside it: `noise`, what equal groups of these sizes would show, and an interval that holds for the true
largest difference. Each pair of groups has Newcombe's interval; the true largest difference is that of some pair, so
it lies below the largest of their upper ends (no correction needed), and above the largest of their lower ends once
these are widened for the number of pairs (Bonferroni). The interval covers at its confidence or more.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from loopline.evaluation.catalogue import FAIRNESS
from loopline.evaluation.records import Fairness, GroupRates
from loopline.evaluation.scored import Scored
from loopline.evaluation.slicing import Groups
from loopline.statistics.intervals import newcombe

LEAST = 50
"""A group is compared when it holds so many rows that count: positive ones for a true positive rate, negative ones
for a false positive rate, any for a selection rate. Below it a rate is known to no better than about 14 points."""

_DRAWS = 2_000


class _Rate(NamedTuple):
    group: str
    hits: int
    of: int

    @property
    def share(self) -> float | None:
        """None where no row could show it."""
        return self.hits / self.of if self.of else None


def fairness(
    rows: Scored, groups: Groups, *, confidence: float = 0.95, seed: int, least: int = LEAST
) -> tuple[Fairness, ...]:
    """The fairness metrics of a binary prediction over the groups of one column.

    `demographic_parity_difference` compares selection rates, `equal_opportunity_difference` true positive rates,
    `equalized_odds_difference` is the larger of the differences of true and of false positive rates (Hardt, Price
    and Srebro 2016; the same definitions as Fairlearn's). The seed is for `noise`.
    """
    called, positive = rows.decided == 1, rows.positive
    counted: dict[str, list[_Rate]] = {"selection": [], "true": [], "false": []}
    rates = []
    for name, members in zip(groups.names, groups.members, strict=True):
        yes, real = called[members], positive[members]
        group = {
            "selection": _Rate(name, int(yes.sum()), len(members)),
            "true": _Rate(name, int((yes & real).sum()), int(real.sum())),
            "false": _Rate(name, int((yes & ~real).sum()), int((~real).sum())),
        }
        for kind, rate in group.items():
            counted[kind].append(rate)
        rates.append(
            GroupRates(
                group=name,
                n=len(members),
                positives=group["true"].of,
                selection_rate=group["selection"].share,
                true_positive_rate=group["true"].share,
                false_positive_rate=group["false"].share,
            )
        )
    compared = {
        "demographic_parity_difference": (counted["selection"],),
        "equal_opportunity_difference": (counted["true"],),
        "equalized_odds_difference": (counted["true"], counted["false"]),
    }
    return tuple(
        _largest(groups.column, metric, compared[metric], tuple(rates), confidence, seed, least) for metric in FAIRNESS
    )


def _largest(
    column: str,
    metric: str,
    kinds: tuple[list[_Rate], ...],
    rates: tuple[GroupRates, ...],
    confidence: float,
    seed: int,
    least: int,
) -> Fairness:
    small = {rate.group for kind in kinds for rate in kind if rate.of < least}
    pairs = [pair for kind in kinds for pair in combinations([rate for rate in kind if rate.group not in small], 2)]
    value, low, high = 0.0, 0.0, 1.0
    between: tuple[str, ...] = ()
    if pairs:
        high = 0.0
        shared = 1 - (1 - confidence) / len(pairs)
        for a, b in pairs:
            plain = newcombe(a.hits, a.of, b.hits, b.of, confidence=confidence)
            wide = newcombe(a.hits, a.of, b.hits, b.of, confidence=shared)
            high = max(high, plain.high, -plain.low)
            low = max(low, wide.low, -wide.high)
            if abs(plain.value) >= value:
                value, between = abs(plain.value), (a.group, b.group)
    return Fairness(
        column=column,
        metric=metric,
        value=value,
        low=low,
        high=min(high, 1.0),
        groups=rates,
        too_few=tuple(rate.group for rate in rates if rate.group in small),
        least=least,
        noise=_noise(kinds, small, seed),
        between=between,
    )


def _noise(kinds: tuple[list[_Rate], ...], small: set[str], seed: int) -> float:
    """The value that groups of these sizes and of one common rate would show, on average."""
    rng = np.random.default_rng(seed)
    largest = np.zeros(_DRAWS)
    for kind in kinds:
        of = np.array([rate.of for rate in kind if rate.group not in small])
        if len(of) < 2:
            return 0.0
        common = sum(rate.hits for rate in kind if rate.group not in small) / of.sum()
        drawn = rng.binomial(of, common, size=(_DRAWS, len(of))) / of
        largest = np.maximum(largest, drawn.max(axis=1) - drawn.min(axis=1))
    return float(largest.mean())
