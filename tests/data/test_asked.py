"""Contracts that ask more than their table: what other datasets and the clock say, and what stays on record of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import polars as pl
import pytest
from tests.data.conftest import Place

from loopline.errors import Invalid, NotFound, Refused
from loopline.operations import Body
from loopline.quality.contract import column, contract, fresh, like


def _rules(*rules: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(contract(*rules))
    return found


def _codes(place: Place, *codes: str) -> str:
    return place.session.datasets.add("codes", Body(("code\n" + "\n".join(codes)).encode(), name="codes.csv")).ref


_REFERS = _rules(column("code").refers_to("data:codes", "code"))


def test_the_versions_that_answered_are_inputs(place: Place) -> None:
    first = _codes(place, "a", "b")
    table = place.visits(100, code=pl.when(pl.col("id") < 90).then(pl.lit("a")).otherwise(pl.lit("c")))
    made = place.add(table, contract=_REFERS)
    assert (made.rows, made.quarantined, made.inputs) == (90, 10, (first,))
    second = _codes(place, "a", "c")  # the newest answers, and the same file is another version of the visits
    again = place.add(table, contract=_REFERS)
    assert (again.rows, again.quarantined, again.inputs) == (100, 0, (second,))
    pinned = _rules(column("code").refers_to("data:codes@1", "code"))
    assert place.add(table, contract=pinned).inputs == (first,)
    assert first in {edge.source for edge in place.session.lineage.trace(ref=made.ref).edges}


@pytest.mark.parametrize(
    ("rules", "error", "says"),
    [
        (_rules(column("code").refers_to("data:cods", "code")), NotFound, "no dataset 'cods'"),
        (_rules(column("code").refers_to("data:codes", "cod")), NotFound, "Did you mean 'code'"),
        (_rules(column("code").refers_to("data:codes@7", "code")), NotFound, "no version 7"),
        (_rules(column("code").refers_to("data:other/codes", "code")), NotFound, "other"),
        (_rules(column("code").refers_to("data:visits.test", "back")), Refused, "sealed"),
        (_rules(like("data:visits.test@1")), Refused, "sealed"),
        (_rules(column("code").refers_to("data:bad", "code")), NotFound, "withdrawn"),
        (_rules(like("data:bad@1")), Refused, "withdrawn"),
    ],
)
def test_what_cannot_answer_is_named_and_nothing_is_written(
    place: Place, rules: dict[str, Any], error: type[Exception], says: str
) -> None:
    _codes(place, "a")
    place.add(400)
    place.session.datasets.split("visits", "back")
    place.session.datasets.add("bad", Body(b"code\na", name="bad.csv"))
    place.session.datasets.withdraw("bad", "1", "a wrong list")
    with pytest.raises(error, match=says):
        place.add(place.visits(code=pl.lit("a")), contract=rules)
    assert len(place.session.datasets.log("visits")) == 1


def test_rows_have_to_be_fresh_when_they_are_taken(place: Place) -> None:
    rules = _rules(fresh("on", within="2d"))
    table = place.visits(on=dt.date(2026, 2, 28))
    assert place.add(table, contract=rules).rows == 200
    place.clock.forward(seconds=2 * 86_400)
    with pytest.raises(Invalid, match=r"the newest on is 3\.0 days old"):
        place.add(table, contract=rules)
    warned = place.add(table, contract=_rules(fresh("on", within="2d", severity="warn", name="of this week")))
    assert warned.warned == {"of this week": 1}


def test_rows_are_held_against_the_profile_of_a_version(place: Place) -> None:
    first = place.add(2_000)
    moved = place.visits(2_000).with_columns(pl.col("days") + 3)
    made = place.add(moved, contract=_rules(like("data:visits@1", columns=["days", "back"], name="as in the pilot")))
    assert (made.rows, made.warned, made.inputs) == (2_000, {"as in the pilot": 1}, (first.ref,))
    with pytest.raises(Invalid, match="days is distributed otherwise than in data:visits@1"):
        place.add(moved, contract=_rules(like("data:visits@1", columns=["days"], severity="stop")))
