"""`loopline status`: one screen of what runs, what is champion and what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from loopline.cli import show
from loopline.cli.data_sources import rule_of
from loopline.cli.moments import now
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    from loopline.loop.status import Champion, Status


@click.command()
@as_json
@click.pass_context
def status(ctx: click.Context, json: bool) -> None:
    """One screen: what runs, what is champion, what needs a person."""
    from loopline.loop.status import summary

    with session(ctx) as s:
        found = summary(s)
    at = now()
    server = _server(ctx)
    if json:
        show.print_json({"at": at, "server": server, **_fields(found)})
        return
    _head(ctx, server, found, at)
    if found.needs:
        click.echo()
        show.title("Needs a person")
        for need in found.needs:
            click.echo(f"  {click.style(need.kind, fg='yellow')}  {need.text}  ({show.ago(need.at, at)})")
            click.echo(f"      {need.command}")
    _section(
        "Champions", ["loop", "champion", "metric", "since", "served at"], [_champion(c, at) for c in found.champions]
    )
    _section(
        "Rollouts under way",
        ["endpoint", "challenger", "champion", "stage", "since"],
        [
            (
                r.endpoint,
                r.challenger,
                r.champion,
                f"{r.stage} of {r.stages}: {r.kind}{f' {r.percent}%' if r.kind == 'canary' else ''}",
                show.ago(r.since, at),
            )
            for r in found.rollouts
        ],
    )
    _section(
        "Monitors",
        ["endpoint", "verdict", "looks", "last look"],
        [(m.endpoint, m.verdict, m.looks, show.ago(m.last_look, at)) for m in found.monitors],
    )
    _section(
        "Collected",
        ["dataset", "newest", "by itself", "last read"],
        [(c.name, c.ref, rule_of(c), show.ago(c.read, at)) for c in found.collected],
    )
    _section(
        "Runs asked for",
        ["loop", "asked by", "waits for", "since"],
        [
            (r.loop, r.alert or "a person", r.message or "a running `loopline up`", show.ago(r.asked, at))
            for r in found.asked
        ],
    )
    told = {need.ref for need in found.needs}  # in full, above
    _section(
        "Newest runs",
        ["pipeline", "run", "status", "came to", "started"],
        [
            (
                r.name,
                r.id,
                r.status,
                r.message.partition(":")[0] if r.ref in told else r.message,
                show.ago(r.started, at),
            )
            for r in found.runs
        ],
    )


def _head(ctx: click.Context, server: dict[str, Any] | None, found: Status, at: int) -> None:
    if server is None:
        serves = "no server runs (loopline up)"
    elif server["pid"] is None:
        serves = server["url"]
    else:
        serves = f"{server['url']}, process {server['pid']}, up since {show.ago(server['started'], at)}"
    show.facts(
        [
            ("workspace", None if ctx.obj["server"] else settings_of(ctx).workspace),
            ("server", serves),
            ("project", found.project),
            ("needs a person", len(found.needs) or "nothing"),
        ]
    )
    if not (found.champions or found.runs):
        click.echo("Nothing ran here yet: loopline demo, or loopline init NAME --data FILE --label COLUMN.")


def _server(ctx: click.Context) -> dict[str, Any] | None:
    """The server that answers (`--server`), or the one that serves the workspace, if one runs."""
    if ctx.obj["server"]:
        return {"url": ctx.obj["server"], "pid": None, "started": None}
    from loopline.api.up import address_of

    running = address_of(settings_of(ctx).workspace)
    return {"url": running.url, "pid": running.pid, "started": running.started} if running else None


def _champion(champion: Champion, at: int) -> tuple[Any, ...]:
    if not champion.model:
        return champion.loop, "none yet", "", "", ""
    first = next(iter(champion.metrics.items()), None)
    metric = show.interval(first[0], *first[1]) if first else ""
    served = f"/predict/{champion.endpoint}" if champion.endpoint else ""
    return champion.loop, champion.model, metric, show.ago(champion.since, at), served


def _section(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    if rows:
        click.echo()
        show.title(title)
        show.table(columns, rows)


def _fields(found: Status) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}
