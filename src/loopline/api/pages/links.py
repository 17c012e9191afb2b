"""Addresses of the reports that a page leads to."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from loopline.api.routing import PREFIX
from loopline.refs import parse

SUFFIX = ".mlflow"
"""What may follow a project's name in the address, as DagsHub's users write it."""


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


def home(project: str) -> str:
    """The first page of a project."""
    return f"/?{urlencode({'project': project})}"


def run(project: str, run: str, part: str = "", first: int = 0) -> str:
    """The page of a run; of one part of it, from a row on."""
    asked = {"project": project, "part": part, "from": str(first) if first else ""}
    return f"/runs/{quote(run, safe='')}?{urlencode({name: value for name, value in asked.items() if value})}"


def group(project: str, number: int) -> str:
    """The page of a group of runs."""
    return f"/groups/{number}?{urlencode({'project': project})}"


def plot(project: str, run: str, metric: str) -> str:
    """One metric of a run, drawn by step."""
    return _at(project, "run-plot", runs=json.dumps([run]), metric=metric, form="svg")


def artifact(project: str, run: str, path: str) -> str:
    """A file of a run."""
    return _at(project, "runs", run, "artifacts", path)


def _at(project: str, *parts: str, **query: str) -> str:
    path = "/".join(quote(part, safe="") for part in (project, *parts))
    return f"{PREFIX}/projects/{path}" + (f"?{urlencode(query)}" if query else "")
