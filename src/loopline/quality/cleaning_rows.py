"""Fitted cleaning, applied to plain rows: what a server does to a request, with the same values as training's frames got.

Standard library and msgspec only: a serving worker never loads polars for this. `quality.cleaning` fits the steps and
applies them to frames; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from loopline.errors import Invalid

SPACE = " \t\r\n\f\v\u00a0\u3000\ufeff"  # named, because Python's and Rust's idea of white space differ
Value = bool | int | float | str


class ToMissing(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="placeholders"):
    """Texts that stand for "not known" become missing; the space around them does not matter."""

    column: str
    tokens: tuple[str, ...]

    def value(self, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip(SPACE) in self.tokens else value


class Respell(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="repair"):
    """A category is trimmed and gets the spelling that training knows it by; an unknown one is only trimmed."""

    column: str
    spelling: dict[str, str]

    def value(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        trimmed = value.strip(SPACE)
        return self.spelling.get(trimmed.casefold(), trimmed)


class Limit(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="clip"):
    """A number outside training's range becomes the nearest bound."""

    column: str
    low: int | float
    high: int | float

    def value(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return self.low if value < self.low else self.high if value > self.high else value


class Fill(msgspec.Struct, frozen=True, kw_only=True, tag_field="step", tag="impute"):
    """A missing value becomes this one."""

    column: str
    filling: Value

    def value(self, value: Any) -> Any:
        return self.filling if value is None else value


FittedStep = ToMissing | Respell | Limit | Fill


class RowCleaning(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted steps in their order. `distinct` speaks of training alone: no request is ever dropped."""

    steps: tuple[FittedStep, ...] = ()
    distinct: bool = False
    fitted_on: int = 0

    def apply_rows(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """New rows with the steps applied; the given ones are not touched. NaN counts as missing.

        A step leaves a value of another type than its own as it is: refusing it is the signature's work.
        """
        cleaned = []
        for row in rows:
            out = {name: None if value != value else value for name, value in row.items()}
            for step in self.steps:
                if step.column in out or isinstance(step, Fill):
                    out[step.column] = step.value(out.get(step.column))
            cleaned.append(out)
        return cleaned

    def to_dict(self) -> dict[str, Any]:
        """The fitted cleaning as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def from_dict(cls, shape: dict[str, Any]) -> Self:
        """The cleaning again. Raises Invalid on anything that `to_dict` does not give."""
        try:
            return msgspec.convert(shape, cls)
        except msgspec.ValidationError as error:
            raise Invalid(f"This is not a fitted cleaning: {error}.", code="cleaning-json") from error
