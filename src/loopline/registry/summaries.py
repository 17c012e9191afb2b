"""The short forms of documents that stand in the record of a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metrics(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Each metric with its interval and count, out of an evaluation's evidence (`evaluation.records.Evidence` as JSON)."""
    body = evidence.get("evidence", evidence)
    return {
        metric["name"]: {part: metric.get(part) for part in ("value", "low", "high", "n")}
        for metric in body.get("metrics", ())
    }


def parity(report: Mapping[str, Any]) -> dict[str, Any]:
    """What serves and why, and how far the forms differ, out of a parity report (`packaging.records.ParityReport` as JSON)."""
    parts = ("runtime", "reason", "n", "tolerance", "difference", "disagreeing", "operator")
    found = {part: report[part] for part in parts if part in report and (part != "operator" or report[part])}
    if int8 := report.get("int8"):
        found["int8"] = f"{'serves' if int8['accepted'] else 'does not serve'}: {int8['reason']}"
    return found
