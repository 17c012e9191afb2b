"""What runs measure of a logged model: kept once, on which data, and of the own project alone."""

from __future__ import annotations

import math

import pytest

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound
from loopline.tracking.records import Measure


def test_what_was_measured_comes_back_with_its_data(either: Platform) -> None:
    session = either.session()
    run = session.runs.create("fit").id
    model = session.runs.create("tree", kind="model", parent=run, params={"depth": 3}).id
    values = [
        Measure(key="auc", value=0.5, step=0, time=7, dataset="test", digest="d1"),
        Measure(key="auc", value=math.nan, step=1, time=8),
        Measure(key="loss", value=math.inf, step=1, time=8),
    ]
    assert session.runs.measure(model, run, values).count == 3
    session.runs.measure(model, run, values[:1])
    found = session.runs.measures((model,))
    assert [(m.key, m.value, m.step, m.time, m.dataset, m.digest) for m in found] == [
        ("auc", 0.5, 0, 7, "test", "d1"), ("auc", "NaN", 1, 8, "", ""), ("loss", "Infinity", 1, 8, "", ""),
    ]  # fmt: skip
    assert {(m.model, m.run) for m in found} == {(model, run)}
    assert session.runs.list(kind="model").runs[0].params == {"depth": 3}
    assert session.ledger.verify().ok


def test_only_a_live_logged_model_is_measured(either: Platform) -> None:
    session = either.session()
    run = session.runs.create("fit").id
    model = session.runs.create("tree", kind="model").id
    value = Measure(key="auc", value=0.5)
    with pytest.raises(Conflict, match="not a model that was logged"):
        session.runs.measure(run, run, [value])
    for wrong in ([], [Measure(key="", value=1.0)], [Measure(key="a", value=1.0, step=1 << 63)], [value] * 1001):
        with pytest.raises(Invalid):
            session.runs.measure(model, run, wrong)
    with pytest.raises(NotFound):
        session.runs.measure(model, "01ARZ3NDEKTSV4RRFFQ69G5FAV", [value])
    session.runs.delete(model)
    with pytest.raises(Conflict):
        session.runs.measure(model, run, [value])
    assert session.runs.measures((model,)) == ()


def test_measures_of_another_project_are_not_there(either: Platform) -> None:
    owner = either.session()
    owner.projects.create("clinic")
    there = either.session(project="clinic")
    run = there.runs.create("fit").id
    model = there.runs.create("tree", kind="model").id
    there.runs.measure(model, run, [Measure(key="auc", value=0.5)])
    assert len(there.runs.measures((model,))) == 1
    assert owner.runs.measures((model,)) == ()
    with pytest.raises(NotFound):
        owner.runs.measure(model, run, [Measure(key="auc", value=0.5)])
