"""OpenLineage events are what the specification says, read by the classes that its own client makes from it."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from deltalake import write_deltalake
from openlineage.client import event_v2
from openlineage.client.serde import Serde

from loopline.app import Platform
from loopline.catalog import Session
from loopline.operations import Body

CONTRACT = {"rules": [{"rule": "between", "column": "days", "low": 1, "name": "a stay"}]}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    session = platform.session()
    rows = b"id,days,back\n" + b"".join(b"%d,%d,%d\n" % (n, n % 9 - 1, n % 2) for n in range(90))
    session.datasets.add("visits", Body(rows, name="visits.csv"), contract=CONTRACT)
    session.datasets.split("visits", "back")
    yield session
    platform.close()


def events(session: Session, ref: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in session.lineage.openlineage(ref=ref).read().splitlines()]


def _facets() -> dict[str, Any]:
    """The classes of facets by the address of their schema."""
    found = {}
    generated = importlib.import_module("openlineage.client.generated")
    for file in Path(next(iter(generated.__path__))).glob("*.py"):
        module = importlib.import_module(f"openlineage.client.generated.{file.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and hasattr(value, "_get_schema"):
                found[value._get_schema()] = value
    return found


def rebuilt(event: dict[str, Any]) -> event_v2.RunEvent:
    """The event as the client's own objects: what they do not know, or miss, they refuse."""
    known = _facets()

    def facets(given: dict[str, Any]) -> dict[str, Any]:
        made = {}
        for name, facet in given.items():
            values = {key: value for key, value in facet.items() if not key.startswith("_")}
            made[name] = known[facet["_schemaURL"]](**values)
            assert facet["_producer"] == event["producer"]
        return made

    def dataset(kind: Any, given: dict[str, Any]) -> Any:
        rest = {key: facets(value) for key, value in given.items() if key.lower().endswith("facets")}
        return kind(namespace=given["namespace"], name=given["name"], **rest)

    assert event.keys() == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    made = event_v2.RunEvent(
        eventType=event_v2.RunState[event["eventType"]],
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=event_v2.Run(runId=event["run"]["runId"]),
        job=event_v2.Job(
            namespace=event["job"]["namespace"], name=event["job"]["name"], facets=facets(event["job"]["facets"])
        ),
        inputs=[dataset(event_v2.InputDataset, one) for one in event["inputs"]],
        outputs=[dataset(event_v2.OutputDataset, one) for one in event["outputs"]],
    )
    assert made.schemaURL == event["schemaURL"]
    return made


def test_events_are_those_of_the_specification(session: Session) -> None:
    found = events(session, "data:visits.train@1")
    assert [event["eventType"] for event in found] == ["START", "COMPLETE"] * 2
    for event in found:
        again = msgspec.json.decode(Serde.to_json(rebuilt(event)))
        assert again["run"]["runId"] == event["run"]["runId"]
        assert [one["name"] for one in again["inputs"]] == [one["name"] for one in event["inputs"]]
        uuid.UUID(event["run"]["runId"])


def test_they_tell_sources_steps_and_rows_held_back(session: Session) -> None:
    _, add, _, split = events(session, "data:visits.train@1")
    version = session.datasets.show("visits")
    assert add["job"]["name"] == "datasets.add data:visits"
    (source,) = add["inputs"]
    assert source["name"] == "source:visits.csv"
    assert source["facets"]["version"]["datasetVersion"] == version.source.partition("@")[2]
    assert source["inputFacets"]["dataQualityAssertions"]["assertions"] == [{"assertion": "a stay", "success": False}]
    made, held = add["outputs"]
    assert (made["name"], made["outputFacets"]["outputStatistics"]["rowCount"]) == ("data:visits", version.rows)
    assert (held["name"], held["outputFacets"]["outputStatistics"]["rowCount"]) == (
        "data:visits.quarantine",
        version.quarantined,
    )
    assert [field["name"] for field in made["facets"]["schema"]["fields"]] == ["id", "days", "back"]
    assert [one["name"] for one in split["inputs"]] == ["data:visits"]
    assert split["outputs"][0]["name"] == "data:visits.train"


def test_the_same_entry_is_the_same_run_however_often_it_is_told(session: Session) -> None:
    assert events(session, "data:visits.train@1")[:2] == events(session, "data:visits@1")
    assert events(session, "data:visits@1") == events(session, "data:visits@1")


def test_where_a_source_is_is_told_without_a_secret(session: Session, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "a table", pl.DataFrame({"id": [1, 2]}).to_arrow())
    session.sources.collect("others", ({"address": str(tmp_path / "a table"), "options": {}},))  # type: ignore[arg-type]
    _, collected = events(session, "data:others@1")
    rebuilt(collected)
    (source,) = collected["inputs"]
    assert source["facets"]["dataSource"]["uri"] == (tmp_path / "a table").as_uri()


def test_what_was_made_of_data_leads_back_to_it(session: Session) -> None:
    run = session.runs.create("fit", inputs=("data:visits.train@1",))
    found = events(session, f"run:{run.id}")
    assert {name for event in found for one in event["inputs"] if (name := one["name"])} == {
        "source:visits.csv", "data:visits", "data:visits.train",
    }  # fmt: skip
    for event in found:
        rebuilt(event)
