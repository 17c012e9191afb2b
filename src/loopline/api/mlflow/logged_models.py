"""The endpoints of logged models: created, finished, found, tagged, deleted, and said to be what a run made."""

from __future__ import annotations

import json
from typing import Any

from loopline.api.mlflow import artifacts, experiments, forms, limits, logged, names, pages, runs
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.filters import LISTED, ORDERED, Clause, Grammar, compared, parse
from loopline.api.mlflow.messages import Int32, Int64, Message, Tag, enumerated, missing
from loopline.api.mlflow.problems import Problem
from loopline.errors import LooplineError
from loopline.tracking.records import Measure, Run

_TIMES = {
    "creation_time": "creation_timestamp_ms", "creation_timestamp": "creation_timestamp_ms",
    "last_updated_timestamp": "last_updated_timestamp_ms",
}  # fmt: skip
_TEXTS = (
    "model_id",
    "experiment_id",
    "name",
    "artifact_location",
    "status",
    "model_type",
    "source_run_id",
    "status_message",
)
_NUMBERS = ("creation_timestamp_ms", "last_updated_timestamp_ms")
_GRAMMAR = Grammar(
    aliases={"attributes": "attribute", "metrics": "metric", "params": "parameter", "tags": "tag"},
    texts=_TEXTS,
    numbers=_NUMBERS,
    listed=_TEXTS,
    comparators={"metric": ORDERED, "parameter": LISTED, "tag": LISTED, "attribute": LISTED, "number": ORDERED},
    translated=_TIMES,
)
_BAD = ("/", ":", ".", "%", '"', "'")
_MOST = 100
_PAGE = 50
_AT_ONCE = 1000


class Create(Message):
    """CreateLoggedModel."""

    experiment_id: str | None = None
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[Tag] | None = None
    tags: list[Tag] | None = None


class One(Message):
    """A request that names a logged model."""

    model_id: str | None = None


class Get(One):
    """GetLoggedModel."""

    allow_deleted: bool | None = None


class Finalize(One):
    """FinalizeLoggedModel."""

    status: Any = None


class Params(One):
    """LogLoggedModelParams."""

    params: list[Tag] | None = None


class Tags(One):
    """SetLoggedModelTags."""

    tags: list[Tag] | None = None


class OneTag(One):
    """DeleteLoggedModelTag."""

    tag_key: str | None = None


class Folder(One):
    """ListLoggedModelArtifacts."""

    artifact_directory_path: str | None = None


class Dataset(Message):
    """Data that metrics are of."""

    dataset_name: str | None = None
    dataset_digest: str | None = None


class OrderBy(Dataset):
    """What to order by."""

    field_name: str | None = None
    ascending: bool | None = None


class Search(Message):
    """SearchLoggedModels."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[Dataset] | None = None
    max_results: Int32 | None = None
    order_by: list[OrderBy] | None = None
    page_token: str | None = None


class Output(Message):
    """A logged model that a run made, and at which step."""

    model_id: str | None = None
    step: Int64 | None = None


class Outputs(Message):
    """LogOutputs."""

    run_id: str | None = None
    models: list[Output] | None = None


@endpoint("POST /api/2.0/mlflow/logged-models", action="run", needed=("experiment_id",))
def create(ask: Ask, given: Create) -> dict[str, Any]:
    """A new logged model, which waits for its files."""
    name = given.name or names.generated()
    if any(mark in name for mark in _BAD):
        raise Problem(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the following "
            f"characters: {_BAD}"
        )
    tags = {tag.key or "": tag.value or "" for tag in given.tags or ()}
    if given.model_type:
        tags[logged.TYPE] = given.model_type
    args = {
        "name": name,
        "group": experiments.number(given.experiment_id or ""),
        "params": {param.key or "": param.value or "" for param in given.params or ()},
        "tags": tags,
    }
    return {"model": logged.whole(ask, [logged.begun(ask, args, given.source_run_id)])[0]}


@endpoint("POST /api/2.0/mlflow/logged-models/search", action="read", needed=("experiment_ids",))
def search(ask: Ask, given: Search) -> dict[str, Any]:
    """Logged models by a filter, in an order, a page at a time."""
    datasets, order = given.datasets or [], given.order_by or []
    if max(len(datasets), len(order)) > _MOST:
        raise Problem(f"A search for logged models takes at most {_MOST} datasets and fields to order by.")
    for by in order:
        _check_order(by.field_name or "")
    if not all(one.dataset_name for one in datasets):
        raise Problem("`dataset_name` in the `datasets` clause must be specified.")
    clauses = parse(given.filter, _GRAMMAR)
    start = pages.offset(given.page_token)
    most = given.max_results or _PAGE
    limits.check_results(most)
    found = _all(ask, tuple(experiments.number(one) for one in given.experiment_ids or ()))
    measured = logged.measures(ask, found)
    found = [run for run in found if _fits(run, measured.get(run.id, []), clauses, datasets)]
    found.sort(key=lambda run: run.id)
    keys = [(one.field_name or "", one.ascending is not False, one) for one in order]
    for field, ascending, dataset in reversed([*keys, ("creation_timestamp", False, OrderBy())]):
        known = {run.id: _sorted_by(run, field, measured.get(run.id, []), dataset) for run in found}
        found = _by(found, known, ascending)
    page = found[start : start + most]
    answer: dict[str, Any] = {"models": logged.whole(ask, page)} if page else {}
    if start + most < len(found):
        answer["next_page_token"] = pages.token(start + most)
    return answer


@endpoint("GET /api/2.0/mlflow/logged-models/{model_id}", action="read")
def get(ask: Ask, given: Get) -> dict[str, Any]:
    """A logged model with all that it holds."""
    found = logged.shown(ask, given.model_id or "", deleted=bool(given.allow_deleted))
    return {"model": logged.whole(ask, [found])[0]}


@endpoint("PATCH /api/2.0/mlflow/logged-models/{model_id}", action="run", needed=("model_id", "status"))
def finalize(ask: Ask, given: Finalize) -> dict[str, Any]:
    """Says that the files of a logged model are all there, or that they never will."""
    status = enumerated(given.status, logged.STATUSES)
    run = logged.shown(ask, given.model_id or "")
    told = {logged.STATUSES[1]: "finished", logged.STATUSES[2]: "failed"}.get(status or "", "running")
    if told != "running" or run.status != told:
        run = ask.call("runs.change", run=run.id, status=told)
    return {"model": logged.whole(ask, [run])[0]}


@endpoint("DELETE /api/2.0/mlflow/logged-models/{model_id}", action="run")
def delete(ask: Ask, given: One) -> None:
    """Deletes a logged model."""
    run = logged.shown(ask, given.model_id or "", deleted=True)
    ask.call("runs.delete", run=run.id)


@endpoint("POST /api/2.0/mlflow/logged-models/{model_id}/params", action="run")
def log_params(ask: Ask, given: Params) -> None:
    """Sets params of a logged model, for good."""
    run = logged.shown(ask, given.model_id or "")
    params = {param.key or "": param.value or "" for param in given.params or ()}
    if params:
        ask.call("runs.log", run=run.id, params=params)


@endpoint("PATCH /api/2.0/mlflow/logged-models/{model_id}/tags", action="run")
def set_tags(ask: Ask, given: Tags) -> None:
    """Sets tags of a logged model."""
    run = logged.shown(ask, given.model_id or "")
    tags = {tag.key or "": tag.value or "" for tag in given.tags or ()}
    if tags:
        ask.call("runs.tag", run=run.id, tags=tags)


@endpoint("DELETE /api/2.0/mlflow/logged-models/{model_id}/tags/{tag_key}", action="run")
def delete_tag(ask: Ask, given: OneTag) -> None:
    """Removes a tag of a logged model."""
    run = logged.shown(ask, given.model_id or "")
    if given.tag_key not in forms.visible(run.tags):
        raise Problem(
            f"No tag with key {given.tag_key!r} found for model with ID {given.model_id!r}.", "RESOURCE_DOES_NOT_EXIST"
        )
    ask.call("runs.tag", run=run.id, tags={given.tag_key: None})


@endpoint("GET /api/2.0/mlflow/logged-models/{model_id}/artifacts/directories", action="read")
def listed(ask: Ask, given: Folder) -> dict[str, Any]:
    """The files and folders right below a path of a logged model."""
    path = artifacts.safe(given.artifact_directory_path or "")
    run = logged.shown(ask, given.model_id or "")
    files = artifacts.below(ask.call("runs.artifacts", run=run.id), path)
    return {"root_uri": logged.location(ask, run), **({"files": files} if files else {})}


@endpoint("POST /api/2.0/mlflow/runs/outputs", action="run", needed=("run_id",))
def outputs(ask: Ask, given: Outputs) -> None:
    """Says which logged models a run made."""
    run = runs.shown(ask, given.run_id or "")
    models = given.models or ()
    for model in models:
        if not model.model_id:
            raise missing("models[0].model_id")
    steps = {model.model_id or "": model.step for model in models if model.step}
    made = tuple(logged.shown(ask, model.model_id or "", deleted=True).ref for model in models)
    if made:
        runs.changed(run.id, lambda: ask.call("runs.link", run=run.id, outputs=made))
    if steps:
        known = forms.noted(run.tags, forms.STEPS, dict[str, int])
        runs.changed(run.id, lambda: ask.call("runs.tag", run=run.id, tags={forms.STEPS: json.dumps(known | steps)}))


def _all(ask: Ask, groups: tuple[int, ...]) -> list[Run]:
    """The living logged models of some experiments."""
    found: list[Run] = []
    after = None
    while groups:
        try:
            page = ask.call("runs.list", kind="model", groups=groups, limit=_AT_ONCE, after=after)
        except LooplineError as e:
            if e.code != "no-group":
                raise
            break
        found += page.runs
        after = page.after
        if after is None:
            break
    return found


def _fits(run: Run, measured: list[Measure], clauses: list[Clause], datasets: list[Dataset]) -> bool:
    on = [one for one in measured if not datasets or any(_is_on(one, dataset) for dataset in datasets)]
    if datasets and not on:
        return False
    return all(_holds(run, on, clause) for clause in clauses)


def _is_on(one: Measure, dataset: Dataset) -> bool:
    if dataset.dataset_name and one.dataset != dataset.dataset_name:
        return False
    return not dataset.dataset_digest or one.digest == dataset.dataset_digest


def _holds(run: Run, measured: list[Measure], clause: Clause) -> bool:
    match clause.entity:
        case "metric":
            return any(
                compared(one.number, clause.comparator, clause.value) for one in measured if one.key == clause.key
            )
        case "parameter":
            kept = {key: forms.text(value) for key, value in run.params.items()}
        case "tag":
            kept = forms.visible(run.tags)
        case _:
            own = _attribute(run, clause.key)
            return own is not None and compared(own, clause.comparator, clause.value)
    return clause.key in kept and compared(kept[clause.key], clause.comparator, clause.value)


def _attribute(run: Run, key: str) -> Any:
    match key:
        case "model_id":
            return logged.PREFIX + run.id
        case "name":
            return run.name
        case "experiment_id":
            return str(run.group)
        case "creation_timestamp_ms":
            return run.created
        case "last_updated_timestamp_ms":
            return run.deleted or run.ended or run.created
        case "status":
            return logged.STATUS.get(run.status, logged.STATUSES[2]).rpartition("_")[2]
        case "model_type":
            return run.tags.get(logged.TYPE)
        case "source_run_id":
            return logged.source_run(run) or None
        case "status_message":
            return run.message
    return None


def _check_order(field: str) -> None:
    entity, dot, _ = field.partition(".")
    if not dot and _TIMES.get(field, field) not in (*_TEXTS, *_NUMBERS):
        raise Problem(f"Invalid order by field name: {field}")
    if dot and entity != "metrics":
        raise Problem(f"Invalid order by field name: {field}. Only metrics are supported.")


def _sorted_by(run: Run, field: str, measured: list[Measure], dataset: OrderBy) -> Any:
    """What a logged model is ordered by; None comes last, whichever way."""
    _, dot, key = field.partition(".")
    if not dot:
        return _attribute(run, _TIMES.get(field, field))
    there = [one for one in measured if one.key == key and _is_on(one, dataset)]
    if not there:
        return None
    return max(there, key=lambda one: (one.time, one.step)).number


def _by(found: list[Run], known: dict[str, Any], ascending: bool) -> list[Run]:
    there = [run for run in found if known[run.id] is not None]
    there.sort(key=lambda run: known[run.id], reverse=not ascending)
    return [*there, *(run for run in found if known[run.id] is None)]
