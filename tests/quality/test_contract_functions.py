"""Functions of Python as rules: asked in this process alone, by name and source; what they answer is checked before it counts."""

from __future__ import annotations

import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import loopline as ll
from loopline.errors import Invalid
from loopline.quality.contract import Contract, column, contract, rule, spell
from loopline.quality.contract_check import PERSONAL, check, partition
from loopline.quality.contract_functions import judge_of
from loopline.quality.contract_rules import Function
from loopline.quality.contract_toml import from_toml, to_toml


def _nothing() -> None: ...


@rule("a stay is short", columns=["start", "stop"])
def short(rows: pl.DataFrame) -> pl.Series:
    assert rows.columns == ["start", "stop"]
    return rows["stop"] - rows["start"] <= 14


@rule("no ward is full")
def roomy(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("beds") > 0


@rule("none is far from the mean", columns=["beds"], whole=True, severity="warn")
def near(rows: pl.DataFrame) -> pl.Expr:
    return (pl.col("beds") - pl.col("beds").mean()).abs() < 4


@rule("none is above the mean")
def unstable(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("beds") <= pl.col("beds").mean()


@rule("it fails")
def failing(rows: pl.DataFrame) -> pl.Series:
    raise ValueError(f"Ann, {rows['beds'][0]} beds")


@rule("it leaves")
def leaving(rows: pl.DataFrame) -> pl.Series:
    raise SystemExit(3)


@rule("it is too short")
def few(rows: pl.DataFrame) -> pl.Series:
    return rows["beds"].head(3) > 0


@rule("it is one answer")
def one(rows: pl.DataFrame) -> pl.Expr:
    return (pl.col("beds") > 0).all()


@rule("it counts")
def counting(rows: pl.DataFrame) -> pl.Series:
    return rows["beds"]


@rule("it lists")
def listing(rows: pl.DataFrame) -> Any:
    return [True] * rows.height


@rule("it is silent")
def silent(rows: pl.DataFrame) -> Any:
    return None


@rule("it names a column that is none")
def lost(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("ward") == "north"


@rule("it writes into its rows")
def writing(rows: pl.DataFrame) -> pl.Series:
    rows.insert_column(0, pl.Series("new", range(rows.height)))
    rows[0, "beds"] = 99
    return rows["beds"] >= 0


def _table(rows: int = 6) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "start": list(range(rows)),
            "stop": [n + (20 if n == 2 else 3) for n in range(rows)],
            "beds": [float(n) for n in range(rows)],
        }
    )


def test_its_failing_rows_are_held_back_with_rule_and_reason_as_all_others() -> None:
    made = contract(short, roomy, column("start").between(0, 4))
    good, aside, report = partition(_table(), made)
    assert good["start"].to_list() == [1, 3, 4]
    assert aside["_rule"].to_list() == ["no ward is full", "a stay is short", "start.between(0, 4)"]
    assert report.counts("quarantine") == {"a stay is short": 1, "no ward is full": 1, "start.between(0, 4)": 1}
    assert report.rules[0].examples[0].values == {"start": "2", "stop": "22"}
    assert report.rules[0].examples[0].row == 3


def test_a_missing_answer_passes_and_nan_is_missing() -> None:
    table = _table().with_columns(
        beds=pl.Series([0.0, None, float("nan"), 1.0, 2.0, 3.0]), stop=pl.Series([1, None, 3, 4, 5, 99])
    )
    good, aside, _ = partition(table, contract(short, roomy))
    assert aside["start"].to_list() == [0, 5]
    assert good["start"].to_list() == [1, 2, 3, 4]


def test_a_table_without_rows_is_asked_nothing() -> None:
    assert check(_table(0), contract(failing)).outcome == "pass"


def test_rows_that_were_taken_before_are_not_judged_again() -> None:
    good, aside, _ = partition(_table(), contract(short), behind=3)
    assert (good.height, aside.height) == (6, 0)


def test_no_value_of_a_personal_column_is_shown() -> None:
    report = check(_table(), contract(short, personal=["stop"]))
    assert report.rules[0].examples[0].values == {"start": "2", "stop": PERSONAL}


def test_severities_are_those_of_all_rules() -> None:
    assert check(_table(9), contract(near)).counts("warn") == {"none is far from the mean": 2}
    stopping = msgspec.structs.replace(short, severity="stop")
    with pytest.raises(Invalid, match=r"stops at a stay is short: 1 row;") as refused:
        partition(_table(), contract(stopping))
    assert refused.value.code == "contract-stop"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (failing, "failing raised ValueError in line {line}"),
        (leaving, "leaving raised SystemExit in line {line}"),
        (few, "few gave 3 answers for 6 rows"),
        (one, "one gave 1 answer for 6 rows"),
        (counting, "counting gave a column of Float64"),
        (listing, "listing gave a list"),
        (silent, "silent gave nothing"),
        (lost, "lost raised ColumnNotFoundError"),
        (unstable, "unstable says something else of a row when it is asked of that row alone"),
    ],
)
def test_what_is_no_answer_is_refused_by_rule_and_reason(asked: Function, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        partition(_table(), contract(short, asked))
    name = asked.function.partition(":")[2]
    line = 0
    if "{line}" in said:
        source, start = inspect.getsourcelines(judge_of(asked))
        line = next(n for n, text in enumerate(source, start) if "raise" in text)
    assert f"The rule {asked.name!r} cannot be asked" in refused.value.message
    assert said.format(line=line) in refused.value.message
    assert name in refused.value.message
    assert "Ann" not in str(refused.value)  # what a function says may be of a row
    assert refused.value.code == "contract-function"
    assert refused.value.hint


def test_what_it_does_to_its_rows_is_done_to_no_other() -> None:
    table = _table()
    good, _, _ = partition(table, contract(writing))
    assert_frame_equal(good, _table())


def test_an_answer_that_rests_on_other_rows_is_declared() -> None:
    whole = msgspec.structs.replace(unstable, whole=True)
    _, aside, _ = partition(_table(), contract(whole))
    assert aside["start"].to_list() == [3, 4, 5]


def test_a_contract_names_it_by_its_source() -> None:
    source = textwrap.dedent(inspect.getsource(judge_of(short)))
    assert short.code == f"sha256:{hashlib.sha256(source.encode()).hexdigest()}"
    assert short.function == f"{__name__}:short"
    made = contract(short, near)
    assert Contract.from_json(made.to_json()) == made
    assert from_toml(to_toml(made)) == made
    assert made.looks_beyond  # what it reads besides is not known
    assert spell(made) == f"ll.contract(\n    {__name__}.short,\n    {__name__}.near,\n)"


def test_toml_may_name_it_without_its_source() -> None:
    read = from_toml(f'[[rules]]\nrule = "function"\nfunction = "{__name__}:near"\nname = "near"\n')
    found = read.settled(_nothing)
    assert found.rules == (
        Function(name="near", function=near.function, code=near.code, columns=("beds",), whole=True),
    )
    assert check(_table(9), found).rules[0].broken == 2


def test_one_that_is_not_here_is_refused_and_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    looked: list[bool] = []
    for given in ("somebodys:fly", f"{__name__}:shorter", "os:system"):
        with pytest.raises(Invalid, match=f"asks the function {given}, which this process does not have") as refused:
            contract(Function(function=given)).settled(lambda: looked.append(True))
        assert refused.value.code == "contract-function"
        assert "setting `rules`" in refused.value.hint
    assert "somebodys" not in sys.modules
    assert looked == [True] * 3


def test_another_source_of_the_same_name_is_refused() -> None:
    other = msgspec.structs.replace(short, code=f"sha256:{'0' * 64}")
    with pytest.raises(Invalid, match="and here it is another one"):
        contract(other).settled(_nothing)
    with pytest.raises(Invalid, match="and here it is another one"):
        check(_table(), contract(other))


def _within() -> Callable[..., Any]:
    def inner(rows: pl.DataFrame) -> pl.Series:
        return rows["beds"] > 0

    return inner


@pytest.mark.parametrize("given", [lambda rows: rows["beds"] > 0, _within(), len, type("C", (), {}), "SELECT"])
def test_only_a_function_of_a_file_is_a_rule(given: Any) -> None:
    with pytest.raises(Invalid) as refused:
        rule("it holds")(given)
    assert refused.value.code == "contract-function"


def test_a_function_without_a_source_is_no_rule() -> None:
    space: dict[str, Any] = {"ll": ll, "__name__": "nowhere"}
    with pytest.raises(Invalid, match="whose source is nowhere to be read"):
        exec("@ll.rule('it holds')\ndef made(rows):\n    return rows['beds'] > 0\n", space)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: contract(_table), 'Put @ll.rule("what holds") above the function.'),
        (lambda: rule("both", "a > 1", columns=["a"]), "not both"),
        (lambda: rule("text", columns="a"), 'Write columns=["a"]'),
        (lambda: contract(Function(function="short")), "write it as module:name"),
        (lambda: contract(Function(function="visits:short", code="md5:1")), "no digest"),
        (lambda: contract(Function(function="visits:short", columns=("a", "a"))), "names a column twice"),
    ],
)
def test_what_is_no_declaration_is_refused(build: Callable[[], Any], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        build()
    assert said in str(refused.value)


def test_a_column_that_the_table_has_not_is_named() -> None:
    with pytest.raises(Invalid, match="a stay is short") as refused:
        check(_table().rename({"stop": "stops"}), contract(short))
    assert refused.value.hint == "Did you mean 'stops'?"
