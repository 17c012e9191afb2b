"""Columns that a contract calls personal: no report shows a value of theirs, wherever their rows went."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import loopline as ll
from loopline.catalog import Session
from loopline.operations import Body
from loopline.quality.profile import Profile

NAMES = ("Quentin", "Ottilie", "Zebedee")
SECRETS = (*NAMES, "88.125", "88.1", "88.13")
"""What no report shows: all names, and the largest income."""


def _people(rows: int = 300, shift: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "name": [None if n % 50 == 7 else NAMES[min(2, n % 4 + shift)] for n in range(rows)],
            "income": [88.125 if n == 9 else 10.0 + n % 7 + shift for n in range(rows)],
            "ward": ["north" if n % 3 else "south" for n in range(rows)],
            "age": [400 if n < 3 else 20 + n % 60 for n in range(rows)],
            "back": [n % 3 == 0 for n in range(rows)],
        }
    )


def _body(frame: pl.DataFrame) -> Body:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return Body(buffer.getvalue(), name="people.parquet")


def _shown(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def people(session: Session, contract: Callable[..., dict[str, Any]]) -> Session:
    """A dataset with two personal columns, three rows of it in quarantine."""
    rules = contract(
        ll.column("age").between(0, 120), ll.column("name").not_null(severity="warn"), personal=["name", "income"]
    )
    session.datasets.add("people", _body(_people()), contract=rules)
    return session


@pytest.mark.parametrize("asked", [{}, {"label": "back"}, {"full": True, "label": "back"}])
@pytest.mark.parametrize("form", ["json", "html"])
def test_a_profile_counts_and_shows_no_value(people: Session, form: str, asked: dict[str, Any]) -> None:
    text = people.datasets.profile("people", form=form, **asked).read().decode()
    assert _shown(text) == []
    assert "north" in text, "as of all other columns"
    if form == "json":
        found = Profile.from_json(text.encode()).columns["name"]
        assert (found.personal, found.rows, found.nulls, found.distinct, found.top) == (True, 297, 6, 3, ())


def test_nor_does_that_of_what_was_made_of_it(people: Session) -> None:
    people.datasets.split("people", "back")
    people.datasets.clean("people.train", ({"step": "mode", "columns": ["name"]},), label="back")
    for name in ("people.train", "people.validation", "people.train.clean"):
        assert _shown(people.datasets.profile(name, form="html").read().decode()) == []
    cleaned = people.datasets.cleaning("people.train.clean")
    assert _shown(json.dumps(cleaned.fitted)) == []
    assert cleaned.fitted["steps"] == [{"step": "mode", "columns": ("name",)}]
    people.datasets.release("people", "1", "they are that old")
    assert _shown(people.datasets.profile("people", "2", form="html").read().decode()) == []


def test_a_draft_of_a_contract_holds_none_and_keeps_them_personal(people: Session) -> None:
    drafted = people.datasets.suggest("people")
    assert _shown(json.dumps(drafted)) == []
    assert drafted["personal"] == ("income", "name")
    assert "north" in json.dumps(drafted)


def test_held_rows_are_listed_without_them_until_they_are_asked_for(people: Session) -> None:
    listed = people.datasets.quarantine("people").shown
    assert [row["age"] for row in listed] == [400] * 3
    assert {row["name"] for row in listed} == {row["income"] for row in listed} == {"(personal)"}
    assert people.datasets.quarantine("people", personal=True).shown[0]["name"] == "Quentin"


def test_a_difference_tells_that_they_changed_and_not_to_what(
    people: Session, contract: Callable[..., dict[str, Any]]
) -> None:
    people.datasets.add("people", _body(_people(shift=2)))
    for form in ("json", "html"):
        text = people.datasets.diff("people", "1", "2", form=form).read().decode()
        assert _shown(text) == []
        assert "the values of name changed" in text
        assert "the values of income changed" in text


def test_the_newest_contract_says_which(people: Session, contract: Callable[..., dict[str, Any]]) -> None:
    people.datasets.add("people", _body(_people()), contract=contract(ll.column("age").between(0, 120)))
    assert "Quentin" in people.datasets.profile("people", "1", form="html").read().decode()
