"""The Open Inference Protocol v2 over REST, with the binary tensor extension: tensors in, tensors out.

One input tensor per raw column, of shape [N] or [N, 1]. BYTES carries texts, categories and dates; any numeric type carries
numbers; BOOL, or 0 and 1, booleans. A missing value is NaN in a number and "" in a text; JSON data may also say null.
Specification: kserve/open-inference-protocol, specification/protocol/inference_rest.md; binary tensors: Triton's
extension_binary_data.md (header Inference-Header-Content-Length).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.errors import did_you_mean
from loopline.features.records import Signature
from loopline.serving.bodies import said
from loopline.serving.contract import Contract, Rows
from loopline.serving.problems import bad_input, too_large

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
        "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    }.items()
}  # fmt: skip
"""Each numeric datatype as binary tensors have it."""
EXPLANATION = "explanation"
"""The output that explains: a JSON object a row."""
SHOWN = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "category": "BYTES", "text": "BYTES", "date": "BYTES"}


class Tensor(msgspec.Struct):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """One output that the request names."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The JSON part of a request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: dict[str, Any] = {}


class Asked(msgspec.Struct):
    """How the answer shall look."""

    id: str | None
    outputs: dict[str, bool]
    """name -> as binary; empty: all outputs, `binary` says how."""
    binary: bool
    explains: bool = False
    """Whether each row is to be explained, in an output of that name."""


_decode = msgspec.json.Decoder(InferRequest).decode


def decode(contract: Contract, body: bytes, json_length: int | None, row_limit: int) -> tuple[Rows, bytes, Asked]:
    """The checked rows of a request, its columns as sent (msgpack, for the log) and how to answer. Raises `Problem`.

    `json_length` is the header Inference-Header-Content-Length: the JSON part's length, binary tensors follow it in order.
    """
    head, tail = body, b""
    if json_length is not None:
        if not 0 < json_length <= len(body):
            bad_input(
                f"Inference-Header-Content-Length is {json_length}, and the body has {len(body)} bytes.", "bad-binary"
            )
        head, tail = body[:json_length], body[json_length:]
    try:
        request = _decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        bad_input(f"The request is not an inference request: {e}.", "not-inference")
    pieces: list[bytes | None] = []
    offset = 0
    for tensor in request.inputs:
        if (size := tensor.parameters.get("binary_data_size")) is None:
            pieces.append(None)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - offset:
            bad_input(
                f"Input {tensor.name!r}: binary_data_size is {said(size)}, and {len(tail) - offset} bytes are left.",
                "bad-binary",
                field=tensor.name,
            )
        pieces.append(tail[offset : offset + size])
        offset += size
    if offset != len(tail):
        bad_input(f"{len(tail) - offset} bytes are left after the last input.", "bad-binary")
    columns, rows = columns_of(request.inputs, pieces, row_limit)
    checked = contract.check_columns(columns, rows)
    key = request.parameters.get("route_key")
    checked.route_key = key if isinstance(key, str) else None
    return checked, msgspec.msgpack.encode(columns), _asked(request)


def columns_of(
    tensors: Sequence[Tensor], pieces: Sequence[bytes | None], row_limit: int
) -> tuple[dict[str, list[Any]], int]:
    """The values of each input, and how many rows they are; `pieces` are the binary ones. Raises `Problem`."""
    columns: dict[str, list[Any]] = {}
    rows = -1
    for tensor, piece in zip(tensors, pieces, strict=True):
        if tensor.name in columns:
            bad_input(f"The input {tensor.name!r} is given twice.", "duplicate-key", field=tensor.name)
        n = _length(tensor)
        if rows not in (-1, n):
            bad_input(
                f"Input {tensor.name!r} has {n} rows, and {tensors[0].name!r} has {rows}.", "ragged-columns",
                field=tensor.name, expected=rows, got=n,
            )  # fmt: skip
        rows = n
        if n > row_limit:
            raise too_large(
                f"The request has {n} rows, and at most {row_limit} are answered at once.",
                "too-many-rows",
                "Send them in several requests.",
                limit=row_limit,
            )
        columns[tensor.name] = _listed(tensor, n) if piece is None else _binary(tensor, piece, n)
    if rows < 1:
        bad_input("The request has 0 rows.", "no-rows", "Send at least one row.")
    return columns, rows


def _asked(request: InferRequest) -> Asked:
    binary = request.parameters.get("binary_data_output") is True
    outputs = {o.name: o.parameters.get("binary_data", binary) is True for o in request.outputs or []}
    return Asked(id=request.id, outputs=outputs, binary=binary, explains=explains(request.parameters.get("explain")))


def explains(given: Any) -> bool:
    """What the parameter `explain` says. Raises the 400 `Problem` of one that says nothing."""
    if not (given is None or isinstance(given, bool) or given in ("true", "false")):
        bad_input(f"The parameter explain is {said(given)}.", "bad-parameter", "Give true, or leave it out.")
    return given is True or given == "true"


def _length(tensor: Tensor) -> int:
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[0] < 0 or (len(shape) == 2 and shape[1] != 1):
        bad_input(
            f"Input {tensor.name!r}: expected shape [N] or [N, 1], got {shape[:8]}.",
            "wrong-shape",
            field=tensor.name,
            expected="[N] or [N, 1]",
            got=shape[:8],
        )
    return shape[0]


def _kind(tensor: Tensor) -> np.dtype[Any]:
    kind = DTYPES.get(tensor.datatype)
    if kind is None:
        bad_input(
            f"Input {tensor.name!r}: the datatype {said(tensor.datatype)} is unknown.",
            "wrong-type",
            did_you_mean(tensor.datatype, (*DTYPES, "BYTES")),
            field=tensor.name,
            got=said(tensor.datatype),
        )
    return kind


def _binary(tensor: Tensor, data: bytes, n: int) -> list[Any]:
    """The values of a binary tensor."""
    if tensor.datatype == "BYTES":
        texts: list[Any] = []
        at = 0
        try:
            while at < len(data):
                (size,) = struct.unpack_from("<I", data, at)
                at += 4
                if size > len(data) - at:
                    raise ValueError("it ends within an element")
                texts.append(data[at : at + size].decode())
                at += size
        except (struct.error, ValueError) as e:
            bad_input(f"Input {tensor.name!r}: the BYTES cannot be read: {e}.", "bad-binary", field=tensor.name)
        if len(texts) != n:
            bad_input(
                f"Input {tensor.name!r}: the shape says {n} values, and {len(texts)} are there.",
                "wrong-shape",
                field=tensor.name,
                expected=n,
                got=len(texts),
            )
        return texts
    kind = _kind(tensor)
    if len(data) != n * kind.itemsize:
        bad_input(
            f"Input {tensor.name!r}: {n} values of {tensor.datatype} are {n * kind.itemsize} bytes, got {len(data)}.",
            "bad-binary",
            field=tensor.name,
            expected=n * kind.itemsize,
            got=len(data),
        )
    values: list[Any] = np.frombuffer(data, dtype=kind).tolist()
    return [None if v != v else v for v in values] if kind.kind == "f" else values


def _listed(tensor: Tensor, n: int) -> list[Any]:
    """The values of a tensor given as JSON, flat or nested."""
    if tensor.data is None:
        bad_input(f"Input {tensor.name!r} has neither data nor binary_data_size.", "no-data", field=tensor.name)
    if tensor.datatype != "BYTES":
        _kind(tensor)
    values = tensor.data
    if len(tensor.shape) == 2 and values and all(isinstance(v, list) and len(v) == 1 for v in values):
        values = [v[0] for v in values]
    if len(values) != n or any(isinstance(v, list | dict) for v in values):
        bad_input(
            f"Input {tensor.name!r}: the shape says {n} values, and the data is not that.",
            "wrong-shape",
            field=tensor.name,
            expected=n,
            got=len(values),
        )
    return values


# ---------------------------------------------------------------------- answers


def outputs_of(task: str) -> tuple[str, ...]:
    """The names of a model's outputs."""
    return ("value",) if task == "regression" else ("probabilities", "label")


def encode(
    asked: Asked,
    model: str,
    version: str,
    signature: Signature,
    values: npt.NDArray[np.float32],
    labels: list[str],
    parameters: dict[str, Any],
    explanations: list[Any] | None = None,
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON part where binary tensors follow. Raises `Problem`."""
    names = outputs_of(signature.task)
    for name in asked.outputs:
        if name not in names:
            bad_input(f"There is no output {name!r}.", "no-output", did_you_mean(name, names), got=name)
    outputs, tails = [], []
    texts = {"label": labels}
    if explanations is not None:
        texts[EXPLANATION] = [msgspec.json.encode(one).decode() for one in explanations]
    for name in (*(asked.outputs or names), *(() if explanations is None else (EXPLANATION,))):
        binary = asked.outputs.get(name, asked.binary)
        if (given := texts.get(name)) is not None:
            described: dict[str, Any] = {"name": name, "datatype": "BYTES", "shape": [len(given)]}
            if binary:
                raw = packed_texts([text.encode() for text in given])
            else:
                described["data"] = given
        else:
            described = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
            if binary:
                raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
            else:
                described["data"] = values.ravel().tolist()
        if binary:
            described["parameters"] = {"binary_data_size": len(raw)}
            tails.append(raw)
        outputs.append(described)
    answer = {"model_name": model, "model_version": version, "parameters": parameters, "outputs": outputs}
    if asked.id is not None:
        answer["id"] = asked.id
    head = msgspec.json.encode(answer)
    return (head + b"".join(tails), len(head)) if tails else (head, None)


def packed_texts(texts: list[bytes]) -> bytes:
    """The binary form of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def metadata(name: str, versions: list[str], contract: Contract, signature: Signature) -> dict[str, Any]:
    """The answer to GET /v2/models/NAME."""
    out = [
        {"name": n, "datatype": "BYTES" if n == "label" else "FP32", "shape": [-1]} for n in outputs_of(signature.task)
    ]
    if signature.task != "regression":
        out[0]["shape"] = [-1, len(signature.classes)]
    else:
        out[0]["shape"] = [-1, 1]
    return {
        "name": name,
        "versions": versions,
        "platform": "loopline",
        "inputs": [{"name": f.name, "datatype": SHOWN[f.kind], "shape": [-1, 1]} for f in contract.fields],
        "outputs": out,
    }


def config(name: str, contract: Contract, signature: Signature) -> dict[str, Any]:
    """The answer to GET /v2/models/NAME/config (Triton's model configuration), with the shapes that the metadata have."""
    told = metadata(name, [], contract, signature)

    def tensors(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kinds = {"BYTES": "STRING"}
        return [
            {
                "name": one["name"],
                "data_type": f"TYPE_{kinds.get(one['datatype'], one['datatype'])}",
                "dims": one["shape"],
            }
            for one in given
        ]

    return {
        "name": name,
        "platform": told["platform"],
        "backend": told["platform"],
        "max_batch_size": 0,  # rows are a dimension of each tensor
        "input": tensors(told["inputs"]),
        "output": tensors(told["outputs"]),
    }
