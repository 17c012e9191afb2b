# ruff: noqa: DTZ001 - tables hold naive times; rows line up
"""Reading tables: what is in the file is what is in the frame, and what cannot be taken is named with the way out."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import struct
import tarfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data import readers_parquet
from loopline.data.readers import ReadTable, read_table
from loopline.errors import Invalid, LooplineError, NotFound
from loopline.hashing import digest_file
from loopline.quality.contract import column, contract
from loopline.quality.contract_check import check
from loopline.quality.profile import profile

REAL = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).parents[3] / "shared/data")) / "readmission.parquet"


def _read(folder: Path, content: str | bytes, name: str = "t.csv") -> ReadTable:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file)


def _refusal(folder: Path, content: str | bytes, name: str = "t.csv") -> LooplineError:
    with pytest.raises(Invalid) as caught:
        _read(folder, content, name)
    said = caught.value
    assert name in said.message
    assert said.hint
    assert said.code
    assert sorted(p.name for p in folder.iterdir()) == [name]  # nothing else was written
    return said


def test_types_are_seen_over_all_rows(tmp_path: Path) -> None:
    names = [
        "int",
        "late_float",
        "late_text",
        "code",
        "huge",
        "day",
        "moment",
        "zoned",
        "flag",
        "gap",
        "note",
        "padded",
    ]
    rows = [
        [
            "1",
            "1",
            "1",
            "0123",
            "9" * 25,
            "2024-02-29",
            "2024-01-01 10:30",
            "2024-01-01T10:30:00Z",
            "true",
            "?",
            "a",
            " 7",
        ]
        for _ in range(3_000)
    ]
    rows[-1] = [
        "-2",
        "2.5",
        "x1",
        "7",
        "1",
        "2023-01-01",
        "2024-01-01T10:30:05.25",
        "2024-01-01 12:30+0200",
        "FALSE",
        "3",
        'b,\n"c"',
        "8 ",
    ]
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    frame = _read(tmp_path, text.getvalue()).frame
    assert frame.schema == {
        "int": pl.Int64,
        "late_float": pl.Float64,
        "late_text": pl.String,
        "code": pl.String,
        "huge": pl.String,
        "day": pl.Date,
        "moment": pl.Datetime("us"),
        "zoned": pl.Datetime("us", "UTC"),
        "flag": pl.Boolean,
        "gap": pl.Int64,
        "note": pl.String,
        "padded": pl.Int64,
    }
    assert frame.row(-1) == (
        -2, 2.5, "x1", "7", "1", date(2023, 1, 1), datetime(2024, 1, 1, 10, 30, 5, 250_000),
        datetime(2024, 1, 1, 10, 30, tzinfo=UTC), False, 3, 'b,\n"c"', 8,
    )  # fmt: skip
    assert frame.row(0)[-6:] == (
        datetime(2024, 1, 1, 10, 30),
        datetime(2024, 1, 1, 10, 30, tzinfo=UTC),
        True,
        None,
        "a",
        7,
    )


def test_a_nearly_numeric_column_is_told(tmp_path: Path) -> None:
    read = _read(tmp_path, "age,x\n" + "41,1\n" * 99 + "about 41,2\n")
    assert read.frame.schema["age"] == pl.String
    assert read.facts.warnings == (
        "column 'age' stays text: 1 of 100 values is no number (first in row 100); "
        "declare them missing, or of_type('number') in the contract",
    )
    assert read_table(tmp_path / "t.csv", missing=["about 41"]).frame["age"].to_list() == [41] * 99 + [None]


@pytest.mark.parametrize("spelled", ["-", "--", "None", "nil", "Missing", "unknown"])
@pytest.mark.parametrize("form", ["csv", "csv;", "ndjson"])
def test_a_spelling_of_missing_among_numbers_is_missing(tmp_path: Path, spelled: str, form: str) -> None:
    values = [spelled if n % 5 == 0 else n / 2 for n in range(100)]
    if form == "ndjson":
        read = _read(tmp_path, "\n".join(json.dumps({"x": v, "y": "a"}) for v in values), "t.ndjson")
    elif form == "csv;":
        read = _read(tmp_path, "x;y\n" + "".join(f"{str(v).replace('.', ',')};a\n" for v in values))
    else:
        read = _read(tmp_path, "x,y\n" + "".join(f"{v},a\n" for v in values))
    assert read.frame["x"].to_list() == [None if isinstance(v, str) else v for v in values]
    assert read.facts.warnings == (
        f"column 'x': 20 values ({spelled.lower()!r}) were read as missing, since all others are numbers",
    )


def test_a_word_for_missing_is_a_category_where_numbers_are_few(tmp_path: Path) -> None:
    values = ["none", "none", "3", "none", "12"]
    read = _read(tmp_path, "x,y\n" + "".join(f"{v},a\n" for v in values))
    assert (read.frame["x"].to_list(), read.facts.warnings) == (values, ())


def test_infinite_numbers_are_numbers(tmp_path: Path) -> None:
    read = _read(tmp_path, "x,y\n1.5,a\ninf,a\n-Infinity,b\n")
    assert read.frame["x"].to_list() == [1.5, float("inf"), float("-inf")]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_a_column_with_one_value_that_is_no_date_stays_text_and_is_told(tmp_path: Path, form: str) -> None:
    values = [f"2024-01-{1 + n % 28:02}" for n in range(100)] + ["soon"]
    frame = pl.DataFrame({"u": values, "good": [*values[:-1], "2024-03-01T10:00"], "y": "a"})
    path = tmp_path / f"t.{form}"
    {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "parquet": frame.write_parquet}[form](path)
    read = read_table(path)
    assert read.frame["u"].to_list() == values
    assert read.frame["good"][[0, 100]].to_list() == [datetime(2024, 1, 1), datetime(2024, 3, 1, 10)]
    assert read.facts.warnings == (
        "column 'u' stays text: 1 of 101 values is no date (first in row 101); "
        "declare them missing, or of_type('date') in the contract",
    )


def test_one_stray_text_among_the_numbers_of_ndjson_is_told(tmp_path: Path) -> None:
    rows = [{"x": "odd" if n == 70 else n / 2, "y": "a"} for n in range(100)]
    read = _read(tmp_path, "\n".join(json.dumps(row) for row in rows), "t.ndjson")
    assert read.frame.schema["x"] == pl.String
    assert "column 'x' stays text: 1 of 100 values is no number (first in row 71)" in read.facts.warnings[0]


def test_a_nul_in_the_header_is_named_as_what_it_is(tmp_path: Path) -> None:
    said = _refusal(tmp_path, "al\0ha,b\n1,2\n")
    assert "a NUL at offset 2" in said.message
    assert "UTF-8" not in said.message


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_dialects(tmp_path: Path, separator: str, end: str, bom: str) -> None:
    lines = [["id", "näme", "a,b;c|d"], ["1", "Zoë", "x"], ["2", "", "y"]]
    quoted = [[f'"{v}"' if set(v) & set(",;|\t") else v for v in line] for line in lines]
    read = _read(tmp_path, bom + end.join(separator.join(line) for line in quoted) + end)
    assert read.frame.to_dict(as_series=False) == {"id": [1, 2], "näme": ["Zoë", None], "a,b;c|d": ["x", "y"]}
    assert read.facts.dialect is not None
    assert read.facts.dialect.separator == separator
    assert read.facts.encoding == ("utf-8-sig" if bom else "utf-8")


def test_odd_but_readable_texts(tmp_path: Path) -> None:
    assert _read(tmp_path, "a;b\n1,5;x\n-2;y\n").frame["a"].to_list() == [1.5, -2.0]  # decimal comma
    assert _read(tmp_path, "a, b\n1, ?\n2, x\n").frame.rows() == [(1, None), (2, "x")]  # a space after each comma
    assert _read(tmp_path, "\n\na,b\n1,2\n\n3,4\n\n").frame.rows() == [(1, 2), (3, 4)]  # blank lines
    assert _read(tmp_path, 'a,b\nx 5" y,1\n"q""r",2\n').frame.rows() == [('x 5" y', 1), ('q"r', 2)]  # stray quotes
    assert _read(tmp_path, "a,b\r1,2\r3,4\r").frame.rows() == [(1, 2), (3, 4)]  # old line ends
    assert _read(tmp_path, "a\n1\n\n3\n").frame["a"].to_list() == [1, 3]  # one column
    assert _read(tmp_path, "a,b\n1,2\n3,4").frame.height == 2  # no line end at the end
    assert _read(tmp_path, "a,b\n1,None\n2,\n").frame["b"].to_list() == ["None", None]  # "None" may be a category
    assert _read(tmp_path, '"a\nx",b\n1,2\n').frame.columns == ["a\nx", "b"]
    assert _read(tmp_path, "a,b\nNA,\n?,nan\n").facts.all_null == ("a", "b")
    only_numbers = _read(tmp_path, "1,2\n3,4\n").facts
    assert "holds only numbers" in only_numbers.warnings[0]


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=6).map(lambda t: f"x{t}")


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(_CELLS, _CELLS, _CELLS), min_size=1, max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], separator: str, quoting: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerows([("first", "second", "third"), *rows])
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    file.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert read_table(file).frame.rows() == rows


def test_long_files_are_read_in_blocks(tmp_path: Path) -> None:
    rows = [f'{i},"text ""{i}"", and more",{i / 7:.6f}' for i in range(200_000)]
    read = _read(tmp_path, "id,text,x\n" + "\n".join(rows) + "\n")
    assert read.facts.bytes > 2 * (4 << 20)
    assert read.frame.row(199_999) == (199_999, 'text "199999", and more', 28571.285714)
    rows[150_000] += ",1"
    assert "line 150002 has 4 fields" in _refusal(tmp_path, "id,text,x\n" + "\n".join(rows)).message
    plain = [f"{i},{i}" for i in range(1_000_000)]
    plain[900_000] = "é,\udcff"
    offset = len("a,b\n") + sum(len(p) + 1 for p in plain[:900_000]) + 3
    refused = _refusal(tmp_path, ("a,b\n" + "\n".join(plain)).encode("utf-8", "surrogateescape"))
    assert refused.details["offset"] == offset


def test_other_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = [
        {"a": 1, "b": "x", "c": 1.5, "d": True, "e": "2024-01-01"},
        {"a": None, "b": "ü", "c": 2.0, "d": None, "e": None},
    ]
    expected = pl.DataFrame(rows).with_columns(pl.col("e").str.to_date())
    lines = "\n".join(json.dumps(r) for r in rows)
    assert_frame_equal(_read(tmp_path, lines, "t.ndjson").frame, expected)
    assert_frame_equal(_read(tmp_path, "\ufeff" + lines + "\n\n", "t.jsonl").frame, expected)
    assert_frame_equal(_read(tmp_path, json.dumps(rows), "t.json").frame, expected)
    assert_frame_equal(_read(tmp_path, gzip.compress(lines.encode()), "t.ndjson.gz").frame, expected)
    expected.write_parquet(tmp_path / "t.parquet")
    assert_frame_equal(read_table(tmp_path / "t.parquet").frame, expected)
    packed = _read(tmp_path, gzip.compress((tmp_path / "t.parquet").read_bytes()), "p.parquet.gz")
    assert_frame_equal(packed.frame, expected)
    expected.write_csv(tmp_path / "t.csv")
    assert_frame_equal(read_table(tmp_path / "t.csv").frame, expected)
    packed = _read(tmp_path, gzip.compress((tmp_path / "t.csv").read_bytes()), "t.csv.gz")
    assert_frame_equal(packed.frame, expected)
    assert (packed.facts.compression, packed.format) == ("gzip", "csv")
    # The name is wrong or says nothing: the bytes tell.
    assert _read(tmp_path, (tmp_path / "t.parquet").read_bytes(), "odd.csv").format == "parquet"
    assert _read(tmp_path, lines, "odd").format == "ndjson"
    assert _read(tmp_path, (tmp_path / "t.csv").read_bytes(), "odd.dat").format == "csv"


def test_json_that_is_not_even(tmp_path: Path) -> None:
    lines = ['{"a": 1, "p": {"city": "X", "geo": {"lat": 1.5}}, "z": "0123"}'] * 300
    lines += ['{"a": 2.5, "p": {"city": null}, "l": [1]}', '{"m": 1}', '{"m": "x"}', '{"m": true}']
    read = _read(tmp_path, "\n".join(lines), "t.ndjson")
    frame = read.frame
    assert frame.select("a", "p.city", "p.geo.lat", "z").row(0) == (1.0, "X", 1.5, "0123")  # codes stay codes
    assert frame["m"].to_list()[-3:] == ["1", "x", "true"]
    assert read.facts.left_out == ("l",)
    assert any("'l' is left out" in w for w in read.facts.warnings)
    assert frame.height == 304


def test_parquet_types_become_the_platforms(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "c": ["a", "b"],
            "d": ["1.50", "2.25"],
            "t": [1, 2],
            "l": [[1], [2]],
            "s": [{"x": 1}, {"x": 2}],
            "n": [None, None],
        }
    )
    frame = frame.with_columns(
        pl.col("c").cast(pl.Categorical), pl.col("d").cast(pl.Decimal(10, 2)), pl.col("t").cast(pl.Datetime("ns"))
    )
    frame.write_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert read.frame.schema == {
        "c": pl.String,
        "d": pl.Float64,
        "t": pl.Datetime("us"),
        "s.x": pl.Int64,
        "n": pl.String,
    }
    assert (read.facts.left_out, read.facts.all_null) == (("l",), ("n",))


def test_facts_name_the_bytes(tmp_path: Path) -> None:
    read = _read(tmp_path, "a,b\n1,2\n")
    assert (read.facts.rows, read.facts.columns, read.facts.bytes) == (1, 2, 8)
    assert read.facts.digest == digest_file(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", digest="blake3:00", name="upload").facts.digest == "blake3:00"
    assert read_table(tmp_path / "t.csv", name="visits.csv").facts.source == "visits.csv"
    special = tmp_path / "visits[1]*.csv"  # no pattern
    special.write_text("a,b\n3,4\n")
    assert read_table(special).frame.rows() == [(3, 4)]


def _tar(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "code", "says"),
    [
        (b"", "t.csv", "table-empty", "is empty (0 bytes)"),
        (b"\n \n", "t.csv", "table-empty", "is blank"),
        (b"a,b\n", "t.csv", "table-empty", "no rows"),
        (b"a,b", "t.csv", "table-empty", "no rows"),
        (b"a,b\n1,2\n3\n4,5\n", "t.csv", "ragged-lines", "line 3 has 1 field, the header has 2"),
        (b"a,b\n1,2\n3,4,5\n6,7,8\n", "t.csv", "ragged-lines", "line 3 has 3 fields, the header has 2 (and 1 more line"),
        (b"a,b,c\n1,2,3\n4,5,6,7\n8,9\n", "t.csv", "ragged-lines", "line 3 has 4 fields, the header has 3 (and 1 more line"),
        (b'a,b,c\n1,2,3\n4,5\n"8,9",10,11,12\n', "t.csv", "ragged-lines", "line 3 has 2 fields"),
        (b'a,b\n"1\n2",3\n4\n', "t.csv", "ragged-lines", "line 4 has 1 field"),
        (b'a,b\n1,2\n"3,4\n5,6\n"7",8,9\n', "t.csv", "ragged-lines", "line 3, which runs over 3 lines because of an open quote"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "t.csv", "csv-broken", "a quote that is opened in line 3 is never closed"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "t.csv", "csv-broken", "a quote that is opened in line 3 is never closed"),
        (b'a\n1\n"2\n3', "t.csv", "csv-broken", "a quote that is opened in line 3 is never closed"),
        (b"a,b,a\n1,2,3\n", "t.csv", "table-names", "'a' 2 times (columns 1, 3)"),
        (b",b\n1,2\n", "t.csv", "table-names", "Column 1"),
        (b"a,b,\n1,2,\n", "t.csv", "table-names", "Column 3"),
        (b"\x00\x01\x02\x00" * 300, "t.bin", "table-format", "binary data"),
        (b"PK\x03\x04aaaa", "t.xlsx", "table-damaged", "cut off"),
        (b"\n<!DOCTYPE html>\n<html>\n", "t.csv", "table-format", "a page of HTML"),
        (b"<?xml version='1.0'?>\n<a/>\n", "t.csv", "table-format", "an XML file"),
        (_tar("../../t.csv", b"a,b\n1,2\n"), "t.tar", "table-archive", "an archive of tar"),
        (gzip.compress(_tar("t.csv", b"a,b\n1,2\n")), "t.tar.gz", "table-archive", "an archive of tar"),
        (b"FEA1aaaa", "t.feather", "table-format", "an old Feather file"),
        (b"a,b\n1,2\n", "t.parquet", "table-format", "does not begin like one"),
        (b"PAR1" + b"x" * 100, "t.parquet", "table-damaged", "cut off"),
        (b"PAR1PAR1", "t.parquet", "table-damaged", "cut off"),
        (gzip.compress(b"a,b\n1,2\n" * 1000)[:-20], "t.csv.gz", "table-damaged", "cut off"),
        (gzip.compress(b""), "t.csv.gz", "table-empty", "empty once unpacked"),
        (b'{"a": 1}\n{"a": 2\n{"a": 3}\n', "t.ndjson", "json-broken", "line 2 is not JSON"),
        (b'{"a": 1}\n{"a":', "t.ndjson", "json-broken", "cut off in its last line"),
        (b'{"a": 1}\n[1, 2]\n', "t.ndjson", "json-broken", "line 2 is an array"),
        (b'[{"a": 1}, 3]', "t.json", "json-broken", "item 2 of the array is a number"),
        (b'[{"a": 1}, ', "t.json", "json-broken", "not JSON"),
        (b'{"a": 1}\n\n{"a": 2, "b": 3, "a": 4}\n', "t.ndjson", "duplicate-key", "line 3 has the key 'a' twice"),
        (b'{"a": 1, "a" : 4}\n', "t.ndjson", "duplicate-key", "line 1 has the key 'a' twice"),
        (b'{"u": {"b": 3, "b": 4}, "a": "x\\":"}\n', "t.ndjson", "duplicate-key", "line 1 has the key 'b' twice"),
        (b'[{"a": 1}, {"a": 2, "a": 4}]', "t.json", "duplicate-key", "item 2 of the array has the key 'a' twice"),
        (b'{"": 1}\n', "t.ndjson", "table-names", "key that is empty"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "t.ndjson", "json-broken", "nested more than 100 deep"),
        (b'{"a": ' + b'{"b": ' * 900 + b"1" + b"}" * 900 + b"}\n", "t.ndjson", "json-broken", "nested more than 100 deep"),
        (b'[{"a": ' + b'{"b": ' * 900 + b"1" + b"}" * 900 + b"}]", "t.json", "json-broken", "nested more than 100 deep"),
        (b'{"a": 1e400}\n{"a": 2}\n', "t.ndjson", "json-broken", "line 1 is not JSON (Number out of range"),
        ("a,b\nMüller,1\n".encode() + "Müller,2\n".encode("latin-1"), "t.csv", "not-utf8", "offset 15 (0xfc, line 3)"),
        (b"a,b, a\n1,2,3\n", "t.csv", "table-names", "'a' 2 times (columns 1, 3)"),
        (b'{"a": 1, "b\\u0000": 2}\n', "t.ndjson", "table-names", "column 2 of"),
        (b'[{"a": 1, "b\\u0000": 2}]', "t.json", "table-names", "holds a NUL"),
        (b'{"a": {"b\\u0000": 2}}\n', "t.ndjson", "table-names", "holds a NUL"),
        (b"x" * 2000 + b",b\0\n1,2\n", "t.csv", "table-names", "column 2 of"),
        (b"{}\n{}\n", "t.ndjson", "table-empty", "no rows"),
        (b"[]", "t.json", "table-empty", "no rows"),
        ('{"a": "é"}\n'.encode() + b'{"a": "\xff"}\n', "t.ndjson", "not-utf8", "offset 19"),
        (b'{"a": [1]}\n', "t.ndjson", "table-empty", "no column"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_the_way_out(tmp_path: Path, content: bytes, name: str, code: str, says: str) -> None:
    refused = _refusal(tmp_path, content, name)
    assert refused.code == code
    assert says in str(refused)


def test_a_table_of_far_too_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(10_001)]
    parquet = io.BytesIO()
    pl.DataFrame({name: [1] for name in names}).write_parquet(parquet)
    for content, name in (
        ((",".join(names) + "\n" + ",".join("1" for _ in names)).encode(), "t.csv"),
        (json.dumps(dict.fromkeys(names, 1)).encode(), "t.json"),
        (parquet.getvalue(), "t.parquet"),
    ):
        (tmp_path / name).mkdir()
        refused = _refusal(tmp_path / name, content, name)
        assert (refused.code, "10,001 columns" in refused.message) == ("too-many-columns", True)


def test_a_parquet_that_was_cut_or_damaged(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(10_000), "b": [f"{i}" for i in range(10_000)]}).write_parquet(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "whole").unlink()
    assert "cut off" in _refusal(tmp_path, whole[: len(whole) // 2], "t.parquet").message
    hollow = whole[:4] + bytes(2_000) + whole[2_004:]
    assert "damaged" in _refusal(tmp_path, hollow, "t.parquet").message
    footer = struct.unpack("<I", whole[-8:-4])[0]
    bent = whole[: -8 - footer] + bytes(footer) + whole[-8:]
    assert "damaged" in _refusal(tmp_path, bent, "t.parquet").message
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "t.parquet")
    assert "no rows" in _refusal(tmp_path, (tmp_path / "t.parquet").read_bytes(), "t.parquet").message
    pl.DataFrame().write_parquet(tmp_path / "t.parquet")
    assert "no columns" in _refusal(tmp_path, (tmp_path / "t.parquet").read_bytes(), "t.parquet").message


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("a,b\n1,2\n")
    with pytest.raises(NotFound, match=r"Did you mean '.*visits.csv'"):
        read_table(tmp_path / "visit.csv")
    with pytest.raises(NotFound, match="Looked in"):
        read_table(tmp_path / "zzzzzzzzzzz")
    with pytest.raises(NotFound, match="no folder"):
        read_table(tmp_path / "nowhere" / "visits.csv")
    with pytest.raises(Invalid, match=r"is a folder.*visits.csv"):
        read_table(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(Invalid, match="not a regular file"):
        read_table(tmp_path / "pipe.csv")


_PIECES = st.sampled_from(
    [*',;"\n\r\t|{}[]a1-.?:', "\x00", "é", '""', '{"a":', "null", "1e999", "9" * 30, "2024-02-30", "true"]
)


@settings(deadline=None)
@given(
    st.lists(_PIECES, max_size=30).map("".join), st.sampled_from(["csv", "ndjson", "json", "odd"]), st.integers(0, 255)
)
def test_no_text_raises_a_stranger(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str, byte: int) -> None:
    file = tmp_path_factory.mktemp("odd") / f"t.{suffix}"
    file.write_bytes(text.encode() + (bytes([byte]) if byte > 127 else b""))
    try:
        read = read_table(file)
    except Invalid:
        return
    assert (read.facts.rows, read.facts.columns) == read.frame.shape
    assert read.frame.height > 0


def test_decimal_commas(tmp_path: Path) -> None:
    read = _read(tmp_path, "a;b\n1.234,5;x\n-7;y\n12.345.678;z\n")
    assert read.frame["a"].to_list() == [1234.5, -7.0, 12_345_678.0]  # a comma among them: points are of thousands
    assert _read(tmp_path, "a;b\n1.23,5;x\n7,5;y\n").frame["a"].to_list() == ["1.23,5", "7,5"]
    told = _read(tmp_path, 'a,b\n"1,5",x\n"2,250",y\n')
    assert told.frame["a"].to_list() == ["1,5", "2,250"]
    assert told.facts.warnings == (
        "column 'a' stays text: its numbers hold commas, of decimals or of thousands; write them with a point",
    )


def test_numbers_that_are_too_large_are_no_infinite_ones(tmp_path: Path) -> None:
    read = _read(tmp_path, f"a,b,c\n1e400,{10**23},inf\n2,7,1.5\n")
    assert read.frame.rows() == [("1e400", str(10**23), float("inf")), ("2", "7", 1.5)]
    assert read.facts.warnings == (
        "column 'a' stays text: it holds numbers beyond a double (1, the first in row 1)",
        "column 'b' stays text: it holds numbers of 19 digits or more (1, the first in row 1)",
    )


def test_dates_that_could_be_read_in_two_ways_stay_text_and_are_told(tmp_path: Path) -> None:
    read = _read(tmp_path, "on,day,x\n2026-01-02,13/01/2026,a\n02/01/2026,02/01/2026,b\n2. Jan 2026,03/04/2026,2. c\n")
    assert read.frame.dtypes == [pl.String] * 3
    assert [w[: w.index(" (9")] for w in read.facts.warnings] == [
        "column 'on' stays text: it holds dates written as 9. a 9999, 99/99/9999, 9999-99-99",
        "column 'day' stays text: it holds dates written as 99/99/9999",
    ]


def test_a_line_break_and_five_megabytes_in_a_field(tmp_path: Path) -> None:
    for text in ("x" * (5 << 20), "line\r\n" * (5 << 18)):
        frame = _read(tmp_path, f'a,b\n"{text}",1\ny,2\n').frame
        assert frame.rows() == [(text, 1), ("y", 2)]
        found = profile(frame, full=True)
        assert len(found.to_json()) < 20_000
        assert check(frame, contract(column("a").matches("y"))).rules[0].broken == 1


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(10_000)]
    frame = _read(tmp_path, "\n".join(",".join(line) for line in (names, ["1"] * 10_000, ["2"] * 10_000))).frame
    assert (frame.shape, set(frame.dtypes)) == ((2, 10_000), {pl.Int64})
    found = profile(frame)
    assert len(found.columns) == 10_000
    assert check(frame, contract(*(column(n).between(1, 2) for n in names[:500]))).outcome == "pass"


def test_a_parquet_of_more_cells_than_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_parquet, "LARGEST", 16 << 20)
    content = io.BytesIO()
    pl.select(a=pl.repeat(0, 3_000_000)).write_parquet(content)  # a few kB: runs of one value
    refused = _refusal(tmp_path, content.getvalue(), "t.parquet")
    assert (refused.code, "3,000,000 cells" in refused.message) == ("table-large", True)


def test_a_parquet_whose_footer_lies_about_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(1000)}), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "whole").unlink()
    size = struct.unpack("<I", whole[-8:-4])[0]
    footer = whole[-8 - size : -8]
    count = b"\xd0\x0f"  # 1,000 as Thrift writes it
    places = [n for n in range(size) if footer[n : n + 2] == count]
    assert len(places) >= 3
    for lie in (b"\xfe\xff\xff\xff\xff\xff\x3f", b"\xc8\x01", b"\x00"):
        for place in places:
            bent = footer[:place] + lie + footer[place + 2 :]
            content = whole[: -8 - size] + bent + struct.pack("<I", len(bent)) + b"PAR1"
            (tmp_path / "t.parquet").write_bytes(content)
            try:
                assert read_table(tmp_path / "t.parquet").frame["a"].to_list() == list(range(1000))
            except Invalid as refused:
                assert refused.code == "table-damaged"  # noqa: PT017 - either is right, a wrong table is not
    assert "damaged" in _refusal(tmp_path, whole[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", "t.parquet").message


def test_a_parquet_with_a_name_twice(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(Invalid, match="'a' 2 times"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.skipif(not REAL.exists(), reason="the real file is not here")
def test_the_real_file_is_the_same_through_csv(tmp_path: Path) -> None:
    direct = read_table(REAL)
    assert (direct.facts.rows, direct.facts.columns, direct.facts.warnings) == (96_921, 47, ())
    direct.frame.write_csv(tmp_path / "r.csv")
    through = read_table(tmp_path / "r.csv").frame
    assert_frame_equal(through, direct.frame, check_dtypes=False)
    assert {c for c, t in through.schema.items() if t == pl.String} == {
        c for c, t in direct.frame.schema.items() if t == pl.String
    }
