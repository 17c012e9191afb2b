"""Experiments: the groups of runs of a project, by their numbers."""

from __future__ import annotations

from typing import Any

from loopline.api.mlflow import forms, limits, pages
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.filters import LISTED, NULLABLE, ORDERED, Clause, Grammar, compared, parse, parse_order
from loopline.api.mlflow.messages import Int64, Message, Tag, enumerated
from loopline.api.mlflow.problems import Problem
from loopline.errors import Conflict, Invalid, NotFound
from loopline.tracking.records import Lifecycle, RunGroup

VIEWS: dict[str, Lifecycle] = {"ACTIVE_ONLY": "live", "DELETED_ONLY": "deleted", "ALL": "all"}

_GRAMMAR = Grammar(
    aliases={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    texts=("name", "experiment_id"),
    numbers=("creation_time", "last_update_time"),
    listed=("experiment_id",),
    comparators={"attribute": LISTED, "number": ORDERED, "tag": NULLABLE},
    orders=("name", "experiment_id", "creation_time", "last_update_time"),
    quotes=False,
)
_LARGEST_PAGE = 1000


class Create(Message):
    """CreateExperiment."""

    name: str | None = None
    artifact_location: str | None = None
    tags: list[Tag] | None = None


class One(Message):
    """A request that names an experiment."""

    experiment_id: str | None = None


class ByName(Message):
    """GetExperimentByName."""

    experiment_name: str | None = None


class Update(Message):
    """UpdateExperiment."""

    experiment_id: str | None = None
    new_name: str | None = None


class SetTag(Message):
    """SetExperimentTag."""

    experiment_id: str | None = None
    key: str | None = None
    value: str | None = None


class Search(Message):
    """SearchExperiments."""

    view_type: Any = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    filter: str | None = None
    page_token: str | None = None


def number(experiment: str) -> int:
    """The number of the group that an experiment's id names. Raises `Problem`."""
    try:
        return int(experiment)
    except ValueError:
        raise Problem(f"Invalid experiment ID '{experiment}'. Experiment ID must be a valid integer.") from None


def of(ask: Ask, experiment: str | None) -> RunGroup:
    """The group of an experiment's id (none: the default one), deleted or not."""
    group = number(experiment or "0")
    try:
        found: RunGroup = ask.call("groups.show", group=group)
    except (NotFound, Invalid) as e:
        raise absent(e, group) from e
    return found


def absent(error: NotFound | Invalid, group: int) -> Exception:
    """What MLflow says where there is no such group; another error as it is."""
    if error.code in ("no-group", "bad-group"):
        return Problem(f"No Experiment with id={group} exists", "RESOURCE_DOES_NOT_EXIST")
    return error


def lifecycle(view: Any) -> Lifecycle:
    """Which runs or experiments a view is of."""
    return VIEWS[enumerated(view, tuple(VIEWS)) or "ACTIVE_ONLY"]


@endpoint("POST /api/2.0/mlflow/experiments/create", action="run", needed=("name",))
def create(ask: Ask, given: Create) -> dict[str, Any]:
    """A new experiment."""
    name = given.name or ""
    tags = {tag.key or "": tag.value or "" for tag in given.tags or ()}
    if given.artifact_location:
        if given.artifact_location.startswith("runs:"):
            raise Problem(f"Artifact location cannot be a runs:/ URI. Given: '{given.artifact_location}'")
        tags[forms.LOCATION] = given.artifact_location.rstrip("/")
    _check_name(ask, name)
    for key, value in tags.items():
        _check_tag(key, value)
    try:
        made: RunGroup = ask.call("groups.create", name=name, tags=tags)
    except Conflict as e:
        raise _taken(name) if e.code == "group-taken" else e from e
    return {"experiment_id": str(made.number)}


@endpoint("GET /api/2.0/mlflow/experiments/get", action="read", needed=("experiment_id",))
def get(ask: Ask, given: One) -> dict[str, Any]:
    """An experiment by its id."""
    return {"experiment": forms.experiment(of(ask, given.experiment_id))}


@endpoint("GET /api/2.0/mlflow/experiments/get-by-name", action="read", needed=("experiment_name",))
def get_by_name(ask: Ask, given: ByName) -> dict[str, Any]:
    """An experiment by its name; the live one where a deleted one is called the same."""
    found = _named(ask, given.experiment_name or "")
    if found is None:
        raise Problem(f"Could not find experiment with name '{given.experiment_name}'", "RESOURCE_DOES_NOT_EXIST")
    return {"experiment": forms.experiment(found)}


@endpoint("POST /api/2.0/mlflow/experiments/delete", action="run", needed=("experiment_id",))
def delete(ask: Ask, given: One) -> None:
    """Deletes an experiment with its runs; `restore` brings it back."""
    group = of(ask, given.experiment_id)
    if group.deleted is not None:
        raise Problem(f"No Experiment with id={group.number} exists", "RESOURCE_DOES_NOT_EXIST")
    ask.call("groups.delete", group=group.number)


@endpoint("POST /api/2.0/mlflow/experiments/restore", action="run", needed=("experiment_id",))
def restore(ask: Ask, given: One) -> None:
    """Makes a deleted experiment live again, with the runs that were deleted with it."""
    group = of(ask, given.experiment_id)
    if group.deleted is None:
        raise Problem(f"No Experiment with id={group.number} exists", "RESOURCE_DOES_NOT_EXIST")
    ask.call("groups.restore", group=group.number)


@endpoint("POST /api/2.0/mlflow/experiments/update", action="run", needed=("experiment_id", "new_name"))
def update(ask: Ask, given: Update) -> None:
    """Gives an experiment another name."""
    name = given.new_name or ""
    group = of(ask, given.experiment_id)
    if group.deleted is not None:
        raise Problem("Cannot rename a non-active experiment.")
    if name == group.name:
        return
    _check_name(ask, name)
    try:
        ask.call("groups.change", group=group.number, name=name)
    except Conflict as e:
        raise _taken(name) if e.code == "group-taken" else e from e


@endpoint("POST /api/2.0/mlflow/experiments/set-experiment-tag", action="run", needed=("experiment_id", "key"))
def set_tag(ask: Ask, given: SetTag) -> None:
    """Sets a tag of an experiment."""
    key, value = given.key or "", given.value or ""
    _check_tag(key, value)
    group = _active(ask, given.experiment_id)
    ask.call("groups.tag", group=group.number, tags={key: value})


@endpoint("POST /api/2.0/mlflow/experiments/delete-experiment-tag", action="run", needed=("experiment_id", "key"))
def delete_tag(ask: Ask, given: SetTag) -> None:
    """Removes a tag of an experiment."""
    group = _active(ask, given.experiment_id)
    if given.key not in group.tags:
        raise Problem(
            f"No tag with name: {given.key} in experiment with id {given.experiment_id}", "RESOURCE_DOES_NOT_EXIST"
        )
    ask.call("groups.tag", group=group.number, tags={given.key: None})


@endpoint("GET /api/2.0/mlflow/experiments/search", action="read")
@endpoint("POST /api/2.0/mlflow/experiments/search", action="read")
def search(ask: Ask, given: Search) -> dict[str, Any]:
    """Experiments by a filter, in an order, a page at a time."""
    most = given.max_results or 0
    limits.check_results(most)
    clauses = parse(given.filter, _GRAMMAR)
    orders = [parse_order(order, _GRAMMAR) for order in given.order_by or ("creation_time DESC", "experiment_id ASC")]
    start = pages.offset(given.page_token)
    found = [group for group in every(ask, lifecycle(given.view_type)) if all(_holds(group, c) for c in clauses)]
    if not any(key == "experiment_id" for _, key, _ in orders):
        orders.append(("attribute", "experiment_id", False))
    for entity, key, ascending in reversed(orders):
        if entity != "attribute":
            raise Problem(f"Invalid order_by entity: {entity}")
        found.sort(key=lambda group, key=key: _attribute(group, key), reverse=not ascending)  # type: ignore[misc]
    shown = found[start : start + most]
    answer: dict[str, Any] = {"experiments": [forms.experiment(group) for group in shown]} if shown else {}
    if len(found) > start + most:
        answer["next_page_token"] = pages.token(start + most)
    return answer


def every(ask: Ask, life: Lifecycle) -> list[RunGroup]:
    """All groups of the project."""
    found: list[RunGroup] = []
    after = None
    while True:
        page = ask.call("groups.list", lifecycle=life, limit=_LARGEST_PAGE, after=after)
        found += page.groups
        if page.after is None:
            return found
        after = page.after


def _named(ask: Ask, name: str) -> RunGroup | None:
    found = ask.call("groups.list", name=name, lifecycle="all", limit=_LARGEST_PAGE).groups
    return max(found, key=lambda group: (group.deleted is None, group.number), default=None)


def _active(ask: Ask, experiment: str | None) -> RunGroup:
    group = of(ask, experiment)
    if group.deleted is not None:
        raise inactive(group.number)
    return group


def inactive(group: int) -> Problem:
    """What is said where something is to be changed of a deleted experiment."""
    return Problem(f"The experiment {group} must be in the 'active' state. Current state is deleted.")


def _check_name(ask: Ask, name: str) -> None:
    """Natively a deleted group's name is free again; MLflow's clients expect it to be taken until it is gone for good."""
    limits.check_length("name", limits.EXPERIMENT_NAME, name)
    if _named(ask, name) is not None:
        raise _taken(name)


def _taken(name: str) -> Problem:
    return Problem(f"Experiment(name={name}) already exists.", "RESOURCE_ALREADY_EXISTS")


def _check_tag(key: str, value: str) -> None:
    limits.check_key(key, "key")
    limits.check_length("key", limits.KEY, key)
    limits.check_length("value", limits.EXPERIMENT_TAG, value)


def _attribute(group: RunGroup, key: str) -> Any:
    match key:
        case "name":
            return group.name
        case "experiment_id":
            return group.number
        case "creation_time":
            return group.created
        case _:
            return group.changed


def _holds(group: RunGroup, clause: Clause) -> bool:
    _, key, comparator, value = clause
    if clause.entity == "tag":
        given = group.tags.get(key)
        if value is None:
            return (given is None) == (comparator == "IS NULL")
        return given is not None and compared(given, comparator, value)
    if key == "experiment_id":
        if comparator not in ("=", "!=", "IN", "NOT IN"):
            raise Problem(f"Invalid comparator for experiment_id: {comparator}")
        value = tuple(number(one) for one in value) if isinstance(value, tuple) else number(value)
    elif key == "name" and comparator in ("IN", "NOT IN"):
        raise Problem(f"Invalid comparator for string attribute: {comparator}")
    elif key != "name" and isinstance(value, float):
        raise Problem(f"Invalid value for numeric attribute '{key}': '{value}'")
    return compared(_attribute(group, key), comparator, value)
