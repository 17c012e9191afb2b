"""Workbooks as XlsxWriter makes them, read only, and workbooks made to take all memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from loopline.data import readers_excel
from loopline.data.readers import ReadTable, read_table
from loopline.errors import Invalid


def workbook(fill: Callable[[Any], None]) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        fill(book)
    return out.getvalue()


def table(rows: list[list[Any]], at: tuple[int, int] = (0, 0)) -> bytes:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet("visits")
        day, time = (book.add_format({"num_format": f}) for f in ("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss"))
        for r, row in enumerate(rows):
            for c, cell in enumerate(row):
                place = (at[0] + r, at[1] + c)
                if isinstance(cell, date):
                    sheet.write_datetime(*place, cell, time if isinstance(cell, datetime) else day)
                elif cell == "#DIV/0!":
                    sheet.write_formula(*place, "=1/0", None, cell)
                else:
                    sheet.write(*place, cell)

    return workbook(fill)


def _read(folder: Path, content: bytes, name: str = "t.xlsx") -> ReadTable:
    (folder / name).write_bytes(content)
    return read_table(folder / name)


def _refused(folder: Path, content: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        _read(folder, content)
    assert "t.xlsx" in caught.value.message
    return caught.value


ROWS = [
    ["id", "dose", "code", "back", "day", "at", "mixed"],
    [1, 0.5, "007", True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5), "a"],  # noqa: DTZ001
    [2, 2, "8", False, date(2026, 1, 3), datetime(2026, 1, 3), 5],  # noqa: DTZ001
    [None, "?", None, None, None, None, 2.5],
]


@pytest.mark.parametrize("at", [(0, 0), (3, 2)])
def test_a_sheet_is_read_with_its_types(tmp_path: Path, at: tuple[int, int]) -> None:
    read = _read(tmp_path, table(ROWS, at))
    assert read.format == "excel"
    assert read.frame.columns == ROWS[0]
    assert read.frame.rows() == [
        (1, 0.5, "007", True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5), "a"),  # noqa: DTZ001
        (2, 2.0, "8", False, date(2026, 1, 3), datetime(2026, 1, 3), "5"),  # noqa: DTZ001
        (None, None, None, None, None, None, "2.5"),
    ]
    (tmp_path / "named.csv").write_bytes(table(ROWS, at))  # the bytes tell
    assert read_table(tmp_path / "named.csv").frame.equals(read.frame)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        book.add_worksheet("empty")
        book.add_worksheet("hidden").hide()
        one, two = book.add_worksheet("one"), book.add_worksheet("two")
        one.write_column(0, 0, ["a", 1, 2])
        one.write_formula(3, 0, "=1/0", None, "#DIV/0!")
        one.write(4, 0, 4)
        two.write(0, 0, "b")

    read = _read(tmp_path, workbook(fill))
    assert read.frame["a"].to_list() == [1, 2, 4]
    assert read.facts.warnings == (
        "the sheet 'one' was read; others hold something, too ('two')",
        "1 cells of the workbook hold an error (such as #DIV/0!) and were read as missing",
    )


def test_sheets_that_are_no_tables(tmp_path: Path) -> None:
    assert _refused(tmp_path, workbook(lambda book: book.add_worksheet())).code == "table-empty"
    assert _refused(tmp_path, table([["a", "b"]])).code == "table-empty"
    assert "Column 2" in _refused(tmp_path, table([["Visits of 2026", None], ["id", "age"], [1, 2]])).message
    assert "'a' 2 times" in _refused(tmp_path, table([["a", "a"], [1, 2]])).message
    whole = table(ROWS)
    assert _refused(tmp_path, whole[: len(whole) // 2]).code == "table-damaged"
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(1000))
    with pytest.raises(Invalid, match="cannot be read as a workbook"):
        read_table(tmp_path / "old.xls")


def _with_sheet(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name == "xl/worksheets/sheet1.xml" else data)
    return out.getvalue()


OPEN_DOCUMENT = """<?xml version="1.0"?>
<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
  xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">
<office:body><office:spreadsheet><table:table table:name="one">
<table:table-row><table:table-cell office:value-type="string"><text:p>a</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell office:value-type="float" office:value="5"><text:p>5</text:p></table:table-cell>
</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"""


MANIFEST = """<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">
<m:file-entry m:full-path="/" m:media-type="application/vnd.oasis.opendocument.spreadsheet"/>
<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>"""


def open_document() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", " ".join(OPEN_DOCUMENT.split()).replace("> <", "><"))
        archive.writestr("META-INF/manifest.xml", MANIFEST)
    return out.getvalue()


def test_an_open_document_sheet_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, open_document(), "t.ods").frame["a"].to_list() == [5]


def test_a_cell_far_out_takes_no_memory_of_ours(tmp_path: Path) -> None:
    far = _with_sheet(
        table(ROWS), lambda xml: xml.replace(b'r="A2"', b'r="XFD1048576"').replace(b'r="2"', b'r="1048576"')
    )
    assert _refused(tmp_path, far).code in ("table-large", "table-names")


def test_a_sheet_of_more_than_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _with_sheet(table(ROWS), lambda xml: xml.replace(b"<sheetData>", b"<sheetData>" + b" " * (4 << 20)))
    read = _read(tmp_path, bomb)  # much blank: no harm
    assert read.frame.height == 3
    text = b'<c r="Z9" t="inlineStr"><is><t>' + b"x" * (4 << 20) + b"</t></is></c></row></sheetData>"
    monkeypatch.setattr(readers_excel, "_MOST_BYTES", 1 << 20)
    large = _with_sheet(table(ROWS), lambda xml: xml.replace(b"</row></sheetData>", text))
    assert _refused(tmp_path, large).code in ("table-large", "table-names")
