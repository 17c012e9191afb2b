"""What can predict: a model's native form, its ONNX form, or a server that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl


class Predictor(Protocol):
    """A model version, opened. `task` is "binary", "multiclass" or "regression"; `classes` as in its signature."""

    task: str
    inputs: tuple[str, ...]
    """The columns that it reads."""
    classes: tuple[str, ...]
    threshold: float | None

    def predict(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Predictions for a frame: binary (n,) probability of the positive class, multiclass (n, k), regression (n,)."""
        ...

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers for raw rows, as serving gives them."""
        ...
