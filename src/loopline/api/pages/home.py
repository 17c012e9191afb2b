"""The page at the server's address: what runs, what is champion, what needs a person, and the way to each report."""

from __future__ import annotations

import datetime
from collections import Counter
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from loopline.access.records import Principal
from loopline.api.pages import place, runs, series
from loopline.api.pages.fragments import POLICY, script
from loopline.api.pages.html import Html, element, joined
from loopline.api.pages.links import SUFFIX
from loopline.api.pages.overview import Overview, overview
from loopline.api.pages.style import document, status
from loopline.api.pages.times import ago
from loopline.app import Platform
from loopline.errors import Refused

RELOAD_SECONDS = 10
_NEEDS = 3


def answer(request: Request, platform: Platform, principal: Principal | None) -> Response:
    """The page for who asks, of the project that `?project=` names; `?reload` loads it again every ten seconds."""
    assert principal is not None, "the route asks who calls"
    # MLflow's client prints links behind the address that it was given, which may name a project as one of DagsHub's does.
    asked = request.path_params.get("project", "").removesuffix(SUFFIX) or request.query_params.get("project", "")
    project = asked or _project(platform, principal)
    found = overview(platform.session(principal, project), platform.clock.now())
    again = "reload" in request.query_params
    headers = {"Content-Security-Policy": POLICY, **({"Refresh": str(RELOAD_SECONDS)} if again else {})}
    return HTMLResponse(page(found, reloads=again), headers=headers)


def _project(platform: Platform, principal: Principal) -> str:
    """The project at hand, or else the first in which the caller has a role. Raises `Refused`."""
    home = platform.settings.project
    known = [p.name for p in platform.session(principal, home).projects.list()]
    if not known:
        raise Refused(
            f"{principal.name} has no role in any project.",
            code="forbidden",
            hint=f"An admin gives one: loopline access grant {principal.name} viewer",
        )
    return home if home in known else known[0]


def page(found: Overview, *, reloads: bool = False) -> str:
    """The page as HTML, out of records alone."""
    project = found.status.project
    body = joined(
        _verdict(found),
        _needs(found),
        *(place.section(one, found) for one in found.places),
        series.models(found),
        series.datasets(found),
        runs.newest(project, found.runs, found.groups, found.at),
        None if found.places or found.datasets or found.status.runs or found.runs.runs else _empty(),
    )
    at = datetime.datetime.fromtimestamp(found.at / 1000, datetime.UTC)
    foot = joined("As of ", element("time", f"{at:%Y-%m-%d %H:%M:%S} UTC", datetime=at.isoformat(timespec="seconds")))
    return document(f"Loopline: {project}", _nav(found, reloads), body, foot, script(project))


def _nav(found: Overview, reloads: bool) -> Html:
    here = found.status.project
    others = [element("a", name, href=f"/?{urlencode({'project': name})}") for name in found.projects if name != here]
    back = {"project": here}
    turned = element("a", "stop reloading", href=f"/?{urlencode(back)}") if reloads else None
    keep = element("a", f"reload every {RELOAD_SECONDS} s", href=f"/?{urlencode({**back, 'reload': '1'})}")
    return joined(
        element("span", "Loopline", class_="brand"),
        element("span", "project ", element("b", here), class_="soft"),
        element("nav", *others, turned or keep, element("a", "API", href="/api/docs"), aria_label="Pages"),
    )


def _verdict(found: Overview) -> Html | None:
    """How all stands, in a line."""
    if not found.places:
        return None
    if len(found.places) == 1:
        return element("h1", f"{found.places[0].champion.loop}: {found.places[0].standing.word}")
    words = Counter(one.standing.word for one in found.places)
    return element("h1", ", ".join(f"{count} {word}" for word, count in words.most_common()))


def _needs(found: Overview) -> Html:
    needs = found.status.needs
    if not needs:
        if not (found.places or found.status.runs or found.runs.runs):
            return Html("")
        return element("p", status("good", "Nothing needs a person."))
    items = [
        element(
            "li",
            element("div", need.text, " ", element("span", ago(need.at, found.at), class_="soft")),
            element("pre", need.command),
        )
        for need in needs
    ]
    first, others = items[:_NEEDS], items[_NEEDS:]
    more = element("details", element("summary", f"{len(others)} more"), element("ul", *others)) if others else None
    count = f"{len(needs)} thing{'s' if len(needs) > 1 else ''} for a person"
    return element("section", status("person", count), element("ul", *first), more, class_="card needs")


def _empty() -> Html:
    return element(
        "section",
        element("h1", "Nothing ran here yet"),
        element("p", "See the whole loop on hospital readmissions, in about a minute (in a workspace of its own):"),
        element("pre", "loopline demo"),
        element("p", "Or begin on a table of yours:"),
        element("pre", "loopline init NAME --data FILE --label COLUMN\nloopline run NAME"),
        element("p", "Or track a script of yours:"),
        element("pre", 'import loopline as ll\n\nwith ll.run("try 1") as run:\n    run.log(loss=0.31)'),
        class_="card",
    )
