"""The lineage as OpenLineage events, for catalogs that read those (OpenLineage specification 2-0-2, https://openlineage.io/spec).

Each entry on the way is a run: a START and a COMPLETE event at its time. What it read and made are datasets, with their
version; of dataset versions also the columns, the rows, and the rows held back, which are a dataset of their own. The same entry
gives the same events, whenever it is exported. They hold names, counts and digests, as the ledger does, and no value of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from loopline import __version__
from loopline.ledger.records import Edge, Lineage
from loopline.refs import Ref, parse

_PRODUCER = f"pkg:pypi/loopline@{__version__}"
_SPECIFICATION = "https://openlineage.io/spec"
_EVENT = f"{_SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_RUNS = UUID("5b0f2d4c-8d0f-5d6e-9a57-6f0c8f1f4a11")
"""The namespace of the ids of runs (RFC 9562, 5.5): one's own, made once."""

_FACETS = {
    "dataSource": "1-0-1/DatasourceDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
}

Event = dict[str, Any]


class Described(NamedTuple):
    """What is on record of a dataset version besides its ref."""

    columns: tuple[tuple[str, str], ...]
    """Names and types."""
    rows: int
    quarantined: int
    broken: dict[str, int]
    """Rows that broke each rule, by the rule's name."""
    source: str
    """The ref of what it was read from, or nothing."""
    address: str
    """The address of that, where it was collected from one."""


Describe = Callable[[str], Described | None]
"""What tells of a dataset version by its ref; nothing of any other ref."""


def events(found: Lineage, describe: Describe, project: str) -> list[Event]:
    """The events of the entries on the way, the oldest first."""
    entries: dict[int, list[Edge]] = {}
    for edge in found.edges:
        entries.setdefault(edge.seq, []).append(edge)
    return [event for seq in sorted(entries) for event in _of_entry(entries[seq], found, describe, project)]


def _of_entry(edges: list[Edge], found: Lineage, describe: Describe, project: str) -> list[Event]:
    sources = list(dict.fromkeys(edge.source for edge in edges))
    targets = list(dict.fromkeys(edge.target for edge in edges))
    told = {ref: described for ref in (*sources, *targets) if (described := describe(ref)) is not None}
    first = edges[0]
    made = "".join(sorted(f"{ref} {found.digests.get(ref, {})}\n" for ref in targets))
    common = {
        "eventTime": datetime.fromtimestamp(first.time / 1000, UTC).isoformat(timespec="milliseconds"),
        "producer": _PRODUCER,
        "schemaURL": _EVENT,
        "run": {"runId": str(uuid5(_RUNS, f"{project} {first.seq} {first.time} {made}"))},
        "job": {
            "namespace": _namespace(project),
            "name": f"{first.operation} {_name(parse(targets[0]))}",
            "facets": _facet("jobType", processingType="BATCH", integration="LOOPLINE", jobType="OPERATION"),
        },
    }
    inputs = [_input(ref, told, targets) for ref in sources]
    outputs = [output for ref in targets for output in _outputs(ref, told.get(ref))]
    return [
        {"eventType": "START", **common, "inputs": inputs, "outputs": []},
        {"eventType": "COMPLETE", **common, "inputs": inputs, "outputs": outputs},
    ]


def _input(ref: str, told: dict[str, Described], targets: list[str]) -> dict[str, Any]:
    """What an entry read; of a source also where it is, and which rules some of its rows broke."""
    made = next((told[target] for target in targets if target in told and told[target].source == ref), None)
    dataset = _dataset(ref, told.get(ref))
    if made is None:
        return dataset
    if made.address:
        dataset["facets"] |= _facet("dataSource", name=made.address, uri=made.address)
    if made.broken:
        broken = [{"assertion": rule, "success": False} for rule in sorted(made.broken)]
        dataset["inputFacets"] = _facet("dataQualityAssertions", assertions=broken)
    return dataset


def _outputs(ref: str, described: Described | None) -> list[dict[str, Any]]:
    """What an entry made; of a dataset version also the rows that were held back."""
    dataset = _dataset(ref, described)
    if described is None:
        return [dataset]
    dataset["outputFacets"] = _facet("outputStatistics", rowCount=described.rows)
    if not described.quarantined:
        return [dataset]
    named = parse(ref)
    held = {
        "namespace": _namespace(named.project),
        "name": f"{_name(named)}.quarantine",
        "facets": _version(named),
        "outputFacets": _facet("outputStatistics", rowCount=described.quarantined),
    }
    return [dataset, held]


def _dataset(ref: str, described: Described | None) -> dict[str, Any]:
    named = parse(ref)
    facets = _version(named)
    if described is not None:
        fields = [{"name": name, "type": kind} for name, kind in described.columns]
        facets |= _facet("schema", fields=fields)
    return {"namespace": _namespace(named.project), "name": _name(named), "facets": facets}


def _version(named: Ref) -> dict[str, Any]:
    return {} if named.version is None else _facet("version", datasetVersion=named.version)


def _facet(name: str, /, **values: Any) -> dict[str, Any]:
    place = _FACETS[name]
    url = f"{_SPECIFICATION}/facets/{place}.json#/$defs/{place.partition('/')[2]}"
    return {name: {"_producer": _PRODUCER, "_schemaURL": url, **values}}


def _namespace(project: str) -> str:
    return f"loopline://{project}"


def _name(named: Ref) -> str:
    return f"{named.kind}:{named.name}"
