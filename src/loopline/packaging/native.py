"""Forms of a model other than ONNX, opened: what a child process computes with. Each library is imported when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopline.features.records import Signature
from loopline.packaging.manifest import NATIVE
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score


def open_native(folder: Path, manifest: Manifest) -> Score:
    """The form that the runtime of a verified bundle names. Raises `Invalid`, `Refused`, or `MissingExtra` for its library."""
    match manifest.runtime:
        case "code":
            from loopline.packaging.code import open_code

            return open_code(folder, manifest)
        case "lightgbm":
            from loopline.packaging import lightgbmed

            return lightgbmed.open_trees(folder)
        case "xgboost":
            from loopline.packaging.xgboosted import open_trees

            return open_trees(folder)
        case "skops":
            from loopline.packaging.pipelines import open_pipeline

            return open_pipeline(folder, manifest)
        case "pytorch":
            from loopline.packaging.pytorch import open_module

            return open_module(folder, manifest)
        case "tensorflow":
            from loopline.packaging.tensorflow import open_saved

            return open_saved(folder, manifest)
        case _:
            from loopline.training.model import Model

            return Model.load(folder / NATIVE).predict_arrays


def as_outputs(scores: Any, rows: int, of: Manifest | Signature) -> Floats:
    """Scores as float32 probabilities [n, k] or values [n, 1]. Raises ValueError where they are nothing of that kind."""
    found = np.asarray(scores, dtype=np.float32)
    if of.task == "binary" and found.shape == (rows, 1):
        found = found[:, 0]
    if of.task == "binary" and found.ndim == 1:
        found = np.stack([1 - found, found], axis=1)
    elif of.task == "regression" and found.ndim == 1:
        found = found[:, None]
    width = 1 if of.task == "regression" else len(of.classes)
    if found.shape != (rows, width):
        raise ValueError(f"it gave {list(found.shape)}, and {[rows, width]} is due")
    return found
