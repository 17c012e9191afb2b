"""`loopline runs`: what was executed, with which values, and what came of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import artifacts, compare, deletion, exchange, names, runs_said, search, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.tracking.records import Run

_COUNTED = 1000  # children of a run


@group("runs", "Runs: params, metrics and files of each execution. RUN is run:ID or ID.")
def runs() -> None:
    pass


for part in (search, artifacts, runs_said, deletion, compare, exchange):
    for command in part.COMMANDS:
        runs.add_command(command)


@runs.command()
@click.option("--name", help="Only runs of this name.")
@click.option(
    "--kind", type=click.Choice(["run", "pipeline", "step", "trial", "model"]), help="Only runs of this kind."
)
@click.option(
    "--status",
    type=click.Choice(["scheduled", "running", "finished", "failed", "killed"]),
    help="Only in this state.",
)
@click.option("--parent", metavar="RUN", help="Only children of this run.")
@search.of_group
@search.page
@as_json
@click.pass_context
def ls(
    ctx: click.Context,
    name: str | None,
    kind: str | None,
    status: str | None,
    parent: str | None,
    group: str | None,
    deleted: bool,
    limit: int,
    after: str | None,
    json: bool,
) -> None:
    """The newest runs."""
    with session(ctx) as s:
        page = s.runs.list(
            name=name,
            kind=kind,  # type: ignore[arg-type]  # click.Choice holds it to these words
            status=status,  # type: ignore[arg-type]
            parent=names.one(s, parent, "run") if parent else None,
            limit=limit,
            after=after,
            groups=search.numbers(s, group),
            lifecycle="deleted" if deleted else "live",
        )
    if json:
        show.print_json(page)
        return
    search.listed(page, empty="No runs yet.")


@runs.command("show")
@click.argument("run")
@as_json
@click.pass_context
def show_run(ctx: click.Context, run: str, json: bool) -> None:
    """One run with its params, metrics, inputs and outputs; --json has its whole environment, too."""
    from loopline.tracking.records import of_work_first

    with session(ctx) as s:
        found = s.runs.show(names.one(s, run, "run"))
        if json:
            show.print_json(found)
            return
        of = s.groups.show(found.group)
        files = s.runs.artifacts(found.id)
        within = s.runs.list(parent=found.id, limit=_COUNTED)
    show.title(f"{found.ref}  {found.name}")
    show.facts(
        [
            ("kind", found.kind),
            ("status", f"{found.status}{': ' + found.message if found.message else ''}"),
            ("from", [*found.inputs, *(f"{data.name} ({data.digest}), elsewhere" for data in found.external)]),
            ("made", found.outputs),
            (
                "files",
                f"{show.count(len(files), 'file')}, {show.size(sum(one.size for one in files))}" if files else None,
            ),
            ("runs in it", f"{len(within.runs):,}{' and more' if within.after else ''}" if within.runs else None),
            ("tags", found.tags),
            ("note", found.note),
            ("group", of.name if of.number else None),
            ("parent", found.parent),
            ("started", f"{show.when(found.created)} by {found.creator}"),
            ("ended", f"{show.when(found.ended)}, after {_took(found)}" if found.ended is not None else None),
            ("deleted", show.when(found.deleted)),
            ("code", _code(found.environment)),
            ("command", _command(found.environment)),
            ("python", found.environment.get("python")),
        ]
    )
    if found.params:
        show.table(["param", "value"], [(key, show.exact(value)) for key, value in found.params.items()])
    if found.metrics:
        show.table(["metric", "last value"], list(of_work_first(found.metrics).items()))


@runs.command()
@click.argument("run")
@click.argument("metric")
@click.option(
    "--points", type=click.IntRange(1), metavar="N", help="At most so many, chosen so that a plot looks alike."
)
@as_json
@click.pass_context
def history(ctx: click.Context, run: str, metric: str, points: int | None, json: bool) -> None:
    """The points of one metric of a run."""
    from loopline.errors import NotFound, did_you_mean

    with session(ctx) as s:
        found_run = s.runs.show(names.one(s, run, "run"))
        if metric not in found_run.metrics:
            raise NotFound(
                f"{found_run.ref} has no metric {metric!r}.",
                code="no-metric",
                hint=did_you_mean(metric, found_run.metrics),
            )
        found = s.runs.history(found_run.id, metric, points)
    if json:
        show.print_json(found)
        return
    show.table(["step", metric, "at"], [(p.step, p.value, show.when(p.time)) for p in found])


def _took(run: Run) -> str:
    return show.lasting(max(0, (run.ended or 0) - run.created))


def _code(environment: dict[str, Any]) -> str:
    """The state of the code in a line: `commit 4f1c... on main, changed since: code/patch.diff`."""
    for name in ("commit", "revision"):
        if name in environment:
            branch = f" on {environment['branch']}" if "branch" in environment else ""
            patched = "changed since: code/patch.diff" if "patch" in environment else "changed since"
            return f"{name} {environment[name]}{branch}{f', {patched}' if environment.get('dirty') else ''}"
    return ""


def _command(environment: dict[str, Any]) -> str:
    given = environment.get("argv")
    return shlex.join(map(str, given)) if isinstance(given, list) else ""
