"""`loopline gc`: what nobody needs any more."""

from __future__ import annotations

import click

from loopline.cli import show
from loopline.cli.session import as_json, session


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@click.pass_context
def gc(ctx: click.Context, dry_run: bool, json: bool) -> None:
    """Remove deleted runs and versions of the project that are past its retention, and files and bytes that nothing refers to.

    `loopline up` does the same by itself, for every project. Bytes go a day after they were stored at the earliest.
    """
    runs: list[str] = []
    groups: list[str] = []
    with session(ctx) as s:
        if s.runs.retention().deleted is not None:
            while True:
                part = s.runs.purge(dry_run=dry_run)
                runs += part.runs
                groups += part.groups
                if dry_run or not part.more:
                    break
        kept = s.datasets.retention()
        purges = kept.age is not None or kept.last is not None
        versions = s.datasets.purge(dry_run=dry_run).versions if purges else ()
        files = s.datasets.vacuum(dry_run)
        swept = s.store.sweep(dry_run)
    if json:
        show.print_json(
            {"runs": runs, "groups": groups, "versions": versions, "files": files, "blobs": swept, "dry_run": dry_run}
        )
        return
    show.table(
        ["what", "would go" if dry_run else "removed", "size"],
        [
            ("deleted runs past the retention", len(runs), ""),
            ("deleted groups past the retention", len(groups), ""),
            ("dataset versions past the retention", len(versions), ""),
            ("files of tables that no version needs", files.files, show.size(files.bytes)),
            ("blobs that nothing refers to", swept.removed, show.size(swept.bytes)),
            ("files of uploads that were cut off", swept.temporary, ""),
        ],
    )
    if swept.young:
        click.echo(f"{swept.young:,} more blobs that nothing refers to are younger than a day.", err=True)
