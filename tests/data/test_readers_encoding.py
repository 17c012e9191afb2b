"""Texts in the encodings that people's programs write: each is read as what it is and said, or refused with the place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import readers_encoding
from loopline.data.readers import ReadTable, read_table
from loopline.data.readers_encoding import to_utf8
from loopline.errors import Invalid

ROWS = [("Zoë", 1), ("Müller", 2), ("Ångström €", 3), ("plain", 4)]
TEXT = "name,n\n" + "".join(f"{name},{n}\n" for name, n in ROWS)


def _read(folder: Path, content: bytes, name: str = "t.csv") -> ReadTable:
    (folder / name).write_bytes(content)
    return read_table(folder / name)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("windows-1252", "windows-1252"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_each_encoding_gives_the_same_rows_and_is_said(tmp_path: Path, encoding: str, said: str, form: str) -> None:
    text = TEXT if form == "csv" else "".join(f'{{"name": "{name}", "n": {n}}}\n' for name, n in ROWS)
    read = _read(tmp_path, text.encode(encoding), f"t.{form}")
    assert read.frame.rows() == ROWS
    assert read.facts.encoding == said
    told = [w for w in read.facts.warnings if "Windows-1252" in w]
    assert len(told) == (encoding == "windows-1252")
    if told and form == "csv":
        assert "(line 2, byte 0xeb at offset 9)" in told[0]


def test_latin_1_is_read_as_windows_1252_which_holds_its_letters(tmp_path: Path) -> None:
    assert _read(tmp_path, "a,b\nété,ñandú\n".encode("latin-1")).frame.rows() == [("été", "ñandú")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TEXT.encode() + "Søren,5\n".encode("latin-1"), "(0xf8, line 6) has no meaning there, while line 2 is UTF-8"),
        ("a\nä\n".encode("latin-1") + "ü\n".encode(), "(0xe4, line 2) has no meaning there, while line 3 is UTF-8"),
        ("a\nä\n".encode("utf-8-sig") + b"\xe4\n", "line 3) has no meaning there, while its first bytes say UTF-8"),
        (TEXT.encode("utf-16")[:-1], "is UTF-16, but damaged or cut off"),
        ("имя,n\nИван,1\n".encode("windows-1251"), "its encoding cannot be told"),
        ("名前,n\n山田太郎,1\n".encode("gbk", "replace"), "its encoding cannot be told"),
        (b"a,b\n1,\x81\n", "its encoding cannot be told"),
    ],
)
def test_mixed_and_unknown_encodings_are_refused_with_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        _read(tmp_path, content)
    assert (caught.value.code, says in caught.value.message) == ("not-utf8", True)
    assert caught.value.hint
    assert content[caught.value.details["offset"]] > 0x7F or "UTF-16" in says


def test_a_long_text_is_seen_to_its_end(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,x\n" * 1_200_000 + b"2,\xe9\n"
    assert _read(tmp_path, content).facts.encoding == "windows-1252"
    with pytest.raises(Invalid, match="line 1200003"):
        _read(tmp_path, content + "3,ä\n".encode())


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_what_is_utf_8_passes_as_it_is(text: str) -> None:
    assert to_utf8(text.encode(), "t")[0] == text.encode()


def _seen(text: bytes, size: int) -> tuple[object, ...]:
    """What comes of a text that is read in pieces of so many bytes, or what is said of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers_encoding, "_BLOCK", size)
        try:
            found, *said = to_utf8(text, "t")
        except Invalid as refused:
            return refused.message, refused.details
        return bytes(found[:]), *said


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.sampled_from("aé€ß\n,😀日"), min_size=20, max_size=80),
    st.integers(1, 20),
    st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "windows-1252"]),
)
def test_a_text_does_not_depend_on_where_its_pieces_end(words: str, size: int, encoding: str) -> None:
    words = "plain enough " * 40 + words + "."
    text = words.encode(encoding, "ignore")
    found = _seen(text, size)
    assert found == _seen(text, 1 << 20)
    if encoding != "windows-1252":
        assert found[:2] == (words.encode(), encoding)


@pytest.mark.parametrize("size", [3, 7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "offset"),
    [
        ("a,b\nä\n".encode() + b"\xe4,", 7),
        ("plain,日本".encode() + b"\xe6\x97", 12),
        (("x" * 40).encode("utf-16-le") + b"\x01\xd8y\x00", 80),
        (("x" * 40).encode("utf-16-le") + b"y", 80),
    ],
)
def test_the_place_of_what_is_wrong_does_not_depend_on_the_pieces(
    monkeypatch: pytest.MonkeyPatch, content: bytes, offset: int, size: int
) -> None:
    monkeypatch.setattr(readers_encoding, "_BLOCK", size)
    with pytest.raises(Invalid) as caught:
        to_utf8(content, "t")
    assert caught.value.details["offset"] == offset


def test_the_separator_that_excel_names_in_a_line_of_its_own(tmp_path: Path) -> None:
    assert _read(tmp_path, b"sep=;\r\na;b\r\n1,5;x\r\n").frame.rows() == [(1.5, "x")]
    assert _read(tmp_path, "sep=\t\na\tb\n1\tx\n".encode("utf-16")).frame.rows() == [(1, "x")]
