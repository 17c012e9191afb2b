"""A column of values that a format gave as what they are: numbers, texts, truth values, lists; seen once, then read in one type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from loopline.data.readers_again import PLACEHOLDERS, said_missing, said_text


class Values:
    """A column of which all pieces are handed in, and again to be read: integers and floats mix to floats, other mixtures to text.

    Lists stay lists. Beside numbers, texts that mean a missing value are missing.
    """

    def __init__(self, name: str, missing: Sequence[str]) -> None:
        self._name = name
        self._missing = missing
        self._kinds = Counter[type]()
        self._wide = False  # integers beyond 64 bits
        self._texts = self._first = 0  # texts that are not `missing`, and the row of the first
        self._odd = False
        self._stands = Counter[str]()

    def take(self, values: Sequence[Any], behind: int = 0) -> None:
        """Looks at the next values, which begin behind so many rows."""
        kinds = Counter(map(type, values))
        self._kinds.update(kinds)
        if kinds[int]:
            self._wide = self._wide or not all(-(2**63) <= v < 2**63 for v in values if type(v) is int)
        if kinds[str]:
            found = [n for n, v in enumerate(values, behind + 1) if isinstance(v, str) and v not in self._missing]
            self._first = self._first or (found[0] if found else 0)
            self._texts += len(found)
            low = Counter(values[n - behind - 1].strip().lower() for n in found)
            self._odd = self._odd or not low.keys() <= set(PLACEHOLDERS)
            if not self._odd:
                self._stands.update(low)

    @property
    def _given(self) -> int:
        return self._kinds.total() - self._kinds[type(None)]

    @property
    def _mixed(self) -> bool:
        return bool(self._kinds[str] and (self._kinds[int] or self._kinds[float]))

    @property
    def _numbers(self) -> bool:
        """Whether it is one of numbers although there are texts."""
        return self._mixed and not self._odd and 2 * (self._kinds[int] + self._kinds[float]) >= self._given

    @property
    def kind(self) -> pl.DataType:
        """The type it is read in."""
        kinds = {kind for kind, count in self._kinds.items() if count} - {type(None)}
        kinds -= {str} if self._numbers else set()
        if kinds <= {int} and not self._wide:
            return pl.Int64()
        if kinds <= {int, float} and float in kinds:
            return pl.Float64()
        if kinds == {bool}:
            return pl.Boolean()
        return pl.List(pl.String) if kinds == {list} else pl.String()

    def read(self, values: Sequence[Any]) -> pl.Series:
        """Values in that type."""
        kind = self.kind
        if self._numbers:
            values = [None if isinstance(v, str) else v for v in values]
        if kind == pl.Float64:
            values = [None if v is None else float(v) for v in values]
        elif kind == pl.String:
            values = [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
        elif kind == pl.List(pl.String):
            values = [v if v is None else [msgspec.json.encode(i).decode() for i in v] for v in values]
        return pl.Series(self._name, values, dtype=kind)

    def warning(self) -> str:
        """What was done to texts among numbers, or why the column stays text; "" where nothing is to be told."""
        if self._numbers:
            return said_missing(self._name, self._stands) if self._texts else ""
        if self._mixed and self._texts and self._texts * 20 <= self._given:
            return said_text(self._name, "number", self._texts, self._given, self._first)
        return ""


def column(name: str, values: Sequence[Any], missing: Sequence[str]) -> tuple[pl.Series, str]:
    """A column that is in memory, in its type, and the warning about it."""
    seen = Values(name, missing)
    seen.take(values)
    return seen.read(values), seen.warning()
