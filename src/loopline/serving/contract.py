"""An endpoint's contract with its callers: bodies and columns in, checked rows out.

Built once from the signatures of the variants, when a table is loaded. A plain body takes the short way: one decoder made for
these very columns (C code of msgspec), which accepts only what needs no thought. Whatever it does not accept takes the long
way, row by row through `loopline.features.boundary`, which either finds the row acceptable after all (`3.0` for an integer,
1 for true) or raises the 400 that names field, row, expected and got.

A checked row is a tuple with one value per field, in the contract's order: numbers, integers and booleans as they are or
None; dates as days since 1970-01-01 or None; categories and texts as str, missing as "".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from loopline.errors import Invalid, did_you_mean
from loopline.features.boundary import LARGEST, STRING_KINDS, Boundary, days
from loopline.features.records import Field
from loopline.serving.bodies import Form, flat, read, rows_of, said
from loopline.serving.passed import check_passed, unkept
from loopline.serving.problems import Problem, bad_input, too_large

Row = tuple[Any, ...]
EXPECTED = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "category": "a text",
    "text": "a text",
    "date": "an ISO date such as 2024-05-31",
}
_SHORT: dict[str, Any] = {
    "number": Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)],  # what a graph's float32 can hold
    "integer": Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)],
    "boolean": bool,
    "category": str,
    "text": str,
    "date": str,
}


class Rows(msgspec.Struct):
    """What a request holds: the checked rows, and how to find the raw ones again in the body (`form`)."""

    rows: list[Row]
    form: Form
    """`list`, `object` or `rows` (JSON as sent), or `columns` (msgpack of name -> values)."""
    route_key: str | None = None
    unknown: dict[str, int] | None = None
    """How many values of each column are levels not seen in training."""
    keys: list[str | None] | None = None
    """The values of the declared route-key column, one a row."""
    sent: bytes | None = None
    """The rows as the log shall have them, where they are not as in the body: a JSON list."""


_EPOCH = date(1970, 1, 1)
_DAYS = 700_000
"""Days about the epoch that a date has."""
_ESCAPED = re.compile(r'[\\"\x00-\x1f]')


class Contract:
    """What callers of one endpoint must send.

    `required` are the fields of the live variants; `optional` those that only shadow variants read (absent means missing).
    `passthrough` may be sent and is kept, though no model reads it.
    """

    def __init__(
        self,
        required: Iterable[Field],
        optional: Iterable[Field] = (),
        *,
        passthrough: Iterable[str] = (),
        route_key: str | None = None,
        refuse_unknown: bool = False,
        refuse_outside: bool = False,
    ) -> None:
        required = tuple(required)
        optional = tuple(msgspec.structs.replace(f, nullable=True) for f in optional)
        # Numbers first, as the two inputs of a graph want them.
        self.fields = tuple(sorted((*required, *optional), key=lambda f: f.kind in STRING_KINDS))
        self.names = tuple(f.name for f in self.fields)
        self.passthrough = tuple(n for n in passthrough if n not in self.names)
        self.route_key = route_key
        self.refuse_unknown = refuse_unknown
        self._known = frozenset((*self.names, *self.passthrough))
        self._required = frozenset(f.name for f in required)
        self._width = len(self.fields)
        self._boundary = Boundary(self.fields, np.float64)  # a model takes what it needs of it
        self._numbers = len(self._boundary.numbers)
        self._dates = [i for i, f in enumerate(self.fields) if f.kind == "date"]
        self._levels = [
            (i, f.name, frozenset(f.categories))
            for i, f in enumerate(self.fields)
            if f.kind == "category" and f.categories
        ]
        self.refuse_outside = refuse_outside
        self._ranges = [
            (i, f, f.minimum, f.maximum)
            for i, f in enumerate(self.fields)
            if refuse_outside and f.kind != "boolean" and f.minimum is not None and f.maximum is not None
        ]
        self._optional = [i for i, f in enumerate(self.fields) if f.name not in self._required]
        self._exact = not self.passthrough and not self._optional
        self._enveloped = "rows" not in self._known
        # A key that the contract converts or passes through is read from the raw row, the long way; and so is every row where
        # a column's name stands escaped in JSON.
        plain = [f.name for f in self.fields if f.kind in ("category", "text", "integer")]
        self._key_at = self.names.index(route_key) if route_key in plain else None
        self._brief = (route_key is None or self._key_at is not None) and not any(map(_ESCAPED.search, self._known))
        if self._brief:
            self._shorten()

    def _shorten(self) -> None:
        """Makes the decoders of the short way."""
        spec: list[tuple[str, Any, Any]] = []
        for i, f in enumerate(self.fields):
            kind = _SHORT[f.kind]
            if f.name not in self._required:
                spec.append(
                    (f"c{i}", kind | None | msgspec.UnsetType, msgspec.field(name=f.name, default=msgspec.UNSET))
                )
            else:
                spec.append((f"c{i}", kind | None if f.nullable else kind, msgspec.field(name=f.name)))
        for i, name in enumerate(self.passthrough, self._width):
            spec.append((f"c{i}", Any, msgspec.field(name=name, default=msgspec.UNSET)))
        row: Any = msgspec.defstruct("Row", spec, forbid_unknown_fields=True, kw_only=True, gc=False)
        rows = msgspec.defstruct(
            "Rows", [("rows", list[row]), ("route_key", str | None, None)], forbid_unknown_fields=True, kw_only=True
        )
        self._short_list: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[row]).decode
        self._short_one: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode
        self._short_rows: Callable[[bytes], Any] = msgspec.json.Decoder(rows).decode

    def requires(self, name: str) -> bool:
        """Whether each row must have this column."""
        return name in self._required

    # ------------------------------------------------------------------ JSON rows

    def decode(self, body: bytes, row_limit: int) -> Rows:
        """The rows of a JSON body: a list of objects, one object, or {"rows": [...], "route_key": ...}. Raises `Problem`."""
        if self._brief:
            try:
                form: Form = "list"
                route_key, extra = None, 0
                if body[:1] == b"[":
                    found = self._short_list(body)
                elif self._enveloped and b'"rows"' in body:
                    envelope = self._short_rows(body)
                    form, route_key, found = "rows", envelope.route_key, envelope.rows
                    extra = 1 if route_key is None else 2
                else:
                    form, found = "object", [self._short_one(body)]
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._decode_slowly(body, row_limit)
            if not found:
                bad_input("The request has 0 rows.", "no-rows", "Send at least one row.")
            if len(found) > row_limit:
                raise self._too_many(len(found), row_limit)
            tuples = [astuple(row) for row in found]
            if body.count(b":") - extra == self._colons(tuples) and (rows := self._checked(tuples)) is not None:
                rows.form, rows.route_key = form, route_key
                return rows
        return self._decode_slowly(body, row_limit)

    def _colons(self, tuples: list[Row]) -> int:
        """How many colons a body with these rows has when no key is given twice and no text has one."""
        if self._exact:
            return len(tuples) * self._width
        given = len(self._known) * len(tuples)
        for row in tuples:
            given -= row.count(msgspec.UNSET)
        return given

    def _checked(self, tuples: list[Row]) -> Rows | None:
        """The rows that the short way took, made complete; None where a value wants the long way."""
        width, numbers = self._width, self._numbers
        if self.passthrough:
            if any(unkept(value) for row in tuples for value in row[width:]):
                return None
            tuples = [row[:width] for row in tuples]
        if self._optional:
            tuples = [tuple(None if v is msgspec.UNSET else v for v in row) for row in tuples]
        if self._dates:
            for n, row in enumerate(tuples):
                values = list(row)
                for i in self._dates:
                    if (text := values[i]) is not None:
                        try:
                            values[i] = days(text)
                        except ValueError:
                            return None
                tuples[n] = tuple(values)
        if numbers < width:
            for n, row in enumerate(tuples):
                strings = row[numbers:]
                if "" in strings:  # missing: allowed or not, the long way knows
                    return None
                if None in strings:
                    tuples[n] = (*row[:numbers], *("" if v is None else v for v in strings))
        if self._ranges:
            self._check_ranges(tuples)
        keys = None
        if self._key_at is not None:
            keys = [_key(row[self._key_at]) for row in tuples]
        return Rows(tuples, "list", None, self._unknown(tuples) if self._levels else None, keys)

    def _unknown(self, rows: list[Row]) -> dict[str, int] | None:
        found: dict[str, int] | None = None
        for i, name, levels in self._levels:
            for n, row in enumerate(rows):
                value = row[i]
                if value not in levels and value != "":
                    if self.refuse_unknown:
                        bad_input(
                            f"Column {name!r}, row {n}: {value!r} is no category seen in training.",
                            "unknown-category",
                            did_you_mean(value, levels),
                            field=name,
                            row=n,
                            got=said(value),
                        )
                    found = found or {}
                    found[name] = found.get(name, 0) + 1
        return found

    def _check_ranges(self, rows: list[Row]) -> None:
        """Raises the 400 of the first value outside of what training saw."""
        for i, field, low, high in self._ranges:
            for n, row in enumerate(rows):
                value = row[i]
                if value is not None and (value < low or value > high):
                    expected = f"{shown(field, low)} to {shown(field, high)}"
                    bad_input(
                        f"Column {field.name!r}, row {n}: {shown(field, value)} is outside of what was seen in training.",
                        "out-of-range",
                        f"Give {expected}.",
                        field=field.name,
                        row=n,
                        expected=expected,
                        got=shown(field, value),
                    )

    def _decode_slowly(self, body: bytes, row_limit: int) -> Rows:
        form, rows, route_key = rows_of(read(body), self._known)
        if len(rows) > row_limit:
            raise self._too_many(len(rows), row_limit)
        checked = self.check(rows)
        checked.route_key = route_key
        if checked.sent is None:
            checked.form = form
        return checked

    def check(self, rows: list[Any]) -> Rows:
        """The checked rows of raw ones (mappings of column to JSON value), the long way. Raises `Problem`."""
        given = rows
        rows = []
        for n, row in enumerate(given):
            if not isinstance(row, dict):
                bad_input(
                    f"Row {n} is not an object.",
                    "not-rows",
                    'Send [{"column": value, ...}, ...].',
                    row=n,
                    expected="an object",
                    got=said(row),
                )
            row = flat(row, n, self._known)
            rows.append(row)
            if row.keys() >= self._required and row.keys() <= self._known:
                continue
            for name in row:
                if name not in self._known:
                    bad_input(
                        f"Row {n}: {name!r} is no column of this endpoint.",
                        "unknown-column",
                        did_you_mean(name, self._known),
                        field=name,
                        row=n,
                        expected=sorted(self._known)[:100],
                        got=name,
                    )
            for field in self.fields:
                if field.name in self._required and field.name not in row:
                    bad_input(
                        f"Row {n}: the column {field.name!r} is missing; {EXPECTED[field.kind]} is expected.",
                        "missing-column",
                        _send(field),
                        field=field.name,
                        row=n,
                        expected=EXPECTED[field.kind],
                        got="nothing",
                    )
        for name in self.passthrough:
            check_passed(name, [row.get(name) for row in rows])
        raw = [{name: row.get(name) for name in self.names} for row in rows] if self.passthrough else rows
        try:
            numbers, strings = self._boundary.decode(raw)
        except Invalid as e:
            raise self._refused(e, raw) from e
        tuples = [(*a, *b) for a, b in zip(numbers.tolist(), strings.tolist(), strict=True)]
        self._check_ranges(tuples)
        keys = None if self.route_key is None else [_key(row.get(self.route_key)) for row in rows]
        other = any(row is not before for row, before in zip(rows, given, strict=True))
        sent = json.dumps(rows, ensure_ascii=False).encode() if other else None
        return Rows(rows=tuples, form="list", unknown=self._unknown(tuples), keys=keys, sent=sent)

    def check_columns(self, columns: dict[str, list[Any]], n: int) -> Rows:
        """The checked rows of raw columns, all with `n` values. Raises `Problem`."""
        for name in columns:
            if name not in self._known:
                bad_input(
                    f"{name!r} is no input of this endpoint.",
                    "unknown-column",
                    did_you_mean(name, self._known),
                    field=name,
                    expected=sorted(self._known)[:100],
                    got=name,
                )
        read = {name: columns[name] for name in self.names if name in columns}
        for field in self.fields:
            if field.name in read:
                if field.kind == "boolean":  # numbers carry what BOOL cannot: a missing value
                    read[field.name] = [int(v) if v in (0.0, 1.0) else v for v in read[field.name]]
                elif field.kind == "date":  # BYTES cannot be null
                    read[field.name] = [None if v == "" else v for v in read[field.name]]
            elif field.name in self._required:
                bad_input(
                    f"The input {field.name!r} is missing; {EXPECTED[field.kind]} is expected.",
                    "missing-column",
                    f"Send the input {field.name!r}, one value a row.",
                    field=field.name,
                    expected=EXPECTED[field.kind],
                    got="nothing",
                )
        for name in self.passthrough:
            check_passed(name, columns.get(name, []))
        try:
            numbers, strings = self._boundary.decode_columns(read)
        except Invalid as e:
            raise self._refused(e, read) from e
        tuples = [(*a, *b) for a, b in zip(numbers.tolist(), strings.tolist(), strict=True)]
        self._check_ranges(tuples)
        keys = None if self.route_key is None else [_key(v) for v in columns.get(self.route_key, [None] * n)]
        return Rows(rows=tuples, form="columns", unknown=self._unknown(tuples), keys=keys)

    def _refused(self, error: Invalid, rows: list[dict[str, Any]] | dict[str, list[Any]]) -> Problem:
        """The boundary's refusal of a value as a 400 that also says expected and got."""
        name, n = error.details.pop("column", None), error.details.get("row")
        field = next((f for f in self.fields if f.name == name), None)
        got = None if n is None else rows[name][n] if isinstance(rows, dict) else rows[n].get(name)
        error.details.update(field=name, expected=EXPECTED[field.kind] if field else "", got=said(got))
        return Problem(400, error)

    def _too_many(self, rows: int, limit: int) -> Exception:
        return too_large(
            f"The request has {rows} rows, and at most {limit} are answered at once.",
            "too-many-rows",
            "Send them in several requests.",
            limit=limit,
        )


def shown(field: Field, value: float) -> str:
    """A number of a field as people write it."""
    if field.kind == "date":
        day = _EPOCH + timedelta(days=math.floor(value)) if abs(value) < _DAYS else None
        return day.isoformat() if day else f"day {value:g}"
    return f"{value:g}" if field.kind == "number" else f"{value:.0f}"


def _key(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _send(field: Field) -> str:
    if field.nullable:
        return f"Send {field.name!r} in each row; a missing value is given as null."
    return f"Send {field.name!r} in each row; it never was missing in training."
