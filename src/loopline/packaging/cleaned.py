"""The cleaning of a bundle, applied to decoded rows: what training did to its frames, with the same values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.packaging.manifest import CLEANING
from loopline.packaging.records import Manifest
from loopline.quality.cleaning_rows import Fill, FittedStep, Limit, RowCleaning

Floats = npt.NDArray[np.float32]
Strings = npt.NDArray[np.object_]


class ArrayCleaning:
    """Fitted steps by their places in the two inputs of a graph; steps of columns that the model does not read are left out."""

    def __init__(self, cleaning: RowCleaning, numbers: Sequence[str], strings: Sequence[str]) -> None:
        self._numbers = [(numbers.index(s.column), s) for s in cleaning.steps if s.column in numbers]
        self._strings = [(strings.index(s.column), s) for s in cleaning.steps if s.column in strings]

    def apply(self, numbers: Floats, strings: Strings) -> tuple[Floats, Strings]:
        """New arrays where a step applies: [n, a] numbers (missing: NaN), [n, b] strings (missing: "")."""
        if self._numbers:
            numbers = numbers.copy()
            for place, step in self._numbers:
                _clean_numbers(numbers[:, place], step)
        if self._strings:
            strings = strings.copy()
            for place, step in self._strings:
                column = strings[:, place]
                cleaned = {text: step.value(text or None) for text in set(column.tolist())}
                strings[:, place] = [_text(cleaned[text]) for text in column.tolist()]
        return numbers, strings


def read_cleaning(folder: Path, manifest: Manifest) -> ArrayCleaning | None:
    """The cleaning of a bundle whose manifest was read and verified; None where it has none."""
    if CLEANING not in manifest.digests:
        return None
    fitted = RowCleaning.from_dict(msgspec.json.decode((folder / CLEANING).read_bytes()))
    return ArrayCleaning(fitted, manifest.numbers, manifest.strings)


def _clean_numbers(column: Floats, step: FittedStep) -> None:
    """One step on one column, in place. Steps about texts say nothing about numbers."""
    if isinstance(step, Limit):
        np.clip(column, np.float32(step.low), np.float32(step.high), out=column)
    elif isinstance(step, Fill) and isinstance(step.filling, bool | int | float):
        column[np.isnan(column)] = np.float32(step.filling)


def _text(value: object) -> str:
    return "" if value is None else str(value)
