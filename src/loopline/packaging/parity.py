"""The ONNX form held against the native one, row by row; it decides which of them shall serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loopline.errors import Invalid
from loopline.features.records import Signature, Task
from loopline.packaging.export import to_onnx
from loopline.packaging.frames import arrays, scores
from loopline.packaging.records import NearThreshold, ParityReport
from loopline.packaging.runtime import open_session, run_session
from loopline.ports.runtime import Floats
from loopline.training.model import Model

if TYPE_CHECKING:
    import polars as pl

TOLERANCE = 1e-4  # of probabilities; of regression values, relative to their spread
_LISTED = 1_000


def convert(model: Model, frame: pl.DataFrame, *, tolerance: float = TOLERANCE) -> tuple[bytes | None, ParityReport]:
    """The model's ONNX bytes (None where it has no such form) and how they agree with the native form on these rows.

    The runtime is `onnx` where all numbers agree within tolerance and all labels but those of rows within tolerance of the
    threshold, which are listed; else `native`, with the reason and, of a failed conversion, the operator.
    """
    try:
        data = to_onnx(model).SerializeToString(deterministic=True)
        session = open_session(data)
    except Exception as error:  # converters and runtimes raise anything; none of it may stop a model from being served
        operator = error.details.get("operator") if isinstance(error, Invalid) else None
        return None, ParityReport(
            runtime="native",
            reason=f"The conversion failed: {error}",
            n=0,
            tolerance=tolerance,
            operator=str(operator or type(error).__name__),
        )
    return data, compare(model, session, frame, tolerance=tolerance)


def compare(model: Model, session: Any, frame: pl.DataFrame, *, tolerance: float = TOLERANCE) -> ParityReport:
    """How an ONNX session agrees with the native model on the frame's rows."""
    native = model.predict(frame)
    onnx = scores(model, run_session(session, *arrays(model, frame)))
    if not len(native):
        return ParityReport(runtime="native", reason="There are no rows to compare on.", n=0, tolerance=tolerance)
    return _report(native, onnx, model.task, model.threshold, tolerance)


def agreement(
    native: Floats, onnx: Floats, signature: Signature, threshold: float | None, *, tolerance: float = TOLERANCE
) -> ParityReport:
    """The same of two forms' outputs for the same rows, as serving has them: probabilities [n, k] or values [n, 1]."""
    if signature.task == "multiclass":
        mine, other = native.astype(np.float64), onnx.astype(np.float64)
    else:
        mine, other = native[:, -1].astype(np.float64), onnx[:, -1].astype(np.float64)
    return _report(mine, other, signature.task, threshold, tolerance)


def _report(native: Any, onnx: Any, task: Task, threshold: float | None, tolerance: float) -> ParityReport:
    unit = _spread(native) if task == "regression" else 1.0
    gap = np.abs(native - onnx)
    difference = float(gap.max()) if np.isfinite(gap).all() else float("inf")
    near, disagreeing = _labels(task, threshold, native, onnx, tolerance)
    agrees = difference <= tolerance * unit and not disagreeing
    if agrees:
        reason = (
            f"All {len(native)} rows agree within {tolerance * unit:g} (the largest difference is {difference:.2g})."
        )
    else:
        reason = f"The forms differ by up to {difference:.2g} and in {disagreeing} labels on {len(native)} rows."
    return ParityReport(
        runtime="onnx" if agrees else "native",
        reason=reason,
        n=len(native),
        tolerance=tolerance * unit,
        difference=difference if np.isfinite(difference) else None,
        disagreeing=disagreeing,
        near_threshold=near,
    )


def _spread(values: Any) -> float:
    """The range of the values, but not less than a hundredth of their size: a constant has none."""
    return max(float(np.ptp(values)), float(np.abs(values).max()) / 100) or 1.0


def _labels(
    task: Task, threshold: float | None, native: Any, onnx: Any, tolerance: float
) -> tuple[tuple[NearThreshold, ...], int]:
    """Rows near the threshold, and how many others are labelled otherwise."""
    if task == "regression":
        return (), 0
    if task == "multiclass":
        other = native.argmax(axis=1) != onnx.argmax(axis=1)
        top = np.sort(native, axis=1)
        close = top[:, -1] - top[:, -2] <= 2 * tolerance
        return (), int((other & ~close).sum())
    threshold = 0.5 if threshold is None else threshold
    other = (native >= threshold) != (onnx >= threshold)
    close = np.abs(native - threshold) <= tolerance
    rows = np.flatnonzero(close)[:_LISTED]
    near = tuple(NearThreshold(row=int(r), native=float(native[r]), onnx=float(onnx[r])) for r in rows)
    return near, int((other & ~close).sum())
