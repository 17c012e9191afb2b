"""How far apart are two samples counted over the same cells, and how far would noise alone put them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import Invalid, did_you_mean
from loopline.statistics.two_sample import Counts, paired_counts

Floats = NDArray[np.float64]


def _shares(counts: Floats) -> Floats:
    """Shares along the last axis."""
    shares: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _psi(a: Floats, b: Floats) -> Floats:
    p, q = _shares(a + 0.5), _shares(b + 0.5)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _total_variation(a: Floats, b: Floats) -> Floats:
    return np.asarray(0.5 * np.abs(_shares(a) - _shares(b)).sum(axis=-1))


def _jensen_shannon(a: Floats, b: Floats) -> Floats:
    p, q = _shares(a), _shares(b)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log2(p / middle), 0.0).sum(axis=-1)
        right = np.where(q > 0, q * np.log2(q / middle), 0.0).sum(axis=-1)
    distance: Floats = np.sqrt(np.clip((left + right) / 2, 0.0, 1.0))
    return distance


def _ks(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.abs(np.cumsum(_shares(a), axis=-1) - np.cumsum(_shares(b), axis=-1)).max(axis=-1))


EFFECTS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "psi": _psi,
    "total_variation": _total_variation,
    "jensen_shannon": _jensen_shannon,
    "ks": _ks,
}


def _both(counts_a: Counts, counts_b: Counts) -> tuple[Floats, Floats]:
    a, b = paired_counts(counts_a, counts_b)
    if a.sum() == 0 or b.sum() == 0:
        raise Invalid("One of the two samples is empty.", code="bad-counts", hint="An effect needs rows on both sides.")
    return a, b


def psi(counts_a: Counts, counts_b: Counts) -> float:
    """The population stability index over the cells; 0 is the same, no upper end.

    Half a row is added to each cell of either side, so that an empty cell gives a large number and no infinity.
    Raises Invalid (`bad-counts`), as all effects here.
    """
    return float(_psi(*_both(counts_a, counts_b)))


def total_variation(counts_a: Counts, counts_b: Counts) -> float:
    """The share of rows that would have to change cell to make the samples alike; 0 to 1."""
    return float(_total_variation(*_both(counts_a, counts_b)))


def jensen_shannon(counts_a: Counts, counts_b: Counts) -> float:
    """The Jensen-Shannon distance (root of the divergence in bits; Lin 1991); 0 to 1."""
    return float(_jensen_shannon(*_both(counts_a, counts_b)))


def wasserstein(counts_a: Counts, counts_b: Counts, centres: Counts) -> float:
    """How far rows must move, on average, in standard deviations of the first sample (first Wasserstein distance).

    `centres` are the ascending positions of the cells. A constant first sample has no deviation to measure by: then
    the distance is 0 if nothing moved, else infinite.
    """
    a, b = _both(counts_a, counts_b)
    x = np.asarray(centres, dtype=np.float64)
    if len(x) != len(a) or np.any(np.diff(x) < 0):
        raise Invalid("The centres do not fit the cells.", code="bad-counts", hint="Give one ascending centre a cell.")
    p, q = _shares(a), _shares(b)
    moved = float(np.abs(np.cumsum(p - q))[:-1] @ np.diff(x))
    deviation = float(np.sqrt(p @ (x - p @ x) ** 2))
    if deviation > 0:
        return moved / deviation
    return 0.0 if moved == 0 else float("inf")


def null_quantile(
    effect: str,
    n: int,
    m: int,
    k: int,
    *,
    level: float = 0.95,
    shares: Counts | None = None,
    seed: int = 0,
    draws: int = 2_000,
) -> float:
    """The effect that samples of n and m rows over k cells stay below, `level` of the time, when nothing changed.

    `effect` is one of `EFFECTS`. By simulation (seeded, multinomial on both sides) with the given shares of the
    cells, or equal ones. An effect threshold below this number is a threshold on noise.
    Raises Invalid (`unknown-effect`) with the nearest name, and Invalid (`bad-counts`).
    """
    if effect not in EFFECTS:
        raise Invalid(f"There is no effect {effect!r}.", code="unknown-effect", hint=did_you_mean(effect, EFFECTS))
    if n < 1 or m < 1 or k < 1:
        raise Invalid(
            f"No effect can be drawn for n={n}, m={m}, k={k}.", code="bad-counts", hint="Give at least one of each."
        )
    p = np.full(k, 1 / k)
    if shares is not None:
        given, _ = paired_counts(shares, np.ones(k))
        p = _shares(given)
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    # In blocks, so that 100,000 cells need no gigabyte.
    block = max(1, min(draws, 2_000_000 // k))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        a, b = rng.multinomial(n, p, size).astype(np.float64), rng.multinomial(m, p, size).astype(np.float64)
        found.append(EFFECTS[effect](a, b))
    return float(np.quantile(np.concatenate(found), level))
