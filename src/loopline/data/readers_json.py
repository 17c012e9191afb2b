"""NDJSON (one object a line) and JSON (one array of objects), with the line of what cannot be read."""

from __future__ import annotations

import contextlib
import io
import mmap
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

import msgspec
import polars as pl

from loopline.data.nested import spread
from loopline.data.readers_again import PLACEHOLDERS, holds_numbers, said_missing, said_text
from loopline.data.readers_types import check_names, typed
from loopline.errors import Invalid
from loopline.ports.messages import key_twice
from loopline.quality.blocks import Blocks

_BOM = b"\xef\xbb\xbf"
_DEEPEST = 100
_BRACKET = re.compile(rb"[\[\]{}]")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')


def read_json(
    content: bytes | mmap.mmap, called: str, missing: Sequence[str], as_text: Collection[str] = ()
) -> tuple[Blocks, str, tuple[str, ...]]:
    """The rows, form ("ndjson" or "json") and warnings of a JSON text in UTF-8.

    A key that a row lacks is a missing value. A column of texts and numbers becomes text; those of `as_text` are left as they
    are spelled. Raises Invalid for a line that is no JSON object or has a key twice (with its number), and where there is no row
    or a name is empty.
    """
    text = bytes(content).removeprefix(_BOM)
    form = "json" if text.lstrip()[:1] == b"[" else "ndjson"
    try:
        frame, said = _from_array(text, called, missing) if form == "json" else _from_lines(text, called, missing)
    except RecursionError as error:
        raise Invalid(
            f"{called} is nested too deeply.", code="json-broken", hint="A row is an object of plain values."
        ) from error
    if "" in (c.strip() for c in frame.columns):
        raise Invalid(f"{called} has a key that is empty.", code="table-names", hint="Give every key a name.")
    if not frame.height or not frame.width:
        raise Invalid(f"{called} holds no rows with values.", code="table-empty", hint="Look at where it was written.")
    check_names(frame.columns, called)
    rows, warnings = typed(Blocks.of(frame), missing, numbers=False, as_text=as_text)
    return rows, form, (*said, *warnings)


def _from_lines(text: bytes, called: str, missing: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    lines = text.split(b"\n")
    for number, line in enumerate(lines, 1):
        _check_once(line, f"{called}: line {number}", line=number)
    if all(line.lstrip()[:1] in (b"{", b"") for line in lines):  # polars passes over a line that is no object
        try:
            frame = pl.read_ndjson(io.BytesIO(text), infer_schema_length=None)
            if not any(holds_numbers(series) for series in frame.iter_columns() if series.dtype == pl.String):
                return frame, ()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            pass
    # Row by row: names the line, or copes with a mixture of types.
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            last = number == len(lines)
            raise Invalid(
                f"{called}: line {number} is not JSON ({error}).",
                code="json-broken",
                hint="The file was cut off in its last line: copy it again."
                if last
                else "Each line must be one object.",
                line=number,
            ) from error
        if not isinstance(row, dict):
            raise Invalid(
                f"{called}: line {number} is {_kind(row)}, not an object.",
                code="json-broken",
                hint='Each line must be an object like {"age": 41, "sex": "Female"}.',
                line=number,
            )
        rows.append(dict(spread(row)))
    return _from_rows(rows, missing)


def _from_array(text: bytes, called: str, missing: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
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
    return _from_rows([dict(spread(row)) for row in rows], missing)


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


def _depth(row: bytes) -> int:
    """How deep its brackets are nested."""
    steps = (1 if bracket in b"[{" else -1 for bracket in _BRACKET.findall(_TEXT.sub(b"", row)))
    return max(accumulate(steps), default=0)


def _from_rows(rows: list[dict[str, Any]], missing: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    names = dict.fromkeys(key for row in rows for key in row)
    made = [column(name, [row.get(name) for row in rows], missing) for name in names]
    return pl.DataFrame([series for series, _ in made]), tuple(warning for _, warning in made if warning)


def column(name: str, values: list[Any], missing: Sequence[str]) -> tuple[pl.Series, str]:
    """A column of parsed values: integers and floats mix to floats, other mixtures to text; lists stay lists.

    Beside numbers, texts that mean a missing value are missing. With it comes what was done so, or why the column stays text.
    """
    warning = ""
    if {type(v) for v in values} & {int, float} and any(isinstance(v, str) for v in values):
        values, warning = _mixed(name, values, missing)
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        return pl.Series(name, values, dtype=pl.Int64), warning
    if kinds <= {int, float} and float in kinds:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64), warning
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean), warning
    if kinds == {list}:
        items = [v if v is None else [msgspec.json.encode(i).decode() for i in v] for v in values]
        return pl.Series(name, items, dtype=pl.List(pl.String)), warning
    texts = [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
    return pl.Series(name, texts, dtype=pl.String), warning


def _mixed(name: str, values: list[Any], missing: Sequence[str]) -> tuple[list[Any], str]:
    """Values of numbers and texts with those texts missing that mean it; what was done, or why the column stays text."""
    given = sum(v is not None for v in values)
    texts = [n for n, v in enumerate(values) if isinstance(v, str) and v not in missing]
    odd = [n for n in texts if values[n].strip().lower() not in PLACEHOLDERS]
    numbers = sum(type(v) in (int, float) for v in values)
    if odd or 2 * numbers < given:
        stays = texts and len(texts) * 20 <= given
        return values, said_text(name, "number", len(texts), given, texts[0] + 1) if stays else ""
    return [None if isinstance(v, str) else v for v in values], said_missing(
        name, Counter(values[n].strip().lower() for n in texts)
    ) if texts else ""


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
