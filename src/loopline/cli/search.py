"""`loopline runs search`: runs found by a filter, and searches that have a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.tracking.records import Real, RunPage

_METRICS = 6  # of a run in a list

Command = TypeVar("Command", bound=Callable[..., Any])


def of_group(command: Command) -> Command:
    """The options of a command that say which group's runs it is about, and whether the deleted ones."""
    command = click.option("--deleted", is_flag=True, help="Those that are deleted and can be restored.")(command)
    return click.option("--group", metavar="GROUP", help="Only runs of this group (its number or name).")(command)


def page(command: Command) -> Command:
    """The options of a command that say which page of the runs it shows."""
    command = click.option("--after", metavar="TOKEN", help="The page behind the one that gave TOKEN.")(command)
    return click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)(command)


def numbers(session: Session, group: str | None) -> tuple[int, ...]:
    """The number of the group that is named, as verbs want it."""
    return () if group is None else (names.group(session, group, "all").number,)


@click.command()
@click.argument("filter", default="", required=False)
@click.option(
    "--order", multiple=True, metavar="KEY", help="Order by it: metrics.loss, 'params.lr DESC', ... (repeats)."
)
@page
@of_group
@click.option("--saved", metavar="NAME", help="Use a saved search instead of FILTER.")
@as_json
@click.pass_context
def search(
    ctx: click.Context,
    filter: str,
    order: tuple[str, ...],
    limit: int,
    after: str | None,
    saved: str | None,
    group: str | None,
    deleted: bool,
    json: bool,
) -> None:
    """Find runs by FILTER, such as "metrics.loss < 0.3 AND created = 'last 7 days'" (docs/search.md)."""
    with session(ctx) as s:
        of = numbers(s, group)
        found = s.runs.search(filter, order, limit, after, saved, of, "deleted" if deleted else "live")
    if json:
        show.print_json(found)
        return
    listed(found, empty="No run is like that.")


@click.command()
@as_json
@click.pass_context
def searches(ctx: click.Context, json: bool) -> None:
    """Searches that have a name."""
    with session(ctx) as s:
        found = s.runs.searches()
    if json:
        show.print_json(found)
        return
    show.table(
        ["name", "filter", "order", "by", "at"],
        [(f.name, f.filter, list(f.order), f.by, show.when(f.at)) for f in found],
        empty="None is saved yet.",
    )


@click.command()
@click.argument("name")
@click.argument("filter")
@click.option("--order", multiple=True, metavar="KEY", help="Order by it (repeats).")
@as_json
@click.pass_context
def save(ctx: click.Context, name: str, filter: str, order: tuple[str, ...], json: bool) -> None:
    """Give a search the name NAME."""
    with session(ctx) as s:
        saved = s.runs.save_search(name, filter, order)
    show.done(
        saved, json, f"`loopline runs search --saved {saved.name}` finds them.", f"loopline runs forget {saved.name}"
    )


@click.command()
@click.argument("name")
@as_json
@click.pass_context
def forget(ctx: click.Context, name: str, json: bool) -> None:
    """Take the name of a search away."""
    with session(ctx) as s:
        s.runs.forget_search(name)
    show.done(None, json, f"The search {name} has no name any more.")


def listed(found: RunPage, *, empty: str) -> None:
    """Some runs, a line each, and how to see those behind them."""
    show.table(
        ["run", "name", "kind", "status", "metrics", "by", "at"],
        [(r.id, r.name, r.kind, r.status, _some(r.metrics), r.creator, show.when(r.created)) for r in found.runs],
        empty=empty,
    )
    if found.after:
        click.echo(f"More: the same with --after {found.after}", err=True)


def _some(metrics: dict[str, Real]) -> list[str]:
    """The first metrics of a run, without the machine's use."""
    from loopline.tracking.records import SYSTEM

    keys = [key for key in metrics if not key.startswith(SYSTEM)]
    told = [f"{key}={show.cell(metrics[key])}" for key in keys[:_METRICS]]
    return [*told, f"and {len(keys) - _METRICS:,} more"] if keys[_METRICS:] else told


COMMANDS = (search, searches, save, forget)
"""What `loopline runs` has of these."""
