"""The parts of the first page that list versions: of models with their cards, of datasets with their profiles."""

from __future__ import annotations

from loopline.api.pages import links
from loopline.api.pages.html import Html, element, joined
from loopline.api.pages.overview import Overview
from loopline.api.pages.style import status, table
from loopline.api.pages.times import ago
from loopline.data.records import DatasetVersion
from loopline.registry.records import ModelVersion


def models(found: Overview) -> Html | None:
    """All models: the newest versions and those that an alias names."""
    if not found.models:
        return None
    rows = [_model(version, found) for one in found.models for version in one.models]
    older = [f"{one.older:,} older of {one.name}" for one in found.models if one.older]
    return joined(
        element("h2", "Models"),
        element(
            "div",
            table(["version", "status", "main metric", "made", "reports"], rows, whole=(0, 1, 2, 3, 4)),
            _more(older, "loopline models ls NAME"),
            class_="card",
        ),
    )


def _model(version: ModelVersion, found: Overview) -> list[object]:
    project = found.status.project
    evaluation = found.evaluations.get(version.ref)
    aliases = (element("span", f" @{alias}", class_="accent") for alias in version.aliases)
    metric = next(iter(version.metrics.items()), None)
    shown = f"{metric[0]} {metric[1]['value']:.3f} [{metric[1]['low']:.3f}, {metric[1]['high']:.3f}]" if metric else ""
    kinds = {"registered": "good", "withdrawn": "bad"}
    return [
        element("span", version.ref, *aliases, class_="id"),
        status(kinds.get(version.status, "soft"), version.status),
        shown,
        ago(version.created, found.at),
        joined(
            element("a", "card", href=links.card(project, version.ref)),
            element("a", "evaluation", href=links.report(project, evaluation)) if evaluation else None,
        ),
    ]


def datasets(found: Overview) -> Html | None:
    """All datasets, their newest versions."""
    if not found.datasets:
        return None
    rows = [_dataset(version, found) for one in found.datasets for version in one.datasets]
    older = [f"{one.older:,} older of {one.name}" for one in found.datasets if one.older]
    return joined(
        element("h2", "Datasets"),
        element(
            "div",
            table(
                ["version", "rows", "quarantined", "sealed", "made", "reports"], rows, numbers=(1,), whole=(0, 3, 4, 5)
            ),
            _more(older, "loopline data log NAME"),
            class_="card",
        ),
    )


def _dataset(version: DatasetVersion, found: Overview) -> list[object]:
    project = found.status.project
    broken = ", ".join(f"{rule} {count:,}" for rule, count in version.broken.items())
    warned = ", ".join(f"{rule} {count:,}" for rule, count in version.warned.items())
    held = element("span", status("warn", f"{version.quarantined:,}"), " ", element("span", broken, class_="soft"))
    looks = f"{version.looks:,} look{'' if version.looks == 1 else 's'}"
    seal = f"until {version.opened.rpartition(':')[2]}, {looks}" if version.opened else f"yes, {looks}"
    bad = "withdrawn" if version.withdrawn else "unsound" if version.unsound else ""
    told = element("span", " ", status("bad", bad), title=version.withdrawn or f"{version.unsound} is withdrawn")
    return [
        joined(element("span", version.ref, class_="id"), told if bad else None),
        f"{version.files:,} file{'' if version.files == 1 else 's'}" if version.manifest else f"{version.rows:,}",
        joined(
            held if version.quarantined else "0",
            element("span", f" warned of: {warned}", class_="soft") if warned else None,
        ),
        element("span", seal if version.sealed else "", class_="soft"),
        ago(version.created, found.at),
        # A sealed version tells nothing of its rows but to evaluation; files have no profile.
        ""
        if version.sealed or version.manifest
        else element("a", "profile", href=links.profile(project, version.name, version.version)),
    ]


def _more(older: list[str], command: str) -> Html | None:
    if not older:
        return None
    return element("p", f"And {'; '.join(older)}: ", element("code", command), class_="soft small")
