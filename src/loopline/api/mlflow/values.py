"""What is logged to a run: metrics, params, tags, the data that it read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from loopline.api.mlflow import forms, limits, logged, runs
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.experiments import number
from loopline.api.mlflow.messages import Int64, Message, Tag, invalid, missing
from loopline.api.mlflow.problems import Problem
from loopline.errors import Conflict
from loopline.tracking.records import ExternalDataset, Measure, Point


class LogMetric(runs.One):
    """LogMetric."""

    key: str | None = None
    value: float | None = None
    timestamp: Int64 | None = None
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogParam(runs.One):
    """LogParam, SetTag and DeleteTag."""

    key: str | None = None
    value: str | None = None


class Metric(Message):
    """A point of a metric."""

    key: str | None = None
    value: float | None = None
    timestamp: Int64 | None = None
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogBatch(Message):
    """LogBatch."""

    run_id: str | None = None
    metrics: list[Metric] | None = None
    params: list[Tag] | None = None
    tags: list[Tag] | None = None


class Dataset(Message):
    """A dataset as its program describes it."""

    name: str | None = None
    digest: str | None = None
    source_type: str | None = None
    source: str | None = None
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Message):
    """A dataset that a run read, and under which tags."""

    tags: list[Tag] | None = None
    dataset: Dataset | None = None


class ModelInput(Message):
    """A logged model that a run read."""

    model_id: str | None = None


class LogInputs(Message):
    """LogInputs."""

    run_id: str | None = None
    datasets: list[DatasetInput] | None = None
    models: list[ModelInput] | None = None


class LogModel(Message):
    """LogModel."""

    run_id: str | None = None
    model_json: str | None = None


class SearchDatasets(Message):
    """SearchDatasets."""

    experiment_ids: list[str] | None = None


@endpoint("POST /api/2.0/mlflow/runs/log-metric", action="run", needed=("run_id", "key", "value", "timestamp"))
def log_metric(ask: Ask, given: LogMetric) -> None:
    """Adds one point of a metric."""
    assert given.key is not None
    assert given.value is not None
    assert given.timestamp is not None
    limits.check_metric(given.key, given.value, given.timestamp)
    point = Point(key=given.key, value=given.value, step=given.step or 0, time=given.timestamp)
    runs.changed(given.run, lambda: ask.call("runs.log", run=given.run, metrics=[point]))
    _measured(ask, given.run, [given])


@endpoint("POST /api/2.0/mlflow/runs/log-parameter", action="run", needed=("run_id", "key"))
def log_param(ask: Ask, given: LogParam) -> None:
    """Sets a param, for good."""
    key, value = limits.param(given.key or "", given.value or "")
    try:
        runs.changed(given.run, lambda: ask.call("runs.log", run=given.run, params={key: value}))
    except Conflict as e:
        if e.code != "param-set":
            raise
        former = forms.text(e.details["params"][key])
        raise Problem(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{former}' for "
            f"run ID='{given.run}'. Attempted logging new value '{value}'."
        ) from e


@endpoint("POST /api/2.0/mlflow/runs/set-tag", action="run", needed=("run_id", "key"))
def set_tag(ask: Ask, given: LogParam) -> None:
    """Sets a tag; that of the run's name renames it."""
    key, value = limits.tag(given.key or "", given.value or "")
    if key == forms.RUN_NAME:
        runs.changed(given.run, lambda: ask.call("runs.change", run=given.run, name=value or None))
    else:
        runs.changed(given.run, lambda: ask.call("runs.log", run=given.run, tags={key: value}))


@endpoint("POST /api/2.0/mlflow/runs/delete-tag", action="run", needed=("run_id", "key"))
def delete_tag(ask: Ask, given: LogParam) -> None:
    """Removes a tag."""
    run = runs.shown(ask, given.run)
    if run.deleted is None and given.key not in forms.tags(run):
        raise Problem(f"No tag with name: {given.key} in run with id {given.run}", "RESOURCE_DOES_NOT_EXIST")
    runs.changed(given.run, lambda: ask.call("runs.log", run=given.run, tags={given.key: None}))


@endpoint("POST /api/2.0/mlflow/runs/log-batch", action="run", needed=("run_id",))
def log_batch(ask: Ask, given: LogBatch) -> None:
    """Adds metrics, params and tags, all or none."""
    run = given.run_id or ""
    points = _points(given.metrics or ())
    params = _pairs("params", given.params or ())
    tags = _pairs("tags", given.tags or ())
    limits.check_run_id(run)
    for index, point in enumerate(points):
        limits.check_metric(point.key, point.value, point.time, f"metrics[{index}]")
    params = [limits.param(key, value, f"params[{index}]") for index, (key, value) in enumerate(params)]
    tags = [limits.tag(key, value, f"tags[{index}]") for index, (key, value) in enumerate(tags)]
    limits.check_count("metrics", limits.METRICS, len(points))
    limits.check_count("params", limits.PARAMS, len(params))
    limits.check_count("tags", limits.TAGS, len(tags))
    limits.check_count("metrics, params, and tags", limits.ENTITIES, len(points) + len(params) + len(tags))
    keys = [key for key, _ in params]
    if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise Problem(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
            "value per param key."
        )
    _log(ask, run, points, dict(params), dict(tags))
    _measured(ask, run, given.metrics or ())


def _measured(ask: Ask, run: str, metrics: Sequence[Metric | LogMetric]) -> None:
    """Keeps with the logged models those points that are of one."""
    for model in dict.fromkeys(metric.model_id for metric in metrics if metric.model_id):
        logged.measured(ask, run, model, [_measure(metric) for metric in metrics if metric.model_id == model])


def _measure(given: Metric | LogMetric) -> Measure:
    return Measure(
        key=given.key or "",
        value=0.0 if given.value is None else given.value,
        step=given.step or 0,
        time=given.timestamp or 0,
        dataset=given.dataset_name or "",
        digest=given.dataset_digest or "",
    )


def _log(ask: Ask, run: str, points: list[Point], params: dict[str, str], tags: dict[str, str]) -> None:
    name = tags.pop(forms.RUN_NAME, None) or None
    if not (points or params or tags or name):
        found = runs.shown(ask, run)
        if found.deleted is not None:
            raise Problem(f"The run {run} must be in the 'active' state. Current state is deleted.")
        return
    try:
        runs.changed(run, lambda: ask.call("runs.log", run=run, metrics=points, params=params, tags=tags, name=name))
    except Conflict as e:
        if e.code != "param-set":
            raise
        former = {key: forms.text(value) for key, value in e.details["params"].items()}
        said = [{"key": key, "old_value": value, "new_value": params[key]} for key, value in former.items()]
        raise Problem(
            f"Changing param values is not allowed. Params were already logged='{said}' for run ID='{run}'."
        ) from e


def _points(given: Iterable[Metric]) -> list[Point]:
    found = []
    for index, metric in enumerate(given):
        if not metric.key:
            raise missing(f"metrics[{index}].key")
        if metric.value is None:
            raise missing(f"metrics[{index}].value")
        if metric.timestamp is None:
            raise missing(f"metrics[{index}].timestamp")
        found.append(Point(key=metric.key, value=metric.value, step=metric.step or 0, time=metric.timestamp))
    return found


def _pairs(what: str, given: Iterable[Tag]) -> list[tuple[str, str]]:
    found = []
    for index, pair in enumerate(given):
        if not pair.key:
            raise missing(f"{what}[{index}].key")
        found.append((pair.key, pair.value or ""))
    return found


@endpoint("POST /api/2.0/mlflow/runs/log-model", action="run", needed=("run_id", "model_json"))
def log_model(ask: Ask, given: LogModel) -> None:
    """Adds a model's description to the tag in which clients look for them."""
    text = given.model_json or ""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Problem(f"Malformed model info. \n {text} \n is not a valid JSON.") from e
    needed = ("artifact_path", "flavors", "utc_time_created", "run_id")
    if not isinstance(model, dict) or (lacking := [name for name in needed if name not in model]):
        raise Problem(f"Model json is missing mandatory fields: {set(lacking) if isinstance(model, dict) else needed}")
    run = runs.shown(ask, given.run_id or "")
    kept: dict[str, Any] = {name: model.get(name) for name in _MODEL_FIELDS}
    flavors = kept.get("flavors")
    if isinstance(flavors, dict) and isinstance(flavors.get("python_function"), dict):
        kept["flavors"] = {**flavors, "python_function": dict(flavors["python_function"])}
        kept["flavors"]["python_function"].pop("config", None)
    former = forms.noted(run.tags, _MODELS, list[Any])
    value = json.dumps([*former, kept])
    limits.check_length("value", _LONGEST_HISTORY, value)
    runs.changed(run.id, lambda: ask.call("runs.log", run=run.id, tags={_MODELS: value}))


_LONGEST_HISTORY = 64_000
_MODELS = "mlflow.log-model.history"
_MODEL_FIELDS = ("run_id", "artifact_path", "utc_time_created", "model_uuid", "flavors")


@endpoint("POST /api/2.0/mlflow/runs/log-inputs", action="run", needed=("run_id",))
def log_inputs(ask: Ask, given: LogInputs) -> None:
    """Says which data and which logged models a run read."""
    run = given.run_id or ""
    limits.check_run_id(run)
    datasets = [_dataset(one) for one in given.datasets or ()]
    models = tuple(logged.shown(ask, model.model_id or "", deleted=True).ref for model in given.models or ())
    if datasets:
        runs.changed(run, lambda: ask.call("runs.use", run=run, datasets=datasets))
    if models:
        runs.changed(run, lambda: ask.call("runs.link", run=run, inputs=models))
    if not datasets and not models:
        runs.shown(ask, run)


def _dataset(given: DatasetInput) -> ExternalDataset:
    dataset = given.dataset or Dataset()
    texts = {}
    for name, most in _LONGEST.items():
        text = getattr(dataset, name) or ""
        limits.check_length(name, most, text)
        texts[name] = text
    labels = {}
    for tag in given.tags or ():
        limits.check_length("key", 255, tag.key or "")
        limits.check_length("value", 500, tag.value or "")
        labels[tag.key or ""] = tag.value or ""
    if not texts["name"] or not texts["digest"]:
        raise Problem(
            invalid("datasets", {"name": texts["name"], "digest": texts["digest"]}, "Name and digest are needed.")
        )
    context = labels.pop(forms.CONTEXT, "")
    return ExternalDataset(**texts, context=context, tags=labels)


_LONGEST = {
    "name": 500, "digest": 36, "source_type": 500, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215,
}  # fmt: skip


@endpoint("POST /api/2.0mlflow/experiments/search-datasets", action="read")
@endpoint("POST /api/2.0/mlflow/experiments/search-datasets", action="read")
def search_datasets(ask: Ask, given: SearchDatasets) -> dict[str, Any]:
    """The datasets that the runs of some experiments read. (The path without a slash is MLflow's own.)"""
    experiments = given.experiment_ids or ()
    if not experiments:
        raise Problem("SearchDatasets request must specify at least one experiment_id.")
    if len(experiments) > 20:
        raise Problem(
            f"SearchDatasets request cannot specify more than 20 experiment_ids. Received {len(experiments)} experiment_ids."
        )
    found = ask.call("runs.used", groups=tuple(number(one) for one in experiments))
    if not found:
        return {}
    return {
        "dataset_summaries": [
            {"experiment_id": str(one.group), "name": one.name, "digest": one.digest}
            | ({"context": one.context} if one.context else {})
            for one in found
        ]
    }
