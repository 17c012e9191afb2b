"""The pages of a run and of a group of runs, where links of MLflow's client lead to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from loopline.access.records import Principal
from loopline.api.pages import links, parts
from loopline.api.pages.html import Html, element, joined
from loopline.api.pages.parts import Part
from loopline.api.pages.style import document, status, table
from loopline.api.pages.times import ago, length
from loopline.app import Platform
from loopline.catalog import Session
from loopline.tracking.records import Run, RunGroup, RunGroupPage, RunPage, RunStatus, of_work_first

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
    children = session.runs.list(parent=found.id, limit=_RUNS)
    lists = parts.of_run(project, found, session.runs.artifacts(found.id))
    part = request.query_params.get("part", "")
    if part in lists:
        start = request.query_params.get("from", "")
        first = int(start) if _NUMBER.fullmatch(start) else 0
        back = element("a", found.name, href=links.run(project, found.id))
        body = joined(
            element("h1", back), parts.page(lists[part], first, lambda row: links.run(project, found.id, part, row))
        )
    else:
        drawn = {point.key for point in session.runs.last((found.id,))[found.id] if point.step}
        body = run_page(project, found, group, children, lists, drawn, platform.clock.now())
    return HTMLResponse(document(f"{found.name}: {project}", _nav(project, group), body, joined()))


def group(request: Request, platform: Platform, principal: Principal | None) -> Response:
    """The page of a group: its newest runs."""
    session, project = _session(request, platform, principal)
    given = request.path_params["group"]
    found = session.groups.show(int(given) if _NUMBER.fullmatch(given) else -1)  # which is no number of a group
    lifecycle: Any = "live" if found.deleted is None else "all"
    page = session.runs.list(groups=(found.number,), limit=_RUNS, lifecycle=lifecycle)
    tags: list[list[object]] = [[key, parts.text(value)] for key, value in sorted(found.tags.items())]
    body = joined(
        element("h1", found.name),
        element("p", found.note) if found.note else None,
        element("section", element("h2", "Tags"), table(["tag", "value"], tags)) if tags else None,
        _runs(project, page, platform.clock.now()) or element("p", "It has no runs.", class_="soft"),
    )
    return HTMLResponse(document(f"{found.name}: {project}", _nav(project, None), body, joined()))


def run_page(
    project: str,
    found: Run,
    of: RunGroup,
    children: RunPage,
    lists: Mapping[str, Part],
    drawn: Set[str],
    now: int,
) -> Html:
    """All that a run holds. `drawn`: the metrics that are drawn; one without steps is a dot, which the table says better."""
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
        *(
            parts.begins(
                part, links.run(project, found.id, name), *(_plots(project, found, drawn) if name == "metrics" else ())
            )
            for name, part in lists.items()
        ),
        joined(element("h2", "Runs in it"), _runs(project, children, now)) if children.runs else None,
        _environment(found.environment),
    )


def newest(project: str, found: RunPage, groups: RunGroupPage, now: int) -> Html | None:
    """The newest runs of a project, and the way to each group; None where there is no run."""
    shown = _runs(project, found, now)
    if shown is None:
        return None
    ways = (element("a", one.name, href=links.group(project, one.number)) for one in groups.groups)
    more = element("p", "More groups: ", element("code", "loopline groups ls"), class_="soft") if groups.after else None
    told = element("p", element("span", "Groups of runs:", class_="soft"), *ways, class_="links")
    return joined(element("h2", "Runs"), element("div", shown, told, more, class_="card"))


def _session(request: Request, platform: Platform, principal: Principal | None) -> tuple[Session, str]:
    assert principal is not None, "the route asks who calls"
    project = request.query_params.get("project", "") or platform.settings.project
    return platform.session(principal, project), project


def _nav(project: str, of: RunGroup | None) -> Html:
    back = element("a", of.name, href=links.group(project, of.number)) if of else None
    home = element("a", project, href=links.home(project))
    return joined(element("span", "Loopline", class_="brand"), element("nav", home, back, aria_label="Pages"))


def _plots(project: str, found: Run, drawn: Set[str]) -> Iterator[Html]:
    """The first metrics, drawn."""
    wanted = [key for key in of_work_first(found.metrics) if key in drawn]
    keys = wanted[:_PLOTS]
    plots = (
        element("img", src=links.plot(project, found.id, key), alt=f"{key} by step", loading="lazy", class_="plot")
        for key in keys
    )
    if keys:
        yield element("div", *plots, class_="plots")
    if left := len(wanted) - len(keys):
        yield element("p", f"{left:,} more are not drawn.", class_="soft")


def _runs(project: str, found: RunPage, now: int) -> Html | None:
    if not found.runs:
        return None
    rows: list[list[object]] = [
        [
            element("a", one.name, href=links.run(project, one.id)),
            one.kind,
            status(_KINDS[one.status], one.status),
            ago(one.created, now),
            ", ".join(
                f"{key} {parts.text(value)}" for key, value in list(of_work_first(one.metrics).items())[:_METRICS]
            ),
        ]
        for one in found.runs
    ]
    more = element("p", f"The newest {len(rows)} of them are here; `loopline runs ls` has all.", class_="soft")
    return joined(
        table(["run", "kind", "status", "begun", "metrics"], rows, whole=(1, 2, 3)), more if found.after else None
    )


def _environment(given: Mapping[str, Any]) -> Html | None:
    if not given:
        return None
    text = json.dumps(given, indent=1, ensure_ascii=False)
    return element("details", element("summary", "Environment"), element("pre", text))
