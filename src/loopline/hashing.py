"""What "identical" means: digests of bytes, of JSON values and of tables.

A digest is printed `algorithm:hex`. Content is hashed by BLAKE3; ledger entries and Merkle nodes by SHA-256 (RFC 6962), so
that an outsider can verify them with nothing but a standard library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK = 1 << 20


class Inexact(Invalid, ValueError):
    """A whole number that not every reader of JSON has as it was written."""


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value (RFC 8785): sorted keys, shortest numbers, no white space, UTF-8.

    Raises ValueError on NaN and infinities, and `Inexact` on integers beyond 2**53, which JSON cannot carry faithfully.
    """
    try:
        text = msgspec.json.encode(value, order="sorted")
        _floatless.decode(text)
    except (TypeError, ValueError):  # a key that is no text, a value that has no form, a float
        text = b"null"
    # That is the same where no key has a place of its own in UTF-16 and no number a form of its own: nearly always. A float that is
    # no number is null there.
    if text.isascii() and b"null" not in text and _LONG not in text.translate(_DIGITS):
        return text
    return _encode(msgspec.to_builtins(value)).encode()


def _refused(text: str) -> float:
    raise ValueError(text)


_floatless = msgspec.json.Decoder(float_hook=_refused)
_DIGITS = bytes(ord("0") if byte in b"0123456789" else 0 for byte in range(256))
_LONG = b"0" * 16  # digits of 2**53


def _encode(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, int):
        if abs(value) > 2**53:
            raise Inexact(
                f"{value} is beyond what JSON numbers carry exactly.",
                code="inexact-number",
                hint="Write it as a text, or give a smaller one.",
            )
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        # RFC 8785 orders keys by UTF-16 code units.
        keys = sorted(value, key=lambda k: str(k).encode("utf-16-be"))
        return "{" + ",".join(f"{_encode(str(k))}:{_encode(value[k])}" for k in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_encode, value)) + "]"
    raise ValueError(f"{type(value).__name__} has no JSON form")


def _number(value: float) -> str:
    """ECMAScript's Number::toString, which RFC 8785 prescribes."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = f"{value!r}".partition("e") if "e" in repr(value) else (repr(value), "", "0")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    head = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{head}e{'+' if power > 0 else '-'}{abs(power)}"


def digest_json(value: Any) -> str:
    """The SHA-256 digest of a value's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def digest_bytes(data: bytes | memoryview) -> str:
    """The BLAKE3 digest of some bytes."""
    from blake3 import blake3

    return "blake3:" + blake3(data).hexdigest()


def digest_chunks(chunks: Iterable[bytes]) -> str:
    """The BLAKE3 digest of the bytes of all chunks, one after the other."""
    from blake3 import blake3

    state = blake3()
    for chunk in chunks:
        state.update(chunk)
    return "blake3:" + state.hexdigest()


def digest_file(path: Path) -> str:
    """The BLAKE3 digest of a file's bytes, read in constant memory."""
    with path.open("rb") as file:
        return digest_chunks(iter(lambda: file.read(_CHUNK), b""))


def digest_table(table: pa.Table) -> str:
    """The BLAKE3 digest of a table: its schema (names and types) and its ordered values.

    It does not depend on chunking, on offsets or on how missing values are laid out; every NaN is the same and -0.0 is 0.0.
    Metadata is not part of it.
    """
    digest = TableDigest(table.schema)
    digest.add(table)
    return digest.digest()


class TableDigest:
    """The same digest of a table whose rows come in pieces, one behind the other."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = canonical_json([[f.name, _type_name(f.type)] for f in schema])
        self._columns = [_Column() for _ in schema]
        self._rows = 0

    def add(self, piece: pa.Table) -> None:
        """Takes the next rows in, of the same columns."""
        for column, values in zip(self._columns, piece.columns, strict=True):
            start = self._rows
            for array in values.chunks:
                column.add(array, start)
                start += len(array)
        self._rows += piece.num_rows

    def digest(self) -> str:
        """The digest of all rows so far."""
        from blake3 import blake3

        state = blake3(self._schema)
        state.update(self._rows.to_bytes(8, "little"))
        for column in self._columns:
            state.update(column.digest())
        return "blake3:" + state.hexdigest()


class _Column:
    """What stands for the values of a column in a digest: which rows lack one, the values or lengths, the characters of texts."""

    def __init__(self) -> None:
        from blake3 import blake3

        self._states = blake3(), blake3(), blake3()

    def add(self, array: pa.Array, start: int) -> None:
        """Takes the values of the rows from `start` on."""
        import numpy as np
        import pyarrow as pa

        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        lacking, values, characters = self._states
        if array.null_count:
            there = array.is_valid().to_numpy(zero_copy_only=False)
            lacking.update((np.flatnonzero(~there) + start).astype("<i8").tobytes())
        if _is_text(array.type):
            lengths, joined = _texts(array)
            values.update(lengths)
            characters.update(joined)
        else:
            values.update(_values(array))

    def digest(self) -> bytes:
        """Of all values so far."""
        return b"".join(state.digest() for state in self._states)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _values(array: pa.Array) -> Any:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_floating(array.type):
        values = np.asarray(_filled(array, 0.0)).astype(np.float64, copy=False) + 0.0  # -0.0 + 0.0 is 0.0
        odd = np.isnan(values)
        if odd.any():
            values[odd] = np.nan
        return values.view(np.uint8)
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type):
        zero = pa.scalar(0).cast(array.type)
        return np.ascontiguousarray(np.asarray(_filled(array, zero)).astype("<i8", copy=False)).view(np.uint8)
    if pa.types.is_temporal(array.type) and not pa.types.is_interval(array.type):
        width = pa.int32() if array.type.bit_width == 32 else pa.int64()
        return np.ascontiguousarray(np.asarray(_filled(array.view(width), 0)).astype("<i8", copy=False)).view(np.uint8)
    # Nested and rare types: by their printed values, slow but the same everywhere.
    return b"".join(repr(value).encode() + b"\0" for value in array.to_pylist())


def _filled(array: pa.Array, value: Any) -> pa.Array:
    import pyarrow.compute as pc

    return pc.fill_null(array, value) if array.null_count else array


def _texts(array: pa.Array) -> tuple[Any, Any]:
    """The length of each text in bytes, and their characters, one text after the other."""
    import numpy as np
    import pyarrow as pa

    text = _filled(array.cast(pa.large_string()), "")
    if not len(text):
        return b"", b""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    joined = memoryview(data)[int(bounds[0]) : int(bounds[-1])] if data is not None else b""
    return np.diff(bounds).astype("<i8", copy=False).view(np.uint8), joined


def _type_name(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return str(kind)
