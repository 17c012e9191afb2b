"""Splits, labels that come later and feature views on the command line."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

Shell = Any  # conftest's

VIEWS = """\
import loopline as ll

history = ll.feature_view(
    "history", source="stays", entity="patient", time="left",
    features=[ll.feature("last", "days"), ll.feature("stays", by="count", over="90d")],
)
"""


@pytest.fixture(scope="module")
def stays(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("stays")
    run = shell.copy(folder)
    today = dt.datetime.now(dt.UTC).date()
    frame = pl.DataFrame(
        {
            "patient": [n * 7 % 150 for n in range(600)],
            "left": [today - dt.timedelta(days=301 - n // 2) for n in range(600)],
            "days": [1 + n % 9 for n in range(600)],
            "back": [n % 3 == 0 for n in range(600)],
        }
    )
    frame.write_csv(folder / "stays.csv")
    said = run("data", "add", "stays", str(folder / "stays.csv"), "--label", "back", "left", "30d").out
    assert "58 labels of back are not known yet (30d after left)." in said
    (folder / "views.py").write_text(VIEWS)
    (folder / "none.py").write_text("x = 1\n")
    run.folder = folder
    return run


def test_which_labels_are_known(stays: Shell) -> None:
    assert "back, 30d after left" in stays("data", "show", "stays").out
    [known] = stays("data", "labels", "stays", "--json").json
    assert (known["known"], known["immature"], known["missing"]) == (542, 58, 0)
    assert "342" in stays("data", "labels", "stays", "--as-of", "100d").out
    read = stays("data", "read", "stays", "--rows", "600", "--as-of", "130d", "--json")
    gone = sum(row["back"] is None for row in read.json)
    assert gone > 250
    assert f"{gone} labels of back were not known then" in stays("data", "read", "stays", "--as-of", "130d").err
    assert "no label with a maturity" in stays("data", "labels", "visits").err


def test_a_split_says_what_it_left_out_and_found(stays: Shell) -> None:
    given = ("data", "split", "stays", "--label", "back", "--time", "left", "--by", "time", "--embargo", "5d")
    said = stays(*given).out
    assert "label not known yet" in said
    assert "58 rows left out" in said
    assert "data:stays.test@1" in said
    facts = stays(*given, "--json").json["facts"]
    assert (facts["immature"], facts["embargo"]) == (58, "5d")
    assert f"{facts['embargoed']} rows left out" in said
    both = ("data", "split", "stays", "--label", "back", "--group", "patient", "--by", "random", "--seed", "3")
    assert "likely wrong:" in stays(*both).out
    refused = stays(*both, "--refuse", "same-group", code=3).err
    assert "split-leaks" in refused
    assert "values of patient have rows on more than one side" in refused


def test_features_from_a_file_to_a_look_up(stays: Shell) -> None:
    assert "No feature views yet" in stays("features", "ls").err
    file = str(stays.folder / "views.py")
    assert "Defined features:history@1, 2 features of patient." in stays("features", "define", file).out
    assert "declares no feature view" in stays("features", "define", str(stays.folder / "none.py"), code=2).err
    assert "loopline features materialize history" in stays("features", "get", "history", "7", code=2).err
    assert "online for" in stays("features", "materialize", "history").out
    found = stays("features", "get", "history", "7", "nobody", "--json").json
    assert found["values"][1] == {"last": None, "stays": 0}
    assert found["values"][0]["stays"] > 0
    assert "nobody" in stays("features", "get", "features:history@1", "7", "nobody").out
    assert "history@1" in stays("features", "ls").out
    assert "90d" in stays("features", "show", "history").out
    made = stays("features", "join", "history", "--to", "stays@1", "--time", "left", "--into", "joined").out
    assert "Made data:joined@1" in made
    assert "6 columns" in made
    trace = stays("lineage", "data:joined@1").out
    assert "features:history@1" in trace
    assert "data:stays@1" in trace
