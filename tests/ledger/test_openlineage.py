"""OpenLineage events are what the specification says, read by the classes that its own client makes from it.

The schemas themselves are in no package: what they ask beyond those classes is said below, as of core 2-0-2.
"""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import polars as pl
import pytest
from deltalake import write_deltalake
from openlineage.client import event_v2
from openlineage.client.serde import Serde

from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.collecting import source_of
from loopline.data.described import _uri
from loopline.data.files.adding import add
from loopline.ledger.openlineage import Described
from loopline.ledger.openlineage import events as lineage_events
from loopline.ledger.records import Edge, Lineage
from loopline.operations import Body
from loopline.refs import parse

CONTRACT = {
    "rules": [
        {"rule": "between", "column": "days", "low": 1, "name": "a stay"},
        {"rule": "not_null", "column": "id", "severity": "warn"},
    ]
}


_TEXT: Any = {"type": "string", "minLength": 1}
_URI = {"type": "string", "format": "uri"}
_FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"_producer": _URI, "_schemaURL": _URI},
        "required": ["_producer", "_schemaURL"],
    },
}
_JOB = {
    "type": "object",
    "properties": {"namespace": _TEXT, "name": _TEXT, "facets": _FACETS},
    "required": ["namespace", "name"],
}
_DATASETS = {
    "type": "array",
    "items": _JOB | {"properties": _JOB["properties"] | {"inputFacets": _FACETS, "outputFacets": _FACETS}},
}
RUN_EVENT = {
    "type": "object",
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": _URI,
        "schemaURL": _URI,
        "run": {
            "type": "object",
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": _FACETS},
            "required": ["runId"],
        },
        "job": _JOB,
        "inputs": _DATASETS,
        "outputs": _DATASETS,
    },
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
}
"""A RunEvent with its BaseEvent, Run, Job, Dataset and BaseFacet."""

_RULE = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in ("assertion", "column", "severity", "name")},
        "success": {"type": "boolean"},
    },
    "required": ["assertion", "success"],
    "additionalProperties": False,
}
_COUNT = {"type": "integer", "minimum": 0}
FACETS: dict[str, dict[str, Any]] = {
    "dataSource": {"name": _TEXT, "uri": _URI},
    "dataQualityAssertions": {"assertions": {"type": "array", "items": _RULE}},
    "datasetType": {"datasetType": {"enum": ["TABLE", "FILE", "MODEL"]}},
    "jobType": {"processingType": {"enum": ["BATCH"]}, "integration": _TEXT, "jobType": _TEXT},
    "outputStatistics": {"rowCount": _COUNT, "size": _COUNT, "fileCount": _COUNT},
    "schema": {
        "fields": {"type": "array", "items": {"properties": {"name": _TEXT, "type": _TEXT}, "required": ["name"]}}
    },
    "symlinks": {
        "identifiers": {
            "type": "array",
            "items": {
                "properties": {"namespace": _TEXT, "name": _TEXT, "type": _TEXT},
                "required": ["namespace", "name", "type"],
            },
        }
    },
    "version": {"datasetVersion": _TEXT},
}
"""What each standard facet holds, by the name under which it stands."""

FORMATS = jsonschema.FormatChecker(formats=("date-time", "uuid"))


@FORMATS.checks("uri")
def _is_uri(text: object) -> bool:
    """Whether a text is a URI (RFC 3986): a scheme, then no sign that would have to be escaped."""
    return (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[\w.~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", str(text), re.ASCII)
        is not None
    )


def check(event: dict[str, Any]) -> None:
    """Holds an event against the specification."""
    jsonschema.Draft202012Validator(RUN_EVENT, format_checker=FORMATS).validate(event)
    datasets = [*event["inputs"], *event["outputs"]]
    held = [event["job"], event["run"], *datasets]
    for facets in (one[kind] for one in held for kind in ("facets", "inputFacets", "outputFacets") if kind in one):
        for name, facet in facets.items():
            values = {key: value for key, value in facet.items() if not key.startswith("_")}
            asked = {"properties": FACETS[name], "additionalProperties": False}
            jsonschema.Draft202012Validator(asked, format_checker=FORMATS).validate(values)
    rebuilt(event)


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
        check(event)
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
    assert source["inputFacets"]["dataQualityAssertions"]["assertions"] == [
        {"assertion": "between", "name": "a stay", "column": "days", "success": False, "severity": "error"},
        {"assertion": "not_null", "name": "id.not_null()", "column": "id", "success": True, "severity": "warn"},
    ]  # fmt: skip
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
    check(collected)
    (source,) = collected["inputs"]
    assert source["facets"]["dataSource"]["uri"] == (tmp_path / "a table").as_uri()
    assert source["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "file", "name": str(tmp_path / "a table"), "type": "FILE"}
    ]


@pytest.mark.parametrize(
    ("address", "uri", "known"),
    [
        ("s3://clinic/visits 2026/", "s3://clinic/visits%202026/", ("s3://clinic", "visits 2026", "FILE")),
        ("s3://clinic/*/[ab].csv", "s3://clinic/*/%5Bab%5D.csv", None),
        ("delta+s3://clinic/t", "delta+s3://clinic/t", ("s3://clinic", "t", "TABLE")),
        ("kafka://${WHO}:${PASSWORD}@[::1]:9092/stays", "kafka://$%7BWHO%7D:$%7BPASSWORD%7D@[::1]:9092/stays",
         ("kafka://[::1]:9092", "stays", "TOPIC")),
        ("postgresql://me:${KEY}@db/clinic?sslmode=require", "postgresql://me:$%7BKEY%7D@db/clinic?sslmode=require", None),
        ("http://clinic/ä/100%/%20", "http://clinic/%C3%A4/100%25/%20", None),
    ],
)  # fmt: skip
def test_an_address_is_a_uri_and_has_the_name_that_others_give_it(
    session: Session, address: str, uri: str, known: tuple[str, str, str] | None
) -> None:
    ref = f"source:{source_of(address)}@1"
    target = Described((("id", "long"),), 1, 0, 0, 0, (), {source_of(address): _uri(address)})
    edge = Edge(source=ref, target="data:visits@1", operation="sources.collect", seq=1, time=1, depth=1)
    found = Lineage(ref="data:visits@1", direction="back", edges=(edge,), ends=(), digests={}, cut=False)
    for event in lineage_events(found, lambda one: target if one == "data:visits@1" else None, "default"):
        check(event)
        facets = event["inputs"][0]["facets"]
        assert facets["dataSource"]["uri"] == uri
        identifiers = facets.get("symlinks", {}).get("identifiers", [])
        assert [tuple(one.values()) for one in identifiers] == ([known] if known else [])


def test_a_file_of_any_name_leads_on(session: Session) -> None:
    made = session.datasets.add("offices", Body(b"id\n1\n", name="Ämter 1.csv"))
    assert parse(made.source).name == "mter-1.csv"
    for event in events(session, made.ref):
        check(event)


def test_each_of_several_sources_has_its_address(session: Session, tmp_path: Path) -> None:
    for name, column in (("a", "days"), ("b", "ward")):
        (tmp_path / f"{name}.csv").write_text(f"id,{column}\n1,2\n")
    sources = tuple({"address": str(tmp_path / f"{name}.csv"), "options": {}} for name in ("a", "b"))
    session.sources.collect("both", sources, join=("id",))  # type: ignore[arg-type]
    _, collected = events(session, "data:both@1")
    check(collected)
    assert {one["name"]: one["facets"]["dataSource"]["uri"] for one in collected["inputs"]} == {
        f"source:{name}.csv": (tmp_path / f"{name}.csv").as_uri() for name in ("a", "b")
    }


def test_of_files_it_is_told_how_many_and_how_large(session: Session, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.raw").write_bytes(b"1234")
    add(session.files, "scans", tmp_path / "scans", states=tmp_path / "states")
    run = session.runs.create("fit", inputs=("data:scans@1",))
    (tmp_path / "scans" / "b.raw").write_bytes(b"5")
    add(session.files, "scans", tmp_path / "scans", states=tmp_path / "states")
    session.datasets.restore("scans", "1")
    for event in (*events(session, "data:scans@3"), *events(session, run.ref)):
        check(event)
    _, restored = events(session, "data:scans@3")
    (made,) = restored["outputs"]
    assert "schema" not in made["facets"]
    assert made["facets"]["datasetType"]["datasetType"] == "FILE"
    statistics = {key: n for key, n in made["outputFacets"]["outputStatistics"].items() if not key.startswith("_")}
    assert statistics == {"fileCount": 1, "size": 4}


def test_what_was_made_of_data_leads_back_to_it(session: Session) -> None:
    run = session.runs.create("fit", inputs=("data:visits.train@1",))
    found = events(session, f"run:{run.id}")
    assert {name for event in found for one in event["inputs"] if (name := one["name"])} == {
        "source:visits.csv", "data:visits", "data:visits.train",
    }  # fmt: skip
    for event in found:
        check(event)
