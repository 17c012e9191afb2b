"""Tables of one source brought to the same columns: what widens is taken, what breaks is refused or held back by policy.

A new column widens, and so do integers that become numbers with fractions, days that become times, and larger integers; a text
column takes anything as text. What breaks: a column that is lost, and values of another kind (text where numbers were).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import polars as pl

from loopline.errors import Invalid
from loopline.quality.blocks import Blocks
from loopline.quality.contract_check import REASON

OnChange = Literal["widen", "quarantine", "refuse"]
"""What happens where a source changes its columns: what widens is taken and the rest refused; what breaks is held back, row by
row; any change is refused."""

CONTENT = "_content"
"""The column of a quarantine that holds what came, where it fits no column: bytes."""

_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64)


class Part(NamedTuple):
    """Rows that came together, and what messages call them."""

    name: str
    rows: Blocks


class Reconciled(NamedTuple):
    """All rows that fit, in order, and those that do not, each with what broke (the column `REASON`) and itself as JSON
    (`CONTENT`); and what widened, in words."""

    rows: Blocks
    held: Blocks
    changes: list[str]


def reconcile(
    parts: Sequence[Part],
    known: dict[str, pl.DataType],
    on_change: OnChange,
    *,
    free: Collection[str] = (),
    earlier: Blocks | None = None,
) -> Reconciled:
    """The parts in the same columns, those that are `known` first.

    `free` are columns whose types a contract sets right. `earlier` are the rows that the parts go behind (None: they are a whole
    table): a column that has no value there has no type yet, and one that has not always a value may be absent. Of a whole table
    a column is lost where no part has it any more.

    Raises `Invalid` (code "schema-change") that names the part and the column.
    """
    wanted = dict(known)
    changes: dict[str, None] = {}
    first, untyped = not known, {c for c in known if earlier is not None and _empty(earlier, c)}
    for part in parts:
        for column, given in part.rows.schema.items():
            if column in wanted and _empty(part.rows, column):
                continue
            kind = _stored(given)
            if column not in wanted:
                if not first:
                    changes[f"column {column!r} is new"] = None
                wanted[column] = kind
                if len(parts) > 1 and _empty(part.rows, column):
                    untyped.add(column)
            elif column in untyped:
                wanted[column] = kind
                untyped.remove(column)
            elif (wider := _wider(wanted[column], kind)) is not None and wider != wanted[column]:
                changes[f"column {column!r} holds {_word(wider)} now, and held {_word(wanted[column])}"] = None
                wanted[column] = wider
            elif wider is None and column in free:
                wanted[column] = pl.String()
        first = False
    if changes and on_change == "refuse":
        raise _refused(f"{parts[-1].name if len(parts) == 1 else 'The source'} has changed: {next(iter(changes))}")
    needed = set(known).difference(*(part.rows.columns for part in parts))
    lost = {column for part in parts for column in wanted if column not in part.rows.schema}
    if lost and (earlier is not None or not known):
        before = parts[0].rows if earlier is None else earlier
        needed = {column for column, count in before.nulls.items() if not count}
    fitted = [Blocks.of(pl.DataFrame(schema=wanted))]
    held = [Blocks.of(pl.DataFrame(schema={**wanted, CONTENT: pl.Binary, REASON: pl.String}))]
    for part in parts:
        good, bad = _fitted(part, wanted, needed, on_change)
        fitted.append(good)
        held += [bad] if bad is not None else []
    return Reconciled(Blocks.chained(fitted), Blocks.chained(held), list(changes))


def widened(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Earlier rows in wider columns; of a new one they have no value."""
    return frame.select(
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name)
        for name, kind in schema.items()
    )


def _fitted(
    part: Part, wanted: dict[str, pl.DataType], needed: set[str], on_change: OnChange
) -> tuple[Blocks, Blocks | None]:
    """The rows of a part that fit, and those that do not, where there are any."""
    given = part.rows.schema
    gone = [name for name in wanted if name not in given and name in needed]
    other = [
        name
        for name, kind in wanted.items()
        if name in given and _wider(kind, given[name]) != kind and not _empty(part.rows, name)
    ]
    faults = {name: f"column {name!r} is not there any more" for name in gone}
    faults |= {name: f"column {name!r} holds {_word(given[name])} where {_word(wanted[name])} were" for name in other}
    for said in faults.values():
        _break(part, said, on_change)

    def fit(block: pl.DataFrame) -> pl.DataFrame:
        there = {series.name: series for series in block.iter_columns()}
        made = [_as(there.get(name), block.height, name, kind, other) for name, kind in wanted.items()]
        return pl.DataFrame(made, schema=wanted)

    def broken(block: pl.DataFrame) -> pl.DataFrame:
        came = block.select(other).iter_columns()
        lost = [
            _as(given, block.height, given.name, wanted[given.name], other).is_null() & given.is_not_null()
            for given in came
        ]
        return pl.DataFrame([_all(block).alias(name) for name in gone] + lost)

    def told(block: pl.DataFrame) -> pl.DataFrame:
        reasons = broken(block).select(
            pl.concat_str(
                [pl.when(name).then(pl.lit(said)) for name, said in faults.items()], separator="; ", ignore_nulls=True
            )
        )
        content = pl.Series([text.encode() for text in _as_json(block)], dtype=pl.Binary)
        return fit(block).with_columns(content.alias(CONTENT), reasons.to_series().alias(REASON))

    fitted = part.rows.mapped(fit)
    if not faults:
        return fitted, None
    masks = [broken(block).select(pl.any_horizontal(pl.all())).to_series() for block in part.rows]
    mask = pl.concat(masks) if masks else pl.Series(dtype=pl.Boolean)
    return fitted.filtered(~mask), part.rows.filtered(mask).mapped(told)


def _as(given: pl.Series | None, height: int, name: str, kind: pl.DataType, other: Collection[str]) -> pl.Series:
    """A column of a block in the type that is wanted; nothing of what is not there, and of what does not read so."""
    if given is None:
        return pl.Series(name, [None], dtype=kind).new_from_index(0, height)
    return _read_as(given, kind) if name in other else given.cast(kind)


def _break(part: Part, said: str, on_change: OnChange) -> None:
    if on_change != "quarantine":
        raise _refused(f"{part.name} has changed: {said}")


def _refused(message: str) -> Invalid:
    return Invalid(
        f"{message}.",
        code="schema-change",
        hint="Mend the source; or add it again with --on-schema-change quarantine (what does not fit is held back) or widen "
        "(new columns and wider types are taken), or with a contract that says what the column is.",
    )


def _read_as(series: pl.Series, kind: pl.DataType) -> pl.Series:
    """What of a column reads as another kind; nothing of the rest."""
    try:
        if series.dtype == pl.String and (kind.is_numeric() or kind.is_temporal()):
            found = series.str.strip_chars()
            return found.str.to_date(strict=False) if kind == pl.Date else found.cast(kind, strict=False)
        if series.dtype.is_float() and kind.is_integer():
            return pl.select(pl.when(series == series.floor()).then(series).cast(kind, strict=False)).to_series()
    except pl.exceptions.PolarsError:
        pass
    return pl.Series(series.name, [None], dtype=kind).new_from_index(0, len(series))


def _as_json(rows: pl.DataFrame) -> list[str]:
    return rows.write_ndjson().splitlines() if rows.height else []


def _wider(known: pl.DataType, given: pl.DataType) -> pl.DataType | None:
    """The type that holds both without loss, or None."""
    given = _stored(given)
    if known == given or known == pl.String:
        return known
    if given == pl.Null:
        return known
    if known in _INTEGERS and given in _INTEGERS:
        return max(known, given, key=lambda kind: [str(one()) for one in _INTEGERS].index(str(kind)))
    if (known.is_integer() or known.is_float()) and (given.is_integer() or given.is_float()):
        return pl.Float64()
    if {known.base_type(), given.base_type()} == {pl.Date, pl.Datetime}:
        return known if known.base_type() == pl.Datetime else given
    return None


def _stored(kind: pl.DataType) -> pl.DataType:
    """The type as a table keeps it: integers have a sign."""
    signed: dict[object, pl.DataType] = {
        pl.UInt8: pl.Int16(), pl.UInt16: pl.Int32(), pl.UInt32: pl.Int64(), pl.UInt64: pl.Int64()
    }  # fmt: skip
    return signed.get(kind.base_type(), kind)


def _word(kind: pl.DataType) -> str:
    if kind.is_integer():
        return "integers"
    if kind.is_numeric():
        return "numbers"
    words = {pl.String: "text", pl.Boolean: "yes or no", pl.Date: "days", pl.Datetime: "times"}
    return words.get(kind.base_type(), str(kind))


def _empty(rows: Blocks, column: str) -> bool:
    return rows.nulls[column] == rows.height


def _all(frame: pl.DataFrame) -> pl.Series:
    return pl.Series([True]).new_from_index(0, frame.height)
