"""The first file of a loop: readable, valid whatever the columns are called, and honest about what it took from the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.errors import Conflict, Invalid, NotFound
from loopline.evaluation.gates import AtLeast, Beats, Fair, Latency, NotWorseThan
from loopline.loop import files
from loopline.loop.declaration import Loop
from loopline.loop.starter import write
from loopline.loop.starter_text import Facts, source_text
from loopline.quality.contract import column, contract, unique

ROWS = 120


def table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "visit_id": [f"v{i:04}" for i in range(ROWS)],
            "day": pl.Series([f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(ROWS)]).str.to_date(),
            "age": [20 + i * 7 % 60 for i in range(ROWS)],
            "city": [("Ulm", "Jena", "Kiel")[i % 3] for i in range(ROWS)],
            "person": [i // 2 for i in range(ROWS)],
            "empty": pl.Series([None] * ROWS, dtype=pl.String),
            "ill": [("no", "no", "yes")[(i * 7 + i // 5) % 3] for i in range(ROWS)],
        }
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "visits.csv"
    table().write_csv(path)
    return path


def ruff_leaves(path: Path) -> bool:
    program = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [program, "format", "--check", "--isolated", "--line-length", "120", path], capture_output=True, check=False
    )
    return done.returncode == 0


def test_the_file_declares_what_was_asked_for(tmp_path: Path, data: Path) -> None:
    written = write(tmp_path, "visits", data, label="ill", time="day", group="person", protected=["city"])
    assert (written.path, written.task, written.rows, written.columns) == (tmp_path / "visits.py", "binary", ROWS, 7)
    text = written.path.read_text()
    assert len(text.splitlines()) < 80
    assert ruff_leaves(written.path)
    loop = files.read(written.path)
    assert loop.name == "visits"
    assert (loop.data.path, loop.data.label, loop.data.time, loop.data.group) == ("visits.csv", "ill", "day", "person")
    assert (loop.data.protected, loop.data.task) == (("city",), "binary")
    assert [type(gate) for gate in loop.gates] == [AtLeast, Beats, NotWorseThan, Fair, Latency]
    assert loop.contract is not None
    assert unique("visit_id") in loop.contract.rules
    assert column("ill").one_of("no", "yes") in loop.contract.rules
    assert any("'empty'" in note and "null in every row" in note for note in written.notes)


@pytest.mark.parametrize(
    ("label", "task", "metric"), [("ill", "binary", "roc_auc"), ("city", "multiclass", "roc_auc_ovr_weighted")]
)
def test_gates_fit_the_task(tmp_path: Path, data: Path, label: str, task: str, metric: str) -> None:
    loop = files.read(write(tmp_path, "visits", data, label=label).path)
    assert loop.data.task == task
    assert {gate.metric for gate in loop.gates if isinstance(gate, AtLeast | Beats | NotWorseThan)} == {metric}


def test_a_regression_is_held_against_the_variance(tmp_path: Path, data: Path) -> None:
    written = write(tmp_path, "visits", data, label="age", protected=["city"])
    loop = files.read(written.path)
    assert loop.data.task == "regression"
    assert not [gate for gate in loop.gates if isinstance(gate, Fair)]
    assert any("fairness is judged for two classes only" in note for note in written.notes)


def test_thresholds_do_not_depend_on_how_well_the_label_can_be_learnt(tmp_path: Path) -> None:
    """The same table with its label shuffled declares the same gates: they are conventions, not results."""
    known = table().with_columns(ill=(pl.col("age") > 50).cast(pl.String))
    gates = []
    for name, frame in (("known", known), ("noise", known.with_columns(pl.col("ill").shuffle(seed=1)))):
        frame.write_parquet(tmp_path / f"{name}.parquet")
        gates.append(files.read(write(tmp_path, name, tmp_path / f"{name}.parquet", label="ill").path).gates)
    assert gates[0] == gates[1]


def test_the_path_is_seen_from_the_file(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "loops"
    home.mkdir()
    monkeypatch.chdir(home)
    assert files.read(write(home, "near", Path("../visits.csv"), label="ill").path).data.path == "../visits.csv"
    assert files.read(write(home, "far", data, label="ill").path).data.path == data.as_posix()
    assert files.read(write(tmp_path, "here", data, label="ill").path).data.path == "visits.csv"


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path, data: Path) -> None:
    path = write(tmp_path, "visits", data, label="ill").path
    path.write_text("mine")
    with pytest.raises(Conflict, match=r"visits\.py already") as refused:
        write(tmp_path, "visits", data, label="ill")
    assert "--force" in refused.value.hint
    assert path.read_text() == "mine"
    assert write(tmp_path, "visits", data, label="ill", overwrite=True).path.read_text() != "mine"


@pytest.mark.parametrize("name", ["json", "polars", "loopline", "random"])
def test_a_name_that_would_hide_a_module_is_refused(tmp_path: Path, data: Path, name: str) -> None:
    with pytest.raises(Invalid, match="would hide the Python module") as refused:
        write(tmp_path, name, data, label="ill")
    assert "Take another name" in refused.value.hint
    assert not (tmp_path / f"{name}.py").exists()


@pytest.mark.parametrize("name", ["my-loop", "v2.1", "7days"])
def test_a_name_need_be_no_identifier(tmp_path: Path, data: Path, name: str) -> None:
    assert files.read(write(tmp_path, name, data, label="ill").path).name == name


@pytest.mark.parametrize(
    ("asked", "says", "hint"),
    [
        ({"label": "il"}, "no column 'il'", "ill"),
        ({"label": "empty"}, "no value in any of", "another column"),
        ({"label": "day"}, "cannot be learned", "number"),
        ({"label": "visit_id"}, "names, not classes", "another column"),
        ({"label": "ill", "time": "dya"}, "no column 'dya'", "day"),
        ({"label": "ill", "time": "city"}, "does not order rows in time", "ISO dates"),
        ({"label": "ill", "group": "persn"}, "no column 'persn'", "person"),
        ({"label": "ill", "protected": ["cty"]}, "no column 'cty'", "city"),
        ({"label": "ill", "protected": ["ill"]}, "is the label", "another column"),
        ({"label": "ill", "time": "empty"}, "does not order rows in time", "ISO dates"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_written(
    tmp_path: Path, data: Path, asked: dict[str, str], says: str, hint: str
) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        write(tmp_path, "visits", data, **asked)  # type: ignore[arg-type]
    assert hint in refused.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["visits.csv"]


def test_a_missing_table_is_not_found(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*visit\.csv") as refused:
        write(tmp_path, "visits", data.with_name("visit.csv"), label="ill")
    assert "visits.csv" in refused.value.hint


def test_rows_without_a_time_will_be_quarantined(tmp_path: Path) -> None:
    frame = table().with_columns(day=pl.when(pl.col("age") > 75).then(None).otherwise(pl.col("day")))
    frame.write_parquet(tmp_path / "t.parquet")
    written = write(tmp_path, "t", tmp_path / "t.parquet", label="ill", time="day")
    loop = files.read(written.path)
    assert loop.contract is not None
    assert column("day").not_null() in loop.contract.rules
    assert any(f"{frame['day'].null_count()} rows without a 'day'" in note for note in written.notes)


def test_what_a_column_beyond_a_float_holds_is_said(tmp_path: Path) -> None:
    table().with_columns(h=pl.col("age") * 1e300).write_parquet(tmp_path / "t.parquet")
    written = write(tmp_path, "t", tmp_path / "t.parquet", label="ill")
    assert any("'h' (beyond what models count (3.4e38)" in note for note in written.notes)


def test_whole_numbers_that_may_be_amounts_are_said(tmp_path: Path) -> None:
    table().with_columns(stars=pl.col("age") % 5).write_parquet(tmp_path / "t.parquet")
    written = write(tmp_path, "t", tmp_path / "t.parquet", label="stars")
    (note,) = [note for note in written.notes if "whole numbers of 'stars'" in note]
    assert 'task="regression" in t.py' in note
    text = written.path.read_text()
    assert '    task="multiclass",' in text
    changed = text.replace('task="multiclass"', 'task="regression"').replace("roc_auc_ovr_weighted", "r2")
    written.path.write_text(changed)
    assert files.read(written.path).data.task == "regression"


@pytest.mark.parametrize(("rows", "said"), [(30, True), (70, False)])
def test_amounts_in_too_few_rows_to_be_measured_are_said(tmp_path: Path, rows: int, said: bool) -> None:
    frame = pl.DataFrame({"x": [k * 7 % 31 for k in range(rows)], "y": [k * 1.3 for k in range(rows)]})
    frame.write_parquet(tmp_path / "t.parquet")
    written = write(tmp_path, "t", tmp_path / "t.parquet", label="y")
    assert any("give 67 rows" in note for note in written.notes) == said


def test_a_group_with_most_of_the_rows_is_said(tmp_path: Path) -> None:
    frame = table().with_columns(person=pl.when(pl.col("person") < 50).then(0).otherwise(pl.col("person")))
    frame.write_parquet(tmp_path / "t.parquet")
    written = write(tmp_path, "t", tmp_path / "t.parquet", label="ill", group="person")
    assert any("one 'person' has 83% of the rows" in note for note in written.notes)


def test_a_price_that_differs_in_every_row_is_no_key(tmp_path: Path) -> None:
    prices = [1000 + i * i for i in range(ROWS)]
    table().drop("visit_id").insert_column(0, pl.Series("price", prices)).write_parquet(tmp_path / "t.parquet")
    loop = files.read(write(tmp_path, "t", tmp_path / "t.parquet", label="ill").path)
    assert loop.contract is not None
    assert unique("price") not in loop.contract.rules


# Of signs newer than Python's tables nobody here knows how wide they are: such a line may be broken where ruff would not.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), min_size=1, max_size=60)
TRICKY = st.sampled_from(
    ['"', "'", "\\", '"""', "\\N", "{x}", "%s", "\n", "\r", "\t", "\x00", "\u2028", "a\\", '\\"', "é列"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.one_of(NAMES, TRICKY, st.tuples(NAMES, TRICKY).map("".join)), min_size=6, max_size=6, unique=True
    ),
    values=st.lists(st.one_of(NAMES, TRICKY), min_size=2, max_size=20, unique=True),
    bounds=st.tuples(st.floats(-1e18, 0), st.floats(1e-9, 1e18)),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
)
def test_any_names_and_values_make_a_valid_and_formatted_file(
    tmp_path: Path, names: list[str], values: list[str], bounds: tuple[float, float], task: str
) -> None:
    label, time, group, first, second, third = names
    rules = contract(
        unique(first),
        column(label).not_null(),
        column(label).one_of(*values),
        column(second).between(*bounds, severity="warn"),
        column(third).one_of(*values[:2], severity="warn"),
    )
    facts = Facts(
        name="odd", data=f"data/{first}", label=label, task=task, time=time, group=group, protected=(second, third),
        contract=rules, rows=1000, features=9, classes=2, rarest=400,
    )  # fmt: skip
    path = tmp_path / "odd.py"
    path.write_text(source_text(facts), encoding="utf-8")
    assert len(path.read_text(encoding="utf-8").split("\n")) <= 80
    loop: Loop = files.read(path)
    source = loop.data
    assert (source.label, source.time, source.group) == (label, time, group)
    assert source.protected == (second, third)
    assert source.path == f"data/{first}"
    assert loop.contract is not None
    kept = [rule for rule in rules.rules if rule in loop.contract.rules]
    assert tuple(kept) == loop.contract.rules
    assert rules.rules[1] in kept
    json.dumps(loop.describe())
    assert ruff_leaves(path)
