"""Excel workbooks, read only: the first sheet that is shown and holds something, its first row the names."""

from __future__ import annotations

import datetime as dt
import mmap
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from loopline.data.readers_excel_child import Sheets
from loopline.data.readers_types import check_names, typed
from loopline.data.readers_values import column
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_MOST_BYTES = 256 << 20  # of rows as text; as many cells as Excel opens with ease


def read_excel(content: bytes | mmap.mmap, called: str, missing: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame of a workbook (of Excel, or OpenDocument), and what is to be told of it: other sheets, cells with errors.

    Whole numbers are integers; dates are dates where no time of day is with them. Raises `Invalid` for what is no workbook, is
    locked, holds no table with names, or asks for more memory than a workbook may.
    """
    sheets, rows = _rows(content, called)
    if not rows:
        raise Invalid(f"{called} holds no sheet with cells.", code="table-empty", hint="Look at where it was written.")
    names = [str(next(iter(n.values())) if isinstance(n, dict) else n).strip() for n in rows[0]]
    rows = [row for row in rows[1:] if any(cell != "" for cell in row)]
    used = [i for i, name in enumerate(names) if name or any(row[i] != "" for row in rows)]
    if unnamed := [i + 1 for i in used if not names[i]]:
        raise Invalid(
            f"Column {unnamed[0]} of the sheet {sheets.taken!r} of {called} has no name in its first row.",
            code="table-names",
            hint="Put the names into the first row, and nothing above or beside the table.",
        )
    check_names([names[i] for i in used], called)
    warnings = []
    if sheets.others:
        others = ", ".join(repr(name) for name in sheets.others[:3])
        warnings.append(f"the sheet {sheets.taken!r} was read; others hold something, too ({others})")
    if sheets.errors:
        warnings.append(
            f"{sheets.errors:,} cells of the workbook hold an error (such as #DIV/0!) and were read as missing"
        )
    columns = []
    for i in used:
        series, warning = _column(names[i], [None if row[i] == "" else row[i] for row in rows], missing)
        columns.append(series)
        warnings += [warning] if warning else []
    typed_rows, told = typed(Blocks.of(pl.DataFrame(columns)), missing, numbers=False)
    return typed_rows.frame(), (*warnings, *told)


def _rows(content: bytes | mmap.mmap, called: str) -> tuple[Sheets, list[list[Any]]]:
    with tempfile.NamedTemporaryFile(prefix="workbook-") as file:
        file.write(content)
        file.flush()
        with subprocess.Popen(
            [sys.executable, "-I", "-m", "loopline.data.readers_excel_child", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            assert child.stdout is not None
            text = child.stdout.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                child.kill()
    if child.returncode:
        raise Invalid(
            f"{called} is a workbook that is damaged, or that no memory holds.",
            code="table-large",
            hint="Save the sheet as CSV (UTF-8), or give it in parts.",
        )
    lines = text.splitlines()
    said = msgspec.json.decode(lines[0], type=Sheets)
    if said.problem:
        raise Invalid(
            f"{called} cannot be read as a workbook: {said.problem}.",
            code="table-damaged",
            hint="Save the sheet as .xlsx or as CSV (UTF-8).",
        )
    return said, [msgspec.json.decode(line) for line in lines[1:]]


def _column(name: str, values: list[Any], missing: Sequence[str]) -> tuple[pl.Series, str]:
    kinds = {next(iter(v)) if isinstance(v, dict) else "" for v in values if v is not None}
    texts = [next(iter(v.values())) if isinstance(v, dict) else v for v in values]
    if kinds and kinds <= {"date", "datetime"}:
        times = [None if text is None else dt.datetime.fromisoformat(text) for text in texts]
        found = pl.Series(name, times, dtype=pl.Datetime("us"))
        whole = all(t is None or t.time() == dt.time() for t in times)
        return (found.cast(pl.Date) if whole else found), ""
    return column(name, texts, missing)
