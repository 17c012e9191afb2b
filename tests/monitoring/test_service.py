"""Monitors on a prediction log as workers write it: when they look, what they tell once, and the life of an alert."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopline import failpoints
from loopline.app import Platform
from loopline.deployment.tables import endpoints
from loopline.errors import Invalid, NotFound, Refused
from loopline.operations import Body
from loopline.outcomes.records import Label
from loopline.quality.drift_records import DriftReport
from loopline.serving.log import Frame, Part, PredictionLog, encode
from loopline.testing.clock import FakeClock

HOUR = 3_600_000


def rows(
    count: int, seed: int, shift: float = 0.0, wards: tuple[str, ...] = ("a", "b"), positive: float = 0.0
) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, count)
    return pl.DataFrame(
        {
            "at": np.arange(count) + seed * 10_000,
            "person": rng.integers(0, 500, count) + (0 if seed == 1 else 250),
            "x": x,
            "ward": rng.choice(list(wards), count),
            "y": np.where(x - shift + positive + rng.normal(size=count) > 0, "yes", "no"),
        }
    )


class Place:
    """A workspace with the training rows of "risk", and a worker's log that answers well."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"), clock=self.clock)
        self.session = self.platform.session()
        buffer = io.BytesIO()
        rows(4000, 1).write_parquet(buffer)
        self.session.datasets.add("risk", Body(buffer.getvalue(), name="risk.parquet"))
        self.log = PredictionLog(
            folder / "w" / "serving" / "log", 0, segment_bytes=1 << 30, segment_age_ms=1 << 40, now=self.clock.now()
        )
        self.seed = 1

    def watch(self, **given: Any) -> None:
        options = {"group": "person", "time": "at", "look": HOUR, "rows": 500, **given}
        self.session.monitors.declare("risk", "data:risk@1", "y", "binary", **options)

    def answer(
        self,
        count: int = 1000,
        *,
        variant: str = "champion",
        shadow: bool = False,
        good: bool = True,
        caller: str = "",
        **given: Any,
    ) -> list[Label]:
        """Answers new rows, an hour later; gives the labels to come."""
        self.clock.forward(milliseconds=HOUR)
        self.seed += 1
        frame = rows(count, self.seed, **given)
        score = 1 / (1 + np.exp(-frame["x"].to_numpy())) if good else np.random.default_rng(self.seed).random(count)
        mark = f"r{self.clock.now()}{variant}"
        answered = [
            {"id": f"{mark}-{n}", "probability": float(p), "label": "yes" if p >= 0.5 else "no"}
            for n, p in enumerate(score)
        ]
        made = Frame(
            time_ms=self.clock.now(), request=mark, endpoint="risk",
            parts=[Part("model:risk@1", variant, "shadow" if shadow else "live", 1.0)], status=200, latency_us=10,
            form="none" if shadow else "list", sent=msgspec.json.encode(frame.drop("y").to_dicts()),
            answered=msgspec.json.encode(answered), caller=caller,
        )  # fmt: skip
        self.log.append([encode(made)], self.clock.now())
        self.session.predictions.collect()
        return [Label(prediction=a["id"], value=y) for a, y in zip(answered, frame["y"].to_list(), strict=True)]

    def label(self, labels: list[Label]) -> None:
        self.clock.forward(milliseconds=HOUR)
        self.session.labels.add("risk", labels)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.platform.close()


# When it looks


def test_a_look_waits_for_its_time_and_for_rows(place: Place) -> None:
    place.watch()
    assert not place.session.monitors.look("risk").taken
    place.answer(499)
    found = place.session.monitors.look("risk")
    assert (found.taken, found.rows) == (False, 499)
    place.answer(1)
    found = place.session.monitors.look("risk")
    assert (found.taken, found.rows, found.alert) == (True, 500, None)
    place.clock.forward(milliseconds=1 - HOUR)
    place.answer(600)
    assert not place.session.monitors.look("risk").taken  # the next one is not due
    place.clock.forward(milliseconds=HOUR)
    assert place.session.monitors.look("risk").rows == 600
    (monitor,) = place.session.monitors.list()
    assert (monitor.looks, monitor.verdict) == (2, "no drift")


def test_rows_answered_before_it_was_declared_are_not_looked_at(place: Place) -> None:
    place.answer(2000, shift=5.0)
    place.watch()
    place.answer(500)
    found = place.session.monitors.look("risk")
    assert (found.rows, found.alert) == (500, None)


def test_shadow_scores_are_not_looked_at(place: Place) -> None:
    place.watch()
    place.answer(800, variant="challenger", shadow=True)
    assert place.session.monitors.look("risk").rows == 0


def test_what_cannot_be_watched_is_refused(place: Place) -> None:
    for wrong in ({"false_alarms": "often"}, {"false_alarms": "0/day"}, {"look": 0}, {"rows": 10}):
        with pytest.raises(Invalid):
            place.watch(**wrong)
    with pytest.raises(NotFound):
        place.session.monitors.declare("risk", "data:none@1", "y", "binary")
    place.session.datasets.split("risk", "y", time="at")
    with pytest.raises(Refused, match="sealed"):
        place.session.monitors.declare("risk", "data:risk.test@1", "y", "binary")
    place.session.projects.create("other")
    with pytest.raises(NotFound, match="in project 'other'"):
        place.platform.session(project="other").monitors.declare("risk", "data:default/risk@1", "y", "binary")
    place.session.monitors.declare("risk", "risk@1", "y", "binary")
    assert [monitor.reference for monitor in place.session.monitors.list()] == ["data:risk@1"]
    place.watch()
    with pytest.raises(NotFound) as caught:
        place.session.monitors.look("rsk")
    assert "risk" in caught.value.hint


# What it tells


def test_drift_of_a_personal_column_is_told_without_its_values(place: Place) -> None:
    buffer = io.BytesIO()
    rows(4000, 1).write_parquet(buffer)
    rules = {"rules": [{"rule": "not_null", "column": "x"}], "personal": ["ward"]}
    place.session.datasets.add("risk", Body(buffer.getvalue(), name="risk.parquet"), contract=rules)
    place.watch()
    place.answer(3000, wards=("secret one", "b", "b"))
    place.session.monitors.look("risk")
    (alert,) = place.session.alerts.list()
    assert alert.columns == ("ward",)
    report = place.session.monitors.drift("risk")
    (line,) = msgspec.json.decode(report.read(), type=DriftReport).drifted
    assert (line.column, line.text, line.bars, line.new_levels) == ("ward", "the values of ward changed", (), {})
    told = (report.read(), place.session.monitors.drift("risk", form="html").read(), msgspec.json.encode(alert))
    assert not any(b"secret" in text for text in told)


def test_drift_is_told_once_a_column(place: Place) -> None:
    place.watch()
    place.answer(1000, shift=1.5)
    found = place.session.monitors.look("risk")
    (alert,) = place.session.alerts.list("risk")
    assert found.alert == alert.ref
    assert (alert.kind, alert.status, alert.columns) == ("drift", "open", ("x",))
    assert "x" in alert.summary
    place.answer(1000, shift=1.5)
    assert place.session.monitors.look("risk").alert is None
    place.answer(1000, shift=1.5, wards=("a", "c"))
    assert place.session.monitors.look("risk").alert == alert.ref  # a person has one alert, and it says all of it
    (grown,) = place.session.alerts.list("risk")
    assert (grown.columns, grown.found, grown.status) == (("x", "ward"), 2, "open")
    assert (grown.raised, grown.last) == (alert.raised, place.clock.now())
    assert "ward" in grown.summary
    report = msgspec.json.decode(place.session.monitors.drift("risk").read(), type=DriftReport)
    assert {c.column for c in report.drifted} >= {"ward"}
    assert b"<html" in place.session.monitors.drift("risk", form="html").read().lower()


def test_a_new_declaration_begins_anew(place: Place) -> None:
    place.watch()
    place.answer(1000, shift=1.5)
    first = place.session.monitors.look("risk").alert
    place.watch()
    place.answer(1000, shift=1.5)
    again = place.session.monitors.look("risk").alert
    assert again not in (None, first)
    now, before = place.session.alerts.list("risk")
    assert (now.status, before.status) == ("open", "closed")
    assert "began anew" in before.comment


def test_a_closed_alert_is_not_opened_by_the_next_finding(place: Place) -> None:
    place.watch()
    place.answer(1000, shift=1.5)
    first = place.session.monitors.look("risk").alert
    assert first is not None
    place.session.alerts.change(first.partition(":")[2], "acknowledged")
    place.answer(1000, shift=1.5, wards=("a", "c"))
    assert place.session.monitors.look("risk").alert == first
    assert place.session.alerts.list("risk")[0].status == "acknowledged"
    place.session.alerts.change(first.partition(":")[2], "closed")
    place.label(place.answer(1000, positive=3.0))
    again = place.session.monitors.look("risk").alert
    assert again not in (None, first)
    assert [a.status for a in place.session.alerts.list("risk")] == ["open", "closed"]


def test_ids_time_and_groups_are_not_watched(place: Place) -> None:
    place.watch()
    place.answer(1000)
    assert place.session.monitors.look("risk").alert is None  # `at` and `person` are all new
    report = msgspec.json.decode(place.session.monitors.drift("risk").read(), type=DriftReport)
    assert {c.column for c in report.columns} == {"x", "ward"}


def test_labels_are_watched_when_they_come_though_no_row_does(place: Place) -> None:
    place.watch()
    labels = place.answer(1000, positive=2.0)
    assert place.session.monitors.look("risk").alert is None
    place.label(labels[:400])
    assert not place.session.monitors.look("risk").taken
    place.label(labels[400:])
    found = place.session.monitors.look("risk")
    assert found.taken
    (alert,) = place.session.alerts.list("risk")
    assert (alert.kind, alert.columns) == ("drift", ("y",))


def test_a_drop_of_quality_is_told_once(place: Place) -> None:
    place.watch(expected=0.7)
    place.label(place.answer(1000))
    place.session.monitors.look("risk")
    assert place.session.alerts.list("risk") == []
    for _ in range(2):
        place.label(place.answer(1000, good=False))
        place.session.monitors.look("risk")
    (alert,) = place.session.alerts.list("risk")
    assert alert.kind == "quality"
    assert "0.700 was expected" in alert.summary


def test_a_look_that_cannot_be_recorded_is_taken_again(place: Place) -> None:
    place.watch()
    place.answer(1000, shift=1.5)
    failpoints.arm("database.tx.before_commit=EIO")
    try:
        with pytest.raises(OSError, match="database"):
            place.session.monitors.look("risk")
    finally:
        failpoints.arm("")
    assert place.session.alerts.list("risk") == []
    assert place.session.monitors.list()[0].looks == 0
    assert place.session.monitors.look("risk").alert is not None
    assert place.session.ledger.verify().ok


def test_a_look_with_its_alert_is_one_entry(place: Place) -> None:
    place.watch()
    place.answer(1000, shift=1.5)
    alert = place.session.monitors.look("risk").alert
    (entry,) = (e for e in place.session.ledger.entries(limit=1000) if e.operation == "monitors.look")
    assert entry.outputs == (alert,)
    assert "monitor:risk" in entry.inputs
    assert "report" in entry.digests


# Quality


def test_quality_by_window_variant_and_kind_of_group(place: Place) -> None:
    place.watch()
    first = place.answer(1200)
    second = place.answer(600, variant="challenger")
    place.label([*first, *second[:300]])
    found = place.session.monitors.quality("risk")
    assert (found.rows, found.labelled, found.task) == (1800, 1500, "binary")
    assert found.overall is not None
    value, low, high = found.overall.metrics["roc_auc"]
    assert 0.7 < low < value < high < 0.9
    assert {v.name: (v.rows, v.labelled) for v in found.variants} == {
        "champion": (1200, 1200),
        "challenger": (600, 300),
    }
    assert sum(w.rows for w in found.windows) == 1800
    groups = {g.name: g.rows for g in found.groups}
    assert groups.keys() == {"new", "returning"}
    assert sum(groups.values()) == 1800
    # Of the persons 250 to 749 half were in training; of the other half each is new once.
    assert groups["new"] <= 250
    assert place.session.monitors.quality("risk", since=place.clock.now()).overall is None


def test_without_labels_there_is_no_quality(place: Place) -> None:
    place.watch()
    place.answer(600)
    found = place.session.monitors.quality("risk")
    assert (found.rows, found.labelled) == (600, 0)
    assert found.overall is not None
    assert found.overall.metrics == {}


# The life of an alert


@pytest.fixture
def alerted(place: Place) -> Place:
    place.watch()
    place.answer(1000, shift=1.5)
    place.session.monitors.look("risk")
    return place


def test_an_alert_is_acknowledged_and_closed(alerted: Place) -> None:
    alerts = alerted.session.alerts
    (alert,) = alerts.list()
    alerted.clock.forward(seconds=5)
    changed = alerts.change(alert.id, "acknowledged", "I look at it")
    assert (changed.status, changed.comment, changed.changed) == ("acknowledged", "I look at it", alerted.clock.now())
    assert alerts.list(status="open") == []
    alerts.change(alert.id, "closed", "a new scanner")
    assert [a.id for a in alerts.list(status="closed")] == [alert.id]
    assert alerts.show(alert.id).raised == alert.raised
    with pytest.raises(NotFound):
        alerts.change("gone", "closed")


def test_silence_ends_by_itself(alerted: Place) -> None:
    alerts = alerted.session.alerts
    (alert,) = alerts.list()
    until = alerted.clock.now() + HOUR
    for wrong in ({"status": "silenced"}, {"status": "closed", "until": until}):
        with pytest.raises(Invalid):
            alerts.change(alert.id, **wrong)  # type: ignore[arg-type]
    alerts.change(alert.id, "silenced", "a known sale", until=until)
    assert (alerts.list(status="open"), len(alerts.list(status="silenced"))) == ([], 1)
    alerted.clock.forward(milliseconds=HOUR)
    assert alerts.show(alert.id).status == "open"
    assert [a.id for a in alerts.list(status="open")] == [alert.id]
    assert alerts.list(status="silenced") == []


def test_another_projects_alert_is_not_found(alerted: Place) -> None:
    (alert,) = alerted.session.alerts.list()
    alerted.session.projects.create("other")
    other = alerted.platform.session(project="other")
    assert other.alerts.list() == []
    assert other.monitors.list() == []
    with pytest.raises(NotFound):
        other.alerts.change(alert.id, "closed")


def test_a_caller_who_probes_is_told_and_not_blocked(place: Place) -> None:
    place.watch()
    place.answer(600, caller="cafe0123cafe0123")
    assert place.session.monitors.look("risk").alert is None  # no bound is declared
    policy = {"probes": 1000, "hashed": ["ward"]}
    made = {
        "project": "default",
        "name": "risk",
        "model": "risk",
        "champion": 1,
        "passthrough": [],
        "optional": [],
        "salt": "s",
    }
    with place.platform.database.begin() as tx:
        tx.execute(endpoints.insert().values(**made, policy=policy, created=1, updated=1))
    place.answer(700, caller="beef")
    assert place.session.monitors.look("risk").alert is None
    place.answer(600, caller="cafe0123cafe0123")
    look = place.session.monitors.look("risk")
    (alert,) = place.session.alerts.list("risk")
    assert look.alert == alert.ref
    assert alert.kind == "probing"
    assert "begins with cafe0123cafe0123 asked 1,200 different rows" in alert.summary
    assert "beef" not in alert.summary
    place.clock.forward(milliseconds=24 * HOUR)
    place.answer(600, caller="cafe0123cafe0123")
    place.session.monitors.look("risk")
    assert place.session.alerts.list("risk")[0].found == 1  # another day, another count
