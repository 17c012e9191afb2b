"""Labels: which task they make, and which cannot be learned."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from loopline.data.readers import check_label, infer_task
from loopline.errors import Invalid


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["YES", "NO", None], "binary"),
        ([True, False], "binary"),
        ([0, 1, 1], "binary"),
        ([0.0, 1.0, float("nan")], "binary"),
        ([1.5, 2.5], "binary"),
        (["a", "b", "c"] * 3, "multiclass"),
        ([0, 1, 2] * 5, "multiclass"),
        ([0.0, 1.0, 2.0] * 5, "multiclass"),
        ([0, 1, 2], "regression"),  # three values in three rows are amounts
        (list(range(50)), "regression"),
        ([0.5, 1.0, 2.0] * 5, "regression"),
    ],
)
def test_tasks_are_inferred(values: list[object], task: str) -> None:
    assert infer_task(pl.Series("y", values)) == task
    assert infer_task(pl.Series("y", values).sort(descending=True)) == task


def test_a_label_that_can_be_learned() -> None:
    frame = pl.DataFrame({"y": ["YES", "NO", "NO", None], "x": [None] * 4})
    facts = check_label(frame, "y", allow_missing=True)
    assert (facts.task, facts.classes, facts.counts, facts.missing) == ("binary", ("NO", "YES"), (2, 1), 1)
    assert facts.all_null == ("x",)
    numbers = check_label(pl.DataFrame({"y": [10, 9, 2] * 5}), "y")
    assert numbers.classes == ("2", "9", "10")
    assert check_label(pl.DataFrame({"y": [True, False]}), "y").classes == ("False", "True")
    assert check_label(pl.DataFrame({"y": [0, 1, 2] * 9}), "y", "regression").classes == ()
    rare = check_label(pl.DataFrame({"y": [0] * 500 + [1]}), "y")
    assert rare.counts == (500, 1)


@pytest.mark.parametrize(
    ("values", "task", "code", "says"),
    [
        (["a", "a"], None, "label-constant", "one value only"),
        ([None, None], None, "label-missing", "no value in any of 2 rows"),
        (["a", "b", None, None], None, "label-missing", "missing in 2 of 4 rows (rows 3, 4)"),
        ([0.5, float("nan"), 1.5], None, "label-missing", "missing in 1 of 3 rows (row 2)"),
        ([f"name {i}" for i in range(30)], None, "label-classes", "names, not classes"),
        ([date(2020, 1, 1), date(2020, 1, 2)], None, "label-type", "cannot be learned"),
        (["a", "b"], "regression", "label-task", "needs numbers"),
        (["a", "b", "c"] * 4, "binary", "label-task", "needs two"),
        (["a", "b"], "ranking", "label-task", "There is no task"),
        (list(range(2000)), "multiclass", "label-task", "too many"),
    ],
)
def test_a_label_that_cannot(values: list[object], task: str | None, code: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_label(pl.DataFrame({"y": values}), "y", task)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert caught.value.hint


def test_an_absent_label_suggests_the_nearest_name() -> None:
    with pytest.raises(Invalid, match="Did you mean 'readmitted'"):
        check_label(pl.DataFrame({"readmitted": [1], "age": [2]}), "readmited")
