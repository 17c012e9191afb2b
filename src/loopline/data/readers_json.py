"""NDJSON (one object a line) and JSON (one array of objects), with the line of what cannot be read.

NDJSON is read a block of lines at a time, in the types that are seen over all of them; an array, which ends where its last bracket
is, whole.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.data.nested import spread
from loopline.data.readers_again import holds_numbers
from loopline.data.readers_encoding import blocks
from loopline.data.readers_packed import Content
from loopline.data.readers_spelled import NUMBER
from loopline.data.readers_types import check_names, typed
from loopline.data.readers_values import Values, column
from loopline.data.spooled import spooled
from loopline.errors import Invalid
from loopline.ports.messages import key_twice, keys_once
from loopline.quality.blocks import Blocks

_BOM = b"\xef\xbb\xbf"
_FIRST = re.compile(rb"\S")
_DEEPEST = 100
_LINES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BRACKET = re.compile(rb"[\[\]{}]")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')


def read_json(
    content: Content, called: str, missing: Sequence[str], as_text: Collection[str] = (), scratch: Path | None = None
) -> tuple[Blocks, str, tuple[str, ...]]:
    """The rows, form ("ndjson" or "json") and warnings of a JSON text in UTF-8; what has to be put into one type is in `scratch`.

    A key that a row lacks is a missing value. A column of texts and numbers becomes text; those of `as_text` are left as they
    are spelled. Raises Invalid for a line that is no JSON object or has a key twice (with its number), and where there is no row
    or a name is empty.
    """
    start = len(_BOM) if content[: len(_BOM)] == _BOM else 0
    first = _FIRST.search(content, start)
    form = "json" if first is not None and first[0] == b"[" else "ndjson"

    def made(rows: Blocks) -> tuple[Blocks, tuple[str, ...]]:
        if "" in (c.strip() for c in rows.columns):
            raise Invalid(f"{called} has a key that is empty.", code="table-names", hint="Give every key a name.")
        check_names(rows.columns, called)
        return typed(rows, missing, numbers=False, as_text=as_text)

    found, said = None, tuple[str, ...]()
    try:
        if form == "ndjson" and (seen := _seen(content, start, called)) is not None:
            with contextlib.suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):
                found = made(seen)
        if found is None:
            rows, said = (
                _from_array(content[start:], called, missing)
                if form == "json"
                else _one_by_one(content, start, called, missing, scratch)
            )
            found = made(rows)
    except RecursionError as error:
        raise Invalid(
            f"{called} is nested too deeply.", code="json-broken", hint="A row is an object of plain values."
        ) from error
    rows, warnings = found
    if not rows.height or not rows.columns:
        raise Invalid(f"{called} holds no rows with values.", code="table-empty", hint="Look at where it was written.")
    return rows, form, (*said, *warnings)


def _seen(content: Content, start: int, called: str) -> Blocks | None:
    """The rows of lines as polars reads them; each line is looked at.

    None where it does not: it passes over a line that is no object, and takes numbers among texts for texts.
    """
    schema: dict[str, pl.DataType] | None = {}
    spelled = dict[str, tuple[int, int]]()
    number = 1
    for _, block in blocks(content, start):
        lines = block.split(b"\n")
        if not _plainly_once(block, lines):
            for line_number, line in enumerate(lines, number):
                _check_once(line, f"{called}: line {line_number}", line=line_number)
        number += len(lines) - 1
        if schema is None or not block.strip():
            continue
        if not all(line.lstrip()[:1] in (b"{", b"") for line in lines):
            schema = None
            continue
        try:
            frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            schema = None
            continue
        for series in frame.iter_columns():
            numbers, values = spelled.get(series.name, (0, 0))
            found, count = _spelled(series)
            spelled[series.name] = numbers + found, values + count
        schema = _merged(schema, dict(frame.schema))
    if schema is None or any(kind == pl.String and holds_numbers(*spelled[name]) for name, kind in schema.items()):
        return None
    kinds = schema

    def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        chosen = {name: kinds[name] for name in names}
        for _, block in blocks(content, start):
            if block.strip():
                yield pl.read_ndjson(io.BytesIO(block), schema=chosen)

    return Blocks(pl.Schema(kinds), 0, read)  # how many they are is known once they are typed


def _spelled(series: pl.Series) -> tuple[int, int]:
    """How many values of a column are numbers, or spelled as such, and how many there are."""
    count = len(series) - series.null_count()
    if series.dtype == pl.String:
        return int(series.str.contains(NUMBER).sum()), count
    return count if series.dtype.is_numeric() else 0, count


def _merged(known: dict[str, pl.DataType], found: dict[str, pl.DataType]) -> dict[str, pl.DataType] | None:
    """The columns of two blocks, in types that hold the values of both as polars reads them, or None."""
    merged = dict(known)
    for name, kind in found.items():
        both = _both(known[name], kind) if name in known else kind
        if both is None:
            return None
        merged[name] = both
    return merged


def _both(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        fields = _merged(*(dict(pl.Schema(kind.to_schema())) for kind in (one, other)))
        return None if fields is None else pl.Struct(fields)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = _both(one.inner, other.inner)  # type: ignore[arg-type]
        return None if inner is None else pl.List(inner)
    kinds = {one, other}
    for wider, narrower in ((pl.Int128(), {pl.Int64()}), (pl.Float64(), {pl.Int64(), pl.Int128()})):
        if wider in kinds and kinds <= {wider, *narrower}:
            return wider
    return pl.String() if pl.String() in kinds else None


def _one_by_one(
    content: Content, start: int, called: str, missing: Sequence[str], scratch: Path | None
) -> tuple[Blocks, tuple[str, ...]]:
    """Row by row: names the line, or copes with a mixture of types; what comes of it lies on the disk."""
    columns: dict[str, Values] = {}
    height = 0
    for rows in _rows(content, start, called):
        for name in dict.fromkeys(key for row in rows for key in row):
            columns.setdefault(name, Values(name, missing)).take([row.get(name) for row in rows], height)
        height += len(rows)

    def frames() -> Iterator[pl.DataFrame]:
        for rows in _rows(content, start, called):
            yield pl.DataFrame([one.read([row.get(name) for row in rows]) for name, one in columns.items()])

    if not height or not columns:
        return Blocks.of(pl.DataFrame()), ()
    schema = pl.Schema({name: one.kind for name, one in columns.items()})
    return spooled(frames(), schema, scratch), tuple(said for one in columns.values() if (said := one.warning()))


def _rows(content: Content, start: int, called: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of each block of lines."""
    number = 1
    for offset, block in blocks(content, start):
        lines = block.split(b"\n")
        rows = []
        for line_number, line in enumerate(lines, number):
            if line.strip():
                last = line_number == number + len(lines) - 1 and offset + len(block) == len(content)
                rows.append(_row(line, called, line_number, last=last))
        yield rows
        number += len(lines) - 1


def _row(line: bytes, called: str, number: int, *, last: bool) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise Invalid(
            f"{called}: line {number} is not JSON ({error}).",
            code="json-broken",
            hint="The file was cut off in its last line: copy it again." if last else "Each line must be one object.",
            line=number,
        ) from error
    if not isinstance(row, dict):
        raise Invalid(
            f"{called}: line {number} is {_kind(row)}, not an object.",
            code="json-broken",
            hint='Each line must be an object like {"age": 41, "sex": "Female"}.',
            line=number,
        )
    return dict(spread(row))


def _from_array(text: bytes, called: str, missing: Sequence[str]) -> tuple[Blocks, tuple[str, ...]]:
    try:
        rows = msgspec.json.decode(text)
        for number, item in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), 1):
            _check_once(bytes(item), f"{called}: item {number} of the array")
    except msgspec.DecodeError as error:
        raise Invalid(f"{called} is not JSON: {error}.", code="json-broken", hint="Was it cut off?") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise Invalid(
                f"{called}: item {number} of the array is {_kind(row)}, not an object.",
                code="json-broken",
                hint='Each item must be an object like {"age": 41, "sex": "Female"}.',
            )
    rows = [dict(spread(row)) for row in rows]
    names = dict.fromkeys(key for row in rows for key in row)
    made = [column(name, [row.get(name) for row in rows], missing) for name in names]
    return Blocks.of(pl.DataFrame([series for series, _ in made])), tuple(warning for _, warning in made if warning)


def _check_once(row: bytes, where: str, **details: int) -> None:
    """Raises Invalid where an object has a key twice: which value holds is anybody's guess. What is no JSON is left to others.

    And where it is nested deeper than libraries stand, which end the process there.
    """
    if row.count(b"{") + row.count(b"[") > _DEEPEST and _depth(row) > _DEEPEST:
        raise Invalid(
            f"{where} is nested more than {_DEEPEST} deep.",
            code="json-broken",
            hint="A row is an object of plain values.",
            **details,
        )
    try:
        keys = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return
    with contextlib.suppress(RecursionError):
        if (name := key_twice(row, keys)) is not None:
            raise Invalid(
                f"{where} has the key {name!r} twice in one object.",
                code="duplicate-key",
                hint="Give each key once.",
                field=name,
                **details,
            )


def _plainly_once(block: bytes, lines: Sequence[bytes]) -> bool:
    """Whether no line needs `_check_once`: each is an object with a key or more, none is deep and no key can stand twice."""
    if block.count(b"{") + block.count(b"[") > sum(map(bool, map(bytes.strip, lines))) + _DEEPEST:
        return False
    try:
        return keys_once(block, sum(map(len, _LINES.decode_lines(block))))
    except msgspec.DecodeError:
        return False


def _depth(row: bytes) -> int:
    """How deep its brackets are nested."""
    steps = (1 if bracket in b"[{" else -1 for bracket in _BRACKET.findall(_TEXT.sub(b"", row)))
    return max(accumulate(steps), default=0)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
