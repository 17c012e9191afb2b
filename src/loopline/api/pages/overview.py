"""What the first page tells, as records: `loop.status` and, for each champion, its traffic, rollout, alerts, runs and reports."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.catalog import Session
from loopline.data.records import DatasetVersion
from loopline.deployment.records import Endpoint, Rollout
from loopline.errors import NotFound
from loopline.loop.records import LoopRequest
from loopline.loop.status import Champion, Need, Status, summary
from loopline.monitoring.records import Alert, MonitorRecord
from loopline.outcomes.records import Traffic, VariantTraffic
from loopline.pipeline.records import PipelineRun
from loopline.registry.records import ModelVersion
from loopline.tracking.records import RunGroupPage, RunPage

DAY = 86_400_000
_ALERTED = {"drift": "drifting", "quality": "worse", "probing": "probed", "collecting": "not collected"}
"""An open alert, in a word."""
FAILING = 0.05
"""The share of requests answered by an error from which an endpoint counts as failing."""

_RUNS = 5
_ALERTS = 3
_VERSIONS = 5
_TRACKED = 6
_GROUPS = 50
_EVALUATIONS = 50

Kind = Literal["good", "warn", "bad", "moving", "person", "soft"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a champion stands: the kind of it, in one or two words, and in a sentence."""

    kind: Kind
    word: str
    sentence: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One champion (or a loop that has none yet) and all that is around it. `traffic` is of the last day."""

    champion: Champion
    purpose: str
    standing: Standing
    endpoint: Endpoint | None
    traffic: Traffic | None
    rollout: Rollout | None
    """The running one, else the newest."""
    progress: VariantTraffic | None
    """What the challenger of a running rollout answered in the stage at hand."""
    monitor: MonitorRecord | None
    alerts: tuple[Alert, ...]
    """The newest that are not closed."""
    drift: bool
    """Whether there is a drift report."""
    runs: tuple[PipelineRun, ...]
    asked: LoopRequest | None
    """The newest run that was asked for."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The newest versions of one model or dataset, and how many older ones there are."""

    name: str
    older: int
    models: tuple[ModelVersion, ...] = ()
    datasets: tuple[DatasetVersion, ...] = ()


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One project at one time (milliseconds since 1970 UTC); `projects` are all that the caller has a role in."""

    at: int
    projects: tuple[str, ...]
    status: Status
    places: tuple[Place, ...]
    models: tuple[Series, ...]
    datasets: tuple[Series, ...]
    evaluations: dict[str, str]
    """The id of the newest evaluation of each model version, by ref."""
    runs: RunPage
    """The newest that scripts tracked by themselves; those of loops stand with their champions."""
    groups: RunGroupPage


def overview(session: Session, now: int) -> Overview:
    """What is to be told of the session's project, by verbs that need no more than to read."""
    status = summary(session)
    known = session.models.list()
    evaluations: dict[str, str] = {}
    if known:
        for evaluation in session.evaluations.list(limit=_EVALUATIONS):
            evaluations.setdefault(evaluation.evidence.model, evaluation.id)
    models = []
    for model in sorted(known, key=lambda m: (m.name.count("."), m.name)):
        newest = session.models.versions(model.name)
        shown = [v for i, v in enumerate(newest) if i < _VERSIONS or v.aliases]
        models.append(Series(name=model.name, older=len(newest) - len(shown), models=tuple(shown)))
    datasets = []
    for dataset in sorted(session.datasets.list(), key=lambda d: d.name):
        versions: Any = session.datasets.log(dataset.name)  # Any: `list` is a verb there, and hides the type
        datasets.append(
            Series(name=dataset.name, older=max(0, len(versions) - _VERSIONS), datasets=tuple(versions[:_VERSIONS]))
        )
    return Overview(
        at=now,
        projects=tuple(p.name for p in session.projects.list()),
        status=status,
        places=_places(session, status, now),
        models=tuple(models),
        datasets=tuple(datasets),
        evaluations=evaluations,
        runs=session.runs.list(kind="run", limit=_TRACKED),
        groups=session.groups.list(limit=_GROUPS),
    )


def _places(session: Session, status: Status, now: int) -> tuple[Place, ...]:
    endpoints = {e.name: e for e in session.endpoints.list()}
    monitors = {m.endpoint: m for m in session.monitors.list()}
    purposes = {loop.name: str(loop.declaration.get("purpose", "")) for loop in session.loops.list()}
    requests: Any = session.loops.requests(limit=50)  # the same
    found = []
    for champion in status.champions:
        endpoint = endpoints.pop(champion.endpoint or champion.loop, None)
        found.append((champion, endpoint))
    for endpoint in endpoints.values():  # made by hand: what it serves has no alias
        made = Champion(loop=endpoint.name, declared=False, model=endpoint.champion, endpoint=endpoint.name)
        found.append((made, endpoint))
    return tuple(
        _place(
            session,
            champion,
            endpoint,
            monitors.get(endpoint.name) if endpoint else None,
            purposes.get(champion.loop, ""),
            next((r for r in requests if r.loop == champion.loop), None),
            tuple(need for need in status.needs if _is_of(need, champion.loop)),
            now,
        )
        for champion, endpoint in found
    )


def _is_of(need: Need, name: str) -> bool:
    """Whether an approval, a gate's question, or that its data are withdrawn is about a version of this model."""
    return (
        need.kind in ("approval", "ask", "unsound")
        and need.ref.partition(":")[2].partition("@")[0].split("/")[-1] == name
    )


def _place(
    session: Session,
    champion: Champion,
    endpoint: Endpoint | None,
    monitor: MonitorRecord | None,
    purpose: str,
    asked: LoopRequest | None,
    waits: tuple[Need, ...],
    now: int,
) -> Place:
    rollouts: list[Rollout] = []
    alerts: list[Alert] = []
    traffic, drift = None, False
    if endpoint is not None:
        running = session.rollouts.list(endpoint=endpoint.name, status="running", limit=1)
        rollouts = running or session.rollouts.list(endpoint=endpoint.name, limit=1)
        alerts = [a for a in session.alerts.list(endpoint=endpoint.name) if a.status != "closed"][:_ALERTS]
        traffic = session.predictions.traffic(endpoint.name, since=now - DAY)
        drift = monitor is not None and _has_report(session, endpoint.name)
    runs = session.pipelines.list(name=champion.loop, limit=_RUNS)
    rollout = rollouts[0] if rollouts else None
    return Place(
        champion=champion,
        purpose=purpose,
        standing=_standing(champion, endpoint, traffic, rollout, alerts, monitor, runs, asked, waits),
        endpoint=endpoint,
        traffic=traffic,
        rollout=rollout,
        progress=_progress(session, rollout),
        monitor=monitor,
        alerts=tuple(alerts),
        drift=drift,
        runs=tuple(runs),
        asked=asked,
    )


def _progress(session: Session, rollout: Rollout | None) -> VariantTraffic | None:
    if rollout is None or rollout.status != "running":
        return None
    return session.predictions.traffic(rollout.endpoint, since=rollout.stage_since).variants.get("challenger")


def _has_report(session: Session, endpoint: str) -> bool:
    try:
        session.monitors.drift(endpoint)
    except NotFound:
        return False
    return True


def _standing(
    champion: Champion,
    endpoint: Endpoint | None,
    traffic: Traffic | None,
    rollout: Rollout | None,
    alerts: list[Alert],
    monitor: MonitorRecord | None,
    runs: list[PipelineRun],
    asked: LoopRequest | None,
    waits: tuple[Need, ...],
) -> Standing:
    """The first of these that holds, worst first."""
    model = champion.model or "no version"
    answers = [v for name, v in (traffic.variants if traffic else {}).items() if name == "champion"]
    requests, errors = sum(v.requests for v in answers), sum(v.errors for v in answers)
    since = champion.since or 0
    live = [a for a in alerts if a.status in ("open", "acknowledged") and a.raised >= since]
    last = runs[0] if runs else None
    if errors > FAILING * requests and requests:
        sentence = f"{model} answered {errors:,} of {requests:,} requests with an error in the last day."
        return Standing(kind="bad", word="failing", sentence=sentence)
    if waits:
        return Standing(kind="person", word="waits for a person", sentence=_sentence(waits[0].text))
    if rollout is not None and rollout.status == "running":
        sentence = f"{rollout.challenger} is being rolled out against {rollout.champion}: {stage(rollout)}."
        return Standing(kind="moving", word="rolling out", sentence=sentence)
    if (last is not None and last.status == "running") or (asked is not None and asked.status == "running"):
        why = next((r for r in (asked.reason if asked and asked.status == "running" else "",) if r), "")
        sentence = f"The loop runs again{f', since: {why}' if why else '.'}"
        return Standing(kind="moving", word="learning", sentence=_sentence(sentence))
    if live:
        return Standing(kind="warn", word=_ALERTED[live[0].kind], sentence=live[0].summary)
    if last is not None and last.status == "failed":
        return Standing(kind="bad", word="run failed", sentence=_sentence(f"The last run failed: {last.message}"))
    if last is not None and last.status == "stopped":
        kept = f" {model} stays champion." if champion.model else " Nothing is served."
        return Standing(kind="warn", word="refused", sentence=_sentence(f"The last run was {last.message}") + kept)
    if not champion.model:
        return Standing(kind="soft", word="no champion", sentence="No version has passed the gates yet.")
    if endpoint is None:
        return Standing(kind="soft", word="not served", sentence=f"{model} is champion and stands behind no endpoint.")
    if monitor is None or not monitor.looks:
        told = "nothing watches it" if monitor is None else "too few rows have come for a first look at drift"
        return Standing(kind="good", word="serving", sentence=f"{model} answers; {told}.")
    looks = f"{monitor.looks:,} look{'s' if monitor.looks > 1 else ''}"
    found = "no drift was found" if monitor.verdict == "no drift" else "no new drift was found"
    return Standing(kind="good", word="healthy", sentence=f"{model} answers; {found} in {looks}.")


def stage(rollout: Rollout) -> str:
    """The stage that a rollout is at, in words."""
    at = rollout.plan.stages[rollout.stage]
    name = "it answers in the shadow" if at.kind == "shadow" else f"it answers {at.percent} % of requests"
    return f"stage {rollout.stage + 1} of {len(rollout.plan.stages)}, {name}"


def _sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip()
    shown = text[:1].upper() + text[1:] if text[:6] != "model:" else text
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."
