"""`loopline data add` and `sync` from sources, as people type them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.cli.conftest import Shell


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    folder.mkdir()
    (folder / "a.csv").write_text("id,days\n1,2\n2,3\n")
    return folder


def test_a_folder_is_added_and_synced(bare: Shell, clinic: Path) -> None:
    said = bare("data", "add", "visits", str(clinic), "--message", "as it came").out
    assert "Added data:visits@1: 2 rows of 2 columns." in said
    assert "Nothing new for visits: data:visits@1 is the newest." in bare("data", "sync", "visits").out
    (clinic / "b.csv").write_text("id,days,ward\n3,4,n\n")
    said = bare("data", "sync").out
    assert "Added data:visits@2: 3 rows of 3 columns." in said
    assert "Column 'ward' is new." in said
    shown = bare("data", "show", "visits").out
    assert f"collected from  {clinic}" in shown
    assert "b.csv" in shown
    (clinic / "c.csv").write_text("id,days,ward\nx,4,n\n")
    failed = bare("data", "sync", "visits", code=2)
    assert "c.csv has changed: column 'id' holds text where integers were" in failed.err
    assert bare("data", "sync", "visits", "--json", code=2).out == ""
    said = bare("data", "add", "visits", str(clinic), "--on-schema-change", "quarantine").out
    assert "1 row is held back (columns 1)" in said
    (version,) = (v for v in bare("data", "log", "visits", "--json").json if v["version"] == 3)
    assert (version["rows"], version["quarantined"]) == (3, 1)


def test_one_that_fails_keeps_no_other(bare: Shell, clinic: Path) -> None:
    for name in ("first", "second"):
        bare("data", "add", name, str(clinic / "*.csv" if name == "first" else clinic / "a.csv"))
    (clinic / "a.csv").write_text("id,days\n9,9\n")
    ended = bare("data", "sync", code=2)
    assert "has changed since" in ended.err
    assert "Added data:second@2: 1 row of" in ended.out


def test_a_database_and_what_is_joined(bare: Shell, clinic: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute("CREATE TABLE lab (id INTEGER, value REAL)")
        database.executemany("INSERT INTO lab VALUES (?, ?)", [(1, 0.5), (3, 0.7)])
    address = f"sqlite:///{tmp_path / 'lab.db'}"
    said = bare("data", "add", "lab", address, "--query", "SELECT * FROM lab WHERE value > 0.6").out
    assert "Added data:lab@1: 1 row of 2 columns." in said
    said = bare("data", "add", "marked", address, "--option", "table=lab", "--mark", "id", "--json").json
    assert said["rows"] == 2
    (clinic / "b.csv").write_text("id,ward\n2,n\n3,s\n")
    said = bare("data", "add", "joined", str(clinic / "a.csv"), str(clinic / "b.csv"), "--join", "id").out
    assert ".csv by id: 1 rows matched, 1 are in it alone, 1 not in it." in said


def test_by_itself_and_never_again(bare: Shell, clinic: Path) -> None:
    bare("data", "add", "visits", str(clinic))
    said = bare("data", "sync", "visits", "--every", "15min").out
    assert said.startswith("visits is read every 15min, as long as `loopline up` runs.")
    assert "by itself" in bare("data", "show", "visits").out
    assert "every 15min" in bare("status").out
    assert bare("data", "sync", "visits", "--cron", "15 2 * * *", "--json").json[0]["schedule"]["cron"] == "15 2 * * *"
    assert "as soon as something arrives" in bare("data", "sync", "visits", "--on-arrival").out
    assert "when 1,000 rows wait" in bare("data", "sync", "visits", "--when-rows", "1000").out
    assert "visits is not read by itself any more" in bare("data", "sync", "visits", "--never").out
    assert "by several" in bare("data", "sync", "visits", "--every", "1h", "--cron", "* * * * *", code=2).err
    assert "Name the datasets" in bare("data", "sync", "--every", "1h", code=2).err


def test_what_is_typed_wrongly_is_told(bare: Shell, clinic: Path) -> None:
    assert "write KEY=VALUE" in bare("data", "add", "visits", str(clinic), "--option", "whole", code=2).err
    assert "no option 'hole'" in bare("data", "add", "visits", str(clinic), "--option", "hole=1", code=2).err
    assert "begins with gopher" in bare("data", "add", "visits", "gopher://x/y", code=2).err
    secret = bare("data", "add", "visits", "postgresql://ann:hunter2@127.0.0.1/x", code=2).err
    assert "hunter2" not in secret
    assert "Write ${NAME}" in secret
    assert bare("data", "sync").out + bare("data", "sync").err
