"""The header of a safetensors file, read without trust: nothing of what it claims is believed before it was reckoned.

Eight bytes with the length of a JSON header (little-endian), the header, then the tensors' bytes, each where the header says.
https://huggingface.co/docs/safetensors: the header begins with `{`; offsets are counted from its end, and tensors fill the rest of
the file without a gap or an overlap; no name is there twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

_LARGEST_HEADER = 100_000_000  # bytes, as the format itself says
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


class Tensor(NamedTuple):
    """A tensor of a file: its type by the format's own word, its shape, and where its bytes are in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_size(head: bytes, size: int) -> int:
    """Bytes of the header of a file of `size` bytes that begins with `head`. Raises ValueError."""
    if len(head) < 9 or size < 9:
        raise ValueError("it is cut off")
    length = int.from_bytes(head[:8], "little")
    if length > min(_LARGEST_HEADER, size - 8):
        raise ValueError(f"its header claims {length} bytes of a file of {size}")
    if head[8:9] != b"{":
        raise ValueError("its header does not begin as one")
    return length


def tensors(data: bytes, size: int) -> dict[str, Tensor]:
    """The tensors of a file of `size` bytes, by name; `data` holds at least its length and header. Raises ValueError."""
    length = header_size(data[:9], size)
    try:
        said = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    except (UnicodeDecodeError, RecursionError) as e:
        raise ValueError(f"its header is not JSON ({type(e).__name__})") from e
    meta = said.pop("__metadata__", {})
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise ValueError("its metadata are not texts")
    start = 8 + length
    found = {name: _tensor(name, given, start, size) for name, given in said.items()}
    at = start
    for name, one in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if one.begin != at:
            raise ValueError(f"{name!r} {'overlaps what is before it' if one.begin < at else 'leaves a gap before it'}")
        at = one.end
    if at != size:
        raise ValueError(f"its tensors end at byte {at} of {size}")
    return found


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _tensor(name: str, given: Any, start: int, size: int) -> Tensor:
    if not isinstance(given, dict) or given.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is not described by dtype, shape and data_offsets")
    bits = _BITS.get(given["dtype"]) if isinstance(given["dtype"], str) else None
    if bits is None:
        raise ValueError(f"{name!r} is of a type that is not known")
    shape, offsets = given["shape"], given["data_offsets"]
    if not _counts(shape) or len(shape) > 64 or not _counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has no shape or place")
    begin, end = start + offsets[0], start + offsets[1]
    if not start <= begin <= end <= size:
        raise ValueError(f"{name!r} lies outside of the file")
    if math.prod(shape) * bits != (end - begin) * 8:
        raise ValueError(f"{name!r} has {end - begin} bytes, which are not those of its shape")
    return Tensor(given["dtype"], tuple(shape), begin, end)


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and 0 <= one < 1 << 63 for one in values)
