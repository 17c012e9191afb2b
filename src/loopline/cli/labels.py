"""`loopline labels`: the truth about predictions, when it comes."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.outcomes.records import Label

_AT_ONCE = 20_000


@group("labels", "Labels: the truth about predictions, joined to them by id.")
def labels() -> None:
    pass


@labels.command()
@click.argument("endpoint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@as_json
@click.pass_context
def add(ctx: click.Context, endpoint: str, file: str, json: bool) -> None:
    """Send the labels in FILE: CSV or NDJSON with `prediction`, `value` and, where known, `at` (milliseconds); - reads
    standard input.

    A label whose prediction is not yet known waits. A second label for a prediction corrects the first, which stays on record.
    """
    from loopline.errors import Invalid
    from loopline.outcomes.records import LabelsTaken

    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    found = _read(content, file)
    if not found:
        raise Invalid(f"{file} holds no labels.", code="no-labels", hint="One line each: prediction,value.")
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        parts = range(0, len(found), _AT_ONCE)
        taken = [s.labels.add(name, found[start : start + _AT_ONCE]) for start in parts]
    total = LabelsTaken(
        taken=sum(t.taken for t in taken),
        joined=sum(t.joined for t in taken),
        waiting=sum(t.waiting for t in taken),
        corrected=sum(t.corrected for t in taken),
    )
    show.done(
        total,
        json,
        f"{total.taken:,} labels: {total.joined:,} joined to predictions of {name}, {total.waiting:,} wait for theirs, "
        f"{total.corrected:,} corrected an earlier one.",
        "send the former values again; every value stays on record",
    )


def _read(content: bytes, file: str) -> list[Label]:
    """The labels of a file, by their own form. Raises `Invalid` with the line that cannot be read."""
    import msgspec

    from loopline.errors import Invalid
    from loopline.outcomes.records import Label

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Invalid(f"{file} is no UTF-8 text.", code="bad-labels", hint="CSV or NDJSON in UTF-8.") from e
    read = _ndjson if text.lstrip().startswith("{") else _csv
    found: list[Label] = []
    for line, row in read(text, file):
        try:
            found.append(msgspec.convert(row, Label))
        except msgspec.ValidationError as e:
            raise Invalid(
                f"Line {line} of {file} is no label: {e}.",
                code="bad-labels",
                hint='CSV with the columns prediction,value or NDJSON as {"prediction": "...", "value": ...}.',
            ) from e
    return found


def _ndjson(text: str, file: str) -> list[tuple[int, Any]]:
    import msgspec

    from loopline.errors import Invalid

    rows = []
    for line, one in enumerate(text.splitlines(), 1):
        if one.strip():
            try:
                rows.append((line, msgspec.json.decode(one)))
            except msgspec.DecodeError as e:
                raise Invalid(f"Line {line} of {file} is no JSON: {e}.", code="bad-labels") from e
    return rows


def _csv(text: str, file: str) -> list[tuple[int, Any]]:
    from loopline.errors import Invalid

    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    for needed in ("prediction", "value"):
        if columns and needed not in columns:
            raise Invalid(
                f"{file} has no column {needed!r}, but {', '.join(columns)}.",
                code="bad-labels",
                hint="The first line names the columns: prediction,value.",
            )
    rows = []
    for row in reader:
        at = row.get("at") or "0"
        kept = {"prediction": row["prediction"], "value": row["value"], "at": int(at) if at.isdecimal() else at}
        rows.append((reader.line_num, kept))
    return rows
