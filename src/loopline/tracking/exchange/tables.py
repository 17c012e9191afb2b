"""Runs as tables for other programs: a row a run, or a row a metric point; CSV and Parquet."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.errors import Invalid
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, sync_folder
from loopline.tracking.records import Run
from loopline.tracking.verbs import RunsVerbs

TableForm = Literal["csv", "parquet"]

_TIME = pl.Datetime("ms", "UTC")
_FIXED: dict[str, Any] = {
    "id": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "status": pl.String,
    "created": _TIME,
    "ended": _TIME,
    "creator": pl.String,
    "parent": pl.String,
    "note": pl.String,
}
_POINTS: dict[str, Any] = {
    "run": pl.String, "key": pl.String, "step": pl.Int64, "time": _TIME, "value": pl.Float64,
}  # fmt: skip
_AT_ONCE = 200_000  # points in one piece of the table
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def table(runs: Sequence[Run]) -> pl.DataFrame:
    """A row a run: what it is, then a column for each param, metric (its last value) and tag, named `params.rate` and so on.

    A param is a column of numbers where it is one in every run that has it, and of texts otherwise: lists and mappings as JSON.
    """
    columns = [
        pl.Series(name, [getattr(run, name) for run in runs], dtype=pl.Int64).cast(_TIME)
        if kind is _TIME
        else pl.Series(name, [getattr(run, name) for run in runs], dtype=kind)
        for name, kind in _FIXED.items()
    ]
    params, tags = (_keys(of) for of in ([run.params for run in runs], [run.tags for run in runs]))
    columns += [_param(f"params.{key}", [run.params.get(key) for run in runs]) for key in params]
    for key in _keys(run.metrics for run in runs):
        numbers = [None if (value := run.metrics.get(key)) is None else float(value) for run in runs]
        columns.append(pl.Series(f"metrics.{key}", numbers, dtype=pl.Float64))
    columns += [pl.Series(f"tags.{key}", [run.tags.get(key) for run in runs], dtype=pl.String) for key in tags]
    return pl.DataFrame(columns)


def points(verbs: RunsVerbs, runs: Iterable[Run]) -> Iterator[pl.DataFrame]:
    """A row a metric point: run, key, step, time and value, in pieces."""
    held: list[tuple[str, str, int, int, float]] = []
    for run in runs:
        for key in run.metrics:
            held += [(run.id, key, point.step, point.time, point.number) for point in verbs.history(run.id, key)]
            if len(held) >= _AT_ONCE:
                yield _frame(held)
                held = []
    yield _frame(held)


def write(pieces: Iterable[pl.DataFrame], path: Path, form: TableForm) -> int:
    """Writes a table, piece by piece, in place of what had the name; gives its rows. It is whole or not there.

    In CSV a text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line end, and is no number) has an
    apostrophe before it. Raises `Invalid` where the file cannot be written.
    """
    aside = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with disk_errors(path), removed_on_error(aside):
            rows = _write_csv(pieces, aside) if form == "csv" else _write_parquet(pieces, aside)
            with aside.open("rb") as file:
                failpoint("tracking.table.before_sync")
                os.fsync(file.fileno())
            failpoint("tracking.table.before_rename")
            os.replace(aside, path)
            sync_folder(path.parent)
    except OSError as e:
        raise Invalid(f"{path} cannot be written: {e.strerror}.", code="bad-file", hint="Name another file.") from e
    return rows


def _write_csv(pieces: Iterable[pl.DataFrame], path: Path) -> int:
    rows = 0
    with path.open("xb") as file:
        for number, piece in enumerate(pieces):
            texts = [name for name, kind in piece.schema.items() if kind == pl.String]
            harmless = piece.with_columns(
                pl.col(name).map_elements(_harmless, return_dtype=pl.String) for name in texts
            ).rename({name: _harmless(name) for name in piece.columns})
            harmless.write_csv(file, include_header=not number, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")
            rows += piece.height
    return rows


def _write_parquet(pieces: Iterable[pl.DataFrame], path: Path) -> int:
    from pyarrow import parquet

    rows, writer = 0, None
    try:
        for piece in pieces:
            arrow = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or parquet.ParquetWriter(path, arrow.schema, compression="zstd")
            writer.write_table(arrow)
            rows += piece.height
    finally:
        if writer is not None:
            writer.close()
    return rows


def _frame(held: list[tuple[str, str, int, int, float]]) -> pl.DataFrame:
    plain = {name: pl.Int64 if kind is _TIME else kind for name, kind in _POINTS.items()}
    return pl.DataFrame(held, schema=plain, orient="row").with_columns(pl.col("time").cast(_TIME))


def _keys(given: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({key for one in given for key in one})


def _param(name: str, values: list[Any]) -> pl.Series:
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    if kinds == {int}:
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    return pl.Series(name, texts, dtype=pl.String)


def _harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMERAL.fullmatch(text) else text
