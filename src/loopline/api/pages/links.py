"""Addresses of the reports that a page leads to."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from loopline.api.routing import PREFIX
from loopline.refs import parse


def card(project: str, ref: str) -> str:
    """The card of a model version."""
    model = parse(ref, "model", project)
    return _at(model.project, "models", model.name, "versions", model.version or "latest", "card", form="html")


def report(project: str, evaluation: str) -> str:
    """The report of an evaluation."""
    return _at(project, "evaluations", evaluation, "report")


def drift(project: str, endpoint: str) -> str:
    """The newest drift report of an endpoint."""
    return _at(project, "endpoints", endpoint, "drift", form="html")


def profile(project: str, name: str, version: int) -> str:
    """The profile of a dataset version."""
    return _at(project, "datasets", name, "versions", str(version), "profile", form="html")


def _at(project: str, *parts: str, **query: str) -> str:
    path = "/".join(quote(part, safe="") for part in (project, *parts))
    return f"{PREFIX}/projects/{path}" + (f"?{urlencode(query)}" if query else "")
