"""The bars of a column's picture, from both profiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.quality.drift_records import Bar
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_parts import BINS

_BARS = 20
_LEVELS = 8


def bars_of(reference: ColumnProfile, current: ColumnProfile) -> tuple[Bar, ...]:
    """Shares of both sides: numbers in at most 20 bars, the levels that are most frequent on either side, and others."""
    if reference.bins is not None and current.bins is not None:
        return _of_numbers(reference, current)
    if reference.levels is None or current.levels is None:
        return ()
    n, m = max(1, reference.levels.total), max(1, current.levels.total)
    shares = [(name, count / n, current.levels.counts[name] / m) for name, count in reference.levels.counts.items()]
    shares.sort(key=lambda item: -max(item[1], item[2]))
    bars = [Bar(label=name, reference=a, current=b) for name, a, b in shares[:_LEVELS]]
    rest = (
        sum(a for _, a, _ in shares[_LEVELS:]) + reference.levels.rest / n,
        sum(b for _, _, b in shares[_LEVELS:]) + current.levels.rest / m,
    )
    if max(rest) > 0:
        bars.append(Bar(label="others", reference=rest[0], current=rest[1]))
    return tuple(bars)


def _of_numbers(reference: ColumnProfile, current: ColumnProfile) -> tuple[Bar, ...]:
    assert reference.bins is not None
    assert current.bins is not None
    edges = np.array(reference.bins.edges)
    a, b = np.array(reference.bins.counts, np.float64), np.array(current.bins.counts, np.float64)
    if not len(edges) or not a.sum() or not b.sum():
        return ()
    a, b = a / a.sum(), b / b.sum()
    if len(edges) <= _BARS + 1:  # every value has its own bin: below, each value, above
        labels = ["less", *(f"{e:.4g}" for e in edges[:-1]), "more"]
        return tuple(
            Bar(label=name, reference=float(x), current=float(y))
            for name, x, y in zip(labels, a, b, strict=True)
            if name not in ("less", "more") or x or y
        )
    low, high = _inner(edges, a + b)
    if reference.kind == "integer" and len(edges) <= BINS:  # every value has its own bin
        cuts = low + np.arange(min(_BARS, int(high - low)) + 1) * max(1.0, np.ceil((high - low) / _BARS))
        place = np.clip(
            np.searchsorted(cuts, np.concatenate((edges[:1] - 1, edges)), side="right") - 1, 0, len(cuts) - 1
        )
        sides = (np.bincount(place, weights=side, minlength=len(cuts)).tolist() for side in (a, b))
        return tuple(
            Bar(label=f"{cut:.6g}", reference=x, current=y) for cut, x, y in zip(cuts.tolist(), *sides, strict=True)
        )
    cuts = np.linspace(low, high, _BARS + 1)
    return tuple(
        Bar(label=f"{cuts[i]:.4g}", reference=float(x), current=float(y))
        for i, (x, y) in enumerate(zip(_spread(edges, a, cuts), _spread(edges, b, cuts), strict=True))
    )


def _inner(edges: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[float, float]:
    """The range that the picture shows: without the outermost hundredths."""
    cumulative = np.cumsum(shares) / shares.sum()
    low = edges[min(max(int(np.searchsorted(cumulative, 0.01)) - 1, 0), len(edges) - 1)]
    high = edges[min(int(np.searchsorted(cumulative, 0.99)), len(edges) - 1)]
    return (float(low), float(high)) if high > low else (float(edges[0]), float(edges[-1]))


def _spread(edges: NDArray[np.float64], shares: NDArray[np.float64], cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of equal-width bars: each bin's rows lie evenly in it, those outside the picture in its outer bars."""
    below = np.interp(cuts[1:-1], edges, np.cumsum(shares)[:-1])
    bars: NDArray[np.float64] = np.diff(np.concatenate(([0.0], below, [1.0])))
    return bars
