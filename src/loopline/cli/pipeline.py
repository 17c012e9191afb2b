"""`loopline pipeline`: runs of pipelines and what their steps gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.pipeline.records import PipelineRun


@group("pipeline", "Runs of pipelines and their steps. A loop's run is one.")
def pipeline() -> None:
    pass


@pipeline.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_context
def ls(ctx: click.Context, name: str | None, limit: int, json: bool) -> None:
    """The newest runs, of all pipelines or of NAME."""
    with session(ctx) as s:
        found = s.pipelines.list(name=name, limit=limit)
    if json:
        show.print_json(found)
        return
    show.table(
        ["run", "pipeline", "status", "steps", "came to", "started", "ended"],
        [
            (r.id, r.name, r.status, len(r.steps), r.message, show.when(r.started), show.when(r.ended))
            for r in found
        ],
        empty="No pipeline ran yet. A loop's run is one: loopline run NAME",
    )  # fmt: skip


@pipeline.command("show")
@click.argument("run")
@as_json
@click.pass_context
def show_run(ctx: click.Context, run: str, json: bool) -> None:
    """One run with its steps. RUN is pipeline:ID, ID, or the name of a pipeline (its newest run)."""
    with session(ctx) as s:
        found = _find(s, run)
    if json:
        show.print_json(found)
        return
    show.title(f"{found.ref}  {found.name}")
    show.facts(
        [
            ("status", f"{found.status}{': ' + found.message if found.message else ''}"),
            ("reason", found.reason),
            ("started", show.when(found.started)),
            ("ended", show.when(found.ended)),
        ]
    )
    show.table(
        ["step", "seconds", "", "gave"],
        [(t.step, f"{t.seconds:.2f}", "as before" if t.cached else "", t.outputs.get("said", "")) for t in found.steps],
        empty="No step has ended yet.",
    )


def _find(session: Session, text: str) -> PipelineRun:
    newest = session.pipelines.list(name=text, limit=1)
    return newest[0] if newest else session.pipelines.show(names.one(session, text, "pipeline"))
