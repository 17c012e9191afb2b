"""`loopline init` and `loopline run`: a loop on your own table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli.progress import Events, Lines, event, tell
from loopline.cli.session import as_json, session, settings_of
from loopline.errors import Invalid, NotFound

if TYPE_CHECKING:
    from loopline.api.up import Address

REFUSED = 3
"""The exit code of a run that a gate refused, or that waits for a person."""


@click.command()
@click.argument("name")
@click.option("--data", required=True, metavar="FILE", help="The table: CSV, Parquet or NDJSON.")
@click.option("--label", required=True, metavar="COLUMN", help="What is to be predicted.")
@click.option("--time", metavar="COLUMN", help="What orders the rows in time.")
@click.option("--group", metavar="COLUMN", help="Which rows belong to one person or thing.")
@click.option(
    "--protected", multiple=True, metavar="COLUMN", help="A column by which fairness is looked at; again for more."
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(
    name: str, data: str, label: str, time: str | None, group: str | None, protected: tuple[str, ...], force: bool
) -> None:
    """Write NAME.py: one readable file that declares a loop on your table. Look through it, then: loopline run NAME."""
    from loopline.loop.starter import write

    written = write(
        Path.cwd(), name, Path(data), label=label, time=time, group=group, protected=protected, overwrite=force
    )
    click.echo(
        f"Wrote {written.path.name}: {written.task} of {label!r}, {written.rows:,} rows, {written.columns} columns."
    )
    for note in written.notes:
        click.echo(f"  {note}")
    click.echo(f"Next: look through {written.path.name}, then `loopline run {name}`.")


@click.command()
@click.argument("name")
@click.option("--data", metavar="FILE", help="Other rows than those the loop's file names.")
@click.option("--workspace", metavar="DIR", help="The workspace, as before the command.")
@click.option("--cancel", is_flag=True, help="Withdraw a run that was asked for and has not begun.")
@click.option("--request", hidden=True, help="The request of a running platform that this run answers.")
@as_json
@click.pass_context
def run(
    ctx: click.Context,
    name: str,
    data: str | None,
    workspace: str | None,
    cancel: bool,
    request: str | None,
    json: bool,
) -> None:
    """Run a loop: data, split, training, gates, registration, and its rollout.

    NAME is a loop that was run before, or the name of its file (NAME.py here). Run it again after an interruption: what was
    done is not done again. Exit code 0: promoted, or its rollout has begun; 3: refused by a gate or waiting for a person;
    2: bad input.

    While `loopline up` serves the workspace, a loop that ran before is run by it, on its rows and those answered and labelled
    since; with --data, or for the first time, it runs here.
    """
    from loopline.api.up import address_of
    from loopline.app import Platform
    from loopline.loop.again import answer, first
    from loopline.loop.lease import held

    ctx.obj["workspace"] = workspace or ctx.obj["workspace"]
    settings = settings_of(ctx)
    if cancel:
        _withdraw(ctx, name)
        return
    running = address_of(settings.workspace)
    if (ctx.obj["server"] or running) and request is None and data is None and _ask(ctx, name, running):
        return
    if ctx.obj["server"]:
        raise Invalid(
            "A loop on a file of its own runs where the file is.",
            code="not-remote",
            hint=f"On the server's machine, without --server: loopline run {name}"
            + (f" --data {data}" if data else ""),
        )
    watcher: Any = Events() if json else Lines()
    beside = request is not None or running is not None  # the server has the lease, and lets others run
    lease = contextlib.nullcontext() if beside else held(settings.workspace, f"loopline run {name}")
    with lease, contextlib.closing(Platform.open(settings)) as platform:
        if request is not None:
            result = answer(platform.session(), request, settings.workspace, watcher=watcher)
        else:
            result = first(platform.session(), name, settings.workspace, data=data, watcher=watcher)
    if json:
        event("result", result=result)
    else:
        tell(f"{result.outcome}: {result.reason}")
        if result.evaluation:
            tell(f"The evaluation: loopline evaluations report {result.evaluation} > report.html")
    if result.outcome in ("refused", "waiting"):
        ctx.exit(REFUSED)


def _ask(ctx: click.Context, name: str, running: Address | None) -> bool:
    """Asks a server for a run; False where the loop never ran, and so has no rows there."""
    with session(ctx) as s:
        if name not in {loop.name for loop in s.loops.list()} & {dataset.name for dataset in s.datasets.list()}:
            return False
        asked = s.loops.request(name, reason="asked for on the command line")
    where = ctx.obj["server"] or (running.url if running else "")
    tell(f"The server at {where} runs it (request {asked.id}). Follow it: loopline status")
    return True


def _withdraw(ctx: click.Context, name: str) -> None:
    with session(ctx) as s:
        waiting = [r for r in s.loops.requests("asked", limit=1000) if r.loop == name]
        if not waiting:
            raise NotFound(
                f"No run of {name} waits to begin.", code="no-request", hint="`loopline status` shows what runs."
            )
        s.loops.settle(waiting[0].id, "withdrawn", "cancelled on the command line")
    tell(f"The run of {name} that was asked for is withdrawn. Ask again: loopline run {name}")
