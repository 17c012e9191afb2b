"""A program of its own that reads a workbook: `python -m loopline.data.readers_excel_child FILE`.

A workbook of a few bytes can stand for a sheet that no memory holds (a cell far out, a text repeated). So it is opened where
running out of memory ends nothing but this program. It writes JSON lines: the sheets, then the rows of the one that is taken.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import resource
import sys
import zipfile
from typing import Any

import msgspec
import python_calamine as calamine

MEMORY = 4 << 30
SECONDS = 300


class Sheets(msgspec.Struct, frozen=True, kw_only=True):
    """What is said before the rows: the sheet that follows, others that hold something, cells with an error in their place."""

    taken: str = ""
    others: tuple[str, ...] = ()
    errors: int = 0
    problem: str = ""


def main(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    out = sys.stdout.buffer
    try:
        book = calamine.CalamineWorkbook.from_path(path)
        shown = [s.name for s in book.sheets_metadata if s.visible == calamine.SheetVisibleEnum.Visible]
        sheets = [sheet for sheet in map(book.get_sheet_by_name, shown) if sheet.height and sheet.width]
        said = Sheets(errors=_errors(path), others=tuple(s.name for s in sheets[1:]))
        if sheets:
            said = msgspec.structs.replace(said, taken=sheets[0].name)
    except (calamine.CalamineError, calamine.XmlError, calamine.ZipError, calamine.WorksheetNotFound, OSError) as error:
        said, sheets = Sheets(problem=str(error) or type(error).__name__), []
    except calamine.PasswordError:
        said, sheets = Sheets(problem="it is locked by a password"), []
    out.write(msgspec.json.encode(said) + b"\n")
    if not sheets or sheets[0].start is None:
        return
    for row in itertools.islice(
        sheets[0].iter_rows(), sheets[0].start[0], None
    ):  # blank rows above the table are no rows
        out.write(msgspec.json.encode([_plain(cell) for cell in row]) + b"\n")


def _plain(cell: Any) -> Any:
    """Times in an object of their own, and whole numbers as such: a sheet knows no others than floats."""
    if isinstance(cell, dt.timedelta):
        return cell.total_seconds()
    if isinstance(cell, dt.date | dt.time):
        return {type(cell).__name__: cell.isoformat()}
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell


def _errors(path: str) -> int:
    """How many cells hold an error (#DIV/0!, #N/A), which reads as nothing."""
    with contextlib.suppress(zipfile.BadZipFile, KeyError, NotImplementedError), zipfile.ZipFile(path) as book:
        return sum(book.read(n).count(b' t="e"') for n in book.namelist() if n.startswith("xl/worksheets/"))
    return 0


if __name__ == "__main__":
    main(sys.argv[1])
