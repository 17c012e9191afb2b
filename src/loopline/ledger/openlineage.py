"""The lineage as OpenLineage events, for catalogs that read those (OpenLineage specification 2-0-2, https://openlineage.io/spec).

Each entry on the way is a run: a START and a COMPLETE event at its time. What it read and made are datasets, with their
version; of dataset versions also the columns, the rows or files, and the rows held back, which are a dataset of their own. Of a
source also where it is, by its address and by the name that OpenLineage's naming gives it, under which others know it, and which
rules were asked of its rows. The same entry gives the same events, whenever it is exported. They hold names, counts and digests,
as the ledger does, and no value of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote
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
    "datasetType": "1-0-1/DatasetTypeDatasetFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "symlinks": "1-0-1/SymlinksDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
}

Event = dict[str, Any]


class Asserted(NamedTuple):
    """A rule of a contract, and whether all rows that were read kept it."""

    kind: str
    name: str
    column: str
    """Empty: it is about several, or about the table."""
    warns: bool
    kept: bool


class Described(NamedTuple):
    """What is on record of a dataset version besides its ref."""

    columns: tuple[tuple[str, str], ...]
    """Names and types; none of a version of files."""
    rows: int
    files: int
    bytes: int
    """Of its files; 0 for a table."""
    quarantined: int
    asserted: tuple[Asserted, ...]
    """What was asked of the rows that were read."""
    addresses: dict[str, str]
    """Where each source is that it was collected from, as a URI, by the name of its ref."""


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
    made_of = [told[target] for target in targets if target in told]
    inputs = [_input(ref, told.get(ref), made_of) for ref in sources]
    outputs = [output for ref in targets for output in _outputs(ref, told.get(ref))]
    return [
        {"eventType": "START", **common, "inputs": inputs, "outputs": []},
        {"eventType": "COMPLETE", **common, "inputs": inputs, "outputs": outputs},
    ]


def _input(ref: str, described: Described | None, made: list[Described]) -> dict[str, Any]:
    """What an entry read; of a source also where it is, and which rules its rows were held against."""
    dataset = _dataset(ref, described)
    named = parse(ref)
    if named.kind != "source":
        return dataset
    for target in made:
        if address := target.addresses.get(named.name):
            dataset["facets"] |= _facet("dataSource", name=address, uri=address) | _known_as(address)
        if target.asserted:
            dataset["inputFacets"] = _facet("dataQualityAssertions", assertions=[*map(_assertion, target.asserted)])
    return dataset


def _assertion(rule: Asserted) -> dict[str, Any]:
    said = {
        "assertion": rule.kind,
        "name": rule.name,
        "success": rule.kept,
        "severity": "warn" if rule.warns else "error",
    }
    return said | ({"column": rule.column} if rule.column else {})


def _known_as(address: str) -> dict[str, Any]:
    """The name of a source under which other producers of events know it, where OpenLineage's naming has one for it."""
    scheme, _, rest = address.partition("://")
    host, _, path = unquote(rest).partition("/")
    kind = "TABLE" if scheme.startswith("delta+") else "FILE"
    scheme = scheme.removeprefix("delta+")
    if scheme == "file":
        known = ("file", f"/{path}", "FILE")
    elif scheme in ("s3", "gs") and path.strip("/") and not set("*?[") & set(path):
        known = (f"{scheme}://{host}", path.strip("/"), kind)
    elif scheme == "kafka" and path:
        known = (f"kafka://{host.rpartition('@')[2]}", path.strip("/"), "TOPIC")
    else:
        return {}
    return _facet("symlinks", identifiers=[dict(zip(("namespace", "name", "type"), known, strict=True))])


def _outputs(ref: str, described: Described | None) -> list[dict[str, Any]]:
    """What an entry made; of a dataset version also the rows that were held back."""
    dataset = _dataset(ref, described)
    if described is None:
        return [dataset]
    of_files = {"fileCount": described.files, "size": described.bytes}
    held = {"rowCount": described.rows} if described.columns else of_files
    dataset["outputFacets"] = _facet("outputStatistics", **held)
    if not described.quarantined:
        return [dataset]
    named = parse(ref)
    aside = {
        "namespace": _namespace(named.project),
        "name": f"{_name(named)}.quarantine",
        "facets": _version(named) | _facet("datasetType", datasetType="TABLE"),
        "outputFacets": _facet("outputStatistics", rowCount=described.quarantined),
    }
    return [dataset, aside]


def _dataset(ref: str, described: Described | None) -> dict[str, Any]:
    named = parse(ref)
    facets = _version(named)
    if named.kind == "model":
        facets |= _facet("datasetType", datasetType="MODEL")
    if described is not None:
        facets |= _facet("datasetType", datasetType="TABLE" if described.columns else "FILE")
    if described is not None and described.columns:
        facets |= _facet("schema", fields=[{"name": name, "type": kind} for name, kind in described.columns])
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
