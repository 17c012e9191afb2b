"""Excel workbooks, read only: the first sheet that is shown and holds something, its first row the names."""

from __future__ import annotations

import datetime as dt
import mmap
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import polars as pl

from loopline.data.readers_encoding import blocks
from loopline.data.readers_excel_child import MEMORY, SECONDS, Sheets
from loopline.data.readers_packed import Content, aside
from loopline.data.readers_types import check_names, typed
from loopline.data.readers_values import Values
from loopline.data.spooled import spooled
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_MOST_BYTES = 256 << 20  # of rows as text; as many cells as Excel opens with ease
_PIECE = 1 << 20
_LARGE = "A workbook is read whole. Save the sheet as CSV (UTF-8), which is read in pieces and may have any size."


def read_excel(
    content: bytes | mmap.mmap, called: str, missing: Sequence[str], scratch: Path | None = None
) -> tuple[Blocks, tuple[str, ...]]:
    """The rows of a workbook (of Excel, or OpenDocument), and what is to be told of it: other sheets, cells with errors.

    Whole numbers are integers; dates are dates where no time of day is with them. The cells lie in `scratch` meanwhile: a program
    of its own reads the workbook, whole and within bounds. Raises `Invalid` for what is no workbook, is locked, holds no table
    with names, or is beyond these bounds (code "table-large").
    """
    cells = _Cells(_told(content, called, scratch))
    sheets = cells.sheets
    if sheets.problem:
        raise Invalid(
            f"{called} cannot be read as a workbook: {sheets.problem}.",
            code="table-damaged",
            hint="Save the sheet as .xlsx or as CSV (UTF-8).",
        )
    if not cells.names:
        raise Invalid(f"{called} holds no sheet with cells.", code="table-empty", hint="Look at where it was written.")
    columns = [_Column(name, missing) for name in cells.names]
    height = 0
    for rows in cells.rows():
        for place, column in enumerate(columns):
            column.take([row[place] for row in rows], height)
        height += len(rows)
    used = [place for place, column in enumerate(columns) if column.name or column.filled]
    if unnamed := [place + 1 for place in used if not columns[place].name]:
        raise Invalid(
            f"Column {unnamed[0]} of the sheet {sheets.taken!r} of {called} has no name in its first row.",
            code="table-names",
            hint="Put the names into the first row, and nothing above or beside the table.",
        )
    check_names([columns[place].name for place in used], called)
    warnings = []
    if sheets.others:
        others = ", ".join(repr(name) for name in sheets.others[:3])
        warnings.append(f"the sheet {sheets.taken!r} was read; others hold something, too ({others})")
    if sheets.errors:
        warnings.append(
            f"{sheets.errors:,} cells of the workbook hold an error (such as #DIV/0!) and were read as missing"
        )
    warnings += [said for place in used if (said := columns[place].warning())]
    frames = (pl.DataFrame([columns[at].read([row[at] for row in rows]) for at in used]) for rows in cells.rows())
    schema = pl.Schema({columns[place].name: columns[place].kind for place in used})
    found, told = typed(spooled(frames, schema, scratch), missing, numbers=False)
    return found, (*warnings, *told)


class _Cells:
    """What the program that reads a workbook said of it: the sheets, names, rows that are not blank."""

    def __init__(self, lines: Content) -> None:
        self._lines = lines
        end = lines.find(b"\n") + 1
        self.sheets = msgspec.json.decode(lines[:end], type=Sheets)
        self._start = lines.find(b"\n", end) + 1 or len(lines)
        names = msgspec.json.decode(lines[end : self._start] or b"[]")
        self.names = [str(next(iter(n.values())) if isinstance(n, dict) else n).strip() for n in names]

    def rows(self) -> Iterator[list[list[Any]]]:
        """The rows, some at a time."""
        for _, block in blocks(self._lines, self._start):
            rows = [msgspec.json.decode(line) for line in block.splitlines()]
            yield [[None if cell == "" else cell for cell in row] for row in rows if any(cell != "" for cell in row)]


class _Column:
    """A column of cells: dates, where it holds nothing else, or what `Values` makes of them."""

    def __init__(self, name: str, missing: Sequence[str]) -> None:
        self.name = name
        self.filled = False
        self._kinds = set[str]()
        self._whole = True  # no time of day is with its dates
        self._values = Values(name, missing)

    def take(self, cells: Sequence[Any], behind: int) -> None:
        """Looks at the next cells, which begin behind so many rows."""
        self._kinds |= {next(iter(v)) if isinstance(v, dict) else "" for v in cells if v is not None}
        texts = _texts(cells)
        self.filled = self.filled or any(text is not None for text in texts)
        if self._dates:
            self._whole = self._whole and all(t is None or t.time() == dt.time() for t in _times(texts))
        self._values.take(texts, behind)

    @property
    def _dates(self) -> bool:
        return bool(self._kinds) and self._kinds <= {"date", "datetime"}

    @property
    def kind(self) -> pl.DataType:
        """The type it is read in."""
        if self._dates:
            return pl.Date() if self._whole else pl.Datetime("us")
        return self._values.kind

    def read(self, cells: Sequence[Any]) -> pl.Series:
        """Cells in that type."""
        if self._dates:
            return pl.Series(self.name, _times(_texts(cells)), dtype=pl.Datetime("us")).cast(self.kind)
        return self._values.read(_texts(cells))

    def warning(self) -> str:
        """What is told of the column; "" where nothing is."""
        return "" if self._dates else self._values.warning()


def _texts(cells: Sequence[Any]) -> list[Any]:
    return [next(iter(v.values())) if isinstance(v, dict) else v for v in cells]


def _times(texts: Sequence[Any]) -> list[dt.datetime | None]:
    return [None if text is None else dt.datetime.fromisoformat(text) for text in texts]


def _told(content: bytes | mmap.mmap, called: str, scratch: Path | None) -> Content:
    """The lines that the program which reads a workbook wrote."""
    with tempfile.NamedTemporaryFile(prefix="workbook-", dir=scratch) as file:
        file.write(content)
        file.flush()
        with subprocess.Popen(
            [sys.executable, "-I", "-m", "loopline.data.readers_excel_child", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            assert child.stdout is not None
            try:
                told = aside(_bounded(child.stdout, called), scratch)
            except BaseException:
                child.kill()
                raise
    if child.returncode:
        raise Invalid(
            f"{called} is a workbook that is damaged, or takes more than {MEMORY >> 30} GiB or {SECONDS // 60} minutes to be read.",
            code="table-large",
            hint=_LARGE,
        )
    return told


def _bounded(stream: IO[bytes], called: str) -> Iterator[bytes]:
    size = 0
    while piece := stream.read(_PIECE):
        size += len(piece)
        if size > _MOST_BYTES:
            raise Invalid(
                f"The sheet of {called} has more than {_MOST_BYTES >> 20} MiB of cells.",
                code="table-large",
                hint=_LARGE,
            )
        yield piece
