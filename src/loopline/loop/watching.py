"""Where a loop's declaration meets its monitor: what is watched, against which rows."""

from __future__ import annotations

from typing import Any

from loopline.evaluation.catalogue import kind
from loopline.loop.house import House
from loopline.monitoring.quality import FIRST
from loopline.refs import parse
from loopline.registry.records import ModelVersion


def watch(house: House, endpoint: str, declaration: dict[str, Any], model: str) -> None:
    """Watches an endpoint as its loop declares, against the rows that the served version was trained on."""
    named = parse(model, "model", house.project)
    version = house.models.show(named.name, named.version or "champion")
    data, monitor = declaration["data"], declaration["monitor"]
    if not version.inputs:
        return  # registered by hand, without the rows it learnt from: there is nothing to hold the traffic against
    house.monitors.declare(
        endpoint,
        reference=version.inputs[0],
        label=data["label"],
        task=version.task,
        group=data["group"],
        time=data["time"],
        false_alarms=monitor["false_alarms"],
        look=monitor["look"],
        rows=monitor["rows"],
        expected=_expected(version),
        ignore=_unread(house, version),
    )


def _unread(house: House, version: ModelVersion) -> list[str]:
    """The columns of its training rows that the version does not read, as its own record says."""
    if "training" not in version.documents:
        return []
    record = house.models.document(version.name, version.version, "training").document
    return [dropped["name"] for dropped in record["dropped"]]


def _expected(version: ModelVersion) -> float | None:
    """What the version's own evaluation proved of the watched metric: the worse end of its interval."""
    metric = FIRST[version.task]
    found = version.metrics.get(metric)
    return float(found["low" if kind(metric).higher_is_better else "high"]) if found else None
