"""A bundle opened for frames as well as rows: what evaluation measures is the very form that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loopline.packaging.frames import arrays, scores
from loopline.packaging.records import Opening
from loopline.packaging.runtime import Session, predict_rows

if TYPE_CHECKING:
    import polars as pl


class BundlePredictor:
    """The `Predictor` of a bundle's folder, by the runtime that the bundle names."""

    def __init__(self, folder: Path, opening: Opening | None = None) -> None:
        self._session = Session(folder, opening=opening)
        manifest = self._session.manifest
        self.task: str = manifest.task
        self.classes = manifest.classes
        self.inputs = tuple(field.name for field in manifest.signature.inputs)
        self.threshold = manifest.threshold

    def predict(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Binary (n,) probability of the positive class, multiclass (n, k), regression (n,)."""
        manifest = self._session.manifest
        precision = np.float32 if self._session.cleaning is None else np.float64
        numbers, strings = arrays(manifest, frame, precision)
        found: npt.NDArray[np.float64] = scores(manifest, self._session.run(np.ascontiguousarray(numbers), strings))
        return found

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers for raw rows, as serving gives them. Columns that the model does not read are left aside."""
        names = {field.name for field in self._session.manifest.signature.inputs}
        return predict_rows(self._session, [{k: v for k, v in row.items() if k in names} for row in rows])
