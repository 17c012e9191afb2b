"""The card of a model version: what it is for, what it learnt from, how good it is, for whom, and its limits.

Made from records only: nobody writes into it by hand, so it says what is on record or that nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loopline.operations import Bytes
from loopline.registry.card_forms import to_html, to_markdown
from loopline.registry.card_sections import sections
from loopline.registry.records import AliasMove, Approval, CardForm, ModelVersion
from loopline.tracking.records import Run

_FEW = 30
_ENVIRONMENT = ("python", "platform", "machine", "cpus", "packages", "commit", "dirty", "patch")


def card(
    version: ModelVersion,
    *,
    documents: Mapping[str, Mapping[str, Any]],
    run: Run | None,
    moves: Sequence[AliasMove],
    approvals: Sequence[Approval],
) -> dict[str, Any]:
    """The card as JSON values. `documents` are those attached, by kind; `moves` all moves of the model's aliases."""
    evaluation = documents.get("evaluation", {})
    evidence: Mapping[str, Any] = evaluation.get("evidence", evaluation)
    verdicts = documents.get("verdicts") or evaluation.get("judgement") or {}
    training = dict(documents.get("training", {}))
    facts = dict(version.facts)
    made: dict[str, Any] = {
        "model": {
            "ref": version.ref,
            "name": version.name,
            "version": version.version,
            "status": version.status,
            "reason": version.reason,
            "task": version.task,
            "created": version.created,
            "creator": version.creator,
            "registered": version.registered,
            "aliases": list(version.aliases),
        },
        "purpose": {
            key: facts.pop(key) for key in ("loop", "purpose", "owner", "intended", "unsuited") if key in facts
        },
        "data": {
            "synthetic": facts.get("data") == "synthetic",
            "inputs": list(version.inputs),
            "evaluated_on": evidence.get("dataset"),
            "window": evidence.get("window"),
            "facts": {key: value for key, value in sorted(facts.items()) if key != "limits"},
        },
        "training": {
            "run": version.run,
            "name": run.name if run else None,
            "params": run.params if run else {},
            "metrics": run.metrics if run else {},
            "environment": {key: run.environment[key] for key in _ENVIRONMENT if key in run.environment} if run else {},
            "record": training,
        },
        "evaluation": {
            "n": evidence.get("n"),
            "looks": evidence.get("looks"),
            "confidence": evidence.get("confidence"),
            "threshold": evidence.get("threshold"),
            "latency_p99_ms": evidence.get("latency_p99_ms"),
            "metrics": list(evidence.get("metrics", ())),
            "slices": list(evidence.get("slices", ())),
            "fairness": list(evidence.get("fairness", ())),
            "differences": list(evidence.get("differences", ())),
        },
        "gates": {"outcome": verdicts.get("outcome"), "verdicts": list(verdicts.get("verdicts", ()))},
        "parity": dict(documents.get("parity", {})),
        "forms": {"bundle": version.bundle, "size": version.size, "files": version.forms},
        "documents": version.documents,
        "signature": {"key": version.signature, "signed": version.registered} if version.signature else None,
        "aliases": [msgspec.to_builtins(move) for move in sorted(moves, key=lambda m: (m.at, m.alias, m.number))],
        "approvals": [
            {
                "id": approval.id,
                "decision": approval.decision,
                "requester": approval.requester,
                "requested": approval.requested,
                "decider": approval.decider,
                "decided": approval.decided,
            }
            for approval in approvals
        ],
    }
    made["limits"] = _limits(made, version.facts.get("limits", ""))
    return made


def written(made: Mapping[str, Any], form: CardForm) -> Bytes:
    """The card in one of its forms."""
    name = f"card-{made['model']['name']}-{made['model']['version']}"
    if form == "json":
        data = msgspec.json.format(msgspec.json.encode(made, order="deterministic"), indent=2)
        return Bytes(media="application/json", data=data, name=f"{name}.json")
    title, parts = f"Model card: {made['model']['ref']}", sections(made)
    if form == "html":
        return Bytes(media="text/html; charset=utf-8", data=to_html(title, parts).encode(), name=f"{name}.html")
    return Bytes(media="text/markdown; charset=utf-8", data=to_markdown(title, parts).encode(), name=f"{name}.md")


def _limits(made: Mapping[str, Any], said: str) -> list[str]:
    """What a reader must know before trusting the version, as far as the records tell."""
    found = [said] if said else []
    evaluation = made["evaluation"]
    status = made["model"]["status"]
    if status == "draft":
        found.append("This is a draft: it is not signed and no alias may name it.")
    if status == "withdrawn":
        found.append(f"This version was withdrawn: {made['model']['reason']}")
    if made["data"]["synthetic"]:
        found.append("It learnt from synthetic data: its numbers say nothing about real cases.")
    if not evaluation["metrics"]:
        found.append("No evaluation is on record: nothing is known of how good it is.")
    if (evaluation["looks"] or 1) > 1:
        found.append(
            f"This was look {evaluation['looks']} at the test window; the intervals are widened to a confidence of "
            f"{evaluation['confidence']:.12g}."
        )
    found.extend(
        f"The column {one['column']!r} alone tells the label ({one['metric']} {one['value']:.3f}): if it is filled in after the "
        "label is known, the numbers below are worth nothing."
        for one in made["training"]["record"].get("telling", ())
    )
    small = [f"{s['column']} = {s['group']} ({s['n']})" for s in evaluation["slices"] if s["n"] < _FEW or s.get("note")]
    if small:
        found.append(f"Groups too small to say much about: {', '.join(small)}.")
    found.extend(
        f"{fairness['metric']} by {fairness['column']} leaves out, for too few rows: {', '.join(fairness['too_few'])}."
        for fairness in evaluation["fairness"]
        if fairness.get("too_few")
    )
    found.extend(
        f"The gate {verdict.get('gate')} says {verdict.get('outcome')}: {verdict.get('reason')}"
        for verdict in made["gates"]["verdicts"]
        if verdict.get("outcome") != "pass"
    )
    runtime = made["parity"].get("runtime", "onnx")
    if runtime != "onnx":
        form = "in its native form" if runtime == "native" else f"by {runtime}"
        found.append(f"It is served {form}, not ONNX: {made['parity'].get('reason', '')}")
    if made["training"]["environment"].get("dirty"):
        found.append("It was trained from a working copy that differed from its commit.")
    if made["training"]["run"] is None:
        found.append("No run is on record that made it.")
    return found
