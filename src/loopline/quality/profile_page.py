"""A profile to look at: one HTML page, and rows for a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Final, Protocol

import numpy as np

from loopline.quality.html import document, heat_map, histogram, level_bars, table
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_days import day_text
from loopline.quality.profile_full import Full
from loopline.quality.profile_parts import Levels
from loopline.quality.profile_warnings import ProfileWarning

HEAD: Final = ("column", "kind", "missing", "distinct", "mean or most frequent", "lowest", "middle", "highest")
TELLING: Final = ("column", "of the label")
PAIRS: Final = ("column", "with", "measure", "")
_BARS, _LEVELS = 24, 8
_PAIRS, _MAPPED, _TELLING = 15, 30, 10
_CARDS, _TOLD = 500, 40
_TELLS = 0.001  # of the label, from which a column is worth a line
_WORTH = 0.1  # from which a pair is worth a line
_CSS = {3: "bad", 2: "warn", 1: "soft"}


class Shown(Protocol):
    """What is shown of a `Profile`, which this file cannot name: a notebook shows one by means of it."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> dict[str, ColumnProfile]: ...
    @property
    def label(self) -> str | None: ...
    @property
    def full(self) -> Full | None: ...
    def warnings(self) -> tuple[ProfileWarning, ...]: ...


def rows(profile: Shown) -> tuple[tuple[str, ...], ...]:
    """One row of texts a column, under `HEAD`."""
    return tuple((name, *_cells(column)) for name, column in profile.columns.items())


def page(profile: Shown, *, title: str = "Profile") -> str:
    """The profile as one self-contained HTML page; whatever comes from the data is escaped."""
    warnings = profile.warnings()
    facts = f"{profile.rows:,} rows, {len(profile.columns):,} columns"
    if profile.label is not None:
        facts += f", label {profile.label}"
    told = [
        f'<li class="{_CSS[w.severity]}">{escape(w.text)}</li>' for w in warnings
    ]  # worst first, as they are ranked
    more = f"<details><summary>and {len(told) - _TOLD:,} more</summary><ul>{''.join(told[_TOLD:])}</ul></details>"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(facts)}</p>',
        f"<h2>Worth a look</h2><ul>{''.join(told[:_TOLD])}</ul>{more if told[_TOLD:] else ''}"
        if told
        else '<p class="good">Nothing stands out.</p>',
        "<h2>Columns</h2>",
        table(HEAD, rows(profile), numbers=(2, 3, 5, 6, 7)),
        "<h2>How the values are distributed</h2>",
        *_cards(profile, warnings),
    ]
    if profile.full is not None and profile.full.pairs:
        body[5:5] = _associations(profile.full)
    if found := telling(profile):
        note = "How much each column alone tells of it (Theil's uncertainty coefficient): 0% nothing, 100% all."
        body[3:3] = [
            f"<h2>What tells of {escape(str(profile.label))}</h2>",
            f'<p class="soft small">{escape(note)}</p>',
            table(TELLING, found, numbers=(1,)),
        ]
    return document(title, "\n".join(body))


def telling(profile: Shown, most: int = _TELLING) -> tuple[tuple[str, str], ...]:
    """One row of texts a column, under `TELLING`: those first that tell most of the label. None where no label was named."""
    known = [(name, c.association.value) for name, c in profile.columns.items() if c.association is not None]
    ranked = sorted(known, key=lambda one: -one[1])[:most]
    return tuple((name, f"{value:.1%}") for name, value in ranked if value >= _TELLS)


def pairs(full: Full, most: int = _PAIRS) -> tuple[tuple[str, ...], ...]:
    """One row of texts a pair of columns, those that go together most first, under `PAIRS`."""
    return tuple(
        (
            pair.one,
            pair.other,
            pair.measure,
            f"{pair.value:+.2f}" if pair.measure == "rank correlation" else f"{pair.value:.2f}",
        )
        for pair in full.strongest[:most]
        if abs(pair.value) >= _WORTH
    )


def _associations(full: Full) -> list[str]:
    """The map of all pairs, and the strongest of them in words."""
    strongest = dict.fromkeys(name for pair in full.strongest for name in (pair.one, pair.other))
    shown = sorted(list(strongest)[:_MAPPED])
    values = {(p.one, p.other): p.value for p in full.pairs} | {(p.other, p.one): p.value for p in full.pairs}
    measures = {frozenset((p.one, p.other)): p.measure for p in full.pairs}
    told = {
        (a, b): f"{a} and {b}: {measures[frozenset((a, b))]} {values[a, b]:.2f}"
        for a in shown
        for b in shown
        if (a, b) in values
    }
    note = (
        "Each field is a pair of columns, the stronger the more they go together: numbers by their rank correlation, "
        "others by Cramér's V."
    )
    if len(strongest) > len(shown):
        note += f" Shown are the {len(shown)} columns of {len(strongest)} that go together most."
    if full.left_out:
        note += f" {len(full.left_out):,} further columns were not compared."
    found = pairs(full)
    return [
        "<h2>What goes together</h2>",
        f'<p class="soft small">{escape(note)}</p>',
        '<div class="beside">',
        heat_map("What goes together", shown, values, told),
        table(PAIRS, found, numbers=(3,)) if found else '<p class="good">No two columns do.</p>',
        "</div>",
    ]


def _cards(profile: Shown, warnings: Sequence[ProfileWarning]) -> list[str]:
    """A card a column; of very many, those of which something is told, and the first of the others."""
    shown, note = profile.columns, ""
    if len(shown) > _CARDS:
        ranked = dict.fromkeys(w.column for w in warnings if w.column in shown) | dict.fromkeys(shown)
        shown = {name: shown[name] for name in list(ranked)[:_CARDS]}
        told = f"Shown are {_CARDS} of {len(profile.columns):,} columns, those first that are worth a look."
        note = f'<p class="soft small">{told}</p>'
    return [note, '<div class="grid">', *(_card(name, column) for name, column in shown.items()), "</div>"]


def _card(name: str, c: ColumnProfile) -> str:
    facts: list[tuple[str, str]] = [("personal", "no value is shown")] if c.personal else []
    if c.missing:
        facts.append(("missing", f"{c.missing:,} ({c.missing / c.rows:.1%})"))
    if c.distinct is not None:
        facts.append(("distinct", _distinct(c)))
    m = c.moments
    if m is not None and m.count and c.kind != "date":
        facts.append(("mean ± deviation", f"{m.mean:,.4g} ± {m.deviation or 0:,.4g}"))
    if c.lengths is not None and c.lengths.count:
        facts.append(("characters", f"{c.lengths.shortest:,} to {c.lengths.longest:,}, mean {c.lengths.mean:,.1f}"))
    if c.patterns is not None and c.patterns.total:
        facts.extend(_spelled(c.patterns))
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


def _spelled(patterns: Levels) -> list[tuple[str, str]]:
    ranked = sorted(patterns.counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return [
        ("spelled like" if not i else "", f"{shape} ({n / patterns.total:.1%})") for i, (shape, n) in enumerate(ranked)
    ]


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
    most = "(personal)" if c.personal else ""
    if c.top and c.top[0][1] > 1:
        name = c.top[0][0] if len(c.top[0][0]) <= 24 else c.top[0][0][:23] + "…"
        most = f"{name} ({_share(c.top[0][1] / max(1, c.present))})"
    return (c.kind, missing, distinct, most, "", "", "")


def _share(share: float) -> str:
    """A share in percent; one that is not all does not read like it."""
    return f"{share:.0%}" if share < 0.995 or share == 1 else f"{min(share, 0.9999):.2%}"


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
