"""`loopline alerts`: findings of monitors, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.monitoring.records import Alert, AlertStatus


@group("alerts", "Alerts: findings of monitors, each open, acknowledged, silenced or closed. ALERT is alert:ID or ID.")
def alerts() -> None:
    pass


@alerts.command()
@click.argument("endpoint", required=False)
@click.option("--status", type=click.Choice(["open", "acknowledged", "silenced", "closed"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_context
def ls(ctx: click.Context, endpoint: str | None, status: str | None, limit: int, json: bool) -> None:
    """The newest alerts, of all endpoints or of ENDPOINT."""
    with session(ctx) as s:
        found = s.alerts.list(
            endpoint=names.one(s, endpoint, "endpoint") if endpoint else None,
            status=status,  # type: ignore[arg-type]  # click.Choice holds it to these words
            limit=limit,
        )
    if json:
        show.print_json(found)
        return
    show.table(
        ["alert", "of", "kind", "status", "finding", "raised"],
        [(a.id, a.endpoint or f"data:{a.dataset}", a.kind, a.status, a.summary, show.when(a.raised)) for a in found],
        empty="No alerts.",
    )


@alerts.command("show")
@click.argument("alert")
@as_json
@click.pass_context
def show_alert(ctx: click.Context, alert: str, json: bool) -> None:
    """One alert: what was found, since when, what was done about it."""
    with session(ctx) as s:
        found = s.alerts.show(names.one(s, alert, "alert"))
    if json:
        show.print_json(found)
        return
    show.title(found.ref)
    show.facts(
        [
            ("endpoint", found.endpoint),
            ("dataset", found.dataset),
            ("finding", found.summary),
            ("columns", found.columns),
            ("kind", found.kind),
            ("status", f"{found.status}, {show.when(found.changed)} by {found.by}"),
            ("comment", found.comment),
            ("since about", show.when(found.since)),
            ("raised", show.when(found.raised)),
            ("found", f"by {found.found:,} looks, the last {show.when(found.last)}" if found.found > 1 else ""),
            ("report", f"loopline monitor drift {found.endpoint}" if found.kind == "drift" else ""),
        ]
    )


@alerts.command()
@click.argument("alert")
@click.option("--comment", default="", help="Kept with the alert.")
@as_json
@click.pass_context
def acknowledge(ctx: click.Context, alert: str, comment: str, json: bool) -> None:
    """Say that somebody has seen it and looks after it."""
    _change(ctx, alert, "acknowledged", comment, json)


@alerts.command()
@click.argument("alert")
@click.option("--until", type=Moment(ahead=True), required=True, metavar="TIME", help='"7d" (from now), "2026-01-31".')
@click.option("--comment", default="", help="Kept with the alert.")
@as_json
@click.pass_context
def silence(ctx: click.Context, alert: str, until: int, comment: str, json: bool) -> None:
    """Hear no more of it until a time."""
    _change(ctx, alert, "silenced", comment, json, until)


@alerts.command()
@click.argument("alert")
@click.option("--comment", default="", help="Kept with the alert.")
@as_json
@click.pass_context
def close(ctx: click.Context, alert: str, comment: str, json: bool) -> None:
    """Say that it is dealt with."""
    _change(ctx, alert, "closed", comment, json)


@alerts.command("open")
@click.argument("alert")
@click.option("--comment", default="", help="Kept with the alert.")
@as_json
@click.pass_context
def open_again(ctx: click.Context, alert: str, comment: str, json: bool) -> None:
    """Open an alert again."""
    _change(ctx, alert, "open", comment, json)


def _change(
    ctx: click.Context, text: str, status: AlertStatus, comment: str, json: bool, until: int | None = None
) -> None:
    with session(ctx) as s:
        before: Alert = s.alerts.show(names.one(s, text, "alert"))
        found = s.alerts.change(before.id, status, comment=comment, until=until)
    till = f" until {show.when(until)}" if until is not None else ""
    way = {"open": "open", "acknowledged": "acknowledge", "closed": "close"}.get(before.status, "")
    undo = f"loopline alerts {way} {found.id}" if way and before.status != status else ""
    show.done(found, json, f"The alert {found.id} ({found.summary}) is {status}{till}.", undo)
