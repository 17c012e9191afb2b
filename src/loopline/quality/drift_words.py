"""A drift in plain words: which column, from what to what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from loopline.quality.drift_records import DriftReport
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_days import day_text

Direction = Literal["up", "down", "none"]


class Told(msgspec.Struct, frozen=True):
    """A sentence about one column, with its two numbers."""

    text: str
    direction: Direction
    before: float | None = None
    after: float | None = None


def describe(name: str, aspect: str, reference: ColumnProfile, current: ColumnProfile) -> Told:
    """What changed in a column: its mean or spread, the share of its most changed level, or how much is missing."""
    if aspect == "missing":
        a, b = reference.missing / reference.rows, current.missing / current.rows
        verb = "rose" if b > a else "fell"
        return Told(f"missing values of {name} {verb} from {_percent(a)} to {_percent(b)}", _direction(a, b), a, b)
    if reference.levels is not None and current.levels is not None:
        return _of_levels(name, reference, current)
    a_moments, b_moments = reference.moments, current.moments
    if a_moments is None or b_moments is None or not a_moments.count or not b_moments.count:
        return Told(f"{name} changed", "none")
    a, b = a_moments.mean, b_moments.mean
    spread_a, spread_b = a_moments.deviation or 0.0, b_moments.deviation or 0.0
    if reference.kind == "date":
        way = "later" if b > a else "earlier"
        return Told(f"{name} moved {way}, its middle from {day_text(a)} to {day_text(b)}", _direction(a, b), a, b)
    if abs(b - a) >= 0.02 * max(spread_a, spread_b):
        digits = _digits(a, b)
        verb = "rose" if b > a else "fell"
        return Told(f"{name} {verb} from {digits(a)} to {digits(b)}", _direction(a, b), a, b)
    digits = _digits(spread_a, spread_b)
    verb = "spreads wider" if spread_b > spread_a else "spreads less"
    text = f"{name} {verb}: standard deviation {digits(spread_b)}, was {digits(spread_a)}"
    return Told(text, "none", a, b)


def _of_levels(name: str, reference: ColumnProfile, current: ColumnProfile) -> Told:
    assert reference.levels is not None
    assert current.levels is not None
    n, m = max(1, reference.levels.total), max(1, current.levels.total)
    moves = {level: (count / n, current.levels.counts[level] / m) for level, count in reference.levels.counts.items()}
    if not reference.levels.hashed:
        moves["\0new"] = (reference.levels.rest / n, current.levels.rest / m)
    if not moves:
        return Told(f"the values of {name} changed", "none")
    level, (a, b) = max(moves.items(), key=lambda item: abs(item[1][1] - item[1][0]))
    if reference.levels.hashed and abs(b - a) < 0.005:
        return Told(f"the values of {name} changed, none of the frequent ones by much", "none")
    verb = "rose" if b > a else "fell"
    if level == "\0new":
        ranked = sorted(current.levels.unseen.items(), key=lambda item: (-item[1], item[0]))
        names = ", ".join(repr(value) for value, _ in ranked[:3])
        return Told(f"{name} has new values in {_percent(b)} of the rows ({names})", _direction(a, b), a, b)
    if _percent(a) == _percent(b):
        return Told(f"the shares of {name} are much the same", "none", a, b)
    text = f"{name} = {level} {verb} from {_percent(a)} to {_percent(b)}"
    return Told(text, _direction(a, b), a, b)


def verdict(report: DriftReport) -> str:
    """The report in a sentence or two."""
    sides = f"{report.current_rows:,} rows against {report.reference_rows:,}"
    lost = f" Missing altogether: {', '.join(report.absent)}." if report.absent else ""
    if not report.columns:
        return f"Too few rows to tell of drift ({sides}).{lost}"
    drifted = report.drifted
    if not drifted:
        # What would show is measured by the difference there is: a column without any says nothing of it.
        known = sorted(c.threshold for c in report.columns if c.effect)
        least = (
            f"; a change of fewer than about {_percent(known[len(known) // 2])} of the values would not show"
            if known
            else ""
        )
        return f"No drift in {len(report.columns)} columns ({sides}){least}.{lost}"
    told = "; ".join(c.text for c in drifted[:3])
    more = f"; and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return f"Drift in {len(drifted)} of {len(report.columns)} columns: {told}{more} ({sides}).{lost}"


def _direction(a: float, b: float) -> Direction:
    return "up" if b > a else "down" if b < a else "none"


def _percent(share: float) -> str:
    if 0 < share < 0.001 or 0.999 < share < 1:
        return f"{share:.2%}"
    return f"{share:.1%}" if share < 0.1 or share > 0.9 else f"{share:.0%}"


def _digits(a: float, b: float) -> Callable[[float], str]:
    """A way to print both numbers with enough digits to tell them apart."""
    for digits in range(3, 9):
        if f"{a:.{digits}g}" != f"{b:.{digits}g}":
            break

    def said(value: float) -> str:
        # Whole thousands are written out: 1,050 and not 1.05e+03; nor is 999.5 1e+03.
        text = f"{value:,.{digits}g}"
        return f"{value:,.0f}" if "e+" in text and abs(value) < 1e6 else text

    return said
