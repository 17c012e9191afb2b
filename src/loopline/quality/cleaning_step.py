"""What a fitted step is that acts on rows: by the very functions that training's frames went through.

numpy, msgspec and the standard library alone, here and wherever such steps are: a serving worker loads no polars for them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from loopline.quality.cleaning_columns import Column, Doubles, Rows, Text

Value = bool | int | float | str
Kind = Literal["number", "integer", "boolean", "text", "date", "moment"]
DAY = 86_400_000_000  # microseconds


class RowStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="step"):
    """A fitted step of one column. `drops`: the column goes; `reach`: so many rows before it are looked at."""

    column: str
    drops: ClassVar[bool] = False

    @property
    def word(self) -> str:
        """What the step is called."""
        return str(self.__struct_config__.tag)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return (self.column,)

    @property
    def makes(self) -> dict[str, Kind | None]:
        """The columns that are written and their kinds; None: the kind stays."""
        return {self.column: None}

    @property
    def reach(self) -> int:
        """How many rows before a row it depends on."""
        return 0

    def run(self, rows: Rows) -> dict[str, Column]:
        """The columns of `makes`."""
        raise NotImplementedError


def numbers(rows: Rows, name: str) -> Doubles:
    column = rows[name]
    assert not isinstance(column, Text)
    return column
