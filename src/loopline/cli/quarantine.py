"""`loopline data quarantine`: rows that broke a contract, and what is decided about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.data.records import Decision

_rule = click.option("--rule", metavar="NAME", help="Only the rows that broke this rule first.")


_numbers = click.option(
    "--row", "rows", type=int, multiple=True, metavar="NUMBER", help="Only this row, as listed (repeats)."
)
_reason = click.option("--reason", required=True, help="Why; it stays on record.")


@group(
    "quarantine", "Rows of a version that broke its contract: list them, take them after all, or drop them for good."
)
def quarantine() -> None:
    pass


@quarantine.command("list")
@click.argument("ref")
@_rule
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many rows to show.")
@click.option("--personal", is_flag=True, help="Show values of columns that a contract calls personal, too.")
@as_json
@click.pass_context
def listed(ctx: click.Context, ref: str, rule: str | None, limit: int, personal: bool, json: bool) -> None:
    """The rows that are held, with the rule that each broke. That you looked is put on the ledger."""
    with session(ctx) as s:
        found = s.datasets.quarantine(*names.dataset(s, ref), rule=rule, limit=limit, personal=personal)
    if json:
        show.print_json(found)
        return
    show.facts(
        [
            ("rows held back", found.rows),
            ("held still", found.held if found.held != found.rows else ""),
            ("released", found.released or ""),
            ("dropped", found.dropped or ""),
            ("broken", found.broken),
        ]
    )
    show.rows(found.shown, empty=f"No row of {found.ref} is held.")


@quarantine.command()
@click.argument("ref")
@_rule
@_numbers
@_reason
@as_json
@click.pass_context
def release(ctx: click.Context, ref: str, rule: str | None, rows: tuple[int, ...], reason: str, json: bool) -> None:
    """Take held rows after all: they go behind the newest version, as its next one."""
    found = _decide(ctx, "release", ref, rule, rows, reason)
    _told(found, f"taken into {found.into}", json)


@quarantine.command()
@click.argument("ref")
@_rule
@_numbers
@_reason
@as_json
@click.pass_context
def drop(ctx: click.Context, ref: str, rule: str | None, rows: tuple[int, ...], reason: str, json: bool) -> None:
    """Decide that held rows are never taken. They stay on record, and counted."""
    _told(_decide(ctx, "drop", ref, rule, rows, reason), "dropped", json)


def _decide(ctx: click.Context, verb: str, ref: str, rule: str | None, rows: tuple[int, ...], reason: str) -> Decision:
    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        made: Decision = getattr(s.datasets, verb)(name, version, reason, rule=rule, rows=rows or None)
    return made


def _told(found: Decision, what: str, json: bool) -> None:
    held = f"{found.held:,} {'is' if found.held == 1 else 'are'} held still."
    show.done(found, json, f"{show.count(found.rows, 'row')} of {found.ref} {what}. {held}")
