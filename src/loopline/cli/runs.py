"""`loopline runs`: what was executed, with which values, and what came of it."""

from __future__ import annotations

import shlex
from json import loads
from typing import Any

import click

from loopline.cli import compare, deletion, exchange, names, search, show
from loopline.cli.session import as_json, group, session


@group("runs", "Runs: params, metrics and files of each execution. RUN is run:ID or ID.")
def runs() -> None:
    pass


for command in (*search.COMMANDS, *deletion.COMMANDS, *compare.COMMANDS, *exchange.COMMANDS):
    runs.add_command(command)


@runs.command()
@click.option("--name", help="Only runs of this name.")
@click.option("--kind", type=click.Choice(["run", "pipeline", "step", "trial"]), help="Only runs of this kind.")
@click.option("--status", type=click.Choice(["running", "finished", "failed", "killed"]), help="Only in this state.")
@click.option("--parent", metavar="RUN", help="Only children of this run.")
@search.of_group
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
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
    """One run with its params, metrics, inputs and outputs."""
    with session(ctx) as s:
        found = s.runs.show(names.one(s, run, "run"))
        of = s.groups.show(found.group)
    if json:
        show.print_json(found)
        return
    show.title(f"{found.ref}  {found.name}")
    show.facts(
        [
            ("kind", found.kind),
            ("status", f"{found.status}{': ' + found.message if found.message else ''}"),
            ("from", found.inputs),
            ("made", found.outputs),
            ("params", found.params),
            ("tags", found.tags),
            ("note", found.note),
            ("group", of.name if of.number else None),
            ("parent", found.parent),
            ("started", f"{show.when(found.created)} by {found.creator}"),
            ("ended", show.when(found.ended)),
            ("deleted", show.when(found.deleted)),
            ("commit", found.environment.get("commit")),
        ]
    )
    if found.metrics:
        show.table(["metric", "last value"], list(found.metrics.items()))


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


@runs.command()
@click.argument("run")
@click.argument("path", required=False)
@click.option("-o", "--out", metavar="FILE", help="Where to write the file PATH of the run (else standard output).")
@as_json
@click.pass_context
def artifacts(ctx: click.Context, run: str, path: str | None, out: str | None, json: bool) -> None:
    """The files of a run; with PATH, that file."""
    with session(ctx) as s:
        name = names.one(s, run, "run")
        if path is not None:
            show.save(s.runs.artifact(name, path), out, path)
            return
        found = s.runs.artifacts(name)
    if json:
        show.print_json(found)
        return
    show.table(
        ["path", "size", "digest", "at"],
        [(a.path, show.size(a.size), a.digest, show.when(a.created)) for a in found],
        empty="It keeps no files.",
    )


@runs.command("remove-artifact")
@click.argument("run")
@click.argument("path")
@as_json
@click.pass_context
def remove_artifact(ctx: click.Context, run: str, path: str, json: bool) -> None:
    """Remove a file of a run, or all files of a folder."""
    with session(ctx) as s:
        name = names.one(s, run, "run")
        found = s.runs.remove_artifact(name, path)
    gone = ", ".join(f"{file.path} ({show.size(file.size)})" for file in found)
    show.done(found, json, f"Removed from run:{name}, for good: {gone}. The ledger keeps the digest.")


@runs.command()
@click.argument("run")
@click.option("-o", "--out", metavar="FILE", help="Where to write it (else standard output).")
@as_json
@click.pass_context
def console(ctx: click.Context, run: str, out: str | None, json: bool) -> None:
    """What a run printed."""
    with session(ctx) as s:
        printed = s.runs.console(names.one(s, run, "run"))
    if json:
        show.print_json({"text": printed.read().decode()})
        return
    show.save(printed, out, "console.log")


@runs.command()
@click.argument("run")
@click.argument("text")
@as_json
@click.pass_context
def note(ctx: click.Context, run: str, text: str, json: bool) -> None:
    """Say something of a run, in place of what was said before."""
    with session(ctx) as s:
        before = s.runs.show(names.one(s, run, "run"))
        found = s.runs.note(before.id, text)
    show.done(found, json, f"{found.ref} is noted.", f"loopline runs note {found.id} {shlex.quote(before.note)}")


@runs.command()
@click.argument("run")
@click.argument("params", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--reason", required=True, help="Why they were wrong.")
@as_json
@click.pass_context
def correct(ctx: click.Context, run: str, params: tuple[str, ...], reason: str, json: bool) -> None:
    """Change params that were set wrongly; what stood there stays on record."""
    given = {}
    for param in params:
        key, sign, value = param.partition("=")
        if not sign:
            raise click.UsageError(f"{param!r} is not KEY=VALUE.")
        given[key] = _value(value)
    with session(ctx) as s:
        found = s.runs.correct(names.one(s, run, "run"), given, reason)
    show.done(found, json, f"{found.ref} is corrected; `loopline runs corrections {found.id}` shows what stood there.")


@runs.command()
@click.argument("run")
@as_json
@click.pass_context
def corrections(ctx: click.Context, run: str, json: bool) -> None:
    """What params of a run were before they were corrected."""
    with session(ctx) as s:
        found = s.runs.corrections(names.one(s, run, "run"))
    if json:
        show.print_json(found)
        return
    show.table(
        ["param", "was", "reason", "by", "at"],
        [(c.key, c.value, c.reason, c.by, show.when(c.at)) for c in found],
        empty="Nothing was corrected.",
    )


def _value(text: str) -> Any:
    """What a value on the command line says: JSON where it is some, else the text itself."""
    try:
        return loads(text)
    except ValueError:
        return text
