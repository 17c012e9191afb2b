"""A column of texts, looked at piece by piece until it is known what its values are."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from loopline.data.readers_spelled import (
    COMMA_NUMBER,
    MOMENT,
    NUMBER,
    READERS,
    ZONED,
    Numbers,
    comma_numbers,
    read_comma,
    without,
    zoned,
)

_SAMPLE = 200


class Texts:
    """A column of texts, looked at piece by piece: what all of them are, of those `patterns` that the first 200 values have.

    With `decimal_comma` a column is numbers of that kind or text, if one of its first values holds a comma.
    """

    def __init__(self, missing: Sequence[str], patterns: Sequence[str], *, decimal_comma: bool) -> None:
        self.missing = missing
        self.values = 0
        self.sample = pl.Series([], dtype=pl.String)
        self._left = list(patterns)
        self._numbers = Numbers()
        self._zoned = False
        self._comma = self._commas = decimal_comma and NUMBER in patterns

    def take(self, piece: pl.Series) -> pl.Series:
        """Looks at the next values, and reads them in the type that all so far have; `how` tells which."""
        raw = without(piece, self.missing)
        if not (present := len(raw) - raw.null_count()):
            return self.read(piece)
        self.values += present
        if len(self.sample) < _SAMPLE:
            more = raw.drop_nulls().head(_SAMPLE - len(self.sample))
            self.sample = pl.concat([self.sample, more.alias("")], rechunk=True)
            spelled = self.sample.str.strip_chars()
            self._left = [pattern for pattern in self._left if spelled.str.contains(pattern).all()]
            found = bool(self.sample.str.contains(",", literal=True).any())
            self._comma = self._comma and (found or len(self.sample) < _SAMPLE)
        if self._comma and self._commas:
            self._commas = comma_numbers(raw)
        held: dict[str, pl.Series] = {}
        for pattern in self._left:
            # What is all days, or all times, is also moments.
            if pattern == MOMENT and held:
                self._zoned |= ZONED in held
                held[pattern] = raw
                continue
            read = self._numbers.take(raw) if pattern == NUMBER else READERS[pattern](raw)
            if read is not None:
                self._zoned |= pattern == MOMENT and zoned(raw)
                held[pattern] = read
        self._left = list(held)
        kind = self._kind
        if kind is None:
            return raw
        return read_comma(raw) if kind == COMMA_NUMBER else self._as_seen(held[kind])

    @property
    def comma(self) -> bool:
        """Whether its numbers, if any, have a decimal comma: one of the first values holds one."""
        return self._comma and bool(self.sample.str.contains(",", literal=True).any())

    @property
    def puzzling(self) -> bool:
        """Whether it holds something, and that is nothing but text."""
        return bool(self.values) and self._kind is None

    @property
    def gaps(self) -> int:
        """How many of the values are missing once read."""
        return self._numbers.gaps if self._kind == NUMBER else 0

    @property
    def _kind(self) -> str | None:
        if self.comma:
            return COMMA_NUMBER if self._commas else None
        return next(iter(self._left), None)

    @property
    def how(self) -> tuple[object, ...]:
        """What decides how values are read: pieces that were taken while it was the same are of the same type."""
        kind = self._kind if self.values else None
        if kind == NUMBER:
            return (kind, *self._numbers.how)
        return (kind, self._zoned) if kind == MOMENT else (kind,)

    def read(self, piece: pl.Series) -> pl.Series:
        """Values in the type found."""
        raw = without(piece, self.missing)
        if not self.values or self._kind is None:
            return raw
        if self._kind == NUMBER:
            return self._numbers.read(raw)
        if self._kind == COMMA_NUMBER:
            return read_comma(raw)
        found = READERS[self._kind](raw)
        assert found is not None, "it was so when it was looked at"
        return self._as_seen(found)

    def _as_seen(self, found: pl.Series) -> pl.Series:
        return found.dt.replace_time_zone(None) if self._kind == MOMENT and not self._zoned else found
