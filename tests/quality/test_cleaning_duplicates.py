"""Which rows are there more than once, and which of them stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.quality import cleaning_duplicates
from loopline.quality.cleaning import Applied, Cleaning
from loopline.quality.cleaning_columns import Text
from loopline.quality.cleaning_duplicates import near
from loopline.quality.cleaning_steps import Step, clean


def _done(frame: pl.DataFrame, step: Step) -> Applied:
    return Cleaning.fit(frame, [step]).apply(frame, training=True)


def test_equal_rows_are_one() -> None:
    frame = pl.DataFrame({"a": [1, 1, None, None, 2], "b": ["x", "x", None, None, "x"]})
    kept, aside, report, places = _done(frame, clean.deduplicate())
    assert kept.rows() == [(1, "x"), (None, None), (2, "x")]
    assert [row[2:] for row in aside.rows()] == [
        ("deduplicate", "the same as row 1, the first"),
        ("deduplicate", "the same as row 3, the first"),
    ]
    assert (report.aside, places.tolist()) == ({"deduplicate": 2}, [0, 2, 4])


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, [0, 3, 4, 5]),
        ({"keep": "last"}, [2, 3, 4, 5]),
        ({"keep": "first", "time": "at"}, [1, 3, 4, 5]),
        ({"keep": "last", "time": "at"}, [0, 3, 4, 5]),
        ({"keep": "fullest"}, [1, 3, 4, 5]),
    ],
)
def test_of_rows_of_one_key_the_one_that_is_asked_for_stays(more: dict[str, Any], kept: list[int]) -> None:
    frame = pl.DataFrame(
        {
            "id": [7, 7, 7, 8, None, None],  # a row without a key is the same as none
            "at": [9, 1, 5, 1, 1, 1],
            "x": [None, 1, 2, None, None, None],
            "y": [1, 1, None, 1, 1, 1],
        }
    )
    assert _done(frame, clean.deduplicate("id", **more)).places.tolist() == kept


def test_duplicates_are_left_out_of_training_only() -> None:
    frame = pl.DataFrame({"a": [1, 1, 2], "b": ["x", " x", "y"]})
    fitted = Cleaning.fit(frame, [clean.repair(), clean.deduplicate()])
    assert fitted.apply(frame, training=True).kept.rows() == [(1, "x"), (2, "y")]
    assert fitted.apply(frame).kept.height == 3
    assert fitted.rows.steps == Cleaning.fit(frame, [clean.repair()]).rows.steps


def test_rows_are_numbered_as_they_came_whatever_went_before() -> None:
    frame = pl.DataFrame({"a": [5, 5, 1, 1], "x": [1, 2, 3, 3]})
    steps = [clean.deduplicate("a"), clean.near_duplicates("t")]
    aside = Cleaning.fit(frame.with_columns(t=pl.Series(["same text"] * 4)), steps).apply(
        frame.with_columns(t=pl.Series(["same text"] * 4)), training=True
    )[1]
    assert aside["_reason"].to_list() == [
        "the same as row 1, the first",
        "the same as row 3, the first",
        "100% like row 1",
    ]


def _shingles(text: str) -> set[str]:
    plain = " ".join(text.casefold().split())
    return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}


def _plainly(texts: list[str], similarity: float) -> set[int]:
    """Each text against each earlier one that stays."""
    kept: list[set[str]] = []
    gone = set()
    for place, text in enumerate(texts):
        if not text.split():
            continue
        mine = _shingles(text)
        if any(len(mine & other) / len(mine | other) >= similarity for other in kept):
            gone.add(place)
        else:
            kept.append(mine)
    return gone


def test_near_duplicates_are_those_of_the_plain_comparison() -> None:
    rng = np.random.default_rng(11)
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join(rng.choice(words, 40)) for _ in range(60)]
    for text in texts[:40]:  # a word or two are other ones; nothing lies near the limit
        changed = text.split()
        changed[int(rng.integers(40))] = "other"
        texts.append(" ".join(changed).upper())
    found = near(Text.of(texts), 0.8)
    assert set(found) == _plainly(texts, 0.8)
    assert len(found) == 40
    assert {place: other for place, (other, _) in found.items()} == {60 + n: n for n in range(40)}


def test_texts_of_one_template_are_not_all_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    head, tail = (
        "Dear customer, thank you for the order that you placed with us",
        "Yours sincerely, the shop at the corner.",
    )
    words = [f"{''.join(rng.choice(list('abcdefghijklmnopqrstuvwxyz'), 7))}" for _ in range(3000)]
    texts = [f"{head}: {' '.join(rng.choice(words, 12))}. {tail}" for _ in range(1500)]
    again = rng.choice(1500, 100, replace=False)
    texts += [texts[n].replace("Dear", "dear").replace(" us:", " you:") for n in again]
    compared = []
    monkeypatch.setattr(cleaning_duplicates, "_jaccard", lambda one, other: compared.append(1) or _alike(one, other))
    found = near(Text.of(texts), 0.8)
    assert len(compared) <= 32 * len(texts)  # all with all: 1.2 million
    assert {place: other for place, (other, _) in found.items()} == {1500 + i: int(n) for i, n in enumerate(again)}


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab ", max_size=12), max_size=8))
def test_each_that_is_set_aside_is_like_one_that_stays(texts: list[str]) -> None:
    found = near(Text.of(texts), 0.7)
    for place, (other, alike) in found.items():
        assert other < place
        assert other not in found
        mine, its = _shingles(texts[place]), _shingles(texts[other])
        assert len(mine & its) / len(mine | its) == pytest.approx(alike)
        assert alike >= 0.7
