"""Several tables joined by a key into one: rows of all of them are kept, and what does not agree is counted."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from loopline.data.reconcile import Part
from loopline.errors import Invalid, did_you_mean

_OTHER = "\0other"
_HERE, _THERE = "\0here", "\0there"


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


def join(parts: Sequence[Part], key: tuple[str, ...]) -> tuple[pl.DataFrame, list[Joined]]:
    """One table of all rows, in the order of the parts, and what each part after the first brought.

    A row without a value in the key matches none. A column that two parts have is taken from the earlier one, from the later one
    where the earlier has no value. Raises `Invalid` where a part has no such column (code "no-column"), where a column's kinds do
    not go together (code "join-types"), and where a key stands twice on both sides (code "key-clash").
    """
    for part in parts:
        for name in key:
            if name not in part.rows.columns:
                raise Invalid(
                    f"{part.name} has no column {name!r} to join by.",
                    code="no-column",
                    hint=did_you_mean(name, part.rows.columns),
                )
    frame, told = parts[0].rows.frame(), []
    for part in parts[1:]:
        frame, said = _with(frame, part.rows.frame(), part.name, key, parts[0].name)
        told.append(said)
    return frame, told


def _with(
    frame: pl.DataFrame, other: pl.DataFrame, called: str, key: tuple[str, ...], first: str
) -> tuple[pl.DataFrame, Joined]:
    both = [name for name in other.columns if name in frame.columns]
    kinds = {name: _kind(name, frame, other, called, first) for name in both}
    left = frame.cast(kinds).with_columns(pl.lit(value=True).alias(_HERE))  # type: ignore[arg-type]
    right = other.cast(kinds).with_columns(pl.lit(value=True).alias(_THERE))  # type: ignore[arg-type]
    _check_clash(left, right, called, key)
    right = right.rename({name: name + _OTHER for name in both if name not in key})
    made = left.join(right, on=list(key), how="full", coalesce=True, maintain_order="left_right")
    here, there = made[_HERE].is_not_null(), made[_THERE].is_not_null()
    disagreed = {
        name: rows
        for name in both
        if name not in key and (rows := made.select((pl.col(name) != pl.col(name + _OTHER)).sum()).item())
    }
    taken = [
        pl.coalesce(name, name + _OTHER).alias(name) if name in both and name not in key else pl.col(name)
        for name in [*frame.columns, *(name for name in other.columns if name not in frame.columns)]
    ]
    return made.select(taken), Joined(
        name=called,
        matched=int((here & there).sum()),
        only_before=int((here & ~there).sum()),
        only_here=int((~here & there).sum()),
        disagreed=disagreed,
    )


def _kind(name: str, frame: pl.DataFrame, other: pl.DataFrame, called: str, first: str) -> pl.DataType:
    ours, theirs = frame.schema[name], other.schema[name]
    if ours == theirs:
        return ours
    if ours.is_numeric() and theirs.is_numeric():
        return pl.Int64() if ours.is_integer() and theirs.is_integer() else pl.Float64()
    raise Invalid(
        f"Column {name!r} of {called} is {theirs}, that of {first} is {ours}.",
        code="join-types",
        hint="Give it one type on both sides, or another name on one.",
    )


def _check_clash(left: pl.DataFrame, right: pl.DataFrame, name: str, key: tuple[str, ...]) -> None:
    twice = [side.drop_nulls(key).filter(pl.struct(key).is_duplicated()).select(key).unique() for side in (left, right)]
    if clashing := twice[0].join(twice[1], on=list(key), how="semi").height:
        raise Invalid(
            f"{clashing:,} values of {', '.join(key)} stand more than once both in {name} and in what it is joined to.",
            code="key-clash",
            hint="Join by more columns (--join A --join B), or make the key one of a row on one side.",
        )
