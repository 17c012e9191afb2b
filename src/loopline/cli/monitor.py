"""`loopline monitor`: drift and quality of what endpoints answer."""

from __future__ import annotations

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session


@group(
    "monitor", "Monitors: standing checks on what endpoints answer. While `loopline up` runs, they look by themselves."
)
def monitor() -> None:
    pass


@monitor.command()
@as_json
@click.pass_context
def ls(ctx: click.Context, json: bool) -> None:
    """All monitors and how they stand."""
    with session(ctx) as s:
        found = s.monitors.list()
    if json:
        show.print_json(found)
        return
    show.table(
        ["endpoint", "verdict", "looks", "last look", "held against", "rows a look"],
        [(m.endpoint, m.verdict, m.looks, show.when(m.last_look), m.reference, m.rows) for m in found],
        empty="No monitors yet. A loop declares one when its first model is served.",
    )


@monitor.command()
@click.argument("endpoint")
@as_json
@click.pass_context
def look(ctx: click.Context, endpoint: str, json: bool) -> None:
    """Look now, where a look is due and enough rows have come.

    An alert is raised where the budget of false alarms allows one. That budget is stated for so many looks, so none is taken
    before its time.
    """
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        if not ctx.obj["server"]:  # a server takes in by itself what it answers
            s.predictions.collect()
        found = s.monitors.look(name)
        watch = next(m for m in s.monitors.list() if m.endpoint == name)
    if json:
        show.print_json(found)
        return
    if found.due is not None:
        click.echo(
            f"No look was taken at {name}: the next is due at {show.when(found.due)}. "
            f"One look each {show.lasting(watch.look)} keeps its budget of false alarms, {watch.false_alarms}."
        )
        return
    if not found.taken:
        click.echo(f"No look was taken at {found.endpoint} ({found.rows:,} new rows): {found.summary}.")
        return
    click.echo(f"Looked at {found.rows:,} rows of {found.endpoint}: {found.summary}.")
    if found.alert:
        click.echo(f"  Alert raised: loopline alerts show {found.alert}")


@monitor.command()
@click.argument("endpoint")
@click.option("-o", "--out", metavar="FILE", help="Write the report as a page instead.")
@as_json
@click.pass_context
def drift(ctx: click.Context, endpoint: str, out: str | None, json: bool) -> None:
    """The newest drift report of an endpoint."""
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        found = s.monitors.drift(name, form="html" if out else "json")
        if out:
            show.save(found, out, f"the drift report of {name}")
            return
        content = found.read()
    if json:
        click.echo(content.decode())
        return
    import msgspec

    from loopline.quality.drift_records import DriftReport

    report = msgspec.json.decode(content, type=DriftReport)
    click.echo(report.verdict)
    show.facts([("rows now", report.current_rows), ("rows before", report.reference_rows), ("absent", report.absent)])
    show.table(
        ["column", "drifted", "effect", "threshold", "what changed"],
        [(c.column, c.drifted, c.effect, c.threshold, c.text) for c in report.columns],
    )


@monitor.command()
@click.argument("endpoint")
@click.option("--since", type=Moment(), default=0, metavar="TIME", help='Only after it: "7d" (ago), "2026-01-31".')
@as_json
@click.pass_context
def quality(ctx: click.Context, endpoint: str, since: int, json: bool) -> None:
    """Quality on the labels that came: in all, over time, by variant, for new and returning groups."""
    with session(ctx) as s:
        found = s.monitors.quality(names.one(s, endpoint, "endpoint"), since=since)
    if json:
        show.print_json(found)
        return
    click.echo(f"{found.labelled:,} of {found.rows:,} rows have their label.")
    parts = [("all", w) for w in [found.overall] if w]
    parts += [("over time", w) for w in found.windows]
    parts += [("variant", w) for w in found.variants]
    parts += [("group", w) for w in found.groups]
    first = next((next(iter(w.metrics)) for _, w in parts if w.metrics), "")
    show.table(
        ["", "part", "rows", "labelled", "metric", "from", "to"],
        [
            (
                kind,
                w.name,
                w.rows,
                w.labelled,
                show.interval(first, *w.metrics[first]) if first in w.metrics else "too few labels",
                show.when(w.start),
                show.when(w.end),
            )
            for kind, w in parts
        ],
    )
