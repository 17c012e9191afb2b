"""Histories of metrics: all points, a page at a time, or chosen for a plot."""

from __future__ import annotations

from typing import Any

from loopline.api.mlflow import forms, pages, runs
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Int32, Message
from loopline.api.mlflow.problems import Problem
from loopline.tracking.records import Point

_RUNS = 100
_POINTS = 25_000
_SAMPLED = 2_500


class History(runs.One):
    """GetMetricHistory."""

    metric_key: str | None = None
    page_token: str | None = None
    max_results: Int32 | None = None


class Bulk(Message):
    """GetMetricHistoryBulk."""

    run_id: list[str] | None = None
    metric_key: str | None = None
    max_results: Int32 | None = None


class Interval(Message):
    """GetMetricHistoryBulkInterval."""

    run_ids: list[str] | None = None
    metric_key: str | None = None
    start_step: Int32 | None = None
    end_step: Int32 | None = None
    max_results: Int32 | None = None


@endpoint("GET /api/2.0/mlflow/metrics/get-history", action="read", needed=("run_id", "metric_key"))
def history(ask: Ask, given: History) -> dict[str, Any]:
    """The points of a metric of a run, by time, step and value."""
    most = given.max_results
    if most is not None and most <= 0:
        raise Problem(f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer.")
    start = pages.offset(given.page_token)
    points = sorted(_history(ask, given.run, given.metric_key), key=_by_time)
    end = len(points) if most is None else start + most
    shown = points[start:end]
    answer: dict[str, Any] = {"metrics": [forms.metric(point) for point in shown]} if shown else {}
    if end < len(points):
        answer["next_page_token"] = pages.token(end)
    return answer


@endpoint("GET /ajax-api/2.0/mlflow/metrics/get-history-bulk", action="read")
def bulk(ask: Ask, given: Bulk) -> dict[str, Any]:
    """The points of a metric of several runs, as far as there is room."""
    wanted = given.run_id or []
    if not wanted:
        raise Problem("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(wanted) > _RUNS:
        raise Problem(
            f"GetMetricHistoryBulk request cannot specify more than {_RUNS} run_ids. Received {len(wanted)} run_ids."
        )
    if given.metric_key is None:
        raise Problem("GetMetricHistoryBulk request must specify a metric_key.")
    most = min(_POINTS if given.max_results is None else given.max_results, _POINTS)
    found: list[dict[str, Any]] = []
    for run in sorted(set(wanted)):
        points = sorted(_history(ask, run, given.metric_key), key=_by_time)
        found += [_of_run(run, point) for point in points[: max(0, most - len(found))]]
    return {"metrics": found}


@endpoint("GET /api/2.0/mlflow/metrics/get-history-bulk-interval", action="read", needed=("run_ids", "metric_key"))
def interval(ask: Ask, given: Interval) -> dict[str, Any]:
    """At most so many points of a metric of each of several runs, evenly chosen between two steps."""
    wanted = given.run_ids or []
    if len(wanted) > _RUNS:
        raise Problem(
            f"GetMetricHistoryBulkInterval request must specify at most {_RUNS} run_ids. Received {len(wanted)} run_ids."
            " See the API docs for more information about request parameters."
        )
    most = _SAMPLED if given.max_results is None else given.max_results
    if not 1 <= most <= _SAMPLED:
        raise Problem(
            f"max_results must be between 1 and {_SAMPLED}. See the API docs for more information about request parameters."
        )
    first, last = given.start_step, given.end_step
    if (first is None) != (last is None):
        raise Problem("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise Problem(f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.")
    found: list[dict[str, Any]] = []
    for run in wanted:
        points = sorted(_history(ask, run, given.metric_key), key=_by_step)
        if first is not None and last is not None:
            points = [point for point in points if first <= point.step <= last]
        found += [_of_run(run, point) for point in sampled(points, most)]
    return {"metrics": found} if found else {}


def sampled(points: list[Point], most: int) -> list[Point]:
    """At most so many of the points: the first of each of so many equal stretches, and the last of all."""
    if len(points) <= most:
        return points
    size, longer = divmod(len(points), most)
    starts = [place * size + min(place, longer) for place in range(most)]
    found = [points[start] for start in starts]
    if _by_step(found[-1]) != _by_step(points[-1]):
        found[-1] = points[-1]
    return found


def _history(ask: Ask, run: str, key: str | None) -> tuple[Point, ...]:
    found: tuple[Point, ...] = runs.changed(run, lambda: ask.call("runs.history", run=run, key=key))
    return found


def _of_run(run: str, point: Point) -> dict[str, Any]:
    return {
        "key": point.key,
        "value": forms.value(point.number),
        "timestamp": point.time,
        "step": point.step,
        "run_id": run,
    }


def _ranked(point: Point) -> float:
    return 0.0 if point.value == "NaN" else point.number  # where MLflow's database has it


def _by_time(point: Point) -> tuple[int, int, float]:
    return point.time, point.step, _ranked(point)


def _by_step(point: Point) -> tuple[int, int, float, bool]:
    return point.step, point.time, _ranked(point), point.value == "NaN"
