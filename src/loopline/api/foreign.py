"""Routes that no operation declares, each with the permission it asks for and why it is there.

A foreign protocol's route only translates: its endpoint calls the same bound operations through `platform.call`, which checks
the permission. `action` says which one that is, and the access matrix test holds the route to it; None is open to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from loopline.access.records import Principal
from loopline.api import openapi, page
from loopline.api.pages import home, runs
from loopline.app import Platform
from loopline.operations import OPERATIONS, Action

Endpoint = Callable[[Request, Platform, Principal | None], Response]
"""Runs in a worker thread; the principal is None where the route is open."""


class ForeignRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route outside of the operations."""

    method: str
    path: str
    action: Action | None
    reason: str
    endpoint: Endpoint


def _health(request: Request, platform: Platform, principal: Principal | None) -> Response:
    return PlainTextResponse("OK")


def _openapi(request: Request, platform: Platform, principal: Principal | None) -> Response:
    return Response(msgspec.json.encode(openapi.document(OPERATIONS.values())), media_type="application/json")


def _docs(request: Request, platform: Platform, principal: Principal | None) -> Response:
    return HTMLResponse(page.render(OPERATIONS.values()))


ROUTES: list[ForeignRoute] = [
    ForeignRoute(
        method="GET",
        path="/",
        action="read",
        reason="The page for people: what runs, what is champion, what needs a person; it calls reading verbs as who asks.",
        endpoint=home.answer,
    ),
    *(
        ForeignRoute(
            method="GET",
            path=path,
            action="read",
            reason="The same of a project, at the address that MLflow's client has of it: it prints links behind that.",
            endpoint=home.answer,
        )
        for path in ("/{project}/", "/{owner}/{project}/")
    ),
    ForeignRoute(
        method="GET",
        path="/runs/{run}",
        action="read",
        reason="The page of a run for people, to which links of MLflow's client lead; it calls reading verbs as who asks.",
        endpoint=runs.run,
    ),
    ForeignRoute(
        method="GET",
        path="/groups/{group}",
        action="read",
        reason="The same of a group of runs.",
        endpoint=runs.group,
    ),
    ForeignRoute(
        method="GET",
        path="/health",
        action=None,
        reason="Balancers and MLflow's client ask it before they hold a token; it says OK and no more.",
        endpoint=_health,
    ),
    ForeignRoute(
        method="GET",
        path="/api/openapi.json",
        action=None,
        reason="The form of the API is public; it is the same on every server.",
        endpoint=_openapi,
    ),
    ForeignRoute(
        method="GET",
        path="/api/docs",
        action=None,
        reason="The same for people: a page that lists the operations.",
        endpoint=_docs,
    ),
]


class ServedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route that a worker answers by itself, in front of this API.

    `asks` is who may: "all"; "endpoint": whoever may predict in the endpoint's project; "any": whoever may predict anywhere.
    """

    method: str
    path: str
    asks: Literal["all", "endpoint", "any"]


SERVED: list[ServedRoute] = [
    ServedRoute(method="POST", path="/predict/{endpoint}", asks="endpoint"),
    ServedRoute(method="POST", path="/v2/models/{endpoint}/infer", asks="endpoint"),
    ServedRoute(method="POST", path="/v2/models/{endpoint}/versions/1/infer", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/{endpoint}", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/{endpoint}/ready", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/{endpoint}/versions/1", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/{endpoint}/versions/1/ready", asks="endpoint"),
    ServedRoute(method="POST", path="/endpoints/{endpoint}/invocations", asks="endpoint"),
    ServedRoute(method="POST", path="/endpoints/{endpoint}/score", asks="endpoint"),
    ServedRoute(method="GET", path="/endpoints/{endpoint}/swagger.json", asks="endpoint"),
    ServedRoute(method="POST", path="/events/{endpoint}", asks="endpoint"),
    ServedRoute(method="POST", path="/predictions/{endpoint}", asks="endpoint"),
    ServedRoute(method="POST", path="/predictions/{endpoint}/1", asks="endpoint"),
    ServedRoute(method="GET", path="/models/{endpoint}", asks="endpoint"),
    ServedRoute(method="GET", path="/models/{endpoint}/1", asks="endpoint"),
    ServedRoute(method="POST", path="/explanations/{endpoint}", asks="endpoint"),
    ServedRoute(method="GET", path="/models", asks="any"),
    ServedRoute(method="GET", path="/v1/models", asks="any"),
    ServedRoute(method="POST", path="/v1/models/{endpoint}:predict", asks="endpoint"),
    ServedRoute(method="POST", path="/v1/models/{endpoint}/versions/1:predict", asks="endpoint"),
    ServedRoute(method="GET", path="/v1/models/{endpoint}", asks="endpoint"),
    ServedRoute(method="GET", path="/v1/models/{endpoint}/metadata", asks="endpoint"),
    ServedRoute(method="POST", path="/v1/models/{endpoint}:explain", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/{endpoint}/stats", asks="endpoint"),
    ServedRoute(method="GET", path="/v2/models/stats", asks="any"),
    ServedRoute(method="POST", path="/v2/repository/index", asks="any"),
    ServedRoute(method="GET", path="/docs/{endpoint}/openapi.json", asks="endpoint"),
    ServedRoute(method="GET", path="/docs/{endpoint}", asks="all"),
    ServedRoute(method="GET", path="/docs", asks="all"),
    ServedRoute(method="GET", path="/metrics", asks="any"),
    ServedRoute(method="GET", path="/v2", asks="all"),
    ServedRoute(method="GET", path="/v2/health/live", asks="all"),
    ServedRoute(method="GET", path="/v2/health/ready", asks="all"),
    ServedRoute(method="GET", path="/health", asks="all"),
    ServedRoute(method="GET", path="/ping", asks="all"),
]
"""What `serving` answers from its routing table and the digests of tokens; the access matrix test holds the workers to it."""
