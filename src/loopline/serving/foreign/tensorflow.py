"""TensorFlow Serving's REST calls, of which the first version of KServe's are a part.

POST /v1/models/NAME:predict takes `instances`, a list of rows, or `inputs`, an object of columns; :classify and :regress take
`examples`, a list of rows, with what they share in `context`; KServe's :explain takes what :predict does. A text may come as
{"b64": ...}. A row is an object of column -> value, or a list of values in the order of the signature.
Specification: tensorflow.org/tfx/serving/api_rest.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

import msgspec

from loopline.errors import Invalid, NotFound
from loopline.features.records import Signature
from loopline.serving.bodies import read, said
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Contract, Rows
from loopline.serving.foreign import rows
from loopline.serving.live import LiveEndpoint, LiveVariant
from loopline.serving.oip import outputs_of
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

Verb = Literal["predict", "classify", "regress"]
SIGNATURE = "serving_default"
_HINTS = {
    "predict": 'Send {"instances": [{"column": value, ...}, ...]} or {"inputs": {"column": [value, ...], ...}}.',
    "classify": 'Send {"examples": [{"column": value, ...}, ...]}.',
    "regress": 'Send {"examples": [{"column": value, ...}, ...]}.',
}
_TYPES = {
    "number": "DT_DOUBLE", "integer": "DT_INT64", "boolean": "DT_BOOL",
    "category": "DT_STRING", "text": "DT_STRING", "date": "DT_STRING",
}  # fmt: skip


class Prediction:
    """One request's codec."""

    def __init__(self, verb: Verb) -> None:
        self._verb = verb
        self._columnar = False

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of a body. Raises `Problem`."""
        task, hint = endpoint.variants[0].task, _HINTS[self._verb]
        if self._verb != "predict" and (task == "regression") != (self._verb == "regress"):
            bad_input(
                f"{self._verb} is not what this model does: its task is {task}.",
                "wrong-verb",
                f"Use :predict or :{'regress' if task == 'regression' else 'classify'}.",
            )
        value = read(call.body, hint)
        if not isinstance(value, dict):
            bad_input("The body is not an object.", "not-rows", hint, got=said(value))
        signature = value.get("signature_name")
        if signature not in (None, "", SIGNATURE):
            raise no_signature(signature)
        return rows.check(endpoint.contract, self._rows(value, endpoint, hint), row_limit)

    def _rows(self, value: dict[str, Any], endpoint: LiveEndpoint, hint: str) -> list[Any]:
        names = [f.name for f in endpoint.variants[0].signature.inputs]
        wanted = ("instances", "inputs") if self._verb == "predict" else ("examples",)
        given = [key for key in wanted if key in value]
        if len(given) != 1:
            bad_input(f"Exactly one of {' and '.join(map(repr, wanted))} must be given.", "not-rows", hint)
        data = _texts(value[given[0]])
        self._columnar = given == ["inputs"]
        if self._columnar and isinstance(data, dict):
            return rows.by_column(data, "inputs")
        if not isinstance(data, list):
            bad_input(f"{given[0]!r} is not a list.", "not-rows", hint, expected="a list", got=said(data))
        if self._verb != "predict":
            context = value.get("context", {})
            if not isinstance(context, dict):
                bad_input("'context' is not an object.", "not-rows", hint, got=said(context))
            return [{**_texts(context), **row} if isinstance(row, dict) else row for row in data]
        return data if any(isinstance(row, dict) for row in data) else rows.by_position(data, names)

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """The answer in the form that was asked for."""
        outcome = Outcome(call)
        first = outcome.first
        answer: dict[str, Any]
        if self._verb == "classify":
            answer = {"results": [[[c, p] for c, p in zip(first.labels, row, strict=True)] for row in outcome.values]}
        elif self._verb == "regress":
            answer = {"results": outcome.predictions()}
        elif first.task == "regression":
            answer = {"outputs" if self._columnar else "predictions": outcome.predictions()}
        elif self._columnar:
            answer = {"outputs": {"probabilities": outcome.values, "label": outcome.labels}}
        else:
            pairs = zip(outcome.values, outcome.labels, strict=True)
            answer = {"predictions": [{"probabilities": values, "label": label} for values, label in pairs]}
        return msgspec.json.encode(answer | {"loopline": outcome.about()}), ()

    def explain(self, call: Call, found: list[Any] | None, problem: Problem | None) -> tuple[bytes, Headers]:
        """KServe's answer to :explain. Raises the `Problem` that there is with it."""
        if problem is not None:
            raise problem
        return msgspec.json.encode({"explanations": found}), ()

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """TensorFlow Serving's shape of an error: its text."""
        return problem.body(False), problem.headers


def _texts(value: Any) -> Any:
    """A JSON value whose {"b64": ...} are the texts that they stand for."""
    if isinstance(value, list):
        return [_texts(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"b64"}:
        return {k: _texts(v) for k, v in value.items()}
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (binascii.Error, ValueError, TypeError) as e:
        bad_input(f"{said(value)} is no UTF-8 text in base64: {e}.", "bad-base64", 'Send {"b64": "..."}, or the text.')


def no_signature(name: Any) -> Problem:
    """The 400 of a signature's name that there is not."""
    return Problem(
        400,
        Invalid(
            f'Serving signature name: "{str(name)[:100]}" not found in signature def.',
            code="no-signature",
            hint=f"There is one: {SIGNATURE}.",
        ),
    )


def variant_of(endpoint: LiveEndpoint, kind: str, name: str) -> LiveVariant:
    """The variant of a version (`versions`), or of a label (`labels`), which is a variant's name. Raises the 404."""
    for variant in endpoint.variants:
        if name == (variant.version if kind == "versions" else variant.name):
            return variant
    known = endpoint.versions() if kind == "versions" else [v.name for v in endpoint.variants]
    raise Problem(
        404,
        NotFound(
            f"Endpoint {endpoint.name!r} has no {kind[:-1]} {name!r}.",
            code="no-version",
            hint=f"There are: {', '.join(known)}.",
        ),
    )


def status(endpoint: LiveEndpoint, only: LiveVariant | None) -> dict[str, Any]:
    """The answer to GET /v1/models/NAME; `ready` is KServe's."""
    versions = endpoint.versions() if only is None else [only.version]
    good = {"error_code": "OK", "error_message": ""}
    return {
        "name": endpoint.name,
        "ready": True,
        "model_version_status": [{"version": v, "state": "AVAILABLE", "status": good} for v in versions],
    }


def metadata(endpoint: LiveEndpoint, only: LiveVariant | None) -> dict[str, Any]:
    """The answer to GET /v1/models/NAME/metadata."""
    variant = only or endpoint.variants[0]
    return {
        "model_spec": {"name": endpoint.name, "signature_name": "", "version": variant.version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: _signature(endpoint.contract, variant.signature)}}},
    }


def _signature(contract: Contract, signature: Signature) -> dict[str, Any]:
    width = {"probabilities": [len(signature.classes)], "label": [], "value": []}
    return {
        "inputs": {f.name: _tensor(f.name, _TYPES[f.kind], []) for f in contract.fields},
        "outputs": {
            name: _tensor(name, "DT_STRING" if name == "label" else "DT_FLOAT", width[name])
            for name in outputs_of(signature.task)
        },
        "method_name": "tensorflow/serving/predict",
    }


def _tensor(name: str, dtype: str, width: list[int]) -> dict[str, Any]:
    dim = [{"size": str(size), "name": ""} for size in (-1, *width)]
    return {"dtype": dtype, "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": f"{name}:0"}
