"""Bad tables and workspaces: the error names the thing and the way out, the exit code is 2, and nothing is written.

What a refused run does leave on the ledger is the loop's declaration and the run that failed: that somebody tried is a fact,
and the thresholds of a loop stand there before its evidence. No dataset version, no model, no bytes of the table.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from loopline import cli, failpoints
from loopline.app import Platform
from loopline.loop.lease import held

ROWS = 200
ATTEMPT = {"loops.declare", "pipelines.start", "pipelines.end"}
"""What the ledger may hold of a run that was refused its rows."""


def rows(**changed: Any) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "moment": list(range(ROWS)),
            "person": [f"p{i}" for i in range(ROWS)],
            "age": [20 + i * 7 % 60 for i in range(ROWS)],
            "city": [("Ulm", "Jena", "Kiel")[i % 3] for i in range(ROWS)],
            "ill": [("no", "no", "yes")[(i * 7 + i // 5) % 3] for i in range(ROWS)],
        }
    )
    return frame.with_columns(**changed)


class Told(NamedTuple):
    code: int
    error: str
    out: str


Loopline = Callable[..., Told]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPLINE_WORKSPACE", str(tmp_path / "ws"))
    return tmp_path


@pytest.fixture
def loopline(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Loopline:
    """The command line, with its exit code and what it wrote on standard error."""

    def call(*words: str) -> Told:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["loopline", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Told(int(ended.value.code or 0), written.err, written.out)

    return call


def missing_file(home: Path) -> str:
    rows().write_csv(home / "visits-2024.csv")
    return "visits-2042.csv"


def empty_file(home: Path) -> str:
    (home / "visits.csv").touch()
    return "visits.csv"


def header_only(home: Path) -> str:
    (home / "visits.csv").write_text("moment,person,age,city,ill\n")
    return "visits.csv"


def label_absent(home: Path) -> str:
    rows().rename({"ill": "il"}).write_csv(home / "visits.csv")
    return "visits.csv"


def one_value(home: Path) -> str:
    rows(ill=pl.lit("no")).write_csv(home / "visits.csv")
    return "visits.csv"


def label_missing(home: Path) -> str:
    late = pl.int_range(pl.len()) >= ROWS - 3
    rows(ill=pl.when(late).then(None).otherwise(pl.col("ill"))).write_parquet(home / "visits.parquet")
    return "visits.parquet"


def label_all_null(home: Path) -> str:
    rows(ill=pl.lit(None, dtype=pl.String)).write_parquet(home / "visits.parquet")
    return "visits.parquet"


def features_all_null(home: Path) -> str:
    rows(age=pl.lit(None, dtype=pl.Int64), city=pl.lit(None, dtype=pl.String)).write_parquet(home / "visits.parquet")
    return "visits.parquet"


def names_twice(home: Path) -> str:
    frame = rows()
    text = frame.write_csv().replace("moment,person,age,city,ill", "moment,person,age,age,ill", 1)
    (home / "visits.csv").write_text(text)
    return "visits.csv"


def names_twice_in_parquet(home: Path) -> str:
    arrow = rows().to_arrow()
    pq.write_table(pa.table(arrow.columns, names=["moment", "person", "age", "age", "ill"]), home / "visits.parquet")
    return "visits.parquet"


def mixed_encodings(home: Path) -> str:
    head, _, rest = rows().write_csv().replace("Ulm", "Köln").partition("Köln")
    (home / "visits.csv").write_bytes(f"{head}Köln".encode() + rest.encode("latin-1"))
    return "visits.csv"


def cut_off(home: Path) -> str:
    rows().write_parquet(home / "whole.parquet")
    whole = (home / "whole.parquet").read_bytes()
    (home / "visits.parquet").write_bytes(whole[: len(whole) // 2])
    return "visits.parquet"


def no_side(home: Path) -> str:
    """All rows are of one person: those of the later sides were all seen before."""
    rows(person=pl.lit("p0")).write_csv(home / "visits.csv")
    return "visits.csv"


def group_all_null(home: Path) -> str:
    rows(person=pl.lit(None, dtype=pl.String)).write_parquet(home / "visits.parquet")
    return "visits.parquet"


TABLES: list[tuple[Callable[[Path], str], str, str]] = [
    (missing_file, "There is no file", "Did you mean 'visits-2024.csv'"),
    (empty_file, "is empty (0 bytes)", "where it was written"),
    (header_only, "header of 5 columns but no rows", ""),
    (label_absent, "no column 'ill'", "Did you mean 'il'"),
    (one_value, "'ill' has one value only", "at least two classes"),
    (label_all_null, "'ill' has no value in any of 200 rows", "another column as the label"),
    (features_all_null, "no column has a value to learn from ('age', 'city')", "more columns"),
    (group_all_null, "The group column 'person' has no value", "leave the group out"),
    (names_twice, "the column name 'age' 2 times (columns 3, 4)", "a name of its own"),
    (names_twice_in_parquet, "'age'", "a name of its own"),
    (mixed_encodings, "not UTF-8", "iconv"),
    (cut_off, "was cut off", "Copy it again"),
    (no_side, "side of the split by time has 0 rows", "whose person an earlier side has"),
]
BY_NAME = [case[0].__name__ for case in TABLES]


@pytest.mark.parametrize(("made", "says", "way_out"), TABLES, ids=BY_NAME)
def test_init_refuses(home: Path, loopline: Loopline, made: Callable[[Path], str], says: str, way_out: str) -> None:
    file = made(home)
    told = loopline("init", "visits", "--data", file, "--label", "ill", "--time", "moment", "--group", "person")
    assert told.code == 2
    assert says in told.error
    assert way_out in told.error
    assert not (home / "visits.py").exists()
    assert not (home / "ws").exists()


def one_group(home: Path) -> str:
    rows(person=pl.lit("p0")).write_csv(home / "visits.csv")
    return "visits.csv"


def test_init_names_a_group_column_of_one_group(home: Path, loopline: Loopline) -> None:
    told = loopline("init", "visits", "--data", one_group(home), "--label", "ill", "--group", "person")
    assert told.code == 2
    assert "'person' has 1 group in all 200 rows" in told.error
    assert "leave the group out" in told.error
    assert not (home / "visits.py").exists()


def test_init_sets_rows_without_a_label_aside(home: Path, loopline: Loopline) -> None:
    """They are counted and said; `run` refuses them where nobody declared that rule."""
    told = loopline("init", "visits", "--data", label_missing(home), "--label", "ill")
    assert (told.code, told.error) == (0, "")
    assert "3 rows without a 'ill' will be quarantined" in told.out
    assert 'll.column("ill").not_null()' in (home / "visits.py").read_text()


def test_init_refuses_where_too_few_labels_are_left(home: Path, loopline: Loopline) -> None:
    early = pl.int_range(pl.len()) < 5
    rows(ill=pl.when(early).then(pl.col("ill")).otherwise(None)).write_parquet(home / "visits.parquet")
    told = loopline("init", "visits", "--data", "visits.parquet", "--label", "ill")
    assert told.code == 2
    assert "Give more rows" in told.error
    assert not (home / "visits.py").exists()


def endless(home: Path) -> str:
    bill = pl.int_range(pl.len()).cast(pl.Float64)
    rows(ill=pl.when(bill % 50 == 7).then(float("inf")).otherwise(bill / 3)).write_parquet(home / "visits.parquet")
    return "visits.parquet"


def test_infinite_amounts_are_set_aside_by_rule_and_refused_without_it(home: Path, loopline: Loopline) -> None:
    told = loopline("init", "visits", "--data", endless(home), "--label", "ill")
    assert (told.code, told.error) == (0, "")
    assert "4 rows whose 'ill' is infinite will be quarantined" in told.out
    text = (home / "visits.py").read_text()
    (rule,) = [line for line in text.splitlines() if 'll.column("ill").between(-3e38, 3e38)' in line]
    assert loopline("run", "visits").code in (0, 3)
    assert left(home).datasets[-1][0].quarantined == 4
    before = left(home)
    (home / "visits.py").write_text(text.replace(rule, ""))
    told = loopline("run", "visits")
    assert told.code == 2
    assert "'ill' is infinite or beyond 3e38 in 4 of 200 rows (rows 8, 58, 108, 158)" in told.error
    assert "let the contract quarantine them" in told.error
    assert left(home)[:3] == before[:3]


class Left(NamedTuple):
    datasets: list[Any]
    models: list[Any]
    files: list[str]
    ledger: list[str]


def left(home: Path) -> Left:
    """What a workspace holds: dataset versions, models, files of tables and bytes, and the ledger's operations."""
    with closing(Platform.open(workspace=home / "ws")) as platform:
        session = platform.session()
        return Left(
            datasets=[session.datasets.log(dataset.name) for dataset in session.datasets.list()],
            models=list(session.models.list()),
            files=sorted(
                str(path.relative_to(home))
                for place in ("tables", "blobs", "serving", "scratch")
                for path in (home / "ws" / place).rglob("*")
                if path.is_file()
            ),
            ledger=[entry.operation for entry in session.ledger.entries(limit=1000)],
        )


@pytest.fixture
def declared(home: Path, loopline: Loopline) -> Iterator[Path]:
    """A loop on good rows, in a workspace that is there."""
    rows().write_csv(home / "good.csv")
    words = ("--data", "good.csv", "--label", "ill", "--time", "moment", "--group", "person")
    assert loopline("init", "visits", *words).code == 0
    left(home)
    (home / "good.csv").unlink()
    yield home
    failpoints.arm("")


@pytest.mark.parametrize(("made", "says", "way_out"), TABLES, ids=BY_NAME)
def test_run_refuses(declared: Path, loopline: Loopline, made: Callable[[Path], str], says: str, way_out: str) -> None:
    before = left(declared)
    told = loopline("run", "visits", "--data", made(declared))
    assert told.code == 2
    if made is group_all_null:  # its rows break the contract first
        says, way_out = "No row of visits.parquet can be taken into visits", "Mend the data"
    elif made is label_all_null:
        says, way_out = "'ill.not_null()' alone holds back 200", "Mend the data"
    elif made is label_absent:  # so does a column that its rules name
        says, way_out = "'ill'", "'il'"
    assert says in told.error
    assert way_out in told.error
    assert "Traceback" not in told.error
    after = left(declared)
    assert after[:3] == before[:3] == ([], [], [])
    new = after.ledger[len(before.ledger) :]
    assert after.ledger[: len(before.ledger)] == before.ledger
    assert set(new) <= (set() if made in (missing_file, empty_file) else ATTEMPT)


def test_run_quarantines_or_refuses_rows_without_a_label(declared: Path, loopline: Loopline) -> None:
    """With the contract's rule they are set aside; without it none of the rows is taken."""
    file = declared / "visits.py"
    lines = file.read_text().splitlines(keepends=True)
    bare = [line for line in lines if 'll.column("ill").not_null()' not in line]
    assert len(bare) == len(lines) - 1
    file.write_text("".join(bare))
    before = left(declared)
    told = loopline("run", "visits", "--data", label_missing(declared))
    assert told.code == 2
    assert "'ill' is missing in 3 of 200 rows" in told.error
    assert "let the contract quarantine them" in told.error
    assert left(declared)[:3] == before[:3]
    file.write_text("".join(lines))
    told = loopline("run", "visits", "--data", "visits.parquet")
    assert told.code in (0, 3)
    assert left(declared).datasets[-1][0].quarantined == 3


def test_a_second_controller_is_refused(declared: Path, loopline: Loopline) -> None:
    rows().write_csv(declared / "good.csv")
    before = left(declared)
    with held(declared / "ws", "loopline up", url="http://127.0.0.1:8400"):
        told = loopline("run", "visits", "--data", "good.csv")
    assert told.code == 2
    assert "one controller at a time" in told.error
    assert "http://127.0.0.1:8400" in told.error
    assert left(declared) == before


def test_a_workspace_of_a_newer_version_is_refused(declared: Path, loopline: Loopline) -> None:
    rows().write_csv(declared / "good.csv")
    path = declared / "ws" / "loopline.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        known = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    told = loopline("run", "visits", "--data", "good.csv")
    assert told.code == 2
    assert "newer version: its tables are at revision 9999" in told.error
    assert "Update loopline" in told.error
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :known"), {"known": known})
    engine.dispose()
    assert left(declared)[:3] == ([], [], [])


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(declared: Path, loopline: Loopline) -> None:
    """Exit code 4: nothing is wrong with the input, and the same command works later."""
    rows().write_csv(declared / "good.csv")
    failpoints.arm("data.versions.write=ENOSPC")
    told = loopline("run", "visits", "--data", "good.csv")
    failpoints.arm("")
    assert told.code == 4
    assert "no space left to write 200 rows" in told.error
    assert "Free some space" in told.error
    found = left(declared)
    assert (found.datasets, found.models) == ([], [])
    assert not [file for file in found.files if file.endswith(".parquet")]
    assert loopline("run", "visits", "--data", "good.csv").code in (0, 3)
    assert len(left(declared).datasets[-1]) == 1


def test_disk_full_and_bad_input_from_outside(declared: Path) -> None:
    """The same as another process sees it: exit code and standard error, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "loopline", "run", "visits", "--data", cut_off(declared), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert '"code":"table-damaged"' in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
