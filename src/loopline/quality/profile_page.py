"""A profile to look at: one HTML page, and rows for a table in a terminal."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Final

import numpy as np

from loopline.quality.html import document, histogram, level_bars, table
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_days import day_text
from loopline.quality.profile_records import Profile

HEAD: Final = ("column", "kind", "missing", "distinct", "mean or most frequent", "lowest", "middle", "highest")
_BARS, _LEVELS = 24, 8
_CSS = {3: "bad", 2: "warn", 1: "soft"}


def rows(profile: Profile) -> tuple[tuple[str, ...], ...]:
    """One row of texts a column, under `HEAD`."""
    return tuple((name, *_cells(column)) for name, column in profile.columns.items())


def page(profile: Profile, *, title: str = "Profile") -> str:
    """The profile as one self-contained HTML page; whatever comes from the data is escaped."""
    warnings = profile.warnings()
    facts = f"{profile.rows:,} rows, {len(profile.columns):,} columns"
    if profile.label is not None:
        facts += f", label {profile.label}"
    told = "".join(
        f'<li class="{_CSS[w.severity]}">{escape(w.text)}</li>' for w in warnings
    )  # worst first, as warnings() ranks them
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(facts)}</p>',
        f"<h2>Worth a look</h2><ul>{told}</ul>" if told else '<p class="good">Nothing stands out.</p>',
        "<h2>Columns</h2>",
        table(HEAD, rows(profile), numbers=(2, 3, 5, 6, 7)),
        '<h2>How the values are distributed</h2><div class="grid">',
        *(_card(name, column) for name, column in profile.columns.items()),
        "</div>",
    ]
    return document(title, "\n".join(body))


def _card(name: str, c: ColumnProfile) -> str:
    facts: list[tuple[str, str]] = []
    if c.missing:
        facts.append(("missing", f"{c.missing:,} ({c.missing / c.rows:.1%})"))
    if c.distinct is not None:
        facts.append(("distinct", _distinct(c)))
    m = c.moments
    if m is not None and m.count and c.kind != "date":
        facts.append(("mean ± deviation", f"{m.mean:,.4g} ± {m.deviation or 0:,.4g}"))
    if c.lengths is not None and c.lengths.count:
        facts.append(("characters", f"{c.lengths.shortest:,} to {c.lengths.longest:,}, mean {c.lengths.mean:,.1f}"))
    if c.association is not None:
        facts.append(("tells of the label", f"{c.association.value:.1%}"))
    shown = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
    return (
        f'<div class="card"><h3>{escape(name)} <span class="soft small">{c.kind}</span></h3>'
        f"{picture(name, c)}<dl>{shown}</dl></div>"
    )


def picture(name: str, c: ColumnProfile) -> str:
    """The column's distribution as inline SVG; nothing where there is none to draw."""
    if c.kind in NUMERIC:
        found = _bars(c)
        if found is None:
            return ""
        edges, shares = found
        if c.kind == "integer" and all(b - a == 1 for a, b in pairwise(edges)):  # one bar a value
            labels = [value(c, edge) for edge in edges[:-1]]
            return histogram(name, labels, shares, lower=labels[0], upper=labels[-1])
        labels = [f"{value(c, a)} to {value(c, b)}" for a, b in pairwise(edges)]
        return histogram(name, labels, shares, lower=value(c, edges[0]), upper=value(c, edges[-1]))
    if c.levels is None or not c.levels.total:
        return ""
    ranked = sorted(c.levels.counts.items(), key=lambda item: (-item[1], item[0]))[:_LEVELS]
    total = c.levels.total
    rest = total - sum(n for _, n in ranked)
    names, shares = [name for name, _ in ranked], [n / total for _, n in ranked]
    if rest:
        names, shares = [*names, "others"], [*shares, rest / total]
    return level_bars(name, names, shares)


def value(c: ColumnProfile, number: float | None) -> str:
    """A number of the column, as people read it."""
    if number is None:
        return ""
    if c.kind == "date":
        return day_text(number)
    return f"{number:,.0f}" if c.kind == "integer" and abs(number) < 1e9 else f"{number:,.4g}"


def _distinct(c: ColumnProfile) -> str:
    """The count of distinct values; an estimate is not above what can be."""
    return f"{min(c.distinct, c.present):,}" if c.distinct is not None else ""


def _cells(c: ColumnProfile) -> tuple[str, ...]:
    missing = f"{c.missing / c.rows:.{1 if c.missing / c.rows >= 0.001 else 3}%}" if c.missing else ""
    distinct = _distinct(c)
    if c.kind in NUMERIC and c.moments is not None and c.moments.count:
        mean = day_text(c.moments.mean) if c.kind == "date" else f"{c.moments.mean:,.4g}"
        spots = (c.moments.minimum, c.quantile(0.5), c.moments.maximum)
        return (c.kind, missing, distinct, mean, *(value(c, spot) for spot in spots))
    most = ""
    if c.top and c.top[0][1] > 1:
        name = c.top[0][0] if len(c.top[0][0]) <= 24 else c.top[0][0][:23] + "…"
        most = f"{name} ({c.top[0][1] / max(1, c.present):.0%})"
    return (c.kind, missing, distinct, most, "", "", "")


def _bars(c: ColumnProfile) -> tuple[list[float], list[float]] | None:
    """Edges and shares of equal-width bars over the inner 98 % of the values (all of them, where that is no narrower)."""
    m = c.moments
    if m is None or m.minimum is None or m.maximum is None or not m.count:
        return None
    low, high = c.quantile(0.005), c.quantile(0.995)
    if low is None or high is None or high <= low:
        low, high = m.minimum, m.maximum
    if high <= low or not np.isfinite(high - low):
        return None
    if c.bins is not None:
        lower, counts = np.array([m.minimum, *c.bins.edges]), np.array(c.bins.counts, np.float64)
    elif c.prefixes is not None:
        lower, counts = c.prefixes.lower, np.array(c.prefixes.counts, np.float64)
    else:
        return None
    span = high - low
    if c.distinct is not None and c.distinct <= 40 and span <= 40 and c.kind == "integer":
        edges = np.arange(low, high + 2)
    else:
        edges = np.linspace(low, high, _BARS + 1)
    upper = np.append(lower[1:], m.maximum)
    exact = c.prefixes is not None and c.prefixes.shift == 0
    middle = lower if exact or c.kind == "integer" else (lower + np.clip(upper, lower, m.maximum)) / 2
    place = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(edges) - 2)
    shares = np.bincount(place, weights=counts, minlength=len(edges) - 1) / max(1.0, counts.sum())
    return edges.tolist(), shares.tolist()
