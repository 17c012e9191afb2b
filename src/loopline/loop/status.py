"""What is going on in a project, as one record: champions, rollouts, what needs a person, the newest runs, the monitors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from loopline.data.records import Collection
from loopline.deployment.records import Rollout
from loopline.evaluation.records import Evaluation
from loopline.loop.house import House
from loopline.loop.records import LoopRequest
from loopline.refs import parse
from loopline.registry.records import Approval

CHAMPION = "champion"
_NEWEST = 5
_EVALUATIONS = 20


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """What is champion of one loop (or of a model that was deployed by hand), and since when.

    `model` is empty where no version passed the gates yet; `metrics` maps a name to (value, low, high); `endpoint` is where it
    is served, if it is.
    """

    loop: str
    declared: bool
    model: str = ""
    since: int | None = None
    by: str = ""
    reason: str = ""
    metrics: dict[str, tuple[float, float, float]] = {}
    endpoint: str = ""


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """A running rollout and its stage (`stage` counts from 1)."""

    ref: str
    id: str
    endpoint: str
    champion: str
    challenger: str
    stage: int
    stages: int
    kind: str
    percent: int
    since: int
    started: int


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Something that waits for a person: what, since when, and the command to begin with."""

    kind: Literal["approval", "ask", "alert", "refused", "failed", "unsound"]
    ref: str
    text: str
    at: int
    command: str


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a pipeline and what it came to."""

    ref: str
    id: str
    name: str
    status: str
    message: str
    started: int
    ended: int | None


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor and its verdict."""

    endpoint: str
    verdict: str
    looks: int
    last_look: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One project at one time. Times are in milliseconds since 1970 UTC."""

    project: str
    champions: tuple[Champion, ...]
    rollouts: tuple[UnderWay, ...]
    needs: tuple[Need, ...]
    asked: tuple[LoopRequest, ...]
    """Runs that were asked for and have not begun; their `message` says what they wait for."""
    runs: tuple[Ran, ...]
    monitors: tuple[Watched, ...]
    collected: tuple[Collection, ...]
    """Datasets that are collected from sources."""


def summary(house: House) -> Status:
    """The status of the house's project, out of its verbs alone (all of them of the action "read")."""
    runs = house.pipelines.list(limit=50)
    collected = house.sources.list()
    return Status(
        project=house.project,
        champions=_champions(house),
        rollouts=tuple(_under_way(r) for r in house.rollouts.list(status="running")),
        needs=_needs(house, collected),
        asked=house.loops.requests("asked"),
        runs=tuple(
            Ran(
                ref=r.ref,
                id=r.id,
                name=r.name,
                status=r.status,
                message=r.message,
                started=r.started,
                ended=r.ended,
            )
            for r in runs[:_NEWEST]
        ),
        monitors=tuple(
            Watched(endpoint=m.endpoint, verdict=m.verdict, looks=m.looks, last_look=m.last_look)
            for m in house.monitors.list()
        ),
        collected=collected,
    )


def _champions(house: House) -> tuple[Champion, ...]:
    loops = {loop.name for loop in house.loops.list()}
    models = {model.name: model for model in house.models.list()}
    served = {endpoint.champion: endpoint.name for endpoint in house.endpoints.list()}
    found = []
    for name in sorted(loops | {name for name, model in models.items() if CHAMPION in model.aliases}):
        model = models.get(name)
        if model is None or CHAMPION not in model.aliases:
            found.append(Champion(loop=name, declared=True))
            continue
        version = house.models.show(name, model.aliases[CHAMPION])
        alias = house.models.as_of(name, CHAMPION)
        found.append(
            Champion(
                loop=name,
                declared=name in loops,
                model=version.ref,
                since=alias.since,
                by=alias.by,
                reason=alias.reason,
                metrics={n: (m["value"], m["low"], m["high"]) for n, m in version.metrics.items()},
                endpoint=served.get(version.ref, ""),
            )
        )
    return tuple(found)


def _under_way(rollout: Rollout) -> UnderWay:
    stage = rollout.plan.stages[rollout.stage]
    return UnderWay(
        ref=rollout.ref,
        id=rollout.id,
        endpoint=rollout.endpoint,
        champion=rollout.champion,
        challenger=rollout.challenger,
        stage=rollout.stage + 1,
        stages=len(rollout.plan.stages),
        kind=stage.kind,
        percent=stage.percent,
        since=rollout.stage_since,
        started=rollout.started,
    )


def _needs(house: House, collected: Sequence[Collection]) -> tuple[Need, ...]:
    approvals = house.models.approvals()
    asked = _asks(house)
    found = [_approval(a, asked.get(a.ref)) for a in approvals if a.decision == "open"]
    looked_at = {a.ref for a in approvals}
    found += [_ask(e) for ref, e in asked.items() if ref not in looked_at]
    found += [
        Need(
            kind="alert",
            ref=a.ref,
            text=f"{a.endpoint}: {a.summary}",
            at=a.raised,
            command=f"loopline alerts show {a.id}",
        )
        for a in house.alerts.list(status="open")
        if a.endpoint  # of a dataset that is not collected any more is told below
    ]
    found += [
        Need(
            kind="failed",
            ref=one.ref,
            text=f"{one.name} is not collected any more ({one.failures} turns failed): {one.problem}",
            at=one.read,
            command=f"loopline data sync {one.name}",
        )
        for one in collected
        if one.problem
    ]
    found += _unhappy_runs(house)
    found += _unsound(house)
    return tuple(sorted(found, key=lambda need: -need.at))


def _asks(house: House) -> dict[str, Evaluation]:
    """The newest evaluation of each model version on which a gate asks for a person."""
    newest: dict[str, Evaluation] = {}
    for evaluation in house.evaluations.list(limit=_EVALUATIONS):
        newest.setdefault(evaluation.evidence.model, evaluation)
    return {ref: e for ref, e in newest.items() if e.judgement is not None and e.judgement.outcome == "ask"}


def _reasons(evaluation: Evaluation) -> str:
    verdicts = evaluation.judgement.verdicts if evaluation.judgement else ()
    return "; ".join(f"{v.gate}: {v.reason}" for v in verdicts if v.outcome == "ask")


def _approval(approval: Approval, evaluation: Evaluation | None) -> Need:
    why = f": {_reasons(evaluation)}" if evaluation else ""
    return Need(
        kind="approval",
        ref=approval.ref,
        text=f"{approval.ref} waits for approval, asked by {approval.requester}{why}",
        at=approval.requested,
        command=f"loopline models approve {approval.id}",
    )


def _ask(evaluation: Evaluation) -> Need:
    name = parse(evaluation.evidence.model, "model").name
    return Need(
        kind="ask",
        ref=evaluation.evidence.model,
        text=f"a gate asks about {evaluation.evidence.model}: {_reasons(evaluation)}",
        at=evaluation.at,
        command=f"loopline evaluations show {evaluation.id}, then loopline run {name}",
    )


def _unsound(house: House) -> list[Need]:
    """Endpoints whose champion rests on withdrawn data."""
    serving = {endpoint.champion: endpoint for endpoint in house.endpoints.list()}
    bad = house.datasets.unsound(tuple(serving)) if serving else {}
    return [
        Need(
            kind="unsound",
            ref=model,
            text=f"{serving[model].name} answers by {model}, which learnt from {data}: it is withdrawn",
            at=serving[model].updated,
            command=f"loopline run {serving[model].name}, or loopline rollout start {serving[model].name} REF",
        )
        for model, data in bad.items()
    ]


def _unhappy_runs(house: House) -> list[Need]:
    """Loops and other pipelines whose newest run was refused by a gate, or failed; and failed runs that were asked for."""
    found: dict[str, Need] = {}
    seen: set[str] = set()
    for run in house.pipelines.list(limit=50):
        if run.name in seen or run.status == "running":
            continue
        seen.add(run.name)
        if run.status == "failed" or (run.status == "stopped" and run.message.startswith("refused")):
            found[run.name] = Need(
                kind="failed" if run.status == "failed" else "refused",
                ref=run.ref,
                text=f"the newest run of {run.name}: {run.message or run.status}",
                at=run.ended or run.started,
                command=f"loopline pipeline show {run.id}",
            )
    seen.clear()
    for request in house.loops.requests(limit=50):
        if request.loop in seen or request.status in ("asked", "running"):
            continue
        seen.add(request.loop)
        if request.status == "failed" and request.loop not in found:
            found[request.loop] = Need(
                kind="failed",
                ref=f"loop:{request.loop}",
                text=f"the run of {request.loop} that was asked for: {request.message}",
                at=request.ended or request.asked,
                command=f"loopline run {request.loop}",
            )
    return list(found.values())
