"""`loopline data purge` and `retention`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.data.records import VersionRetention

_LAST = click.option("--last", type=int, metavar="N", help="Keep the newest N versions of each dataset.")


@click.command()
@click.argument("versions", nargs=-1, metavar="[VERSION...]")
@click.option("--older-than", metavar="DURATION", help="Those made so long ago: 30d, 12h, 0s (else the retention).")
@_LAST
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why each other version stays.")
@as_json
@click.pass_context
def purge(
    ctx: click.Context, versions: tuple[str, ...], older_than: str | None, last: int | None, dry_run: bool, json: bool
) -> None:
    """Remove the content of versions for good: rows, held rows, files, profile. Nothing undoes it; their record stays.

    Without VERSION: all that are old enough. Those that something needs stay. The bytes go a day later.
    """
    if versions and (older_than or last):
        raise click.UsageError("VERSION goes with neither --older-than nor --last.")
    from loopline.durations import milliseconds

    age = milliseconds(older_than, "--older-than") if older_than else None
    with session(ctx) as s:
        refs = tuple(s.datasets.show(*names.dataset(s, one)).ref for one in versions)
        found = s.datasets.purge(versions=refs, older_than=age, last=last, dry_run=dry_run)
    if json:
        show.print_json(found)
        return
    count = show.count(len(found.versions), "version")
    click.echo(
        f"{count} would be removed for good." if dry_run else f"{count} removed for good; the bytes go in a day."
    )
    for ref in found.versions:
        click.echo(f"  {ref}")
    if dry_run and found.kept:
        show.table(["kept", "since"], [(one.version, one.by) for one in found.kept])


@click.command()
@click.argument("duration", required=False)
@_LAST
@as_json
@click.pass_context
def retention(ctx: click.Context, duration: str | None, last: int | None, json: bool) -> None:
    """How long versions are kept that nothing needs; with DURATION (30d, 12h, or `forever`) or --last, set it."""
    from loopline.durations import milliseconds, written

    with session(ctx) as s:
        before = s.datasets.retention()
        if duration is None and last is None:
            if json:
                show.print_json(before)
            else:
                click.echo(f"{_kept(before)}.")
            return
        if duration == "forever" and last is not None:
            raise click.UsageError("What is kept for ever needs no --last.")
        age = None if duration in (None, "forever") else milliseconds(str(duration), "the retention")
        found = s.datasets.set_retention(age, last)
    undo = [written(before.age)] if before.age is not None else []
    undo += ["--last", str(before.last)] if before.last is not None else []
    text = f"{_kept(found)}; `loopline up` and `loopline gc` remove the others that nothing needs."
    show.done(found, json, text, f"loopline data retention {' '.join(undo) or 'forever'}")


def _kept(kept: VersionRetention) -> str:
    if kept.age is None and kept.last is None:
        return "All versions are kept for ever"
    ways = [f"for {show.lasting(kept.age)}"] if kept.age is not None else []
    if kept.last is not None:
        ways.append(
            f"as one of the last {kept.last:,} of its dataset" if kept.last > 1 else "as the last of its dataset"
        )
    return f"Each version is kept {', and '.join(ways)}"


COMMANDS = (purge, retention)
"""What `loopline data` has of these."""
