"""Answers in MLflow's form: what is not set is left out, ids are texts, times are numbers of milliseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from loopline.hashing import canonical_json
from loopline.tracking.records import ExternalDataset, Point, Run, RunGroup

LARGEST = 1.7976931348623157e308
"""What stands for infinity in MLflow's answers: its database has none."""

CONTEXT = "mlflow.data.context"
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
USER = "mlflow.user"
NOTE = "mlflow.note.content"
HIDDEN = "loopline."
"""What tags begin with that keep what the platform has no other place for; MLflow's clients do not see them among the tags."""

LOCATION = f"{HIDDEN}artifact_location"
"""The tag of a group whose artifacts are kept elsewhere: MLflow's clients bring them there by themselves."""

HERE = "mlflow-artifacts:/0"
"""Where the artifacts of the default group's runs are."""

STEPS = f"{HIDDEN}model_steps"
"""The tag of a run that says at which steps it made its logged models, as JSON."""

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")


class KeyValue(msgspec.Struct):
    """A tag or a param."""

    key: str
    value: str


class Metric(msgspec.Struct):
    """A point of a metric."""

    key: str
    value: float | str
    timestamp: int
    step: int


class Experiment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A group of runs."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[KeyValue] = []
    workspace: str = msgspec.field(default_factory=lambda: "default")


class RunInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a run is."""

    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str
    lifecycle_stage: str


class RunData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a run logged."""

    metrics: list[Metric] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class WholeRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run with all that it holds."""

    info: RunInfo
    data: RunData
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None


def value(number: float) -> float | str:
    """A value of a metric: NaN by its name, infinity as the largest number."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else math.copysign(LARGEST, number)


def metric(point: Point) -> Metric:
    """A point of a metric."""
    return Metric(point.key, value(point.number), point.time, point.step)


def text(param: Any) -> str:
    """A param as text: a text as it is, anything else as its JSON."""
    return param if isinstance(param, str) else canonical_json(param).decode()


def pairs(given: Mapping[str, str]) -> list[KeyValue]:
    """Tags in MLflow's form."""
    return [KeyValue(key, text) for key, text in given.items()]


def visible(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that MLflow's clients are to see."""
    return {key: text for key, text in tags.items() if not key.startswith(HIDDEN)}


def noted(tags: Mapping[str, str], name: str, kind: Any) -> Any:
    """What a tag keeps as JSON of some kind; nothing of it where somebody has written something else into the tag."""
    try:
        return msgspec.json.decode(tags.get(name, ""), type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return kind()


def location(group: RunGroup) -> str:
    """Where the artifacts of a group's runs are."""
    return group.tags.get(LOCATION) or f"mlflow-artifacts:/{group.number}"


def experiment(group: RunGroup) -> Experiment:
    """A group of runs in MLflow's form."""
    tags = visible(group.tags)
    if group.note:
        tags.setdefault(NOTE, group.note)
    return Experiment(
        experiment_id=str(group.number),
        name=group.name,
        artifact_location=location(group),
        lifecycle_stage="active" if group.deleted is None else "deleted",
        last_update_time=group.changed,
        creation_time=group.created,
        tags=pairs(tags),
    )


def info(run: Run, where: str) -> RunInfo:
    """What a run is. `where`: the location of its group."""
    return RunInfo(
        run_id=run.id,
        run_uuid=run.id,
        run_name=run.name,
        experiment_id=str(run.group),
        user_id=str(run.environment.get("user") or run.tags.get(USER, "")),
        status=run.status.upper(),
        start_time=run.created,
        end_time=run.ended,
        artifact_uri=f"{where}/{run.id}/artifacts",
        lifecycle_stage="active" if run.deleted is None else "deleted",
    )


def tags(run: Run) -> dict[str, str]:
    """The tags of a run as MLflow's clients see them: its name is one of them, and so are its parent and its note."""
    found = visible(run.tags)
    found[RUN_NAME] = run.name
    if run.parent is not None:
        found.setdefault(PARENT, run.parent)
    if run.note:
        found.setdefault(NOTE, run.note)
    return found


def whole(run: Run, where: str, points: Iterable[Point], outputs: bool = True) -> WholeRun:
    """A run with all that it holds; `points` are the last ones of its metrics."""
    return WholeRun(
        info=info(run, where),
        data=RunData(
            metrics=[metric(point) for point in points],
            params=[KeyValue(key, text(param)) for key, param in run.params.items()],
            tags=pairs(tags(run)),
        ),
        inputs=inputs(run),
        outputs=made(run) if outputs else None,
    )


def inputs(run: Run) -> dict[str, Any]:
    """The data and the logged models that a run read."""
    datasets = [dataset_input(dataset) for dataset in run.external]
    models = [{"model_id": model} for model in _logged(run.inputs)]
    return {**({"model_inputs": models} if models else {}), **({"dataset_inputs": datasets} if datasets else {})}


def made(run: Run) -> dict[str, Any]:
    """The logged models that a run made."""
    models = _logged(run.outputs)
    steps = noted(run.tags, STEPS, dict[str, int])
    return {"model_outputs": [{"model_id": model, "step": steps.get(model, 0)} for model in models]} if models else {}


def _logged(refs: Iterable[str]) -> list[str]:
    """The ids of the logged models among some refs: a run that another run read or made is one."""
    return [f"m-{ref.rpartition(':')[2].rpartition('/')[2]}" for ref in refs if ref.startswith("run:")]


def dataset_input(given: ExternalDataset) -> dict[str, Any]:
    """Data held elsewhere, with the tags under which a run read it."""
    described = {name: getattr(given, name) for name in ("name", "digest", "source_type", "source")}
    described |= {name: text for name in ("schema", "profile") if (text := getattr(given, name))}
    labels = {**given.tags, **({CONTEXT: given.context} if given.context else {})}
    return {**({"tags": pairs(labels)} if labels else {}), "dataset": described}
