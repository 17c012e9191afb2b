"""Searching runs: MLflow's filter is written anew in the platform's own grammar (docs/search.md)."""

from __future__ import annotations

from typing import Any

from loopline.api.mlflow import experiments, forms, limits, pages
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.filters import LISTED, NULLABLE, ORDERED, Clause, Grammar, parse, parse_order
from loopline.api.mlflow.messages import Int32, Message
from loopline.api.mlflow.problems import Problem
from loopline.tracking.records import Run

GRAMMAR = Grammar(
    aliases={
        "metric": "metric", "metrics": "metric",
        "parameter": "parameter", "parameters": "parameter", "param": "parameter", "params": "parameter",
        "tag": "tag", "tags": "tag",
        "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
        "dataset": "dataset", "datasets": "dataset",
    },
    texts=("run_id", "run_name", "status", "user_id", "artifact_uri"),
    numbers=("start_time", "end_time"),
    listed=("run_id",),
    datasets=("name", "digest", "context"),
    comparators={
        "metric": ORDERED, "parameter": NULLABLE, "tag": NULLABLE, "attribute": LISTED, "number": ORDERED, "dataset": LISTED,
    },
    orders=("run_id", "run_name", "status", "user_id", "artifact_uri", "start_time", "end_time", "created", "Created"),
    translated={
        "created": "start_time", "Created": "start_time", "run name": "run_name", "Run name": "run_name", "Run Name": "run_name",
    },
)  # fmt: skip

_GROUPS = {"metric": "metrics", "parameter": "params", "tag": "tags", "dataset": "external"}
_ATTRIBUTES = {"run_id": "id", "run_name": "name", "status": "status", "start_time": "created", "end_time": "ended"}
_PAGE = 1000
_NEVER = "id IS NULL"


class Search(Message):
    """SearchRuns."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: Any = None
    max_results: Int32 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


@endpoint("POST /api/2.0/mlflow/runs/search", action="read")
def search(ask: Ask, given: Search) -> dict[str, Any]:
    """Runs by a filter, in an order, a page at a time."""
    most = 1000 if given.max_results is None else given.max_results
    if most > limits.MAX_RESULTS:
        raise Problem(
            f"Invalid value {most} for parameter 'max_results' supplied:  Hint: Value was of type 'int'. "
            "See the API docs for more information about request parameters."
        )
    limits.check_results(most)
    clauses = parse(given.filter, GRAMMAR)
    order = ordered(given.order_by or ())
    after = pages.key(given.page_token)
    groups = tuple(experiments.number(one) for one in given.experiment_ids or ())
    if not groups:
        return {}
    asked = {
        "filter": " AND ".join(["kind != 'model'", *(written(clause) for clause in clauses)]),
        "order": order,
        "groups": groups,
        "lifecycle": experiments.lifecycle(given.run_view_type),
    }
    found: list[Run] = []
    while len(found) < most:
        page = ask.call("runs.search", limit=min(_PAGE, most - len(found)), after=after, **asked)
        found += page.runs
        after = page.after
        if after is None:
            break
    answer: dict[str, Any] = {"runs": whole(ask, found)} if found else {}
    if after is not None:
        answer["next_page_token"] = pages.token(after)
    return answer


def whole(ask: Ask, found: list[Run]) -> list[forms.WholeRun]:
    """Runs with all that they hold."""
    points: dict[str, Any] = {}
    for start in range(0, len(found), _PAGE):
        points |= ask.call("runs.last", runs=tuple(run.id for run in found[start : start + _PAGE]))
    where = {group: forms.location(experiments.of(ask, str(group))) for group in {run.group for run in found}}
    return [forms.whole(run, where[run.group], points[run.id]) for run in found]


def ordered(order_by: Any) -> tuple[str, ...]:
    """The order in the platform's words: behind what is asked for, the newest run comes first."""
    found, seen = [], set()
    for given in order_by:
        entity, key, ascending = parse_order(given, GRAMMAR)
        if entity == "dataset":
            raise Problem(f"Invalid identifier type '{entity}'")
        if (entity, key) in seen:
            raise Problem(f"`order_by` contains duplicate fields: {list(order_by)}")
        seen.add((entity, key))
        field = f"text({_field(entity, key)})" if entity == "parameter" else _field(entity, key)
        found.append(f"{field}{'' if ascending else ' DESC'}")
    if ("attribute", "start_time") not in seen:
        found.append("created DESC")
    return (*found, "id")


def written(clause: Clause) -> str:
    """A clause in the platform's grammar."""
    entity, key, comparator, value = clause
    field = _field(entity, key)
    if comparator in ("IS NULL", "IS NOT NULL"):
        return f"{field} {comparator}"
    if entity == "attribute" and key == "artifact_uri":
        return _by_location(comparator, value)
    if entity == "attribute" and key == "status":
        return _by_status(field, comparator, value)
    if isinstance(value, tuple):
        return f"{field} {comparator} ({', '.join(_text(one) for one in value)})"
    if isinstance(value, str):
        return f"{field} {comparator} {_text(value)}"
    return f"{field} {comparator} {value!r}"


def _by_status(field: str, comparator: str, value: Any) -> str:
    known = value.upper() in forms.STATUSES and value.upper() == value
    if comparator in ("=", "!="):
        if known:
            return f"{field} {comparator} {_text(value.lower())}"
        return _NEVER if comparator == "=" else "id IS NOT NULL"
    return f"{field} {comparator} {_text(value.lower())}" if comparator == "ILIKE" or value == value.upper() else _NEVER


def _by_location(comparator: str, value: Any) -> str:
    """A run's artifacts are where its group and its id say."""
    if comparator not in ("=", "!=") or not isinstance(value, str):
        raise Problem(f"Invalid comparator '{comparator}' for 'artifact_uri': it is compared by = and != here.")
    run = value.removesuffix("/artifacts").rpartition("/")[2]
    return f"id {comparator} {_text(run)}"


def _field(entity: str, key: str) -> str:
    if (entity, key) == ("tag", forms.RUN_NAME):
        return "name"
    if entity != "attribute":
        return f'{_GROUPS[entity]}."{key.replace(chr(34), chr(34) * 2)}"'
    if key == "user_id":
        return f'tags."{forms.USER}"'
    return _ATTRIBUTES.get(key, "id")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
