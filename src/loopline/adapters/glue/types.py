"""The types of a Hive catalog, as Arrow has them, and texts as values of them (Hive's LanguageManual, "Types")."""

from __future__ import annotations

import re

import polars as pl
import pyarrow as pa

_PLAIN = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


def arrow_type(text: str) -> pa.DataType:
    """The type that a catalog names. Raises ValueError for one that is not known."""
    kind, rest = _parsed(re.sub(r"\s", "", text.lower()))
    if rest:
        raise ValueError(f"{text!r} is no type")
    return kind


def _parsed(text: str) -> tuple[pa.DataType, str]:
    """The type at the beginning of a text, and what is left of it."""
    found = re.match(r"[a-z]+", text)
    if found is None:
        raise ValueError(f"{text!r} is no type")
    word, rest = found[0], text[found.end() :]
    if word in ("varchar", "char"):
        return pa.string(), re.sub(r"^\(\d+\)", "", rest)
    if word == "decimal":
        size = re.match(r"\((\d+)(?:,(\d+))?\)", rest)
        return (
            (pa.decimal128(int(size[1]), int(size[2] or 0)), rest[size.end() :])
            if size
            else (pa.decimal128(10, 0), rest)
        )
    if word in ("array", "map", "struct") and rest.startswith("<"):
        names, kinds, rest = [], [], "," + rest[1:]
        while rest.startswith(","):
            name = re.match(r"([^:<>,]+):", rest[1:]) if word == "struct" else None
            names.append(name[1] if name else "")
            inner, rest = _parsed(rest[1 + (name.end() if name else 0) :])
            kinds.append(inner)
        if not rest.startswith(">") or (word != "struct" and len(kinds) != {"array": 1, "map": 2}[word]):
            raise ValueError(f"{text!r} is no type")
        made = {
            "array": lambda: pa.list_(kinds[0]),
            "map": lambda: pa.map_(kinds[0], kinds[1]),
            "struct": lambda: pa.struct(list(zip(names, kinds, strict=True))),
        }[word]()
        return made, rest[1:]
    if word not in _PLAIN:
        raise ValueError(f"{word!r} is no type that is known")
    return _PLAIN[word], rest


def holds(catalog: pa.DataType, file: pa.DataType) -> bool:
    """Whether a file's column is of the catalog's type, or of one that goes into it whole."""
    if pa.types.is_dictionary(file):
        file = file.value_type
    if catalog == file or pa.types.is_null(file):
        return True
    if pa.types.is_signed_integer(file) and pa.types.is_signed_integer(catalog):
        return bool(file.bit_width <= catalog.bit_width)
    if pa.types.is_unsigned_integer(file) and pa.types.is_signed_integer(catalog):
        return bool(file.bit_width < catalog.bit_width)
    if pa.types.is_floating(file) and pa.types.is_floating(catalog):
        return bool(file.bit_width <= catalog.bit_width)
    if pa.types.is_decimal(file) and pa.types.is_decimal(catalog):
        whole = catalog.precision - catalog.scale >= file.precision - file.scale
        return bool(whole and catalog.scale >= file.scale)
    if pa.types.is_nested(file) and pa.types.is_nested(catalog) and file.num_fields == catalog.num_fields:
        fields = [(catalog.field(i), file.field(i)) for i in range(file.num_fields)]
        named = not pa.types.is_struct(catalog) or all(a.name == b.name.lower() for a, b in fields)
        return named and all(holds(a.type, b.type) for a, b in fields)
    return any(alike(file) and alike(catalog) for alike in (pa.types.is_timestamp, _is_text, _is_bytes))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def of_text(texts: pl.Series, kind: pa.DataType) -> pl.Series:
    """Texts as values of a type; missing where a text is none of it. Raises ValueError for a type that texts do not carry."""
    if pa.types.is_string(kind):
        return texts
    if pa.types.is_boolean(kind):
        return texts.str.to_lowercase().replace_strict(
            {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
        )
    if pa.types.is_integer(kind):
        return texts.cast(pl.Int64, strict=False).cast(getattr(pl, f"Int{kind.bit_width}"), strict=False)
    if pa.types.is_floating(kind):
        return texts.cast(pl.Float64, strict=False).cast(pl.Float32 if kind.bit_width == 32 else pl.Float64)
    if pa.types.is_decimal(kind):
        fits = rf"^[+-]?\d{{1,{kind.precision - kind.scale or 1}}}(\.\d{{0,{kind.scale}}})?$"
        kept = texts.to_frame("t").select(pl.when(pl.col("t").str.contains(fits)).then(pl.col("t")))["t"]
        return kept.cast(pl.Decimal(kind.precision, kind.scale), strict=False)
    if pa.types.is_date(kind):
        return texts.str.to_date("%Y-%m-%d", strict=False)
    if pa.types.is_timestamp(kind):
        return texts.str.replace("T", " ").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    raise ValueError(f"texts hold no {kind}")
