"""Attack 18: headers of safetensors files that lie; and whatever else may stand in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.registry.formats import check_file
from loopline.registry.safetensors import tensors

DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "BOOL": np.bool_, "F16": np.float16}
GOOD = {"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "bias": {"dtype": "F32", "shape": [3], "data_offsets": [24, 36]}}  # fmt: skip


def written(header: Any, data: bytes = bytes(36), *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def changed(**of: Any) -> bytes:
    return written({**GOOD, "bias": {**GOOD["bias"], **of}})


LIES: dict[str, bytes] = {
    "a huge length": written(GOOD, length=1 << 62),
    "a length over the file": written(GOOD, length=10_000),
    "a length that is short": written(GOOD, length=5),
    "a length of nothing": written(GOOD, length=0),
    "tensors that overlap": changed(data_offsets=[12, 24]),
    "tensors in one place": changed(data_offsets=[0, 12]),
    "a gap": written({**GOOD, "bias": {**GOOD["bias"], "data_offsets": [28, 40]}}, bytes(40)),
    "bytes that nothing names": written(GOOD, bytes(40)),
    "an end over the file": changed(data_offsets=[24, 1 << 40]),
    "an end before its beginning": changed(data_offsets=[36, 24]),
    "a beginning before the data": changed(data_offsets=[-12, 0]),
    "a shape of other bytes": changed(shape=[4]),
    "a shape that overflows": changed(shape=[1 << 40, 1 << 40]),
    "a negative shape": changed(shape=[-3]),
    "a shape of fractions": changed(shape=[3.0]),
    "a shape of truth": changed(shape=[True, 3]),
    "a dtype of nobody": changed(dtype="OBJECT"),
    "a dtype of no text": changed(dtype=["F32"]),
    "more than is described": changed(pickle="yes"),
    "a name twice": written(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"xx"),
    "a key twice": written(b'{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}', b"xx"),
    "metadata that are no texts": written({**GOOD, "__metadata__": {"run": {"code": 1}}}),
    "a list": written([GOOD]),
    "no JSON": written(b"{" + b"[" * 200_000),
    "no text": written(b'{"\xff\xfe'),
    "numbers without end": written(b'{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}}' % (b"9" * 6000), b"x"),
    "NaN": written(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x"),
    "cut in the header": written(GOOD)[:40],
    "cut in the data": written(GOOD)[:-1],
    "eight bytes": struct.pack("<Q", 2),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(LIES[lie])
    with pytest.raises(Invalid, match="it is not safetensors") as told:
        check_file(tmp_path / "model.safetensors", "model.safetensors")
    assert told.value.code == "unsafe-form"


def test_what_is_good_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    empty = {"dtype": "F32", "shape": [0, 5], "data_offsets": [36, 36]}
    for header in (GOOD, {**GOOD, "__metadata__": {"format": "pt"}}, {**GOOD, "empty": empty}):
        # Padded, so that the length begins as a pickle does: bytes 0x80 and 0x02.
        text = json.dumps(header).encode()
        path.write_bytes(written(text + b" " * (0x280 - len(text))))
        check_file(path, path.name)
    found = tensors(path.read_bytes(), path.stat().st_size)
    assert found["weight"].shape == (2, 3)
    assert found["bias"].end == path.stat().st_size
    assert found["empty"].begin == found["empty"].end


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_every_tensor_comes_back(of: dict[str, tuple[str, list[int]]]) -> None:
    header, data = {}, b""
    rng = np.random.default_rng(1)
    values = {}
    for name, (dtype, shape) in of.items():
        values[name] = rng.integers(0, 2, shape).astype(DTYPES[dtype])
        raw = values[name].tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    file = written(header, data)
    found = tensors(file, len(file))
    assert found.keys() == of.keys()
    for name, one in found.items():
        back = np.frombuffer(file[one.begin : one.end], DTYPES[one.dtype]).reshape(one.shape)
        np.testing.assert_array_equal(back, values[name])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_raise_a_stranger(tail: bytes, at: int, byte: int) -> None:
    """Any bytes, and a good file with one byte changed: it is read, or a ValueError says why not."""
    good = bytearray(written(GOOD))
    good[at % len(good)] = byte
    for data in (bytes(good), struct.pack("<Q", len(tail)) + tail, tail):
        try:
            found = tensors(data, len(data))
        except ValueError:
            continue
        assert all(0 < one.begin <= one.end <= len(data) for one in found.values())
