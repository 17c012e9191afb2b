"""A loop from a file of rows to a champion, a refusal or a question; and again."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import loopline as ll
from loopline.access.records import Principal
from loopline.errors import Conflict, Invalid, Refused
from loopline.hashing import digest_file

from .conftest import ASKING, HOPELESS, PASSING, Place, Told

STEPS = ["data", "split", "clean", "baseline", "tune", "fit", "gates", "evaluate", "verdicts", "register", "deploy"]
Make = Callable[..., Place]


def state(place: Place) -> dict[str, object]:
    """All that a refused run must leave as it was."""
    routes = place.session.endpoints.routes()
    return {
        "aliases": place.session.models.aliases("readmission"),
        "endpoints": place.session.endpoints.list(),
        "routes": routes,
        "rollouts": place.session.rollouts.list(),
        "monitors": place.session.monitors.list(),
    }


# The first run


def test_a_first_run_ends_with_a_champion_in_service(promoted: Place) -> None:
    result, session = promoted.first, promoted.session
    assert (result.outcome, result.model) == ("promoted", "model:readmission@1")
    assert session.models.show("readmission", "champion").version == 1
    assert session.models.verify("readmission", 1).ok
    endpoint = session.endpoints.show("readmission")
    assert (endpoint.champion, endpoint.route_key) == ("model:readmission@1", "patient_nbr")
    (monitor,) = session.monitors.list()
    assert monitor.reference == "data:readmission.train@1"
    assert session.datasets.show("readmission.test").looks == 1
    value, low, high = result.metrics["roc_auc"]
    assert 0.5 < low < value < high < 0.9


def test_every_step_is_on_the_journal_in_its_order(promoted: Place) -> None:
    (run,) = promoted.session.pipelines.list()[-1:]
    assert [step.step for step in run.steps] == STEPS
    assert all(step.outputs["said"] for step in run.steps)


def test_rows_in_are_rows_out_and_quarantined(promoted: Place) -> None:
    made = promoted.session.datasets.show("readmission", "1")
    assert made.rows + made.quarantined == 3000
    assert made.quarantined > 0
    assert list(made.broken) == ["time_in_hospital.between(1, 13)"]


def test_the_gates_are_on_the_ledger_before_the_evidence(promoted: Place) -> None:
    operations = [e.operation for e in sorted(promoted.session.ledger.entries(limit=1000), key=lambda e: e.seq)]
    order = ["evaluations.declare", "evaluations.measure", "evaluations.judge", "models.register", "models.set_alias"]
    places = [operations.index(operation) for operation in order]
    assert places == sorted(places)


def test_the_card_is_made_from_records(promoted: Place) -> None:
    card = promoted.session.models.card("readmission", "champion").read().decode()
    for told in ("model:readmission@1", "data:readmission.train@1", "at least 0.52 | pass", "| gender |"):
        assert told in card, card


def test_the_way_back_leads_to_the_file(promoted: Place) -> None:
    hashed = digest_file(promoted.folder / "rows.parquet").partition(":")[2]
    for ref in ("model:readmission@1", "model:readmission@champion", "endpoint:readmission"):
        found = promoted.session.lineage.trace(ref=ref)
        assert f"source:rows.parquet@{hashed}" in found.ends, ref
        assert any(edge.operation == "datasets.split" for edge in found.edges)


def test_the_ledger_verifies_and_tells_an_edited_row(place: Make, patients: pl.DataFrame) -> None:
    made = place()
    made.run()
    assert made.session.ledger.verify().ok
    path = made.workspace / "loopline.db"
    with sqlite3.connect(path) as connection:
        seq, body = connection.execute(
            "SELECT seq, body FROM ledger_entries WHERE body LIKE '%model:readmission@1%' ORDER BY seq LIMIT 1"
        ).fetchone()
        changed = body.replace("readmission", "readmissiom")
        assert changed != body
        connection.execute("UPDATE ledger_entries SET body = ? WHERE seq = ?", (changed, seq))
    connection.close()
    verdict = made.session.ledger.verify()
    assert not verdict.ok
    assert seq in [finding.seq for finding in verdict.findings]


# The same again


def test_the_same_again_does_nothing_again(place: Make) -> None:
    made = place()
    first = made.run()
    before = state(made)
    counts = {
        table: made.count(table) for table in ("dataset_versions", "model_versions", "evaluations", "looks", "runs")
    }
    told = Told()
    again = made.run(told)
    assert (again.outcome, again.model, again.metrics) == (first.outcome, first.model, first.metrics)
    assert told.worked == ["gates", "deploy"]  # what must be looked at each time; both find things as they are
    assert {table: made.count(table) for table in counts} == counts
    assert state(made) == before
    made.session.datasets.withdraw("readmission", "1", "labels of another year")
    with pytest.raises(Refused, match="those of data:readmission@1 again, which is withdrawn"):
        made.run()  # what was done on these rows counts no more, and of the same file nothing is learnt
    assert state(made) == before


def test_a_changed_gate_measures_again_and_a_changed_step_fits_again(place: Make) -> None:
    made = place()
    made.run()
    made.declare(PASSING.replace("0.52", "0.53"))
    told = Told()
    made.run(told)
    assert told.worked == ["gates", "evaluate", "verdicts", "register", "deploy"]
    assert made.session.datasets.show("readmission.test").looks == 2
    made.declare(PASSING, **{"leaves: int = 15": "leaves: int = 16"})
    told = Told()
    made.run(told)
    assert "tune" in told.worked
    assert "data" in told.reused


# Refused


def test_a_failing_gate_stops_the_first_run(place: Make) -> None:
    made = place(HOPELESS)
    result = made.run()
    assert result.outcome == "refused"
    assert "0.99" in result.reason
    assert made.session.endpoints.list() == []
    assert made.session.endpoints.routes().endpoints == {}
    assert made.session.models.aliases("readmission") == ()
    assert made.session.models.show("readmission", 1).status == "draft"
    (run,) = made.session.pipelines.list()
    assert (run.status, [s.step for s in run.steps][-1]) == ("stopped", "verdicts")
    assert made.session.ledger.verify().ok


def test_a_failing_gate_leaves_the_champion_and_what_is_served(place: Make, patients: pl.DataFrame) -> None:
    made = place()
    made.run()
    before = state(made)
    made.declare(HOPELESS)
    patients.head(3300).write_parquet(made.folder / "rows.parquet")
    result = made.run()
    assert (result.outcome, result.model) == ("refused", "model:readmission@2")
    assert state(made) == before
    evaluation = made.session.evaluations.show(str(result.evaluation))
    assert set(evidence := evaluation.evidence.opponents) == {"baseline", "@champion"}, evidence
    assert evaluation.judgement is not None
    assert [v.outcome for v in evaluation.judgement.verdicts if "0.99" in v.gate] == ["fail"]


@pytest.mark.parametrize("gates", [PASSING, HOPELESS])
def test_the_command_says_so_by_its_exit_code(gates: str, tmp_path: Path, patients: pl.DataFrame) -> None:
    import os
    import subprocess
    import sys

    made = Place(tmp_path, patients.head(3000), gates)
    made.close()
    done = subprocess.run(
        [sys.executable, "-m", "loopline", "--workspace", str(made.workspace), "run", "readmission"],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if gates == PASSING else 3), done.stdout + done.stderr
    assert ("promoted:" if gates == PASSING else "refused:") in done.stdout


# A person is asked


def test_a_question_waits_for_another_person(place: Make) -> None:
    made = place(ASKING)
    session = made.session
    result = made.run()
    assert result.outcome == "waiting", result.reason
    assert "race" in result.reason
    assert session.models.show("readmission", 1).status == "registered"
    assert session.endpoints.list() == []
    (asked,) = session.models.approvals("readmission")
    assert asked.decision == "open"
    assert made.run().outcome == "waiting"  # asking again is no answer, and no second question
    assert len(session.models.approvals("readmission")) == 1
    with pytest.raises(Refused):
        session.models.approve(asked.id)
    session.access.add_principal("second")
    session.access.grant("second", "approver")
    made.platform.session(Principal(name="second")).models.approve(asked.id, "looked at the groups")
    told = Told()
    result = made.run(told)
    assert result.outcome == "promoted"
    assert told.worked == ["gates", "deploy"]
    assert session.endpoints.show("readmission").champion == "model:readmission@1"
    assert session.datasets.show("readmission.test").looks == 1
    assert session.ledger.verify().ok


def test_a_rejected_version_is_not_served(place: Make) -> None:
    made = place(ASKING)
    made.run()
    made.session.access.add_principal("second")
    made.session.access.grant("second", "approver")
    (asked,) = made.session.models.approvals("readmission")
    made.platform.session(Principal(name="second")).models.reject(asked.id, "too few to tell")
    with pytest.raises(Refused, match="too few to tell"):
        made.run()
    assert made.session.endpoints.list() == []


# A challenger


def test_new_rows_make_a_challenger_with_a_rollout(place: Make, patients: pl.DataFrame) -> None:
    made = place()
    made.run()
    patients.head(3600).write_parquet(made.folder / "rows.parquet")
    result = made.run()
    assert (result.outcome, result.model) == ("challenging", "model:readmission@2")
    rollout = made.session.rollouts.show(str(result.rollout))
    assert (rollout.champion, rollout.challenger, rollout.status) == (
        "model:readmission@1",
        "model:readmission@2",
        "running",
    )
    assert made.session.models.show("readmission", "champion").version == 1
    evidence = made.session.evaluations.show(str(result.evaluation)).evidence
    assert evidence.dataset == "data:readmission.test@2"
    assert {d.opponent for d in evidence.differences} == {"baseline", "@champion"}
    told = Told()
    again = made.run(told)
    assert (again.outcome, again.rollout) == ("challenging", result.rollout)
    assert told.worked == ["gates", "deploy"]
    made.session.rollouts.decide(rollout.id, "roll_back", "errors")
    again = made.run()
    assert (again.outcome, again.rollout) == ("challenging", result.rollout)
    assert "rolled back" in again.reason
    assert made.session.rollouts.list(status="running") == []


def test_a_rollout_under_way_is_seen_before_anything_is_trained(place: Make, patients: pl.DataFrame) -> None:
    made = place()
    made.run()
    patients.head(3600).write_parquet(made.folder / "rows.parquet")
    rollout = made.run().rollout
    tables = ("dataset_versions", "model_versions", "evaluations", "looks", "runs", "pipeline_runs")
    counts = {table: made.count(table) for table in tables}
    patients.head(4200).write_parquet(made.folder / "rows.parquet")
    with pytest.raises(Conflict, match=str(rollout)) as caught:
        made.run()
    assert caught.value.code == "rollout-running"
    assert "loopline rollout back readmission" in caught.value.hint
    assert {table: made.count(table) for table in tables} == counts


# Splits and labels that come later


def test_a_loop_says_how_it_splits_and_when_its_label_is_known(place: Make) -> None:
    made = place()
    rows = pl.read_parquet(made.folder / "rows.parquet").sort("encounter_id")
    today = dt.datetime.now(dt.UTC).date()
    left = [today - dt.timedelta(days=(rows.height - n) // 10) for n in range(rows.height)]
    rows.with_columns(pl.Series("left", left)).write_parquet(made.folder / "rows.parquet")
    file = made.folder / "readmission.py"
    text = (
        file.read_text()
        .replace('time="encounter_id",', 'time="left", label_time="left", matures="10d",')
        .replace("    contract=", '    split=ll.split(embargo="3d", fractions=(0.6, 0.2, 0.2)),\n    contract=', 1)
    )
    file.write_text(text)
    result = made.run()
    assert result.outcome in ("promoted", "refused")
    (run,) = made.session.pipelines.list()
    split = next(step.outputs for step in run.steps if step.step == "split")
    facts = split["facts"]
    assert facts["immature"] > 80
    assert facts["embargoed"] > 20
    assert (
        sum(s["rows"] for s in facts["sides"]) + facts["dropped"] + facts["embargoed"] + facts["immature"]
        == facts["rows"]
    )
    assert f"{facts['immature']:,} rows whose label was not known yet left out" in split["said"]
    assert f"{facts['embargoed']:,} rows within 3d before a later side left out" in split["said"]
    test = made.session.datasets.show("readmission.test")
    assert test.sealed
    assert facts["sides"][2]["last"] <= (today - dt.timedelta(days=10)).isoformat()


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: ll.split(by="tiem"), "A split knows no 'tiem'"),  # type: ignore[arg-type]
        (lambda: ll.split(refuse="same-row"), "refuse wants a list"),  # type: ignore[arg-type]
        (lambda: ll.split(refuse=["same-rows"]), "A split knows no 'same-rows'"),  # type: ignore[list-item]
        (lambda: ll.source("x.csv", label="y", matures="30d"), "of what event"),
    ],
)
def test_a_split_that_cannot_be_declared_is_named(declare: Callable[[], object], says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        declare()
    assert caught.value.hint
