"""scikit-learn's estimators and pipelines in skops' form: scored as they are, and as an ONNX graph.

A skops file names the types that it is made of; only those that skops knows as safe, and a few of scikit-learn's own that are
listed here, are made. https://skops.readthedocs.io/en/stable/persistence.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid, MissingExtra, Refused
from loopline.features.boundary import STRING_KINDS
from loopline.features.records import Field, Signature
from loopline.hashing import digest_bytes
from loopline.packaging.manifest import file_of
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score, Strings
from loopline.registry.formats import check_file

KNOWN = frozenset(
    {
        "numpy.dtype",
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Types that hold numbers and do nothing when they are made, though skops does not list them."""


def read_pipeline(path: Path, *, digest: str = "") -> Any:
    """The estimator of a skops file. `digest`: what its bytes must come to.

    Raises `Refused` for types that are not known, by name; `Invalid` for a damaged file; `MissingExtra`.
    """
    try:
        from skops import io as skops
    except ImportError as e:
        raise MissingExtra("skops is not installed.", extra="skops") from e
    check_file(path, path.name)
    data = path.read_bytes()
    if digest and digest_bytes(data) != digest:
        raise Refused(f"{path} was changed since the bundle was written.", code="bundle-changed")
    try:
        unknown = sorted(set(skops.get_untrusted_types(data=data)) - KNOWN)
        if unknown:
            raise Refused(
                f"{path} holds {unknown[0]!r}, which is not known as safe{f' ({len(unknown)} such types)' * (len(unknown) > 1)}.",
                code="unknown-type",
                hint="Use estimators of scikit-learn alone, or package the model as code, which is signed.",
                types=unknown,
            )
        return skops.loads(data, trusted=sorted(KNOWN))
    except Refused:
        raise
    except Exception as e:  # what a made-up file does to skops' reader can be anything
        raise Invalid(
            f"{path} cannot be read as a skops file: {type(e).__name__}: {e}.",
            code="bad-model",
            hint="Write it with skops.io.dump, by the version of scikit-learn that is here.",
        ) from e


def check_columns(estimator: Any, signature: Signature) -> None:
    """Raises `Invalid` where these columns are not those that the estimator was fitted on."""
    names = [field.name for field in signature.inputs]
    fitted = getattr(estimator, "feature_names_in_", None)
    count = getattr(estimator, "n_features_in_", len(names))
    if (fitted is not None and list(fitted) != names) or count != len(names):
        takes = f"the columns {list(fitted)[:20]}" if fitted is not None else f"{count} columns"
        raise Invalid(
            f"The estimator takes {takes}, and the rows have {names[:20]}.",
            code="other-columns",
            hint="Give rows of just the columns that it was trained on, in their order, and the label.",
        )
    if signature.task != "regression" and not hasattr(estimator, "predict_proba"):
        raise Invalid(
            f"{type(estimator).__name__} gives no probabilities, and they are what is served.",
            code="no-probabilities",
            hint="Wrap it in sklearn.calibration.CalibratedClassifierCV.",
        )


def native(estimator: Any, signature: Signature) -> Score:
    """The estimator's own scores: probabilities in the order of the signature's classes, or values."""
    fields = signature.inputs
    named = getattr(estimator, "feature_names_in_", None) is not None
    order = _order(estimator, signature)

    def score(numbers: Floats, strings: Strings) -> Any:
        table = _frame(fields, numbers, strings) if named else _matrix(fields, numbers, strings)
        if order is None:
            return estimator.predict(table)
        return estimator.predict_proba(table)[:, order]

    return score


def open_pipeline(folder: Path, manifest: Manifest) -> Score:
    """The form of a bundle."""
    name = file_of("skops")
    return native(read_pipeline(folder / name, digest=manifest.digests[name]), manifest.signature)


def graph_of(estimator: Any, signature: Signature) -> Any:
    """The ONNX graph of an estimator: one input a column, or `numbers` alone. Raises whatever the converter does."""
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        from loopline.packaging.graph import ML, ML_OPSET, OPSET
    except ImportError as e:
        raise MissingExtra("skl2onnx is not installed.", extra="skops") from e
    fields = signature.inputs
    if getattr(estimator, "feature_names_in_", None) is None:
        types = [("numbers", FloatTensorType([None, len(fields)]))]
    else:
        types = [(f.name, (StringTensorType if f.kind in STRING_KINDS else FloatTensorType)([None, 1])) for f in fields]
    options = {} if signature.task == "regression" else {"options": {id(estimator): {"zipmap": False}}}
    return convert_sklearn(estimator, initial_types=types, target_opset={"": OPSET, ML: ML_OPSET}, **options)


def _order(estimator: Any, signature: Signature) -> list[int] | None:
    if signature.task == "regression":
        return None
    import polars as pl

    from loopline.features.labels import class_texts

    found = class_texts(pl.Series(np.asarray(estimator.classes_).tolist())).to_list()
    if sorted(found) != sorted(signature.classes):
        raise Invalid(
            f"The estimator knows the classes {found[:20]}, and the rows' label has {list(signature.classes)[:20]}.",
            code="other-classes",
            hint="Give rows with every class of training.",
        )
    return [found.index(c) for c in signature.classes]


def _frame(fields: tuple[Field, ...], numbers: Floats, strings: Strings) -> Any:
    import polars as pl

    values = iter(numbers.T)
    texts = iter(strings.T)
    return pl.DataFrame(
        {
            f.name: pl.Series([text or None for text in next(texts)], dtype=pl.String)
            if f.kind in STRING_KINDS
            else next(values)
            for f in fields
        }
    )


def _matrix(fields: tuple[Field, ...], numbers: Floats, strings: Strings) -> Any:
    if not strings.shape[1]:
        return numbers
    values, texts = iter(numbers.T), iter(strings.T)
    return np.column_stack([(next(texts) if f.kind in STRING_KINDS else next(values)).astype(object) for f in fields])
