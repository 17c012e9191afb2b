"""The cleaning of a bundle, done to decoded rows: what training did to its frames, by the same functions on the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid
from loopline.packaging.manifest import CLEANING
from loopline.packaging.records import Manifest
from loopline.quality.cleaning_columns import Doubles, Places, Rows, Text, texts
from loopline.quality.cleaning_rows import History, RowCleaning
from loopline.quality.cleaning_step import RowStep
from loopline.quality.cleaning_step import numbers as values
from loopline.quality.cleaning_texts import OfText

Floats = npt.NDArray[np.float32]
Strings = npt.NDArray[np.object_]
_REMEMBERED = 10_000  # texts of a column


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """`cleaning.json`: the fitted steps from a raw row to the columns of the model, `numbers` and `strings`, in their order."""

    cleaning: RowCleaning
    numbers: tuple[str, ...]
    strings: tuple[str, ...]


class ArrayCleaning:
    """A fitted cleaning on arrays: from those of raw rows (`numbers`, `strings`: their columns) to those of the model."""

    def __init__(self, cleaned: Cleaned, numbers: Sequence[str], strings: Sequence[str]) -> None:
        self.numbers = cleaned.numbers
        self.strings = cleaned.strings
        self.history: History | None = cleaned.cleaning.history
        self._spelled = {name: (place, _Spelled()) for place, name in enumerate(strings)}
        # The first steps of a column that make a text of a text are done at once: what they come to is remembered.
        first = {name: spelled for name, (_, spelled) in self._spelled.items()}
        self._steps: list[RowStep] = []
        touched: set[str] = set()
        for step in cleaned.cleaning.steps:
            if isinstance(step, OfText) and step.column in first:
                first[step.column].steps.append(step)
                continue
            self._steps.append(step)
            touched |= {*step.reads, *step.makes}
            for name in touched:
                first.pop(name, None)
        self._read = [(place, name) for place, name in enumerate(numbers) if name in touched]
        self._passed = [
            (self.numbers.index(n), place) for place, n in enumerate(numbers) if n in {*self.numbers} - touched
        ]
        self._made = [(place, name) for place, name in enumerate(self.numbers) if name in touched]
        self._touched = touched

    def apply(self, numbers: Doubles, strings: Strings, requests: Places | None = None) -> tuple[Floats, Strings]:
        """The model's arrays, float32 (missing: NaN) and texts (missing: ""), of raw ones in float64. `requests` [n] says which
        rows came together: a step that looks at the rows before a row looks at no other request's."""
        rows = Rows({name: numbers[:, place] for place, name in self._read}, len(numbers), requests)
        spelled: dict[str, list[str]] = {}
        for name, (place, one) in self._spelled.items():
            spelled[name] = [one[text] for text in strings[:, place].tolist()]
            if name in self._touched:
                rows.columns[name] = Text.of(spelled[name])
        for step in self._steps:
            rows.columns.update(step.run(rows))
        floats = np.empty((rows.n, len(self.numbers)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for place, raw in self._passed:
                floats[:, place] = numbers[:, raw]
            for place, name in self._made:
                floats[:, place] = values(rows, name)
        floats[~np.isfinite(floats)] = np.nan
        found = np.empty((rows.n, len(self.strings)), dtype=np.object_)
        for place, name in enumerate(self.strings):
            column = texts(rows[name]).values() if name in self._touched else spelled[name]
            found[:, place] = np.array(column, dtype=np.object_)
        return floats, found


class _Spelled(dict[str, str]):
    """What the first steps of a column make of each text that was met."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[OfText] = []

    def __missing__(self, text: str) -> str:
        found = text
        for step in self.steps:
            found = step.text(found) if found else ""
        if len(self) >= _REMEMBERED:
            self.clear()
        self[text] = found
        return found


def read_cleaning(folder: Path, manifest: Manifest) -> ArrayCleaning | None:
    """The cleaning of a bundle whose manifest was read and verified; None where it has none. Raises `Invalid` for a damaged one."""
    if CLEANING not in manifest.digests:
        return None
    try:
        cleaned = msgspec.json.decode((folder / CLEANING).read_bytes(), type=Cleaned)
    except msgspec.MsgspecError as error:
        raise Invalid(f"{folder / CLEANING} is damaged: {error}.", code="cleaning-json") from error
    return ArrayCleaning(cleaned, manifest.numbers, manifest.strings)
