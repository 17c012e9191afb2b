"""Files on this machine keep to the laws of sources; what cannot be taken is refused by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import polars as pl
import pytest

from loopline.errors import Conflict, Invalid, NotFound
from loopline.foreign import row_source
from loopline.ports.source import Source
from loopline.testing.source import Place, Row, SourceLaws


class Folder:
    """A folder into which files come."""

    secret = ""

    def __init__(self, folder: Path, address: str, *, whole: bool = False) -> None:
        self.folder = folder
        self.address = address
        self.options = {"whole": "true"} if whole else {}
        self.numbers = count()
        folder.mkdir()

    def put(self, rows: Sequence[Row]) -> None:
        pl.DataFrame(rows).write_csv(self.folder / f"{next(self.numbers):03}.csv")

    def open(self) -> Source:
        return row_source(self.address, self.options, self.folder.parent)

    def vanish(self) -> None:
        shutil.rmtree(self.folder)


class OneFile(Folder):
    """A file that is written anew."""

    def put(self, rows: Sequence[Row]) -> None:
        file = Path(self.address)
        before = pl.read_csv(file).to_dicts() if file.exists() else []
        pl.DataFrame([*before, *rows]).write_csv(file)


class TestFolder(SourceLaws):
    @pytest.fixture(params=["a folder", "a pattern", "a folder, whole"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
        folder = tmp_path / "clinic"
        address = folder / "*.csv" if request.param == "a pattern" else folder
        return Folder(folder, str(address), whole=request.param.endswith("whole"))


class TestFile(SourceLaws):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return OneFile(tmp_path / "clinic", str(tmp_path / "clinic" / "visits.csv"))


def names(address: object, **options: str) -> list[str]:
    return [piece.name for piece in row_source(str(address), options, Path("/nowhere")).read(None)]


def test_files_below_are_taken_and_those_under_way_are_not(tmp_path: Path) -> None:
    (tmp_path / "2026").mkdir()
    (tmp_path / "_delta").mkdir()
    for name in ("b.csv", "2026/a.csv", ".hidden.csv", "_SUCCESS", "c.csv.part", "d.tmp", "_delta/e.csv"):
        (tmp_path / name).write_text("id\n1\n")
    assert names(tmp_path) == ["2026/a.csv", "b.csv"]
    assert names(tmp_path / "*.csv") == ["b.csv"]
    assert names(tmp_path / "**" / "*.csv") == ["2026/a.csv", "b.csv"]


def test_a_file_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "visits[1].csv"
    file.write_text("id\n1\n")
    assert names(file) == ["visits[1].csv"]


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
def test_a_link_that_leads_out_is_refused_by_name(tmp_path: Path, inner: bool, to: str) -> None:
    folder, outside = tmp_path / "clinic", tmp_path / "secret"
    folder.mkdir()
    outside.mkdir()
    (outside / "salaries.csv").write_text("id\n1\n")
    target = {"file": "salaries.csv", "folder": ".", "nothing": "gone.csv"}[to]
    if inner:
        (folder / "deep").mkdir()
        (folder / "deep" / "pay.csv").symlink_to(f"../../secret/{target}")
    else:
        (folder / "pay.csv").symlink_to(outside / target)
    with pytest.raises(Invalid, match=r"pay\.csv in .* leads out") as caught:
        names(folder)
    assert caught.value.code == "source-outside"
    with pytest.raises(Invalid, match=r"pay\.csv in .* leads out"):
        names(folder / "**" / "*.csv")


def test_a_pattern_that_climbs_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id\n1\n")
    with pytest.raises(NotFound, match="no file in"):
        names(f"{tmp_path}/i*/../*.csv")


def test_a_link_to_another_of_the_files_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "0-newest.csv").symlink_to("a.csv")
    (tmp_path / "_store").mkdir()
    (tmp_path / "_store" / "x").write_text("id\n2\n")
    (tmp_path / "b.csv").symlink_to("_store/x")  # as containers mount what they are given
    (tmp_path / "more").symlink_to(".")
    (tmp_path / "ring").symlink_to("ring")
    assert names(tmp_path) == ["a.csv", "b.csv"]
    assert names(tmp_path / "*" / "*.csv") == ["more/a.csv", "more/b.csv"]


def test_a_file_that_was_taken_and_changed_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    source = row_source(str(tmp_path), {}, tmp_path)
    (piece,) = source.read(None)
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    with pytest.raises(Conflict, match=r"a\.csv .* has changed since") as caught:
        list(source.read(piece.position))
    assert caught.value.code == "source-changed"
    assert "whole=true" in caught.value.hint
    whole = row_source(str(tmp_path), {"whole": "true"}, tmp_path)
    (again,) = whole.read(piece.position)
    assert list(whole.read(again.position)) == []


def test_a_file_that_went_is_nothing_new(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id\n1\n")
    source = row_source(str(tmp_path), {}, tmp_path)
    *_, last = source.read(None)
    os.unlink(tmp_path / "a.csv")
    assert list(source.read(last.position)) == []


def test_a_name_that_is_mistyped_is_told_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("id\n1\n")
    with pytest.raises(NotFound) as caught:
        names(tmp_path / "vists.csv")
    assert "Did you mean 'visits.csv'?" in caught.value.hint


def test_what_names_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file in"):
        names(tmp_path)
    with pytest.raises(Invalid, match="neither true nor false"):
        names(tmp_path, whole="maybe")
    with pytest.raises(Invalid, match="no option 'hole'") as caught:
        names(tmp_path, hole="true")
    assert "whole" in caught.value.hint
    with pytest.raises(Invalid, match="begins with gopher://"):
        names("gopher://127.0.0.1/x")
