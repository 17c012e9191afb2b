"""Steps as they are declared, in Python and in TOML: the same checks, and errors that name the place."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from loopline.errors import Invalid
from loopline.quality.cleaning_steps import Clip, Median, clean, steps
from loopline.quality.cleaning_toml import from_toml

TOML = """\
[[steps]]
step = "placeholders"

[[steps]]
step = "number"
columns = ["weight"]
units = { kg = 1, g = 0.001 }

[[steps]]
step = "median"
columns = ["dose", "weight"]
group = "ward"

[[steps]]
step = "lag"
columns = ["dose"]
time = "day"
rows = [1, 7]
"""


def test_toml_and_python_declare_the_same() -> None:
    declared = (
        clean.placeholders(),
        clean.number("weight", units={"kg": 1, "g": 0.001}),
        clean.median("dose", "weight", group="ward"),
        clean.lag("dose", time="day", rows=[1, 7]),
    )
    assert from_toml(TOML) == declared
    assert steps(json.loads(json.dumps(msgspec.to_builtins(declared)))) == declared
    assert clean.clip("x", by="mad") == Clip(columns=("x",), by="mad")
    assert clean.median() == Median()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: clean.median("age", by="sex"), "unknown field `by`"),
        (lambda: clean.median("age", group=3), "Expected `str | null`"),
        (lambda: clean.clip("age", low=0.9, high=0.1), "Need 0 <= low < high <= 1"),
        (lambda: clean.clip("age", by="magic"), "Invalid enum value"),
        (lambda: clean.clip("age", width=2), "goes with by="),
        (lambda: clean.clip("age", by="iqr", width=-1), "above 0"),
        (lambda: clean.constant("age"), "missing required field `value`"),
        (lambda: clean.constant(value=3), "names no column"),
        (lambda: clean.median("age", "age"), "each column once"),
        (lambda: clean.median(""), "each column once"),
        (lambda: clean.lag("age"), "missing required field `time`"),
        (lambda: clean.lag("age", time="day", rows=[0]), "From 1 to 1,000 rows"),
        (lambda: clean.lag("age", time="day", rows=[]), "From 1 to 1,000 rows"),
        (lambda: clean.window("age", time="day", rows=5000), "From 1 to 1,000 rows"),
        (lambda: clean.window("age", time="day", take=["sum"]), "Invalid enum value"),
        (lambda: clean.number("age", units={"kg": 0}), "no size"),
        (lambda: clean.date("day", format="%Q"), "cannot read by"),
        (lambda: clean.boolean("ok", true=["y"], false=["Y"]), "as true and as false"),
        (lambda: clean.ordinal("size", order=["s"]), "two or more"),
        (lambda: clean.date_parts("day", parts=[]), "names no part"),
        (lambda: clean.one_hot("size", most=0), "From 1 to 1,000"),
        (lambda: clean.rare("size", below=0), "below=20"),
        (lambda: clean.hashed("note", into=1), "From 2 to 4,096"),
        (lambda: clean.near_duplicates("a", "b"), "one column"),
        (lambda: clean.near_duplicates("a", similarity=0.1), "from 0.5 to 1"),
        (lambda: steps([{"step": "medina"}]), "Did you mean 'median'"),
        (lambda: steps([{"step": "repair"}, {"columns": ["a"]}]), "Step 2 of the cleaning"),
        (lambda: steps([7]), "Step 1 of the cleaning"),
        (lambda: steps("median"), "a list of steps"),
        (lambda: from_toml("[[steps]\n"), "line 1"),
        (lambda: from_toml("[rules]\n"), "no 'rules'"),
        (lambda: from_toml("steps = 3\n"), "a list of steps"),
    ],
)
def test_what_cannot_be_declared_is_refused_with_its_place(make: Any, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    assert says in str(caught.value)


def test_a_loop_declares_its_cleaning_without_polars() -> None:
    code = "import sys, loopline as ll; ll.clean.median('age'); print({'polars', 'pandas', 'scipy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
