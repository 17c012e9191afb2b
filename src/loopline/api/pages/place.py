"""The part of the first page that tells of one champion: how it stands, then what that rests on."""

from __future__ import annotations

from loopline.api.pages import links
from loopline.api.pages.html import Html, element, joined
from loopline.api.pages.overview import Kind, Overview, Place
from loopline.api.pages.style import status, table
from loopline.api.pages.times import ago, latency, length
from loopline.deployment.records import Rollout
from loopline.outcomes.records import VariantTraffic
from loopline.pipeline.records import PipelineRun

_METRICS = 4
_ENDED: dict[str, tuple[Kind, str]] = {
    "promoted": ("good", "promoted"),
    "kept": ("warn", "kept as challenger"),
    "rolled_back": ("bad", "rolled back"),
    "running": ("moving", "under way"),
}
_ALERT: dict[str, tuple[Kind, str]] = {
    "open": ("warn", "open"),
    "acknowledged": ("soft", "acknowledged"),
    "silenced": ("soft", "silenced"),
}


def section(place: Place, found: Overview) -> Html:
    """All of one champion."""
    name = place.champion.loop
    address = element("code", f"/predict/{place.endpoint.name}", class_="soft") if place.endpoint else None
    return element(
        "section",
        element(
            "div",
            element("h2", name),
            status(place.standing.kind, place.standing.word),
            address,
            class_="title",
        ),
        element("p", place.standing.sentence, class_="verdict"),
        element("p", place.purpose, class_="soft") if place.purpose else None,
        _champion(place, found),
        _traffic(place),
        _rollout(place, found),
        _watch(place, found),
        _runs(place, found),
        class_="card",
        id=f"of-{name}",
    )


def _champion(place: Place, found: Overview) -> Html | None:
    champion = place.champion
    if not champion.model:
        return None
    project = found.status.project
    since = joined("champion since ", ago(champion.since, found.at)) if champion.since else "served"
    said = joined(f" by {champion.by}", f" ({champion.reason})" if champion.reason else None) if champion.by else None
    evaluation = found.evaluations.get(champion.model)
    metrics = (
        element(
            "div",
            element("dt", name),
            element(
                "dd",
                element("b", _figure(value)),
                " ",
                element("span", f"[{_figure(low)}, {_figure(high)}]", class_="soft"),
            ),
        )
        for name, (value, low, high) in list(champion.metrics.items())[:_METRICS]
    )
    return joined(
        element("h3", "Champion"),
        element("p", element("span", champion.model, class_="id"), " ", element("span", since, said, class_="soft")),
        element("dl", *metrics, class_="facts") if champion.metrics else None,
        element(
            "p",
            element("a", "card", href=links.card(project, champion.model)),
            element("a", "evaluation report", href=links.report(project, evaluation)) if evaluation else None,
            class_="links",
        ),
    )


def _traffic(place: Place) -> Html | None:
    if place.traffic is None:
        return None
    head = element("h3", "Traffic of the last day")
    if not place.traffic.variants:
        return joined(head, element("p", "No row was asked for.", class_="soft"))
    rows: list[list[object]] = [
        [
            name,
            element("span", v.model, class_="id"),
            f"{v.rows:,}",
            f"{v.requests:,}",
            element("span", status("bad", f"{v.errors:,}")) if v.errors else "0",
            f"{v.labelled:,}",
            latency(v.latency_p50),
            latency(v.latency_p99),
        ]
        for name, v in place.traffic.variants.items()
    ]
    columns = ["variant", "version", "rows", "requests", "errors", "labelled", "p50", "p99"]
    return joined(head, table(columns, rows, numbers=(2, 3, 4, 5, 6, 7), whole=(0, 1)))


def _rollout(place: Place, found: Overview) -> Html | None:
    rollout = place.rollout
    if rollout is None:
        return None
    last = rollout.steps[-1] if rollout.steps else None
    decided = rollout.reason or (f"{last.decision}, {last.reason}" if last else "")
    when = (rollout.ended or (last.at if last else None)) if decided else None
    kind, word = _ENDED[rollout.status]
    return joined(
        element("h3", "Rollout" if rollout.status == "running" else "Last rollout"),
        element(
            "p",
            status(kind, word),
            " ",
            element("span", rollout.challenger, class_="id"),
            " against ",
            element("span", rollout.champion, class_="id"),
            element("span", ", begun ", ago(rollout.started, found.at), class_="soft"),
        ),
        _stages(rollout, place.progress, found.at) if rollout.status == "running" else None,
        element("p", f"Last decision: {decided}", " ", element("span", ago(when, found.at), class_="soft"))
        if when
        else None,
        element(
            "p",
            element("a", "card of the challenger", href=links.card(found.status.project, rollout.challenger)),
            class_="links",
        ),
    )


def _stages(rollout: Rollout, progress: VariantTraffic | None, now: int) -> Html:
    shown = []
    for number, stage in enumerate(rollout.plan.stages):
        name = "shadow" if stage.kind == "shadow" else f"{stage.percent} %"
        now = number == rollout.stage
        shown.append(
            element(
                "li",
                name,
                class_="now" if now else "past" if number < rollout.stage else "",
                aria_current="step" if now else "",
            )
        )
    at = rollout.plan.stages[rollout.stage]
    rows, labels = (progress.rows, progress.labelled) if progress else (0, 0)
    lasts = [
        f"{rows:,} of {at.rows:,} rows" if at.rows else "",
        f"{labels:,} of {at.labels:,} labels" if at.labels else "",
        f"{length(now - rollout.stage_since)} of {length(int(at.seconds * 1000))}" if at.seconds else "",
    ]
    told = ", ".join(part for part in lasts if part)
    return joined(
        element("ol", *shown, class_="stages"),
        element("p", f"This stage: {told}.", class_="soft") if told else None,
    )


def _watch(place: Place, found: Overview) -> Html | None:
    monitor = place.monitor
    if monitor is None:
        return None
    looked = joined(
        f"{monitor.looks:,} look{'' if monitor.looks == 1 else 's'}",
        joined(", the last ", ago(monitor.last_look, found.at)) if monitor.last_look else None,
        f", against {monitor.reference}",
    )
    alerts: list[list[object]] = [
        [status(*_ALERT[a.status]), a.kind, a.summary, ago(a.raised, found.at), element("code", a.id)]
        for a in place.alerts
    ]
    return joined(
        element("h3", "Watch"),
        element("p", looked, class_="soft"),
        table(["alert", "of", "what", "raised", "id"], alerts, whole=(0, 1, 3, 4)) if alerts else None,
        element(
            "p", element("a", "drift report", href=links.drift(found.status.project, monitor.endpoint)), class_="links"
        )
        if place.drift
        else None,
    )


def _runs(place: Place, found: Overview) -> Html | None:
    if not place.runs and place.asked is None:
        return None
    rows: list[list[object]] = []
    asked = place.asked
    if asked is not None and asked.status == "asked":
        rows.append([ago(asked.asked, found.at), status("moving", "asked for"), asked.reason, ""])
    rows += [_run(run, found) for run in place.runs]
    return joined(
        element("h3", "Newest runs of the loop"),
        table(["begun", "came to", "what and why", "took"], rows, numbers=(3,), whole=(0, 1)),
    )


def _run(run: PipelineRun, found: Overview) -> list[object]:
    deployed = next((step.outputs for step in run.steps if step.step == "deploy"), {})
    kind, word = _outcome(run, str(deployed.get("alias", "")))
    said = run.message or str(deployed.get("said", "")) or (f"at {run.steps[-1].step}" if run.steps else "")
    why = element("div", f"because: {run.reason}", class_="soft small") if run.reason else None
    return [
        ago(run.started, found.at),
        status(kind, word),
        joined(said, why),
        length(run.ended - run.started) if run.ended else "",
    ]


def _outcome(run: PipelineRun, alias: str) -> tuple[Kind, str]:
    match run.status:
        case "running":
            return "moving", "running"
        case "failed":
            return "bad", "failed"
        case "stopped":
            return ("person", "waits") if "waits for" in run.message else ("warn", "refused")
    return {"champion": ("good", "promoted"), "challenger": ("moving", "challenging")}.get(alias, ("good", "finished"))  # type: ignore[return-value]


def _figure(value: float) -> str:
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"
