"""What must be known of an ONNX file before it is opened: found by walking its protobuf fields, without the onnx package.

A tensor with external data names a file that a runtime would open; a bundle never has one (onnx.proto, TensorProto.data_location).
A node `Loop` may go on for as long as a value says, without an end: it is not run where nothing could end it.
"""

from __future__ import annotations

from collections.abc import Callable

from loopline.errors import Invalid

# message -> field number -> message inside; TensorProto is looked at itself
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_OP_TYPE = 4
_DEEPEST = 64


Found = Callable[[str, int, int | memoryview], bool]
"""Whether a field, by its message, number and value (or bytes), is what is looked for."""


def points_outside(data: bytes) -> bool:
    """Whether any tensor of the model has external data. Raises `Invalid` where the bytes are no protobuf message."""

    def found(message: str, number: int, value: int | memoryview) -> bool:
        if isinstance(value, int):
            return message == "tensor" and number == _DATA_LOCATION and bool(value)
        return message == "tensor" and number == _EXTERNAL_DATA

    return _any(data, found)


def may_not_end(data: bytes) -> bool:
    """Whether the model has a `Loop`, in whichever of its graphs. Raises `Invalid` where the bytes are no protobuf message."""

    def found(message: str, number: int, value: int | memoryview) -> bool:
        return message == "node" and number == _OP_TYPE and not isinstance(value, int) and value.tobytes() == b"Loop"

    return _any(data, found)


def _any(data: bytes, found: Found) -> bool:
    try:
        return _walk(memoryview(data), "model", 0, found)
    except (IndexError, ValueError) as error:
        raise Invalid("The ONNX file is damaged.", code="bad-onnx") from error


def _walk(data: memoryview, message: str, depth: int, found: Found) -> bool:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inside = _INSIDE.get(message, {})
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            if found(message, number, value):
                return True
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("cut off")
            part = data[at : at + size]
            if found(message, number, part) or (number in inside and _walk(part, inside[number], depth + 1, found)):
                return True
            at += size
        else:
            raise ValueError("unknown wire type")
    if at != end:
        raise ValueError("cut off")
    return False


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
