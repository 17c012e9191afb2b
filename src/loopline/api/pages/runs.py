"""The pages of a run and of a group of runs, where links of MLflow's client lead to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from loopline.access.records import Principal
from loopline.api.pages import links
from loopline.api.pages.html import Html, element, joined
from loopline.api.pages.style import document, status, table
from loopline.api.pages.times import ago, length
from loopline.app import Platform
from loopline.catalog import Session
from loopline.tracking.records import Artifact, Run, RunGroup, RunStatus

_PLOTS = 24
_RUNS = 100
_METRICS = 4
_NUMBER = re.compile("[0-9]{1,19}")
_KINDS: dict[RunStatus, str] = {
    "scheduled": "soft", "running": "moving", "finished": "good", "failed": "bad", "killed": "warn",
}  # fmt: skip


def run(request: Request, platform: Platform, principal: Principal | None) -> Response:
    """The page of a run, of the project that `?project=` names."""
    session, project = _session(request, platform, principal)
    found = session.runs.show(request.path_params["run"])
    group = session.groups.show(found.group)
    children = session.runs.list(parent=found.id, limit=_RUNS).runs
    files = session.runs.artifacts(found.id)
    body = run_page(project, found, group, children, files, platform.clock.now())
    return HTMLResponse(document(f"{found.name}: {project}", _nav(project, group), body, joined()))


def group(request: Request, platform: Platform, principal: Principal | None) -> Response:
    """The page of a group: its newest runs."""
    session, project = _session(request, platform, principal)
    given = request.path_params["group"]
    found = session.groups.show(int(given) if _NUMBER.fullmatch(given) else -1)  # which is no number of a group
    lifecycle: Any = "live" if found.deleted is None else "all"
    page = session.runs.list(groups=(found.number,), limit=_RUNS, lifecycle=lifecycle)
    more = element("p", f"The newest {_RUNS} of them are here; `loopline runs ls` has all.", class_="soft")
    body = joined(
        element("h1", found.name),
        element("p", found.note) if found.note else None,
        _pairs("Tags", found.tags),
        _runs(project, page.runs, platform.clock.now()) or element("p", "It has no runs.", class_="soft"),
        more if page.after else None,
    )
    return HTMLResponse(document(f"{found.name}: {project}", _nav(project, None), body, joined()))


def run_page(
    project: str, found: Run, of: RunGroup, children: tuple[Run, ...], files: tuple[Artifact, ...], now: int
) -> Html:
    """All that a run holds."""
    facts: dict[str, object] = {
        "group": element("a", of.name, href=links.group(project, of.number)),
        "begun": ago(found.created, now),
        "took": length(found.ended - found.created) if found.ended is not None else "",
        "by": found.creator,
        "parent": element("a", found.parent, href=links.run(project, found.parent)) if found.parent else "",
        "deleted": ago(found.deleted, now) if found.deleted is not None else "",
    }
    told = (element("div", element("dt", name), element("dd", value)) for name, value in facts.items() if value)
    return joined(
        element("div", element("h1", found.name), status(_KINDS[found.status], found.status), class_="title"),
        element("p", element("code", found.id, class_="soft")),
        element("p", found.message, class_="verdict") if found.message else None,
        element("dl", *told, class_="facts"),
        element("section", element("h2", "Note"), element("pre", found.note)) if found.note else None,
        _metrics(project, found),
        _pairs("Params", {key: _text(value) for key, value in found.params.items()}),
        _pairs("Tags", found.tags),
        _refs(found),
        _files(project, found.id, files),
        joined(element("h2", "Runs in it"), _runs(project, children, now)) if children else None,
        _environment(found.environment),
    )


def _session(request: Request, platform: Platform, principal: Principal | None) -> tuple[Session, str]:
    assert principal is not None, "the route asks who calls"
    project = request.query_params.get("project", "") or platform.settings.project
    return platform.session(principal, project), project


def _nav(project: str, of: RunGroup | None) -> Html:
    back = element("a", of.name, href=links.group(project, of.number)) if of else None
    home = element("a", project, href=links.home(project))
    return joined(element("span", "Loopline", class_="brand"), element("nav", home, back, aria_label="Pages"))


def _metrics(project: str, found: Run) -> Html | None:
    if not found.metrics:
        return None
    rows: list[list[object]] = [[key, _text(value)] for key, value in found.metrics.items()]
    keys = list(found.metrics)[:_PLOTS]
    plots = (
        element("img", src=links.plot(project, found.id, key), alt=f"{key} by step", loading="lazy", class_="plot")
        for key in keys
    )
    left = len(found.metrics) - len(keys)
    return element(
        "section",
        element("h2", "Metrics"),
        table(["metric", "last"], rows, numbers=(1,)),
        element("div", *plots, class_="plots"),
        element("p", f"{left} more are not drawn.", class_="soft") if left else None,
    )


def _pairs(title: str, pairs: Mapping[str, str]) -> Html | None:
    if not pairs:
        return None
    rows: list[list[object]] = [[key, value] for key, value in sorted(pairs.items())]
    return element("section", element("h2", title), table([title.lower().removesuffix("s"), "value"], rows))


def _refs(found: Run) -> Html | None:
    rows: list[list[object]] = [["read", element("span", ref, class_="id")] for ref in found.inputs]
    rows += [["made", element("span", ref, class_="id")] for ref in found.outputs]
    rows += [[f"read ({one.context or 'elsewhere'})", f"{one.name} ({one.digest})"] for one in found.external]
    return element("section", element("h2", "Read and made"), table(["", "what"], rows)) if rows else None


def _files(project: str, of: str, files: tuple[Artifact, ...]) -> Html | None:
    if not files:
        return None
    rows: list[list[object]] = [
        [element("a", file.path, href=links.artifact(project, of, file.path)), f"{file.size:,}"] for file in files
    ]
    return element("section", element("h2", "Artifacts"), table(["file", "bytes"], rows, numbers=(1,)))


def _runs(project: str, found: tuple[Run, ...], now: int) -> Html | None:
    if not found:
        return None
    rows: list[list[object]] = [
        [
            element("a", one.name, href=links.run(project, one.id)),
            status(_KINDS[one.status], one.status),
            ago(one.created, now),
            ", ".join(f"{key} {_text(value)}" for key, value in list(one.metrics.items())[:_METRICS]),
        ]
        for one in found
    ]
    return table(["run", "status", "begun", "metrics"], rows, whole=(1, 2))


def _environment(given: Mapping[str, Any]) -> Html | None:
    if not given:
        return None
    text = json.dumps(given, indent=1, ensure_ascii=False)
    return element("details", element("summary", "Environment"), element("pre", text))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
