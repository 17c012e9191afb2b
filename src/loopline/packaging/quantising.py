"""int8 forms of ONNX graphs: weights and what flows between them as 8-bit numbers, where the answers hold against the model's own.

Static quantisation (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html): the scales are fixed here,
from rows. Those that are reckoned anew for each batch would make a row's answer depend on what else was asked with it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Invalid
from loopline.features.records import Signature
from loopline.packaging.parity import agreement
from loopline.packaging.records import ParityReport, QuantisedReport
from loopline.packaging.runtime import open_session, run_session
from loopline.ports.runtime import Floats, Strings

_MOST = 2_000
"""Rows that the scales are taken from: more of them change little."""
_OPERATORS = ["Conv", "Gemm", "MatMul"]


def with_int8(
    data: bytes,
    parity: ParityReport,
    rows: tuple[Floats, Strings],
    own: Floats,
    signature: Signature,
    threshold: float | None,
    at_most: float,
) -> tuple[bytes, ParityReport]:
    """The bytes that shall serve, and the report: the int8 form of an ONNX graph where it differs from the model's `own` answers
    by no more than `at_most` on rows that its scales were not taken from; else the graph itself, and why.

    `at_most` is of probabilities, of regression values relative to their spread. Raises `Invalid` for fewer than two rows, and for
    a graph that has nothing to quantise, which is no matter of tolerance.
    """
    numbers, strings = rows
    if len(own) < 2:
        raise Invalid("Scales and judgement want rows of their own.", code="no-rows", hint="Give two rows or more.")
    if parity.runtime != "onnx":
        report = QuantisedReport(accepted=False, reason="The ONNX form itself does not serve.", tolerance=at_most)
        return data, msgspec.structs.replace(parity, int8=report)
    teaching, judging = slice(0, 2 * _MOST, 2), slice(1, None, 2)
    try:
        small = _quantised(data, numbers[teaching], strings[teaching])
        found = run_session(open_session(small), numbers[judging], strings[judging])
    except Invalid:
        raise
    except Exception as e:  # the quantiser raises anything; none of it may stop a model from being served
        why = f"The quantisation failed: {(str(e).strip() or type(e).__name__).splitlines()[0][:300]}"
        report = QuantisedReport(accepted=False, reason=why, tolerance=at_most)
        return data, msgspec.structs.replace(parity, int8=report)
    judged = agreement(own[judging], found, signature, threshold, tolerance=at_most)
    accepted = judged.runtime == "onnx"
    report = QuantisedReport(
        accepted=accepted,
        reason=judged.reason,
        tolerance=judged.tolerance,
        n=judged.n,
        difference=judged.difference,
        disagreeing=judged.disagreeing,
        near_threshold=len(judged.near_threshold),
        bytes=len(small),
        bytes_before=len(data),
    )
    return small if accepted else data, msgspec.structs.replace(parity, int8=report)


def _quantised(data: bytes, numbers: Floats, strings: Strings) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._parts: Iterator[dict[str, Any]] = (
                {
                    **({"numbers": numbers[at : at + 100]} if numbers.shape[1] else {}),
                    **({"strings": strings[at : at + 100]} if strings.shape[1] else {}),
                }
                for at in range(0, max(len(numbers), len(strings)), 100)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._parts, None)

    given = onnx.load_model_from_string(data)
    if not any(node.op_type in _OPERATORS for node in given.graph.node):
        raise Invalid(
            f"The model has nothing to quantise: no {', '.join(_OPERATORS[:-1])} or {_OPERATORS[-1]} is in its graph.",
            code="nothing-to-quantise",
            hint="Trees and tables gain nothing from int8; leave it out.",
        )
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises, by the root logger, to preprocess what is converted already
    try:
        with tempfile.TemporaryDirectory(prefix="loopline-int8-") as own:
            quantize_static(
                given,
                Path(own) / "model.onnx",
                Rows(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                reduce_range=True,  # 7 bits of weights: else some processors' instructions saturate, and answers differ
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            made = onnx.load(Path(own) / "model.onnx")
    finally:
        root.setLevel(level)
    result: bytes = made.SerializeToString(deterministic=True)
    return result
