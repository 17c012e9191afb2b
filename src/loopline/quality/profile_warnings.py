"""What in a profile is worth a look, ranked, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from loopline.quality.cleaning_steps import PLACEHOLDERS
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_days import day_text
from loopline.quality.profile_full import Full
from loopline.quality.profile_parts import Levels
from loopline.quality.spelling import is_date, of_one_kind

_FEW = 30  # below this many rows nothing is said of shares
_TELLING = 0.5  # the share of the label's uncertainty from which a hint is a suspicion
_LINKED = 0.95
_PAIRS = 10  # of the strongest pairs are warned of at most
_NEAR = 0.005  # of the rows, from which near repeats are worth a word
_LEVELS = 20  # so many can each be seen for itself
_COMMON = 0.95  # of the values, spelled alike, make the others odd
_DATES = 0.01
_RARE = 0.001  # of the rows, up to which others than the most frequent value are hardly there
_SHARED = 5  # rows, from which a number of nines is no single slip


class ProfileWarning(msgspec.Struct, frozen=True, kw_only=True):
    """One thing worth a look: `severity` ranks (3 likely wrong, 2 look at it, 1 to know); `text` is a plain sentence."""

    column: str
    code: str
    severity: Literal[1, 2, 3]
    text: str


def warnings(
    columns: Mapping[str, ColumnProfile], *, rows: int, label: str | None, duplicates: int | None
) -> tuple[ProfileWarning, ...]:
    """The warnings of a profile's columns, worst first, then in the order of the columns."""
    found: list[ProfileWarning] = []
    if rows == 0:
        found.append(ProfileWarning(column="", code="empty", severity=3, text="The table has no rows."))
    if duplicates and rows:
        share = duplicates / rows
        text = f"{duplicates:,} rows ({share:.1%}) repeat an earlier row exactly."
        found.append(ProfileWarning(column="", code="duplicate-rows", severity=3 if share > 0.2 else 2, text=text))
    for name, column in columns.items():
        if column.rows:
            found.extend(_of_column(name, column, name == label))
    return tuple(sorted(found, key=lambda w: -w.severity))


def findings(columns: Mapping[str, ColumnProfile], full: Full, *, label: str | None) -> tuple[ProfileWarning, ...]:
    """The warnings that a full profile gives besides."""
    found: list[ProfileWarning] = []

    def say(column: str, code: str, severity: Literal[1, 2, 3], text: str) -> None:
        found.append(ProfileWarning(column=column, code=code, severity=severity, text=text))

    for name, hint in full.missing_tells.items():
        if hint.value >= _TELLING:
            text = f"That {name} is missing tells {hint.value:.0%} of the label: it may be filled in after the fact."
            say(name, "missing-tells", 3, text)
    if full.order_tells is not None and full.order_tells.value >= _TELLING:
        say(
            "",
            "order-tells",
            3,
            f"Where a row stands tells {full.order_tells.value:.0%} of the label: is it sorted by it?",
        )
    for one, other in full.twins:
        say(other, "same-column", 2, f"{other} is the same as {one} in every row.")
    if full.near_duplicates and full.near_duplicates >= _NEAR * full.rows:
        text = f"{full.near_duplicates:,} rows ({full.near_duplicates / full.rows:.1%}) equal an earlier one in all columns but one"
        say("", "near-duplicate-rows", 2, f"{text}, identifiers, capitals and spaces aside.")
    for name, column in columns.items():
        if column.patterns is not None and column.present >= _FEW:
            found.extend(_of_patterns(name, column.patterns, few=(column.distinct or 0) <= _LEVELS))
    twins = {frozenset(pair) for pair in full.twins}
    for pair in full.strongest[:_PAIRS]:
        if (
            abs(pair.value) >= _LINKED
            and {pair.one, pair.other}.isdisjoint({label})
            and frozenset((pair.one, pair.other)) not in twins
        ):
            text = f"{pair.one} and {pair.other} say nearly the same ({pair.measure} {pair.value:.2f})."
            say(pair.other, "linked", 1, text)
    return tuple(found)


def _of_patterns(name: str, patterns: Levels, *, few: bool) -> Iterator[ProfileWarning]:
    """Dates of several spellings, or a few values that are spelled unlike all others; words of `few` levels may be as they are."""
    counts: Counter[str] = Counter()
    for shape, n in patterns.counts.items():
        counts[of_one_kind(shape)] += n
    total, ranked = patterns.total, sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    dates = [(shape, n) for shape, n in ranked if is_date(shape) and n >= _DATES * total]
    if len(dates) > 1 and sum(n for _, n in dates) >= 0.8 * total:
        spelled = ", ".join(f"{shape} in {n / total:.0%}" for shape, n in dates[:4])
        text = f"{name} seems to hold dates of {len(dates)} spellings ({spelled}): day and month may be mixed up."
        yield ProfileWarning(column=name, code="mixed-dates", severity=2, text=text)
    elif (
        len(ranked) > 1
        and _COMMON * total <= ranked[0][1] < total
        and ("9" in ranked[0][0] or (len(ranked) < 5 and not few))
    ):
        odd = total - ranked[0][1]
        text = f"{name} looks like {ranked[0][0]!r}, but for {odd:,} values, such as {ranked[1][0]!r} (9 is a digit, a letters)."
        yield ProfileWarning(column=name, code="odd-spelling", severity=1, text=text)


def _of_column(name: str, c: ColumnProfile, is_label: bool) -> list[ProfileWarning]:
    found: list[ProfileWarning] = []

    def say(code: str, severity: int, text: str) -> None:
        found.append(ProfileWarning(column=name, code=code, severity=severity, text=text))  # type: ignore[arg-type]

    if c.present == 0:
        say("all-missing", 3, f"{name} has no value in any row.")
        return found
    if c.kind == "other":
        return found
    linked = c.association.value if c.association is not None else 0.0
    distinct = c.distinct
    if linked >= 0.9 and c.rows >= _FEW and not (c.near_unique and c.kind == "category"):
        text = f"{name} alone tells {linked:.0%} of the label: it may leak what is to be predicted."
        say("leak-suspect", 3, text)
    share = c.missing / c.rows
    if c.rows >= _FEW and share >= 0.5:
        say("many-missing", 3 if is_label or share >= 0.95 else 2, f"{name} is missing in {share:.1%} of the rows.")
    elif c.missing and (is_label or (c.rows >= _FEW and share >= 0.05)):
        say("missing", 3 if is_label else 1, f"{name} is missing in {_rows(c.missing)} ({share:.1%}).")
    if c.mistyped:
        say("mistyped", 3, f"{name} holds {c.mistyped:,} values that are not of kind {c.kind}.")
    if sum(c.infinities):
        say("infinite", 2, f"{name} is infinite in {_rows(sum(c.infinities))}.")
    if distinct == 1 and c.rows > 1:
        what = f"the one value {_told(c, c.top[0][0])}" if c.top else "one value"
        say("constant", 3 if is_label else 2, f"{name} has {what} everywhere.")
    elif c.rows >= _FEW and c.near_unique:
        say("near-unique", 2, f"{name} is different in nearly every row: an identifier tells nothing to a model.")
    elif c.top and not is_label and c.rows >= _FEW and _RARE * c.present >= (others := c.present - c.top[0][1]):
        text = f"{name} is {_told(c, c.top[0][0])} in all but {_rows(others)}: it tells a model hardly anything."
        say("nearly-constant", 1, text)
    elif c.kind == "category" and distinct is not None and distinct > 50:
        about = "" if not (c.levels and c.levels.hashed) else "about "
        say("many-levels", 1, f"{name} has {about}{distinct:,} different values.")
    if (
        is_label
        and c.kind in ("boolean", "category")
        and c.levels is not None
        and distinct is not None
        and distinct > 1
    ):
        rarest = min(n for n in c.levels.counts.values() if n) if c.levels.counts else 0
        if c.rows >= _FEW and rarest / c.present < 0.01:
            text = f"The rarest value of the label {name} is there in {_rows(rarest)} only ({rarest / c.present:.2%})."
            say("rare-class", 2, text)
    if c.kind == "category" and c.levels is not None:
        odd = {level: n for level, n in c.levels.counts.items() if n and level.strip() in PLACEHOLDERS}
        if odd and (distinct or 0) > len(odd):
            spelled = " or ".join(repr(level) for level in sorted(odd, key=lambda level: (-odd[level], level))[:3])
            held = f"{_rows(sum(odd.values()))} ({sum(odd.values()) / c.rows:.1%})"
            say("disguised-missing", 2, f"{name} is {spelled} in {held}: it may stand for a missing value.")
    if c.kind in NUMERIC and c.present >= _FEW:
        found.extend(_of_shape(name, c))
    return found


def _of_shape(name: str, c: ColumnProfile) -> list[ProfileWarning]:
    m = c.moments
    if m is None or m.minimum is None or m.maximum is None:
        return []
    quarter, middle, most = c.quantile(0.25), c.quantile(0.5), c.quantile(0.75)
    if quarter is None or middle is None or most is None:
        return []
    if c.kind != "date" and (stands := _stand_in(c)) is not None:
        value, n = stands
        text = f"{name} is {value:.0f} in {_rows(n)}, far from all other values: it may stand for a missing one."
        return [ProfileWarning(column=name, code="disguised-missing", severity=2, text=text)]

    spread = most - quarter
    far = max(m.maximum - most, quarter - m.minimum)
    if spread > 0 and far > 20 * spread:
        end = m.maximum if m.maximum - most >= quarter - m.minimum else m.minimum
        text = f"{name} reaches {_told(c, end)} while half of its values lie between {_told(c, quarter)} and {_told(c, most)}."
        return [ProfileWarning(column=name, code="outliers", severity=2, text=text)]
    skew = m.skewness
    if skew is not None and abs(skew) > 3 and c.distinct != 2:
        ends = ("late", "early") if c.kind == "date" else ("high", "low")
        text = f"{name} is skewed: most values are near {_told(c, middle)}, a few are very {ends[skew < 0]} (skewness {skew:.1f})."
        return [ProfileWarning(column=name, code="skewed", severity=1, text=text)]
    return []


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _told(c: ColumnProfile, value: object) -> str:
    """A value as people read it."""
    if not isinstance(value, float):
        return str(value)
    if c.kind == "date":
        return day_text(float(int(value)))
    if value.is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"  # 2015 may be a year
    return f"{value:,.6g}"


def _stand_in(c: ColumnProfile) -> tuple[float, int] | None:
    """A number of nines alone (999, -9999) that some rows share, further from all others than these are from each other."""
    if c.prefixes is None or c.prefixes.shift or len(c.prefixes.counts) < 3:
        return None
    values, counts = c.prefixes.lower.tolist(), c.prefixes.counts
    for value, n, next_one, last in (
        (values[0], counts[0], values[1], values[-1]),
        (values[-1], counts[-1], values[-2], values[0]),
    ):
        nines = 99 <= abs(value) < 1e9 and set(f"{abs(value):.15g}") == {"9"}
        if nines and n >= _SHARED and abs(value - next_one) > abs(next_one - last):
            return value, n
    return None
