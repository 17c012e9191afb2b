"""Fitted steps that set training rows aside, with the reason of each. They are never done to rows that are to be answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import polars as pl

from loopline.quality.cleaning_columns import Rows, Text
from loopline.quality.cleaning_duplicates import near, winners
from loopline.quality.cleaning_step import numbers


class AsideStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="step"):
    """A fitted step about whole rows."""

    columns: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """What the step is called."""
        return str(self.__struct_config__.tag)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return self.columns

    @property
    def rule(self) -> str:
        """The name under which rows are quarantined."""
        return " ".join((self.word, *self.columns))

    def reasons(self, rows: Rows, frame: Callable[[], pl.DataFrame], numbered: list[int]) -> dict[int, str]:
        """Why rows are set aside, by their places. `frame` gives the rows as they are by now; `numbered` their numbers (from 1)
        in the table that they came in, by which another row is named."""
        raise NotImplementedError


class Distinct(AsideStep, frozen=True, kw_only=True, tag="deduplicate"):
    """Of rows that are equal in these columns, or in all, one stays."""

    keep: Literal["first", "last", "fullest"]
    time: str | None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns if self.time is None else (*self.columns, self.time)

    def reasons(self, rows: Rows, frame: Callable[[], pl.DataFrame], numbered: list[int]) -> dict[int, str]:
        best = winners(frame(), self.columns, self.keep, self.time)
        gone = np.flatnonzero(best != np.arange(len(best))).tolist()
        return {place: f"the same as row {numbered[best[place]]:,}, the {self.keep}" for place in gone}


class Similar(AsideStep, frozen=True, kw_only=True, tag="near_duplicates"):
    """Of rows whose texts are nearly the same the first stays."""

    similarity: float

    def reasons(self, rows: Rows, frame: Callable[[], pl.DataFrame], numbered: list[int]) -> dict[int, str]:
        column = rows[self.columns[0]]
        assert isinstance(column, Text)
        return {
            place: f"{alike:.0%} like row {numbered[other]:,}"
            for place, (other, alike) in near(column, self.similarity).items()
        }


class Outside(AsideStep, frozen=True, kw_only=True, tag="quarantine"):
    """Rows with a number outside the bounds of training go."""

    low: int | float
    high: int | float

    def reasons(self, rows: Rows, frame: Callable[[], pl.DataFrame], numbered: list[int]) -> dict[int, str]:
        values = numbers(rows, self.columns[0])
        gone = np.flatnonzero((values < self.low) | (values > self.high)).tolist()
        return dict.fromkeys(gone, f"outside {self.low:g} to {self.high:g}")


AnyAsideStep = Distinct | Similar | Outside
