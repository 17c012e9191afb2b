"""`loopline init` and `loopline run`: a loop on your own table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from loopline.cli.progress import Events, Lines, event
from loopline.cli.session import as_json, settings_of

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
@click.option("--request", hidden=True, help="The request of a running platform that this run answers.")
@as_json
@click.pass_context
def run(
    ctx: click.Context, name: str, data: str | None, workspace: str | None, request: str | None, json: bool
) -> None:
    """Run a loop: data, split, training, gates, registration, and its rollout.

    NAME is a loop that was run before, or the name of its file (NAME.py here). Run it again after an interruption: what was
    done is not done again. Exit code 0: promoted, or its rollout has begun; 3: refused by a gate or waiting for a person;
    2: bad input.
    """
    from loopline.api.up import address_of
    from loopline.app import Platform
    from loopline.loop.lease import held

    ctx.obj["workspace"] = workspace or ctx.obj["workspace"]
    settings = settings_of(ctx)
    running = address_of(settings.workspace)
    if running is not None and request is None and data is None:
        with contextlib.closing(Platform.open(settings)) as platform:
            asked = platform.session().loops.request(name, reason="asked for on the command line")
        click.echo(f"The server at {running.url} runs it (request {asked.id}). Follow it: loopline status")
        return
    watcher: Any = Events() if json else Lines()
    lease = contextlib.nullcontext() if request else held(settings.workspace, f"loopline run {name}")
    with lease, contextlib.closing(Platform.open(settings)) as platform:
        if request is not None:
            from loopline.loop.again import answer

            result = answer(platform.session(), request, settings.workspace, watcher=watcher)
        else:
            from loopline.loop.again import first

            result = first(platform.session(), name, settings.workspace, data=data, watcher=watcher)
    if json:
        event("result", result=result)
    else:
        click.echo(f"{result.outcome}: {result.reason}")
        if result.evaluation:
            click.echo(f"The evaluation: loopline evaluations report {result.evaluation} > report.html")
    if result.outcome in ("refused", "waiting"):
        ctx.exit(REFUSED)
