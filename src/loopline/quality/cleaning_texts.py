"""Fitted steps of texts and categories: other texts, values that are read from them, and numbers that stand for them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import ClassVar, Literal

import numpy as np
import xxhash

from loopline.quality.cleaning_columns import SPACE, Column, Rows, texts
from loopline.quality.cleaning_step import DAY, Kind, RowStep

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = {  # by the sign before the decimals; the other one may stand between thousands
    point: re.compile(
        rf"([+-]?(?:(?:\d{{1,3}}(?:{re.escape(comma)}\d{{3}})+|\d+)(?:{re.escape(point)}\d*)?|{re.escape(point)}\d+)"
        r"(?:[eE][+-]?\d{1,3})?)(\D.*)?",
        re.ASCII | re.DOTALL,
    )
    for point, comma in (".,", ",.")
}
_WORD = re.compile(r"\w+")


class OfText(RowStep, frozen=True, kw_only=True):
    """A step that makes another text of each text, and of a number's."""

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "text"}

    def text(self, text: str) -> str:
        """The text in place of this one; neither is missing ("") unless it becomes so."""
        raise NotImplementedError

    def run(self, rows: Rows) -> dict[str, Column]:
        return {self.column: texts(rows[self.column]).mapped(lambda v: self.text(v) if v else "")}


class ToMissing(OfText, frozen=True, kw_only=True, tag="placeholders"):
    """Texts that stand for "not known" become missing; the space around them does not matter."""

    tokens: tuple[str, ...]

    def text(self, text: str) -> str:
        return "" if text.strip(SPACE) in self.tokens else text


class Respell(OfText, frozen=True, kw_only=True, tag="repair"):
    """A category is trimmed and gets the spelling that training knows it by; an unknown one is only trimmed."""

    spelling: dict[str, str]

    def text(self, text: str) -> str:
        trimmed = text.strip(SPACE)
        return self.spelling.get(trimmed.casefold(), trimmed)


class Recoded(OfText, frozen=True, kw_only=True, tag="recode"):
    """A category becomes what it is mapped to; others stay, or become `other`. `how` is the word that it was declared by."""

    how: str
    to: dict[str, str]
    other: str | None = None

    @property
    def word(self) -> str:
        return self.how

    def text(self, text: str) -> str:
        return self.to.get(text, text if self.other is None else self.other)


class _FromText(RowStep, frozen=True, kw_only=True):
    """A step that reads each text as a value of another kind; what cannot be read is missing."""

    def value(self, text: str) -> float:
        raise NotImplementedError

    def run(self, rows: Rows) -> dict[str, Column]:
        return {self.column: texts(rows[self.column]).read(lambda v: self.value(v) if v else math.nan)}


class ReadNumber(_FromText, frozen=True, kw_only=True, tag="number"):
    """Texts such as "12,5 kg" as numbers, in the unit whose factor is 1."""

    units: dict[str, float]
    decimal: Literal[".", ","]

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "number"}

    def value(self, text: str) -> float:
        found = _NUMBER[self.decimal].fullmatch(text.strip(SPACE))
        if found is None:
            return math.nan
        unit = (found[2] or "").strip(SPACE)
        factor = self.units.get(unit) if unit else 1.0
        digits = found[1].replace("," if self.decimal == "." else ".", "").replace(",", ".")
        value = math.nan if factor is None else float(digits) * factor
        return value if math.isfinite(value) else math.nan


class ReadDate(_FromText, frozen=True, kw_only=True, tag="date"):
    """Texts as dates (UTC where they name no zone), by a format of strptime, or ISO 8601 where it is empty."""

    format: str

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "moment" if not self.format or re.search("%[HIMSfpzXcT]", self.format) else "date"}

    def value(self, text: str) -> float:
        plain = text.strip(SPACE)
        try:
            moment = datetime.strptime(plain, self.format) if self.format else datetime.fromisoformat(plain)  # noqa: DTZ007
        except ValueError:
            return math.nan
        passed = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
        return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) / DAY


class ReadBoolean(_FromText, frozen=True, kw_only=True, tag="boolean"):
    """Texts as true or false, whatever their case."""

    true: tuple[str, ...]
    false: tuple[str, ...]

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "boolean"}

    def value(self, text: str) -> float:
        plain = text.strip(SPACE).casefold()
        return 1.0 if plain in self.true else 0.0 if plain in self.false else math.nan


class Ranked(_FromText, frozen=True, kw_only=True, tag="ordinal"):
    """A category as its place in an order; an unknown one is missing."""

    order: tuple[str, ...]

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "integer"}

    def value(self, text: str) -> float:
        return float(self.order.index(text)) if text in self.order else math.nan


class OneHot(RowStep, frozen=True, kw_only=True, tag="one_hot"):
    """A category as one column of 0 and 1 for each level of training; an unknown and a missing one are 0 in all."""

    levels: tuple[str, ...]
    drops: ClassVar[bool] = True

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}={level}": "integer" for level in self.levels}

    def run(self, rows: Rows) -> dict[str, Column]:
        column = texts(rows[self.column])
        found: dict[str, Column] = {}
        for level in self.levels:
            known = np.array([text == level for text in column.levels], dtype=np.float64)
            found[f"{self.column}={level}"] = known[column.codes]
        return found


class Hashed(RowStep, frozen=True, kw_only=True, tag="hashed"):
    """A text as the signed counts of its words in so many places (Weinberger et al. 2009, doi:10.1145/1553374.1553516)."""

    into: int
    drops: ClassVar[bool] = True

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}#{n}": "integer" for n in range(self.into)}

    def run(self, rows: Rows) -> dict[str, Column]:
        column = texts(rows[self.column])
        table = np.zeros((len(column.levels), self.into))
        for place, text in enumerate(column.levels):
            for word in _WORD.findall(text.casefold()):
                digest = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
                table[place, (digest >> 1) % self.into] += 1 if digest & 1 else -1
        return {f"{self.column}#{n}": table[column.codes, n] for n in range(self.into)}
