from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from loopline.errors import Invalid
from loopline.features.infer import infer, infer_fields
from loopline.features.labels import encode_labels, infer_task

N = 200


def table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "weight": [None if i % 10 == 0 else i / 3 for i in range(N)],
            "visits": [i % 7 for i in range(N)],
            "smoker": [i % 2 == 0 for i in range(N)],
            "ward": ["" if i == 0 else "ABC"[i % 3] for i in range(N)],
            "born": [date(1950, 1, 1) + timedelta(days=i) for i in range(N)],
            "seen": [f"2024-01-{1 + i % 28:02d}T08:15:00" for i in range(N)],
            "note": [
                f"patient {i} felt well and went home after a while, as was to be expected of them" for i in range(N)
            ],
            "token": [f"t{i}" for i in range(N)],
            "row_id": [N - i for i in range(N)],
            "empty": pl.Series([None] * N, dtype=pl.String),
            "nan": [float("nan")] * N,
            "one": ["x"] * N,
            "nested": [[i] for i in range(N)],
            "patient": [i // 2 for i in range(N)],
            "label": ["yes" if i % 3 else "no" for i in range(N)],
        }
    )


def test_kinds_ranges_and_nullability_are_found() -> None:
    fields = {f.name: f for f in infer_fields(table(), label="label", ignore=["patient"])}
    assert {name: f.kind for name, f in fields.items()} == {
        "weight": "number",
        "visits": "integer",
        "smoker": "boolean",
        "ward": "category",
        "born": "date",
        "seen": "date",
    }
    assert [name for name, f in fields.items() if f.nullable] == ["weight", "ward"]
    assert fields["ward"].categories == ("A", "B", "C")
    assert (fields["visits"].minimum, fields["visits"].maximum) == (0.0, 6.0)
    assert fields["born"].minimum == (date(1950, 1, 1) - date(1970, 1, 1)).days


def test_each_column_left_out_has_its_reason() -> None:
    reasons = {d.name: d.reason for d in infer(table(), label="label", ignore=["patient"]).dropped}
    assert set(reasons) == {"note", "token", "row_id", "empty", "nan", "one", "nested", "patient"}
    assert "free text" in reasons["note"]
    assert "nearly a different text" in reasons["token"]
    assert "identifier" in reasons["row_id"]
    assert reasons["empty"] == reasons["nan"] == "null in every row"
    assert "same value" in reasons["one"]


def test_a_table_without_usable_columns_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        infer(table().select("one", "label"), label="label")
    assert caught.value.code == "no-features"
    assert "one: the same value" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([True, False] * 50, "binary", ("false", "true")),
        ([0, 1] * 50, "binary", ("0", "1")),
        ([1.0, 0.0] * 50, "binary", ("0", "1")),
        ([1, 2] * 50, "binary", ("1", "2")),
        ([10, 9] * 50, "binary", ("9", "10")),
        (["YES", "NO"] * 50, "binary", ("NO", "YES")),
        (["good", "bad"] * 50, "binary", ("good", "bad")),
        (["cat", "dog"] * 50, "binary", ("cat", "dog")),
        (["a", "c", "b"] * 50, "multiclass", ("a", "b", "c")),
        ([10, 2, 3] * 50, "multiclass", ("2", "3", "10")),
        (list(range(100)), "regression", ()),
        ([i / 7 for i in range(100)], "regression", ()),
    ],
)
def test_the_task_follows_from_the_label(values: list[object], task: str, classes: tuple[str, ...]) -> None:
    frame = pl.DataFrame({"y": values})
    assert infer_task(frame, "y") == (task, classes)
    codes = encode_labels(frame, "y", task, classes)  # type: ignore[arg-type]
    if task == "regression":
        assert codes.tolist() == [float(v) for v in values]  # type: ignore[arg-type]
    else:
        assert sorted(set(codes.tolist())) == [float(i) for i in range(len(classes))]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([1, None, 0], "missing-label"),
        (["a", "", "b"], "missing-label"),
        ([0.5, float("nan"), 1.0], "missing-label"),
        (["a"] * 9, "constant-label"),
        ([None, None], "missing-label"),
        ([f"id{i}" for i in range(300)], "too-many-classes"),
        ([[1], [2]], "bad-label"),
        ([], "no-rows"),
    ],
)
def test_a_label_that_cannot_be_learnt_is_refused(values: list[object], code: str) -> None:
    with pytest.raises(Invalid) as caught:
        infer_task(pl.DataFrame({"y": values}), "y")
    assert caught.value.code == code


def test_an_absent_label_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(Invalid, match="Did you mean 'label'"):
        infer_task(table(), "labell")


def test_a_class_never_seen_is_refused() -> None:
    with pytest.raises(Invalid, match="'maybe'"):
        encode_labels(pl.DataFrame({"y": ["yes", "maybe"]}), "y", "binary", ("no", "yes"))
