"""Types of texts, seen over a whole column: no guess from the first hundred rows that row 200,000 breaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import polars as pl

from loopline.errors import Invalid
from loopline.quality.spelling import is_date, shape_of

MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
"""Texts that mean a missing value in text formats. "None" is not among them: it is often a category ("none measured")."""

PLACEHOLDERS = ("-", "--", ".", "none", "nil", "missing", "unknown")
"""Texts, in any case, that mean a missing value where at least half of a column's values are numbers and all others are such."""

_SAMPLE = 200
_NEARLY = 0.95
_ENOUGH = 0.5
_INTEGERS = 9e18
_ZERO_LED = r"^[+-]?0\d"
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
_COMMA_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
_WITH_COMMA = r"^[+-]?\d+([.,]\d{3})*,\d+$"
_DAY = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?$"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_MOMENT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")


MOST_COLUMNS = 10_000
"""Columns of one table: each is profiled on its own."""


def check_names(names: Sequence[str], called: str) -> None:
    """Raises Invalid for a name given twice, one that reads as a pattern of names (`*`, `^...$`), and for far too many."""
    if len(names) > MOST_COLUMNS:
        raise Invalid(
            f"{called} has {len(names):,} columns.",
            code="too-many-columns",
            hint=f"At most {MOST_COLUMNS:,} are taken; a long form (name, value) holds more.",
        )
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        places = [str(i) for i, n in enumerate(names, 1) if n == twice[0]]
        raise Invalid(
            f"{called} has the column name {twice[0]!r} {len(places)} times (columns {', '.join(places)}).",
            code="table-names",
            hint="Give each column a name of its own.",
        )
    for name in names:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise Invalid(
                f"The column name {name!r} of {called} reads as a pattern for several columns.",
                code="table-names",
                hint="Rename it: not '*', and nothing between '^' and '$'.",
            )


def typed(
    frame: pl.DataFrame,
    missing: Sequence[str],
    *,
    numbers: bool = True,
    decimal_comma: bool = False,
    as_text: Collection[str] = (),
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with its text columns typed, and warnings about columns that nearly are numbers.

    `numbers` off leaves texts of digits alone (JSON has numbers of its own), as do the names of `as_text`. Values of other types
    pass as they are.
    """
    columns, warnings = [], []
    for series in frame.iter_columns():
        if series.dtype != pl.String:
            columns.append(series)
            continue
        if series.name in as_text:
            columns.append(_without(series, missing))
            continue
        found, warning = _column(series, missing, numbers=numbers, decimal_comma=decimal_comma)
        columns.append(found)
        if warning:
            warnings.append(warning)
    return pl.DataFrame(columns), tuple(warnings)


def dated(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with those of its text columns as dates that hold nothing else, and warnings about those that nearly do."""
    columns, warnings = [], []
    for series in frame.iter_columns():
        found, warning = series, ""
        if series.dtype == pl.String and len(present := series.drop_nulls()):
            read = _read(series, present, (_DAY, _TIME, _ZONED, _MOMENT))
            found, warning = (read, "") if read is not None else (series, _nearly(series, present, numbers=False))
        columns.append(found)
        if warning:
            warnings.append(warning)
    return pl.DataFrame(columns), tuple(warnings)


def _without(series: pl.Series, missing: Sequence[str]) -> pl.Series:
    gaps = series.is_in(missing).fill_null(value=False)
    return series.set(gaps, None) if gaps.any() else series


def _column(series: pl.Series, missing: Sequence[str], *, numbers: bool, decimal_comma: bool) -> tuple[pl.Series, str]:
    raw = _without(series, missing)
    present = raw.drop_nulls()
    if not len(present):
        return raw, ""
    if not numbers:
        found = _read(raw, present, [pattern for pattern in _READERS if pattern != _NUMBER])
        return (raw, _nearly(raw, present, numbers=False)) if found is None else (found, "")
    comma = decimal_comma and present.head(_SAMPLE).str.contains(",", literal=True).any()
    found = _comma_number(raw, present) if comma else _read(raw, present, _READERS)
    if found is not None:
        return found, ""
    if (filled := _without_placeholders(raw, present, _COMMA_NUMBER if comma else _NUMBER)) is not None:
        found = _comma_number(filled, filled.drop_nulls()) if comma else _number(filled)
        if found is not None:
            return found, said_missing(raw.name, raw.filter(filled.is_null() & raw.is_not_null()).to_list())
    return raw, _nearly(raw, present, numbers=True)


def _read(raw: pl.Series, present: pl.Series, patterns: Iterable[str]) -> pl.Series | None:
    sample = present.head(_SAMPLE).str.strip_chars()
    for pattern in patterns:
        if sample.str.contains(pattern).all() and (found := _READERS[pattern](raw)) is not None:
            return found
    return None


def _comma_number(raw: pl.Series, present: pl.Series) -> pl.Series | None:
    if not present.str.contains(_COMMA_NUMBER).all() or present.str.contains(_ZERO_LED).any():
        return None
    points = raw.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)  # of thousands
    return points.cast(pl.Float64)


def _without_placeholders(raw: pl.Series, present: pl.Series, pattern: str) -> pl.Series | None:
    """The texts without those that stand for a missing value, where that leaves numbers alone and enough of them."""
    if (present.head(_SAMPLE).str.contains(pattern).mean() or 0) < _ENOUGH / 2:  # type: ignore[operator]
        return None
    stands = raw.str.strip_chars().str.to_lowercase().is_in(PLACEHOLDERS).fill_null(value=False)
    left = len(present) - int(stands.sum())
    return raw.set(stands, None) if stands.any() and left >= _ENOUGH * len(present) else None


def holds_numbers(series: pl.Series) -> bool:
    """Whether many of the texts are spelled as numbers, but not all: in JSON, numbers and texts may have been mixed."""
    spelled = series.drop_nulls().str.contains(_NUMBER)
    return _ENOUGH * len(spelled) <= int(spelled.sum()) < len(spelled)


def said_missing(name: str, placeholders: Sequence[str]) -> str:
    """The warning about a column of numbers in which these placeholders, one a row, were read as missing."""
    kinds = ", ".join(repr(text) for text in sorted({text.strip().lower() for text in placeholders}))
    return f"column {name!r}: {len(placeholders):,} values ({kinds}) were read as missing, since all others are numbers"


def _whole(raw: pl.Series, found: pl.Series) -> bool:
    return found.null_count() == raw.null_count()


def _number(raw: pl.Series) -> pl.Series | None:
    for text in (raw, None):
        if text is None:  # once more without the space around
            text = raw.str.strip_chars()
            text = text.set((text == "").fill_null(value=False), None)
        found = text.cast(pl.Int64, strict=False)
        if found.null_count() != text.null_count():
            found = text.cast(pl.Float64, strict=False)
        if found.null_count() == text.null_count():
            return (
                None
                if _is_code(text, found) or _too_large(text, found).any()
                else found.fill_nan(None)
                if found.dtype.is_float()
                else found
            )
    return None


def _is_code(text: pl.Series, found: pl.Series) -> bool:
    """Whether numbers are identifiers: led by zeros, or whole and beyond 64 bits (a float would merge neighbours)."""
    if text.str.contains(_ZERO_LED).any():
        return True
    large = found.dtype.is_float() and bool((found.abs() > _INTEGERS).any())
    return large and bool(text.str.contains(r"^\s*[+-]?\d{19,}\s*$").any())


def _too_large(text: pl.Series, found: pl.Series) -> pl.Series:
    """Where digits stand for more than a double holds: to read them as infinite would be to invent a value."""
    if not found.dtype.is_float():
        return pl.Series([False])
    return (found.is_infinite() & ~text.str.contains("(?i)inf")).fill_null(value=False)


def _boolean(raw: pl.Series) -> pl.Series | None:
    text = raw.str.strip_chars()
    if not text.drop_nulls().is_in(_BOOLEANS).all():
        return None
    return text.str.to_lowercase().eq("true").alias(raw.name)


def _date(raw: pl.Series) -> pl.Series | None:
    text = raw.str.strip_chars()
    found = text.str.to_date("%Y-%m-%d", strict=False)
    return found if _whole(raw, found) and text.drop_nulls().str.contains(_DAY).all() else None


def _time(raw: pl.Series) -> pl.Series | None:
    text = raw.str.strip_chars().str.replace("T", " ", literal=True)
    if not text.drop_nulls().str.contains(_TIME).all():
        return None
    found = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    if not _whole(raw, found):
        found = found.fill_null(text.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False))
    return found if _whole(raw, found) else None


def _zoned(raw: pl.Series) -> pl.Series | None:
    text = raw.str.strip_chars().str.replace(" ", "T", literal=True)
    if not text.drop_nulls().str.contains(_ZONED).all():
        return None
    text = text.str.replace(r"([+-]\d{2})(\d{2})$", "$1:$2").str.replace(r"(T\d{2}:\d{2})(Z|[+-])", "$1:00$2")
    found = text.str.to_datetime("%+", time_unit="us", strict=False)
    return found if _whole(raw, found) else None


def _moment(raw: pl.Series) -> pl.Series | None:
    """Days and times mixed, with zones and without: what has no zone counts as UTC, as it does at serving."""
    text = raw.str.strip_chars().str.replace(" ", "T", literal=True)
    if not text.drop_nulls().str.contains(_MOMENT).all():
        return None
    zoned = text.str.contains(_ZONED)
    text = text.str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00").str.replace(
        r"(T\d{2}:\d{2})($|Z|[+-])", "$1:00$2"
    )
    text = text.str.replace(r"([+-]\d{2})(\d{2})$", "$1:$2").str.replace(r"(T[\d:.]+)$", "${1}Z")
    found = text.str.to_datetime("%+", time_unit="us", strict=False)
    if not _whole(raw, found):
        return None
    return found if zoned.any() else found.dt.replace_time_zone(None)


_READERS = {
    _NUMBER: _number,
    r"^(true|false|True|False|TRUE|FALSE)$": _boolean,
    _DAY: _date,
    _TIME: _time,
    _ZONED: _zoned,
    _MOMENT: _moment,
}


def _nearly(raw: pl.Series, present: pl.Series, *, numbers: bool) -> str:
    """What is said of a text column of which all but a few values are numbers, or dates; "" of any other."""
    for kind, pattern in (("number", _NUMBER), ("date", _MOMENT)):
        if (kind == "number" and not numbers) or present.head(_SAMPLE).str.contains(pattern).mean() < _ENOUGH:  # type: ignore[operator]
            continue
        others = (~raw.str.contains(pattern)).fill_null(value=False)
        count = int(others.sum())
        if count and count <= (1 - _NEARLY) * len(present):
            return said_text(raw.name, kind, count, len(present), int(others.arg_true()[0]) + 1)
    return _otherwise(raw, present, numbers=numbers)


def _otherwise(raw: pl.Series, present: pl.Series, *, numbers: bool) -> str:
    """What is said of a text column whose values are numbers or dates in another spelling than is read."""
    sample = present.head(_SAMPLE).str.strip_chars()
    shapes = sample.to_frame("_").select(shape_of(pl.col("_"))).to_series()
    dates = [shape for shape in shapes.unique().sort() if is_date(shape)]
    if dates and shapes.is_in(dates).mean() >= _NEARLY:  # type: ignore[operator]
        return (
            f"column {raw.name!r} stays text: it holds dates written as {', '.join(dates[:3])} (9 is a digit, a letters), "
            "which may be day or month first; write them as 2026-01-31"
        )
    if not numbers:
        return ""
    if sample.str.contains(_WITH_COMMA).mean() >= _ENOUGH and sample.str.contains(r"^[\d.,+-]+$").all():  # type: ignore[operator]
        return f"column {raw.name!r} stays text: its numbers hold commas, of decimals or of thousands; write them with a point"
    if sample.str.contains(_NUMBER).all():
        large = _too_large(raw, raw.cast(pl.Float64, strict=False))
        if large.any():
            row = int(large.arg_true()[0]) + 1
            return f"column {raw.name!r} stays text: it holds numbers beyond a double ({large.sum()}, the first in row {row})"
        long = raw.str.contains(r"^[+-]?[1-9]\d{18,}$").fill_null(value=False)
        if long.any():
            row = int(long.arg_true()[0]) + 1
            return f"column {raw.name!r} stays text: it holds numbers of 19 digits or more ({long.sum()}, the first in row {row})"
    return ""


def said_text(name: str, kind: str, count: int, values: int, row: int) -> str:
    """The warning about a column that stays text for a few of its values."""
    are = f"is no {kind}" if count == 1 else f"are no {kind}s"
    return (
        f"column {name!r} stays text: {count} of {values} values {are} "
        f"(first in row {row}); declare them missing, or of_type({kind!r}) in the contract"
    )


def plain(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame in the types that every room knows, and what was said about columns that have none of them.

    Text, integers, floats, booleans, dates, times. Categories become text, decimals floats, durations seconds; records are
    spread (`address` to `address.city`); lists and binary values are left out.
    """
    warnings: list[str] = []
    while nested := [c for c, t in frame.schema.items() if isinstance(t, pl.Struct)]:
        for name in nested:
            fields = frame[name].struct.fields
            spread = [frame[name].struct.field(f).alias(f"{name}.{f}") for f in fields]
            clash = [s.name for s in spread if s.name in frame.columns]
            place = frame.columns.index(name)
            frame = frame.drop(name)
            for offset, series in enumerate(s for s in spread if s.name not in clash):
                frame = frame.insert_column(place + offset, series)
            warnings += [f"field {c!r} is left out: a column has its name" for c in clash]
    casts = []
    for name, dtype in frame.schema.items():
        if dtype in (pl.Categorical, pl.Enum, pl.Null, pl.Time):
            casts.append(pl.col(name).cast(pl.String))
        elif dtype in (pl.Decimal, pl.Int128):
            casts.append(pl.col(name).cast(pl.Float64))
        elif dtype == pl.Duration:
            casts.append(pl.col(name).dt.total_microseconds() / 1e6)
        elif dtype == pl.Datetime and getattr(dtype, "time_unit", "us") != "us":
            casts.append(pl.col(name).dt.cast_time_unit("us"))
    out = [c for c, t in frame.schema.items() if t.is_nested() or t in (pl.Binary, pl.Object)]
    warnings += [f"column {c!r} is left out: it holds {frame.schema[c]}" for c in out]
    return frame.with_columns(casts).drop(out), tuple(warnings)
