"""Cleaned versions: what was learned and done stands beside them, and no row is lost on the way."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest

from loopline.catalog import Session
from loopline.data.records import Cleaned
from loopline.errors import Invalid, NotFound, Refused
from loopline.quality.cleaning_steps import Step, clean


def _steps(*steps: Step) -> tuple[dict[str, Any], ...]:
    return tuple(msgspec.to_builtins(step) for step in steps)


def _rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [1, 2, 2, 3, 4, 5, 6, 7, 8],
            "ward": ["a", "a ", "A", "b", "?", "b", "a", "b", "a"],
            "weight": ["70 kg", "71", "900 g", "80", None, "75.5", "74", "73", "72"],
            "dose": [1, 2, 2, 3, None, 900, 2, 3, 2],
            "back": [True, False, True, True, False, True, False, True, False],
        }
    )


_STEPS = _steps(
    clean.placeholders(),
    clean.repair("ward"),
    clean.number("weight", units={"kg": 1, "g": 0.001}),
    clean.deduplicate("id", keep="last"),
    clean.quarantine("dose", by="iqr"),
    clean.median("dose", group="ward"),
    clean.one_hot("ward"),
)


def test_a_version_is_cleaned_into_one_of_its_own(place: Any, session: Session) -> None:
    place.add(_rows())
    found = session.datasets.clean("visits", _STEPS, label="back", message="as declared")
    assert (found.ref, found.made_from, found.fitted_on) == ("data:visits.clean@1", "data:visits@1", "data:visits@1")
    version = session.datasets.show("visits.clean")
    assert (version.rows, version.quarantined, version.inputs) == (7, 2, ("data:visits@1",))
    assert version.broken == found.report.aside == {"deduplicate id": 1, "quarantine dose": 1}
    assert version.message == "as declared"
    assert place.rows("visits.clean").rows() == [
        (1, 70.0, 1, True, 1, 0),
        (2, 0.9, 2, True, 1, 0),
        (3, 80.0, 3, True, 0, 1),
        (4, None, 2, False, 0, 0),
        (6, 74.0, 2, False, 1, 0),
        (7, 73.0, 3, True, 0, 1),
        (8, 72.0, 2, False, 1, 0),
    ]
    held = session.datasets.quarantine("visits.clean")
    assert [(r["id"], r["ward"], r["_rule"], r["_reason"]) for r in held.shown] == [
        (2, "a ", "deduplicate id", "the same as row 3, the last"),
        (5, "b", "quarantine dose", "outside 0 to 5"),
    ]
    assert session.datasets.cleaning("visits.clean", "1") == found
    assert msgspec.convert(msgspec.to_builtins(found), Cleaned) == found
    assert {change.step: change.cells for change in found.report.changes}["number"] == 8
    assert "data:visits@1" in {edge.source for edge in session.lineage.trace(ref="data:visits.clean@1").edges}


def test_the_same_again_is_the_same_version_and_other_steps_are_another(place: Any, session: Session) -> None:
    place.add(_rows())
    first = session.datasets.clean("visits", _STEPS)
    assert session.datasets.clean("visits", _STEPS) == first
    assert session.datasets.clean("visits", _STEPS[:2]).ref == "data:visits.clean@2"
    restored = session.datasets.restore("visits.clean", "1")
    assert restored.ref == "data:visits.clean@3"
    assert session.datasets.cleaning("visits.clean").fitted == first.fitted


def test_what_is_released_is_cleaned_as_the_others_were(place: Any, session: Session) -> None:
    place.add(_rows())
    session.datasets.clean("visits", _STEPS, label="back")
    session.datasets.release("visits.clean", "1", reason="a true dose", rule="quarantine dose")
    assert place.rows("visits.clean").rows()[-1] == (5, 75.5, 900, True, 0, 1)


def test_the_training_side_teaches_and_the_other_is_cleaned_by_it(place: Any, session: Session) -> None:
    place.add(place.visits(300, dose=pl.int_range(300, eager=True)))
    session.datasets.split("visits", "back", time="id")
    steps = _steps(clean.clip("dose", low=0.0, high=1.0), clean.quarantine("days", by="quantiles", low=0.2))
    train = session.datasets.clean("visits.train", steps, label="back", time="id")
    highest = place.rows("visits.train")["dose"].max()
    later = session.datasets.clean("visits.validation", steps, fit="data:visits.train@1", label="back", time="id")
    assert later.fitted == train.fitted
    assert (later.ref, later.fitted_on) == ("data:visits.validation.clean@1", "data:visits.train@1")
    assert place.rows("visits.validation.clean")["dose"].to_list() == [highest] * later.report.rows
    assert train.report.aside
    assert later.report.aside == {}  # only what is learned from is ever set aside
    assert session.datasets.show("visits.validation.clean").inputs == (
        "data:visits.validation@1",
        "data:visits.train@1",
    )


def test_sealed_rows_are_neither_cleaned_nor_learned_from(place: Any, session: Session) -> None:
    place.add(place.visits(300))
    session.datasets.split("visits", "back", time="id")
    sealed = session.datasets.show("visits.test").rows
    with pytest.raises(Refused, match="sealed"):
        session.datasets.clean("visits.test", _steps(clean.clip("days")))
    with pytest.raises(Refused, match="sealed"):
        session.datasets.clean("visits", _steps(clean.clip("days")), fit="data:visits.test@1")
    assert session.datasets.clean("visits", _steps(clean.clip("days"))).report.rows == 300 - sealed


def test_a_withdrawn_version_is_not_cleaned_and_what_was_made_of_it_is_unsound(place: Any, session: Session) -> None:
    place.add(_rows())
    session.datasets.clean("visits", _STEPS)
    session.datasets.withdraw("visits", "1", "another clinic's")
    assert session.datasets.show("visits.clean").unsound == "data:visits@1"
    with pytest.raises(Refused, match="withdrawn"):
        session.datasets.clean("visits", _STEPS, version="1")


@pytest.mark.parametrize(
    ("steps", "more", "code"),
    [
        (({"step": "magic"},), {}, "cleaning-step"),
        (({"step": "median", "columns": ["dose"], "by": "ward"},), {}, "cleaning-step"),
        (_steps(clean.median("does")), {}, "cleaning-column"),
        (_steps(clean.median("ward")), {}, "cleaning-type"),
        (_steps(clean.median("dose")), {"label": "dose"}, "cleaning-column"),
        (_steps(clean.median("dose")), {"label": "does"}, "cleaning-column"),
        (_steps(clean.median("dose")), {"group": "dose"}, "cleaning-column"),
        (_steps(clean.median("dose"), clean.mean("dose")), {}, "cleaning-twice"),
        (_steps(clean.scale("same")), {}, "cleaning-constant"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    place: Any, session: Session, steps: tuple[dict[str, Any], ...], more: dict[str, str], code: str
) -> None:
    place.add(_rows().with_columns(same=pl.lit(1.0)))
    entries = session.ledger.entries()
    with pytest.raises(Invalid) as caught:
        session.datasets.clean("visits", steps, **more)
    assert caught.value.code == code
    assert [dataset.name for dataset in session.datasets.list()] == ["visits"]
    assert session.ledger.entries() == entries
    with pytest.raises(NotFound, match="was not cleaned"):
        session.datasets.cleaning("visits")
