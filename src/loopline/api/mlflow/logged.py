"""Logged models, which are kept as runs of the kind "model": their id is `m-` and the run's, their source run is its parent."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from loopline.api.mlflow import experiments, forms, runs
from loopline.api.mlflow.endpoints import Ask
from loopline.api.mlflow.problems import Problem
from loopline.errors import Conflict, LooplineError
from loopline.tracking.records import Measure, Run

PREFIX = "m-"
TYPE = f"{forms.HIDDEN}model_type"
SOURCE_RUN = f"{forms.HIDDEN}source_run"
"""The tags that keep what a run has no place for; MLflow's clients do not see them among the tags."""

VERSIONS = "mlflow.modelVersions"
STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
STATUS = {"running": STATUSES[0], "scheduled": STATUSES[0], "finished": STATUSES[1]}


class Info(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a logged model is."""

    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str
    source_run_id: str
    status_message: str = ""
    tags: list[forms.KeyValue] = []


class Data(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a logged model holds."""

    params: list[forms.KeyValue] = []
    metrics: list[dict[str, Any]] = []


class LoggedModel(msgspec.Struct, kw_only=True):
    """A logged model with all that it holds."""

    info: Info
    data: Data


def id_in(uri: str) -> str | None:
    """The id of a logged model that a URI names (`models:/m-...`); None where it names something else."""
    path = unquote(urlsplit(uri).path).lstrip("/")
    return path if path and "/" not in path and "@" not in path else None


def shown(ask: Ask, model: str, *, deleted: bool = False) -> Run:
    """The run that keeps a logged model; `deleted`: of one that is deleted, too. Raises `Problem`."""
    try:
        found: Run = ask.call("runs.show", run=model.removeprefix(PREFIX))
    except LooplineError as e:
        raise told(e, model) from e
    if not model.startswith(PREFIX) or found.kind != "model" or (found.deleted is not None and not deleted):
        raise missing(model)
    return found


def missing(model: str) -> Problem:
    """There is no such logged model."""
    return Problem(f"Logged model with ID '{model}' not found.", "RESOURCE_DOES_NOT_EXIST")


def told(error: LooplineError, model: str) -> Exception:
    """An error about the run that keeps a logged model, in MLflow's words."""
    return missing(model) if error.code in ("no-run", "bad-ref", "bad-name", "run-deleted", "not-a-model") else error


def location(ask: Ask, run: Run) -> str:
    """Where the files of a logged model are."""
    return _location(runs.where(ask, run), run)


def whole(ask: Ask, found: list[Run]) -> list[LoggedModel]:
    """Logged models with all that they hold."""
    measured = measures(ask, found)
    where = {group: forms.location(experiments.of(ask, str(group))) for group in {run.group for run in found}}
    return [_form(run, where[run.group], measured.get(run.id, [])) for run in found]


def measures(ask: Ask, found: list[Run]) -> dict[str, list[Measure]]:
    """What was measured of some logged models, by the ids of their runs."""
    by_run: dict[str, list[Measure]] = {}
    for start in range(0, len(found), 1000):
        for one in ask.call("runs.measures", models=tuple(run.id for run in found[start : start + 1000])):
            by_run.setdefault(one.model, []).append(one)
    return by_run


def source_run(run: Run) -> str:
    """The id of the run that logged a model; "" where none is known."""
    return run.parent or run.tags.get(SOURCE_RUN, "")


def measured(ask: Ask, run: str, model: str, points: list[Measure]) -> None:
    """Keeps with a logged model what a run measured of it."""
    try:
        ask.call("runs.measure", run=model.removeprefix(PREFIX), by=run, measures=points)
    except LooplineError as e:
        raise runs.told(e, run) if e.code == "no-run" and run in e.message else told(e, model) from e


def registered(ask: Ask, model: str, title: str, version: int) -> None:
    """Says in a logged model's tag of which versions of registered models it became one."""
    run = shown(ask, model)
    known = forms.noted(run.tags, VERSIONS, list[Any])
    made = {"name": title, "version": version}
    if made not in known:
        ask.call("runs.tag", run=run.id, tags={VERSIONS: json.dumps([*known, made])})


def begun(ask: Ask, args: dict[str, Any], source: str | None) -> Run:
    """A new run of the kind "model"; its source run is linked where there is one, and is a tag alone otherwise."""
    group = args["group"]
    try:
        made: Run = ask.call("runs.create", kind="model", parent=source or None, **args)
    except LooplineError as e:
        if source and e.code in ("no-run", "bad-ref", "bad-name"):
            return begun(ask, {**args, "tags": {**args["tags"], SOURCE_RUN: source}}, None)
        if isinstance(e, Conflict) and e.code == "group-deleted":
            raise experiments.inactive(group) from e
        raise (
            Problem(f"No Experiment with id={group} exists", "RESOURCE_DOES_NOT_EXIST") if e.code == "no-group" else e
        ) from e
    return made


def _location(where: str, run: Run) -> str:
    return f"{where}/models/{PREFIX}{run.id}/artifacts"


def _form(run: Run, where: str, measured: list[Measure]) -> LoggedModel:
    return LoggedModel(
        info=Info(
            model_id=PREFIX + run.id,
            experiment_id=str(run.group),
            name=run.name,
            creation_timestamp_ms=run.created,
            last_updated_timestamp_ms=run.deleted or run.ended or run.created,
            artifact_uri=_location(where, run),
            status=STATUS.get(run.status, STATUSES[2]),
            model_type=run.tags.get(TYPE, ""),
            source_run_id=source_run(run),
            status_message=run.message,
            tags=forms.pairs(forms.visible(run.tags)),
        ),
        data=Data(
            params=[forms.KeyValue(key, forms.text(value)) for key, value in run.params.items()],
            metrics=[_metric(one) for one in measured],
        ),
    )


def _metric(one: Measure) -> dict[str, Any]:
    named = {"dataset_name": one.dataset, "dataset_digest": one.digest}
    return {
        "key": one.key,
        "value": forms.value(one.number),
        "timestamp": one.time,
        "step": one.step,
        "model_id": PREFIX + one.model,
        "run_id": one.run,
        **{name: text for name, text in named.items() if text},
    }
