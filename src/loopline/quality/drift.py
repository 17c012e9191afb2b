"""Do current rows come from where the reference came from? Column by column, with a stated rate of false alarms.

Both sides are noisy, so the tests are two-sample tests; levels too rare to test are pooled; the p-values of all columns
are taken together by Benjamini and Hochberg, so that a report on rows without drift names any column at all with
probability `false_alarms` at most. Rows that belong together (a patient's) count for less, by the design effect that the
reference measured, and what a few large groups bring about by themselves is no drift. Nor is a change below
`minimum_effect`, however sure it is.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from loopline.errors import Invalid
from loopline.quality.drift_bars import bars_of
from loopline.quality.drift_records import ColumnDrift, DriftReport
from loopline.quality.drift_words import Told, describe, verdict
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_parts import HASHED, Design, Levels, buckets_of
from loopline.quality.profile_records import Profile
from loopline.statistics.binned import chi_square_quantile, fullest_cell, normal_quantile, rank_binned
from loopline.statistics.clumps import (
    Clumps,
    cell_in_clumps,
    chi_square_in_clumps,
    ks_in_clumps,
    rank_in_clumps,
)
from loopline.statistics.discovery import benjamini_hochberg
from loopline.statistics.records import TwoSample
from loopline.statistics.two_sample import chi_square, ks_binned, pool_rare

FEWEST: Final = 30  # rows on either side (divided by the design effect), below which nothing is said
MINIMUM_EFFECT: Final = 0.02
_RANK_SHARE: Final = 0.7  # of a number's level goes to the rank test: most drift is a shift
_CHI_SHARE: Final = 0.7  # of a category's level goes to the test of all its levels together
_FEW_BINS: Final = 3  # a number of so few values is tested as a category: Kolmogorov-Smirnov is far too shy on ties

_CLOSE: Final = 0.1  # a p-value from which it is worth asking what clumps could do
_FREQUENT: Final = 10  # expected rows on the smaller side, from which a level is a cell of its own

Counts = NDArray[np.float64]


class _Evidence(msgspec.Struct, frozen=True):
    """One aspect of one column, tested."""

    aspect: str
    test: str
    p_value: float
    effect: float
    distance: float
    tests: tuple[tuple[TwoSample, float], ...]

    def threshold(self, level: float, minimum: float) -> float:
        """About the effect from which this comparison would be significant at `level`."""
        least = [_critical(test, level * share, self.effect) for test, share in self.tests]
        return max(minimum, min(least, default=minimum))


def compare(
    reference: Profile, current: Profile, *, false_alarms: float = 0.05, minimum_effect: float = MINIMUM_EFFECT
) -> DriftReport:
    """Which columns drifted, how far, and which way.

    `current` must be a profile made against `reference` (`profile(frame, reference=reference)`, or a ProfileBuilder).
    `false_alarms` is the probability, on rows without drift, that any column is named. Raises Invalid where the
    two profiles do not share edges and levels.
    """
    if not 0 < false_alarms < 1:
        raise Invalid(f"A rate of false alarms of {false_alarms} is none.", code="bad-rate", hint="Give 0.05, say.")
    shared = [name for name in reference.columns if name in current.columns]
    found: list[tuple[str, _Evidence]] = []
    clumps = _clumps(reference)
    for name in shared:
        pair = _aligned(name, reference.columns[name], current.columns[name])
        found.extend((name, evidence) for evidence in _tested(*pair, clumps))
    q_values = benjamini_hochberg([evidence.p_value for _, evidence in found])
    flagged = [
        bool(q <= false_alarms and e.effect >= minimum_effect) for q, (_, e) in zip(q_values, found, strict=True)
    ]
    level = false_alarms * max(1, int(np.count_nonzero(q_values <= false_alarms))) / max(1, len(found))
    lines: dict[str, ColumnDrift] = {}
    for (name, evidence), q, drifted in zip(found, q_values, flagged, strict=True):
        line = _line(name, evidence, reference.columns[name], current.columns[name], float(q), drifted)
        line = msgspec.structs.replace(line, threshold=evidence.threshold(level, minimum_effect))
        known = lines.get(name)
        if known is None or (line.drifted, -line.p_value) > (known.drifted, -known.p_value):
            lines[name] = line
    ranked = sorted(lines.values(), key=lambda line: (not line.drifted, -line.score))
    absent = tuple(n for n in reference.columns if n not in current.columns and n != reference.label)
    report = DriftReport(
        reference_rows=reference.rows,
        current_rows=current.rows,
        false_alarms=false_alarms,
        minimum_effect=minimum_effect,
        label=reference.label,
        verdict="",
        columns=tuple(ranked),
        absent=absent,
    )
    return msgspec.structs.replace(report, verdict=verdict(report))


class Glance(msgspec.Struct, frozen=True):
    """What a look that costs little says: the columns that drifted, and each column's signed distance from the reference
    (0 on average without drift: the lean of the ranks, or the noise-corrected square of a category's distance)."""

    drifted: tuple[str, ...]
    distances: dict[str, float]


def glance(reference: Profile, current: Profile, *, level: float, minimum_effect: float = MINIMUM_EFFECT) -> Glance:
    """The same decision as `compare(..., false_alarms=level)` makes, without words and pictures."""
    clumps = _clumps(reference)
    found = [
        (name, e)
        for name in reference.columns
        if name in current.columns
        for e in _tested(*_aligned(name, reference.columns[name], current.columns[name]), clumps)
    ]
    q_values = benjamini_hochberg([e.p_value for _, e in found])
    drifted = {
        name: None for q, (name, e) in zip(q_values, found, strict=True) if q <= level and e.effect >= minimum_effect
    }
    distances: dict[str, float] = {}
    for name, e in found:
        if name not in distances or abs(e.distance) > abs(distances[name]):
            distances[name] = e.distance
    return Glance(tuple(drifted), distances)


def _aligned(name: str, reference: ColumnProfile, current: ColumnProfile) -> tuple[ColumnProfile, ColumnProfile]:
    edges = (reference.bins.edges if reference.bins else None, current.bins.edges if current.bins else None)
    levels = (reference.levels, current.levels)
    unlike = edges[0] != edges[1] or (levels[0] is None) != (levels[1] is None)
    if levels[0] is not None and levels[1] is not None:
        unlike = unlike or levels[0].counts.keys() != levels[1].counts.keys() or not levels[0].frozen
    if unlike or (reference.kind != current.kind and "null" not in (reference.kind, current.kind)):
        raise Invalid(
            f"The profiles of column {name!r} were not made on the same edges.",
            code="profile-edges-differ",
            hint="Freeze the reference, and profile the current rows with reference=.",
            column=name,
        )
    return reference, current


def value_counts(reference: ColumnProfile, current: ColumnProfile) -> tuple[Counts, Counts] | None:
    """The counts of both sides over the same cells; None for a kind without values to compare."""
    if reference.bins is not None and current.bins is not None:
        return np.array(reference.bins.counts, np.float64), np.array(current.bins.counts, np.float64)
    a, b = reference.levels, current.levels
    if a is None or b is None:
        return None
    if a.hashed:
        return np.array(a.hashed, np.float64), np.array(b.hashed, np.float64)
    return _level_counts(a, b)


def _level_counts(reference: Levels, current: Levels) -> tuple[Counts, Counts]:
    """The frequent levels each for itself, the rare and the new ones together by hash bucket.

    A cell of "new levels" alone would be empty in the reference by its definition, and alarm by itself where a column has a
    long tail. Which levels are frequent is told by both sides' totals, which say nothing about a difference.
    """
    names = tuple(reference.counts)
    a = np.array([reference.counts[name] for name in names], np.float64)
    b = np.array([current.counts[name] for name in names], np.float64)
    n, m = max(1, reference.total), max(1, current.total)
    frequent = (a + b) * min(n, m) / (n + m) >= _FREQUENT
    if frequent.all() and not reference.rest and not current.rest:
        return a, b
    tails = []
    for counts, side in ((a, reference), (b, current)):
        tail = np.bincount(_buckets(names)[~frequent], weights=counts[~frequent], minlength=HASHED)
        tails.append(tail + np.array(side.rest_hashed) if side.rest_hashed else tail)
    return np.concatenate((a[frequent], tails[0])), np.concatenate((b[frequent], tails[1]))


@functools.lru_cache(maxsize=1024)
def _buckets(names: tuple[str, ...]) -> NDArray[np.int64]:
    return buckets_of(names)


def _clumps(reference: Profile) -> Clumps | None:
    """In groups of which size the rows come; None where each stands alone, or where stretches of one length depend on each
    other, whose design effect says it all."""
    if max(reference.groups, default=1) == 1:
        return None
    rows = sum(reference.groups.values())
    return Clumps(tuple(map(float, reference.groups)), tuple(count / rows for count in reference.groups.values()))


def _tested(reference: ColumnProfile, current: ColumnProfile, clumps: Clumps | None) -> list[_Evidence]:
    design = reference.design.merge(current.design)
    found = []
    counts = value_counts(reference, current)
    # Rows that come in clumps have heavier tails than fewer independent rows: few clumps say nothing.
    enough = min(reference.present, current.present) / max(design.values, design.worst)
    if counts is not None and enough >= FEWEST:
        a, b = counts
        if reference.kind in NUMERIC and int(np.count_nonzero(a + b)) > _FEW_BINS:
            found.append(_of_numbers(a, b, design, clumps))
        else:
            found.append(_of_cells("values", a, b, design, clumps))
    if (reference.missing or current.missing) and min(reference.rows, current.rows) / design.missing >= FEWEST:
        a = np.array([reference.present, reference.missing], np.float64)
        b = np.array([current.present, current.missing], np.float64)
        found.append(_of_cells("missing", a, b, Design(values=design.missing, worst=design.missing), clumps))
    return found


def _of_numbers(a: Counts, b: Counts, design: Design, clumps: Clumps | None) -> _Evidence:
    """A rank test and Kolmogorov-Smirnov share the level (a weighted Bonferroni correction)."""
    ks, rank = ks_binned(a / design.values, b / design.values), rank_binned(a / design.values, b / design.values)
    if clumps is not None and min(ks.p_value, rank.p_value) < _CLOSE:
        clumps = clumps.of_effect(design.values)
        ks, rank = ks_in_clumps(ks, a, b, clumps), rank_in_clumps(rank, a, b, clumps)
    p = min(ks.p_value / (1 - _RANK_SHARE), rank.p_value / _RANK_SHARE, 1.0)
    return _Evidence(
        aspect="values",
        test="rank+ks",
        p_value=p,
        effect=ks.effect,
        distance=math.copysign(rank.effect, rank.statistic),
        tests=((ks, 1 - _RANK_SHARE), (rank, _RANK_SHARE)),
    )


def _of_cells(aspect: str, a: Counts, b: Counts, design: Design, clumps: Clumps | None) -> _Evidence:
    """Chi-square over all cells, and an exact test of the one that changed most, share the level."""
    pooled = pool_rare(a / design.values, b / design.values)
    test = chi_square(*pooled)
    # Satterthwaite's correction for levels of unlike design effects.
    spread = max(1.0, min(design.spread, test.cells - 1))
    p = float(special.chdtrc((test.cells - 1) / spread, test.statistic / spread)) if test.cells > 1 else 1.0
    test = msgspec.structs.replace(test, p_value=max(p, test.p_value))
    distance = (test.statistic - (test.cells - 1)) * (test.n + test.m) / (test.n * test.m) if test.cells > 1 else 0.0
    worst = max(design.worst, design.values)
    cell = fullest_cell(a / worst, b / worst)
    if clumps is not None and test.p_value < _CLOSE:
        whole = (pooled[0] * design.values, pooled[1] * design.values)
        test = chi_square_in_clumps(test, *whole, clumps.of_effect(design.values), spread)
    if clumps is not None and cell.p_value < _CLOSE:
        cell = cell_in_clumps(cell, a, b, clumps.of_effect(worst))
    return _Evidence(
        aspect=aspect,
        test="chi-square+cell",
        p_value=min(test.p_value / _CHI_SHARE, cell.p_value / (1 - _CHI_SHARE), 1.0),
        effect=max(test.effect, cell.effect),
        distance=distance,
        tests=((test, _CHI_SHARE), (cell, 1 - _CHI_SHARE)),
    )


def _critical(test: TwoSample, level: float, effect: float) -> float:
    """The effect at which the test would just be significant: a statistic grows with its effect in proportion."""
    level = min(level, 0.5)
    if test.test == "ks":
        size = max(1.0, test.n * test.m / max(1, test.n + test.m))
        return min(1.0, math.sqrt(-math.log(level / 2) / (2 * size)))
    if test.statistic == 0:
        return 1.0
    if test.test in ("rank", "cell"):
        return min(1.0, effect * normal_quantile(level) / abs(test.statistic))
    return float(min(1.0, effect * math.sqrt(chi_square_quantile(level, max(1, test.cells - 1)) / test.statistic)))


def _line(
    name: str, evidence: _Evidence, reference: ColumnProfile, current: ColumnProfile, q: float, drifted: bool
) -> ColumnDrift:
    told = describe(name, evidence.aspect, reference, current)
    if reference.personal and evidence.aspect == "values":
        told = Told(f"the values of {name} changed" if drifted else f"the values of {name} are much the same", "none")
    return ColumnDrift(
        column=name,
        kind=reference.kind,
        aspect=evidence.aspect,  # type: ignore[arg-type]
        test=evidence.test,
        p_value=evidence.p_value,
        q_value=q,
        effect=evidence.effect,
        threshold=0.0,
        drifted=drifted,
        direction=told.direction,
        before=told.before,
        after=told.after,
        text=told.text,
        bars=() if reference.personal else bars_of(reference, current),
        new_levels=dict(current.levels.unseen) if current.levels is not None and not reference.personal else {},
    )
