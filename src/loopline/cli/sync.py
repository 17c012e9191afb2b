"""`loopline sync`: what programs logged and could not send."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import show
from loopline.cli.problems import EXIT_CODES
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.tracking.journal import Target


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--set-aside", is_flag=True, help="Put what a server refuses as invalid aside, and send all else.")
@click.option(
    "--skip-gap", is_flag=True, help="Give up what neither a journal nor its server has any more, and send the rest."
)
@as_json
@click.pass_context
def sync(ctx: click.Context, folder: Path | None, set_aside: bool, skip_gap: bool, json: bool) -> None:
    """Send what programs logged and could not send, each point once.

    FOLDER holds journals (default: those of the workspace). Each goes to the server it was meant for, or to the one of
    --server. What was sent is removed; what was not is shown with the reason, and stays. With --set-aside what a server refuses
    for good is put into the folder `refused` of its journal, which stays. With --skip-gap a journal goes on whose server was set
    back to an older backup: what is lost is said on the server's ledger.
    """
    from loopline.client.sender import sync as send

    place = folder or settings_of(ctx).workspace / "journals"
    with contextlib.ExitStack() as opened:
        sessions: dict[Target, Session] = {}

        def open_session(target: Target) -> Session:
            if target not in sessions:
                sessions[target] = opened.enter_context(_session(ctx, target))
            return sessions[target]

        within = place / "journals" if (place / "journals").is_dir() else place
        reports = send(within, open_session, set_aside=set_aside, skip_gap=skip_gap)
    if json:
        show.print_json(reports)
    else:
        show.table(
            ["journal", "project", "state", "sent", "waits"],
            [(r.sender, r.project, r.state, show.size(r.bytes), show.size(r.waiting)) for r in reports],
            empty="Nothing waits to be sent.",
        )
        for report in reports:
            lost = (f"the bytes of {path} are gone" for path in report.lost)
            refused = (f"REFUSED and set aside: {what}" for what in report.refused)
            skipped = [f"GIVEN UP as lost: {report.skipped}"] if report.skipped else []
            for said in (*skipped, *report.damages, *lost, *refused, report.note):
                if said:
                    click.echo(f"{report.sender}: {said}", err=True)
    if any(report.state == "kept" for report in reports):
        ctx.exit(EXIT_CODES["unavailable"])


def _session(ctx: click.Context, target: Target) -> contextlib.AbstractContextManager[Session]:
    """The session for whom a journal is for; the server that the command line names comes first."""
    given = {**ctx.obj, "server": ctx.obj["server"] or target.server, "project": ctx.obj["project"] or target.project}
    within = click.Context(ctx.command, obj=given)
    return session(within, creates=True)
