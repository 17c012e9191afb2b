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
from loopline.quality.cleaning_numbers import joined
from loopline.quality.cleaning_rows import History, RowCleaning
from loopline.quality.cleaning_step import Kind, RowStep
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
        spelled = {name: _Spelled() for name in strings}
        # The first steps of a column that make a text of a text are done at once: what they come to is remembered.
        first = dict(spelled)
        steps: list[RowStep] = []
        touched: set[str] = set()
        for step in cleaned.cleaning.steps:
            if isinstance(step, OfText) and step.column in first:
                first[step.column].steps.append(step)
                continue
            steps.append(step)
            touched |= {*step.reads, *step.makes}
            for name in touched:
                first.pop(name, None)
        kinds: dict[str, Kind] = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(strings, "text")}
        self._steps = joined(steps, kinds)
        self._read = [(place, name) for place, name in enumerate(numbers) if name in touched]
        self._lifted = [(place, name, spelled[name]) for place, name in enumerate(strings) if name in touched]
        passed = [(place, numbers.index(n)) for place, n in enumerate(self.numbers) if n not in touched]
        self._passed = [place for place, _ in passed], [raw for _, raw in passed]
        self._made = [(place, name) for place, name in enumerate(self.numbers) if name in touched]
        self._respelled = [(strings.index(name), spelled[name]) for name in self.strings if name not in touched]
        self._written = [(place, name) for place, name in enumerate(self.strings) if name in touched]

    def apply(
        self, numbers: Doubles, strings: Sequence[Sequence[str]], requests: Places | None = None
    ) -> tuple[Floats, Strings]:
        """The model's arrays, float32 (missing: NaN) and texts (missing: ""), of raw rows: numbers in float64, and a list of texts
        for each. `requests` [n] says which rows came together: a step that looks at the rows before a row looks at no other
        request's."""
        rows = Rows({name: numbers[:, place] for place, name in self._read}, len(numbers), requests)
        for place, name, spelled in self._lifted:
            rows.columns[name] = Text.of([spelled[row[place]] for row in strings])
        for step in self._steps:
            rows.columns.update(step.run(rows))
        floats = np.empty((rows.n, len(self.numbers)), dtype=np.float32)
        with np.errstate(over="ignore"):
            floats[:, self._passed[0]] = numbers[:, self._passed[1]]
            for place, name in self._made:
                floats[:, place] = values(rows, name)
        floats[~np.isfinite(floats)] = np.nan
        respelled = [[spelled[row[place]] for place, spelled in self._respelled] for row in strings]
        for place, name in self._written:
            for row, text in zip(respelled, texts(rows[name]).values(), strict=True):
                row.insert(place, text)
        return floats, np.array(respelled, dtype=np.object_).reshape(rows.n, len(self.strings))


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
