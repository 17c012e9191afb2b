"""XGBoost's trees in the library's own form, UBJSON: scored as they are, and as an ONNX graph.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html; pickles of it are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid, MissingExtra
from loopline.features.records import Signature
from loopline.packaging.frames import check_numbers
from loopline.packaging.manifest import file_of
from loopline.ports.runtime import Floats, Score, Strings


def read_trees(path: Path) -> Any:
    """The booster of a `.json` or `.ubj` file. Raises `Invalid`, and `MissingExtra` where XGBoost is not installed."""
    xgboost = _library()
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(path.read_bytes()))
    except (xgboost.core.XGBoostError, ValueError, UnicodeDecodeError) as e:
        raise Invalid(
            f"{path} is no model of XGBoost: {str(e).strip().splitlines()[-1][:200]}.",
            code="bad-model",
            hint="Save it as .ubj or .json: booster.save_model('model.ubj').",
        ) from e
    return booster


def check_trees(booster: Any, signature: Signature) -> None:
    """Raises `Invalid` where these columns are not what the trees take."""
    check_numbers(signature, "XGBoost")
    names = [field.name for field in signature.inputs]
    if booster.num_features() != len(names):
        raise Invalid(
            f"The trees take {booster.num_features()} columns, and the rows have {len(names)}: {', '.join(names[:20])}.",
            code="other-columns",
            hint="Give rows of just the columns that it was trained on, in their order, and the label.",
        )
    if booster.feature_names is not None and booster.feature_names != names:
        raise Invalid(
            f"The trees take the columns {booster.feature_names[:20]}, and the rows have {names[:20]}.",
            code="other-columns",
            hint="Give the rows' columns the names and the order of training.",
        )


def native(booster: Any) -> Score:
    """The booster's own scores."""
    xgboost = _library()

    def score(numbers: Floats, strings: Strings) -> Any:
        return booster.predict(xgboost.DMatrix(numbers, missing=np.nan, feature_names=booster.feature_names))

    return score


def contributions(booster: Any, numbers: Floats) -> Any:
    """What each column added to the raw scores, with the base behind them: [n, scores, columns + 1]; exact Shapley values."""
    xgboost = _library()
    table = xgboost.DMatrix(numbers, missing=np.nan, feature_names=booster.feature_names)
    return booster.predict(table, pred_contribs=True)


def open_trees(folder: Path) -> Score:
    """The form of a bundle."""
    return native(read_trees(folder / file_of("xgboost")))


def graph_of(booster: Any) -> Any:
    """The ONNX graph of a booster: `numbers` in. Raises whatever the converter does."""
    try:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        from loopline.packaging.graph import OPSET
    except ImportError as e:
        raise MissingExtra("onnxmltools is not installed.", extra="xgboost") from e
    names, booster.feature_names = booster.feature_names, None  # the converter wants f0, f1, ...
    try:
        columns = [("numbers", FloatTensorType([None, booster.num_features()]))]
        return convert_xgboost(booster, initial_types=columns, target_opset=OPSET)
    finally:
        booster.feature_names = names


def _library() -> Any:
    try:
        import xgboost
    except ImportError as e:
        raise MissingExtra("XGBoost is not installed.", extra="xgboost") from e
    return xgboost
