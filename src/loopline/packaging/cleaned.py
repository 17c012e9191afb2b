"""The cleaning of a bundle, done to decoded rows: what training did to its frames, by the same functions on the same numbers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid
from loopline.packaging.manifest import CLEANING
from loopline.packaging.records import Manifest
from loopline.quality.cleaning_columns import Doubles, Places, Rows, Text, texts
from loopline.quality.cleaning_rows import History, RowCleaning
from loopline.quality.cleaning_step import numbers as values

Floats = npt.NDArray[np.float32]
Strings = npt.NDArray[np.object_]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """`cleaning.json`: the fitted steps from a raw row to the columns of the model, `numbers` and `strings`, in their order."""

    cleaning: RowCleaning
    numbers: tuple[str, ...]
    strings: tuple[str, ...]


class ArrayCleaning:
    """A fitted cleaning on arrays: from those of raw rows (`numbers`, `strings`: their columns) to those of the model."""

    def __init__(self, cleaned: Cleaned, numbers: tuple[str, ...], strings: tuple[str, ...]) -> None:
        self.numbers = cleaned.numbers
        self.strings = cleaned.strings
        self.history: History | None = cleaned.cleaning.history
        self._cleaning = cleaned.cleaning
        self._raw = (numbers, strings)

    def apply(self, numbers: Doubles, strings: Strings, requests: Places | None = None) -> tuple[Floats, Strings]:
        """The model's arrays, float32 (missing: NaN) and texts (missing: ""), of raw ones in float64. `requests` [n] says which
        rows came together: a step that looks at the rows before a row looks at no other request's."""
        rows = Rows({}, len(numbers), requests)
        for place, name in enumerate(self._raw[0]):
            rows.columns[name] = numbers[:, place]
        for place, name in enumerate(self._raw[1]):
            rows.columns[name] = Text.of(strings[:, place].tolist())
        self._cleaning.run(rows)
        floats = np.empty((rows.n, len(self.numbers)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for place, name in enumerate(self.numbers):
                floats[:, place] = values(rows, name)
        floats[~np.isfinite(floats)] = np.nan
        found = np.empty((rows.n, len(self.strings)), dtype=np.object_)
        for place, name in enumerate(self.strings):
            found[:, place] = texts(rows[name]).values()
        return floats, found


def read_cleaning(folder: Path, manifest: Manifest) -> ArrayCleaning | None:
    """The cleaning of a bundle whose manifest was read and verified; None where it has none. Raises `Invalid` for a damaged one."""
    if CLEANING not in manifest.digests:
        return None
    try:
        cleaned = msgspec.json.decode((folder / CLEANING).read_bytes(), type=Cleaned)
    except msgspec.MsgspecError as error:
        raise Invalid(f"{folder / CLEANING} is damaged: {error}.", code="cleaning-json") from error
    return ArrayCleaning(cleaned, manifest.numbers, manifest.strings)
