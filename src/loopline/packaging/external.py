"""Whether an ONNX file points at data outside itself: found by walking its protobuf fields, without the onnx package.

A tensor with external data names a file that a runtime would open; a bundle never has one (onnx.proto, TensorProto.data_location).
"""

from __future__ import annotations

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
_DEEPEST = 64


def points_outside(data: bytes) -> bool:
    """Whether any tensor of the model has external data. Raises `Invalid` where the bytes are no protobuf message."""
    try:
        return _walk(memoryview(data), "model", 0)
    except (IndexError, ValueError) as error:
        raise Invalid("The ONNX file is damaged.", code="bad-onnx") from error


def _walk(data: memoryview, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inside = _INSIDE.get(message, {})
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            if message == "tensor" and number == _DATA_LOCATION and value:
                return True
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("cut off")
            if message == "tensor" and number == _EXTERNAL_DATA:
                return True
            if number in inside and _walk(data[at : at + size], inside[number], depth + 1):
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
