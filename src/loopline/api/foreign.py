"""Routes that no operation declares, each with the permission it asks for and why it is there.

A foreign protocol's route only translates: its endpoint calls the same bound operations through `platform.call`, which checks
the permission. `action` says which one that is, and the access matrix test holds the route to it; None is open to all.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from loopline.access.records import Principal
from loopline.api import openapi, page
from loopline.api.pages import home
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
