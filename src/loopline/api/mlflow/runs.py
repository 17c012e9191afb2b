"""Runs: begun, read, changed, ended, deleted and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopline.api.mlflow import experiments, forms, names
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.messages import Int64, Message, Tag, enumerated
from loopline.api.mlflow.problems import Problem
from loopline.errors import Conflict, Invalid, LooplineError, NotFound
from loopline.tracking.records import Run


class Create(Message):
    """CreateRun."""

    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Int64 | None = None
    tags: list[Tag] | None = None


class One(Message):
    """A request that names a run."""

    run_id: str | None = None
    run_uuid: str | None = None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.run_id or self.run_uuid or ""


class Update(One):
    """UpdateRun."""

    status: Any = None
    end_time: Int64 | None = None
    run_name: str | None = None


@endpoint("POST /api/2.0/mlflow/runs/create", action="run")
def create(ask: Ask, given: Create) -> dict[str, Any]:
    """A new run, which is running."""
    group = experiments.number(given.experiment_id or "0")
    tags = {tag.key or "": tag.value or "" for tag in given.tags or ()}
    named = tags.pop(forms.RUN_NAME, "")
    if given.run_name and named and given.run_name != named:
        raise Problem(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{given.run_name}', mlflow.runName='{named}')."
        )
    args: dict[str, Any] = {
        "name": given.run_name or named or names.generated(),
        "tags": tags,
        "group": group,
        "created": given.start_time or 0,
    }
    if given.user_id and given.user_id != tags.get(forms.USER):
        args["environment"] = {"user": given.user_id}
    run = _begun(ask, args, tags.get(forms.PARENT), group)
    return {"run": forms.whole(run, where(ask, run), (), outputs=False)}


@endpoint("GET /api/2.0/mlflow/runs/get", action="read", needed=("run_id",))
def get(ask: Ask, given: One) -> dict[str, Any]:
    """A run with all that it holds."""
    run = shown(ask, given.run)
    points = ask.call("runs.last", runs=(run.id,))[run.id] if run.metrics else ()
    return {"run": forms.whole(run, where(ask, run), points)}


@endpoint("POST /api/2.0/mlflow/runs/update", action="run", needed=("run_id",))
def update(ask: Ask, given: Update) -> dict[str, Any]:
    """Gives a run another status, end or name."""
    status = enumerated(given.status, forms.STATUSES)
    args = {
        "name": given.run_name or None,
        "status": status.lower() if status else None,
        "ended": given.end_time,
    }
    run = changed(given.run, lambda: ask.call("runs.change", run=given.run, **args))
    return {"run_info": forms.info(run, where(ask, run))}


@endpoint("POST /api/2.0/mlflow/runs/delete", action="run", needed=("run_id",))
def delete(ask: Ask, given: One) -> None:
    """Deletes a run; `restore` brings it back."""
    changed(given.run, lambda: ask.call("runs.delete", run=given.run))


@endpoint("POST /api/2.0/mlflow/runs/restore", action="run", needed=("run_id",))
def restore(ask: Ask, given: One) -> None:
    """Makes a deleted run live again."""
    changed(given.run, lambda: ask.call("runs.restore", run=given.run))


def shown(ask: Ask, run: str) -> Run:
    """A run by its id, deleted or not."""
    found: Run = changed(run, lambda: ask.call("runs.show", run=run))
    return found


def where(ask: Ask, run: Run) -> str:
    """The location of a run's group; the default one, which nobody made, is never elsewhere."""
    return forms.location(experiments.of(ask, str(run.group))) if run.group else forms.HERE


def changed(run: str, call: Callable[[], Any]) -> Any:
    """What a call about a run gives, or what MLflow says in place of its error."""
    try:
        return call()
    except LooplineError as e:
        raise told(e, run) from e


def told(error: LooplineError, run: str) -> Exception:
    """An error about a run in MLflow's words."""
    match error.code:
        case "no-run" | "bad-ref":
            return Problem(f"Run with id={run} not found", "RESOURCE_DOES_NOT_EXIST")
        case "run-deleted":
            return Problem(f"The run {run} must be in the 'active' state. Current state is deleted.")
    return error


def _begun(ask: Ask, args: dict[str, Any], parent: str | None, group: int) -> Run:
    """The new run; its parent is linked where it is a run of this project, and is a tag alone otherwise."""
    try:
        run: Run = ask.call("runs.create", parent=parent, **args)
    except (NotFound, Invalid) as e:
        if parent and e.code in ("no-run", "bad-ref"):
            return _begun(ask, args, None, group)
        raise experiments.absent(e, group) from e
    except Conflict as e:
        raise experiments.inactive(group) if e.code == "group-deleted" else e from e
    return run
