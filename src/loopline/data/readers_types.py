"""Types of texts, seen over a whole column: no guess from the first hundred rows that row 200,000 breaks.

A column is looked at block by block, and once more where that leaves it text; then each block is read in the type found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from loopline.data.readers_again import Again
from loopline.data.readers_spelled import DATES, NUMBER, TRUTH
from loopline.data.readers_texts import Texts
from loopline.data.spooled import Spool
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks, ahead

MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
"""Texts that mean a missing value in text formats. "None" is not among them: it is often a category ("none measured")."""

_Reader = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
_ALL = (NUMBER, TRUTH, *DATES)

MOST_COLUMNS = 10_000
"""Columns of one table: each is profiled on its own."""


def check_names(names: Sequence[str], called: str) -> None:
    """Raises Invalid for a name given twice, one that reads as a pattern (`*`, `^...$`) or holds a NUL, and for far too many."""
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
    for place, name in enumerate(names, 1):
        if "\0" in name:
            raise Invalid(
                f"The name of column {place} of {called}, {name!r}, holds a NUL, which no table can hold.",
                code="table-names",
                hint="Rename it; a NUL in a name is often a sign of a damaged file.",
            )
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise Invalid(
                f"The column name {name!r} of {called} reads as a pattern for several columns.",
                code="table-names",
                hint="Rename it: not '*', and nothing between '^' and '$'.",
            )


def typed(
    rows: Blocks,
    missing: Sequence[str],
    *,
    numbers: bool = True,
    decimal_comma: bool = False,
    as_text: Collection[str] = (),
    kept: Spool | None = None,
) -> tuple[Blocks, tuple[str, ...]]:
    """The rows with their text columns typed, and warnings about columns that nearly are numbers.

    `numbers` off leaves texts of digits alone (JSON has numbers of its own), as do the names of `as_text`. Values of other types
    pass as they are. `kept`, empty as yet, holds what was typed at first sight, for rows that take long to be read again.
    """
    patterns = _ALL if numbers else tuple(p for p in _ALL if p != NUMBER)
    columns = {name: () if name in as_text else patterns for name in _texts(rows)}
    return _typed(rows, columns, missing, decimal_comma, kept)


def dated(rows: Blocks) -> tuple[Blocks, tuple[str, ...]]:
    """The rows with those text columns as dates that hold nothing else, and warnings about those that nearly do."""
    return _typed(rows, dict.fromkeys(_texts(rows), DATES), (), decimal_comma=False)


def _texts(rows: Blocks) -> list[str]:
    return [name for name, kind in rows.schema.items() if kind == pl.String]


def _typed(
    rows: Blocks,
    columns: Mapping[str, Sequence[str]],
    missing: Sequence[str],
    decimal_comma: bool,
    kept: Spool | None = None,
) -> tuple[Blocks, tuple[str, ...]]:
    seen = {name: Texts(missing, patterns, decimal_comma=decimal_comma) for name, patterns in columns.items()}
    height, nulls = 0, dict.fromkeys(rows.columns, 0)
    hows: dict[str, object] = {}
    late = dict.fromkeys(seen, 0)  # from which block on what was kept of a column is of the type that it has in the end
    blocks = 0
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool, ThreadPoolExecutor(1) as thread:
        for block in ahead(iter(rows), thread):
            height += block.height
            found = list(pool.map(lambda name: seen[name].take(block[name]), seen))  # noqa: B023 - it is done within the turn
            if kept is not None:
                kept.add(pl.DataFrame(found))
                late |= {name: blocks for name, one in seen.items() if blocks and hows[name] != one.how}
                hows = {name: one.how for name, one in seen.items()}
                blocks += 1
            for name in nulls.keys() - seen.keys():
                nulls[name] += block[name].null_count()
        again = {
            name: Again(name, one, numbers=NUMBER in columns[name])
            for name, one in seen.items()
            if columns[name] and one.puzzling
        }
        plainly = {name: one.read for name, one in seen.items()}
        texts = _read_as(rows, plainly) if kept is None else _read_kept(rows, kept, late, plainly)
        for block in texts(list(again)) if again else ():
            list(pool.map(lambda name: again[name].take(block[name]), again))  # noqa: B023
    read: dict[str, Callable[[pl.Series], pl.Series]] = {n: again[n].read if n in again else seen[n].read for n in seen}
    nulls |= {name: height - one.values + one.gaps for name, one in seen.items()}
    nulls |= {name: height - seen[name].values + one.gaps for name, one in again.items()}
    late |= {name: blocks for name, one in again.items() if one.is_number}
    kinds = {name: read[name](one).dtype if name in read else one.dtype for name, one in rows.empty.to_dict().items()}
    warnings = tuple(said for one in again.values() if (said := one.warning()))
    typed_rows = _read_as(rows, read) if kept is None else _read_kept(rows, kept, late, read)
    return Blocks(pl.Schema(kinds), height, typed_rows, nulls), warnings


def _read_as(rows: Blocks, read: Mapping[str, Callable[[pl.Series], pl.Series]]) -> _Reader:
    """The columns as they are read anew each time."""

    def blocks(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            for block in rows.only(names):
                yield pl.DataFrame(list(pool.map(lambda c: read[c.name](c) if c.name in read else c, block)))

    return blocks


def _read_kept(
    rows: Blocks, kept: Spool, late: Mapping[str, int], read: Mapping[str, Callable[[pl.Series], pl.Series]]
) -> _Reader:
    """The columns as they were kept; of each the first `late` blocks are read anew."""

    def blocks(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        anew = [name for name in names if late[name]]
        texts = iter(rows.only(anew)) if anew else iter(())
        for place in range(len(kept)):
            now = [name for name in anew if place < late[name]]
            block = kept.read(place, [name for name in names if name not in now])
            if now:
                spelled = next(texts)
                found = {name: read[name](spelled[name]) for name in now}
                block = pl.DataFrame([found[name] if name in found else block[name] for name in names])
            yield block
            kept.release(place)

    return blocks


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
