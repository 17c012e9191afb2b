"""NDJSON (one object a line) and JSON (one array of objects), with the line of what cannot be read.

It is read a block of lines at a time, in the types that are seen over all of them. An array is first put into lines, on the disk.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from loopline.data.nested import spread
from loopline.data.readers_again import holds_numbers
from loopline.data.readers_array import lines_of
from loopline.data.readers_encoding import blocks
from loopline.data.readers_packed import Content, aside
from loopline.data.readers_spelled import NUMBER
from loopline.data.readers_types import check_names, typed
from loopline.data.readers_values import Values
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


class _Text(NamedTuple):
    """Rows, one a line from `start` on, and what messages call the whole and one of them."""

    lines: Content
    start: int
    called: str
    array: bool

    def row(self, number: int) -> str:
        """What a row is called, by its number from 1."""
        return f"{self.called}: item {number} of the array" if self.array else f"{self.called}: line {number}"

    def details(self, number: int) -> dict[str, int]:
        """What an error tells beside its message."""
        return {} if self.array else {"line": number}


def read_json(
    content: Content, called: str, missing: Sequence[str], as_text: Collection[str] = (), scratch: Path | None = None
) -> tuple[Blocks, str, tuple[str, ...]]:
    """The rows, form ("ndjson" or "json") and warnings of a JSON text in UTF-8.

    Lines that an array is put into, and what has to be put into one type, are in `scratch`.

    A key that a row lacks is a missing value. A column of texts and numbers becomes text; those of `as_text` are left as they
    are spelled. Raises Invalid for a line that is no JSON object or has a key twice (with its number), and where there is no row
    or a name is empty.
    """
    start = len(_BOM) if content[: len(_BOM)] == _BOM else 0
    first = _FIRST.search(content, start)
    array = first is not None and first[0] == b"["

    def made(rows: Blocks) -> tuple[Blocks, tuple[str, ...]]:
        if "" in (c.strip() for c in rows.columns):
            raise Invalid(f"{called} has a key that is empty.", code="table-names", hint="Give every key a name.")
        check_names(rows.columns, called)
        return typed(rows, missing, numbers=False, as_text=as_text)

    found, said = None, tuple[str, ...]()
    try:
        text = _Text(content, start, called, array)
        if array:
            text = _Text(aside(lines_of(content, start, called), scratch), 0, called, array)
        if (seen := _seen(text)) is not None:
            with contextlib.suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):
                found = made(seen)
        if found is None:
            rows, said = _one_by_one(text, missing, scratch)
            found = made(rows)
    except RecursionError as error:
        raise Invalid(
            f"{called} is nested too deeply.", code="json-broken", hint="A row is an object of plain values."
        ) from error
    rows, warnings = found
    if not rows.height or not rows.columns:
        raise Invalid(f"{called} holds no rows with values.", code="table-empty", hint="Look at where it was written.")
    return rows, "json" if array else "ndjson", (*said, *warnings)


def _seen(text: _Text) -> Blocks | None:
    """The rows of lines as polars reads them; each line is looked at.

    None where it does not: it passes over a line that is no object, and takes numbers among texts for texts.
    """
    schema: dict[str, pl.DataType] | None = {}
    spelled = dict[str, tuple[int, int]]()
    number = 1
    for _, block in blocks(text.lines, text.start):
        lines = block.split(b"\n")
        if not _plainly_once(block, lines):
            for line_number, line in enumerate(lines, number):
                _check_once(line, text, line_number)
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
        for _, block in blocks(text.lines, text.start):
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


def _one_by_one(text: _Text, missing: Sequence[str], scratch: Path | None) -> tuple[Blocks, tuple[str, ...]]:
    """Row by row: names the line, or copes with a mixture of types; what comes of it lies on the disk."""
    columns: dict[str, Values] = {}
    height = 0
    for rows in _rows(text):
        for name in dict.fromkeys(key for row in rows for key in row):
            columns.setdefault(name, Values(name, missing)).take([row.get(name) for row in rows], height)
        height += len(rows)

    def frames() -> Iterator[pl.DataFrame]:
        for rows in _rows(text):
            yield pl.DataFrame([one.read([row.get(name) for row in rows]) for name, one in columns.items()])

    if not height or not columns:
        return Blocks.of(pl.DataFrame()), ()
    schema = pl.Schema({name: one.kind for name, one in columns.items()})
    return spooled(frames(), schema, scratch), tuple(said for one in columns.values() if (said := one.warning()))


def _rows(text: _Text) -> Iterator[list[dict[str, Any]]]:
    """The rows of each block of lines."""
    number = 1
    for offset, block in blocks(text.lines, text.start):
        lines = block.split(b"\n")
        rows = []
        for line_number, line in enumerate(lines, number):
            if line.strip():
                last = line_number == number + len(lines) - 1 and offset + len(block) == len(text.lines)
                rows.append(_row(line, text, line_number, last=last))
        yield rows
        number += len(lines) - 1


def _row(line: bytes, text: _Text, number: int, *, last: bool) -> dict[str, Any]:
    each = "item" if text.array else "line"
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        cut_off = "The file was cut off in its last line: copy it again."
        raise Invalid(
            f"{text.row(number)} is not JSON ({error}).",
            code="json-broken",
            hint=cut_off if last and not text.array else f"Each {each} must be one object.",
            **text.details(number),
        ) from error
    if not isinstance(row, dict):
        raise Invalid(
            f"{text.row(number)} is {_kind(row)}, not an object.",
            code="json-broken",
            hint=f'Each {each} must be an object like {{"age": 41, "sex": "Female"}}.',
            **text.details(number),
        )
    return dict(spread(row))


def _check_once(row: bytes, text: _Text, number: int) -> None:
    """Raises Invalid where an object has a key twice: which value holds is anybody's guess. What is no JSON is left to others.

    And where it is nested deeper than libraries stand, which end the process there.
    """
    if row.count(b"{") + row.count(b"[") > _DEEPEST and _depth(row) > _DEEPEST:
        raise Invalid(
            f"{text.row(number)} is nested more than {_DEEPEST} deep.",
            code="json-broken",
            hint="A row is an object of plain values.",
            **text.details(number),
        )
    try:
        keys = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return
    with contextlib.suppress(RecursionError):
        if (name := key_twice(row, keys)) is not None:
            raise Invalid(
                f"{text.row(number)} has the key {name!r} twice in one object.",
                code="duplicate-key",
                hint="Give each key once.",
                field=name,
                **text.details(number),
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
