"""Several tables joined by a key into one: rows of all of them are kept, and what does not agree is counted.

What is too large for memory is first cut by the hash of its key (a Grace join: Kitsuregawa, Tanaka, Moto-oka 1983): rows of one
key are in one part of each side, the parts are joined one after the other, and what comes of them is put back into order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl

from loopline.data.reconcile import Part
from loopline.data.spooled import Spool, spooled
from loopline.errors import Invalid, did_you_mean
from loopline.quality.blocks import Blocks

_OTHER = "\uffffother"
_HERE, _THERE = "\uffffhere", "\uffffthere"
_PLACE = "\uffffplace"
_AT_ONCE = 64 << 20
"""Bytes of both sides that are joined at once."""

_MOST_PARTS = 128
_AHEAD = 1 << 18
"""Rows of all parts together that are read at once when they are put back into order."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What joining one more table came to: rows matched and those of one side only, and in how many rows columns disagreed."""

    name: str
    matched: int
    only_before: int
    only_here: int
    disagreed: dict[str, int] = {}

    def said(self, key: Sequence[str]) -> str:
        """It in a sentence, without a value of a row."""
        text = f"{self.name} by {', '.join(key)}: {self.matched:,} rows matched, {self.only_here:,} are in it alone, "
        text += f"{self.only_before:,} not in it"
        if self.disagreed:
            differing = ", ".join(f"{column} in {rows:,}" for column, rows in self.disagreed.items())
            text += f"; it disagreed about {differing}: what came first was taken"
        return text


def join(parts: Sequence[Part], key: tuple[str, ...], scratch: Path | None = None) -> tuple[Blocks, list[Joined]]:
    """One table of all rows, in the order of the parts, and what each part after the first brought.

    A row without a value in the key matches none. A column that two parts have is taken from the earlier one, from the later one
    where the earlier has no value. In memory are a part of each side, and all rows of a key that many rows have; what else there is
    lies in `scratch`. Raises `Invalid` where a part has no such column (code "no-column"), where a column's kinds do not go
    together (code "join-types"), and where a key stands twice on both sides (code "key-clash").
    """
    for part in parts:
        for name in key:
            if name not in part.rows.columns:
                raise Invalid(
                    f"{part.name} has no column {name!r} to join by.",
                    code="no-column",
                    hint=did_you_mean(name, part.rows.columns),
                )
    rows, told = parts[0].rows, []
    for part in parts[1:]:
        rows, said = _with(rows, part.rows, part.name, key, parts[0].name, scratch)
        told.append(said)
    return rows, told


def _with(
    rows: Blocks, others: Blocks, called: str, key: tuple[str, ...], first: str, scratch: Path | None
) -> tuple[Blocks, Joined]:
    both = [name for name in others.columns if name in rows.columns]
    kinds = {name: _kind(name, rows, others, called, first) for name in both}
    count = _parts(rows, others)
    left, right = (
        _cut(side.mapped(lambda block: block.cast(kinds)), mark, key, count, scratch)  # type: ignore[arg-type]
        for side, mark in ((rows, _HERE), (others, _THERE))
    )
    made, told, clashing = list[Blocks](), list[Joined](), 0
    while left:  # what was joined is let go of, and its files with it
        here, there = left.pop(0).frame(), right.pop(0).frame()
        clashing += _clashing(here, there, key)
        if clashing:
            continue
        frame, said = _joined(here, there, called, key, both, rows.height)
        told.append(said)
        made.append(
            Blocks.of(frame)
            if count == 1
            else spooled(frame.iter_slices(max(1, _AHEAD // count)), frame.schema, scratch)
        )
    if clashing:
        raise Invalid(
            f"{clashing:,} values of {', '.join(key)} stand more than once both in {called} and in what it is joined to.",
            code="key-clash",
            hint="Join by more columns (--join A --join B), or make the key one of a row on one side.",
        )
    columns = [name for name in made[0].columns if name != _PLACE]
    whole = made[0] if count == 1 else spooled(_in_order(made), made[0].schema, scratch)
    return whole.only(columns), _sum(told, both)


def _parts(rows: Blocks, others: Blocks) -> int:
    """In how many parts both sides are joined, by the size of their first rows."""
    size = 0
    for side in (rows, others):
        block = next((block for block in side if block.height), side.empty)
        size += int(block.estimated_size()) * side.height // max(1, block.height)
    return min(_MOST_PARTS, 1 + size // _AT_ONCE)


def _cut(side: Blocks, mark: str, key: tuple[str, ...], count: int, scratch: Path | None) -> list[Blocks]:
    """A side in so many parts by the hash of the key, with the number of each row."""

    def numbered() -> Iterator[pl.DataFrame]:
        start = 0
        for block in side:
            yield block.with_row_index(mark, offset=start)
            start += block.height

    if count == 1:
        return [Blocks.of(pl.concat([side.empty.with_row_index(mark), *numbered()]))]
    schema = side.empty.with_row_index(mark).schema
    spools = [Spool(scratch, count) for _ in range(count)]
    for block in numbered():
        placed = block.with_columns((pl.struct(key).hash(seed=0) % count).alias(_PLACE))
        for (place,), rows in placed.partition_by(_PLACE, as_dict=True, include_key=False).items():
            spools[place].add(rows)
    return [spool.blocks(schema) for spool in spools]


def _in_order(parts: Sequence[Blocks]) -> Iterator[pl.DataFrame]:
    """The rows of parts that are in order themselves, in the order of all."""
    going = [(rows, block) for rows in map(iter, parts) if (block := next(rows, None)) is not None]
    while going:
        last = min(block[_PLACE][-1] for _, block in going)
        yield pl.concat([block.filter(pl.col(_PLACE) <= last) for _, block in going]).sort(_PLACE)
        left = []
        for rows, block in going:
            rest: pl.DataFrame | None = block.filter(pl.col(_PLACE) > last)
            if rest is not None and (rest.height or (rest := next(rows, None)) is not None):
                left.append((rows, rest))
        going = left


def _joined(
    left: pl.DataFrame, right: pl.DataFrame, called: str, key: tuple[str, ...], both: Sequence[str], height: int
) -> tuple[pl.DataFrame, Joined]:
    """The rows of both, with the place of each among all: behind those of the first side, which are `height`, what is new."""
    named = right.rename({name: name + _OTHER for name in both if name not in key})
    made = left.join(named, on=list(key), how="full", coalesce=True)
    here, there = made[_HERE].is_not_null(), made[_THERE].is_not_null()
    disagreed = {
        name: rows
        for name in both
        if name not in key and (rows := made.select((pl.col(name) != pl.col(name + _OTHER)).sum()).item())
    }
    taken = [
        pl.coalesce(name, name + _OTHER).alias(name) if name in both and name not in key else pl.col(name)
        for name in [*left.columns, *(name for name in right.columns if name not in left.columns)]
        if name not in (_HERE, _THERE)
    ]
    place = pl.col(_HERE).fill_null(height).cast(pl.UInt64) * 2**32 + pl.col(_THERE).fill_null(0)
    return made.select(*taken, place.alias(_PLACE)).sort(_PLACE), Joined(
        name=called,
        matched=int((here & there).sum()),
        only_before=int((here & ~there).sum()),
        only_here=int((~here & there).sum()),
        disagreed=disagreed,
    )


def _sum(told: Sequence[Joined], both: Sequence[str]) -> Joined:
    return Joined(
        name=told[0].name,
        matched=sum(one.matched for one in told),
        only_before=sum(one.only_before for one in told),
        only_here=sum(one.only_here for one in told),
        disagreed={name: rows for name in both if (rows := sum(one.disagreed.get(name, 0) for one in told))},
    )


def _kind(name: str, rows: Blocks, others: Blocks, called: str, first: str) -> pl.DataType:
    ours, theirs = rows.schema[name], others.schema[name]
    if ours == theirs:
        return ours
    if ours.is_numeric() and theirs.is_numeric():
        return pl.Int64() if ours.is_integer() and theirs.is_integer() else pl.Float64()
    raise Invalid(
        f"Column {name!r} of {called} is {theirs}, that of {first} is {ours}.",
        code="join-types",
        hint="Give it one type on both sides, or another name on one.",
    )


def _clashing(left: pl.DataFrame, right: pl.DataFrame, key: tuple[str, ...]) -> int:
    """How many keys stand more than once on both sides."""
    twice = [side.drop_nulls(key).filter(pl.struct(key).is_duplicated()).select(key).unique() for side in (left, right)]
    return twice[0].join(twice[1], on=list(key), how="semi").height
