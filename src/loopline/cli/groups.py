"""`loopline groups`: runs that belong together."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.tracking.records import RunGroup


@group("groups", "Groups of runs. GROUP is the number or the name of one.")
def groups() -> None:
    pass


@groups.command()
@click.option("--deleted", is_flag=True, help="Those that are deleted and can be restored.")
@as_json
@click.pass_context
def ls(ctx: click.Context, deleted: bool, json: bool) -> None:
    """The groups, by number."""
    found: list[RunGroup] = []
    with session(ctx) as s:
        page = s.groups.list(lifecycle="deleted" if deleted else "live", limit=1000)
        found.extend(page.groups)
        while page.after is not None:
            page = s.groups.list(lifecycle="deleted" if deleted else "live", limit=1000, after=page.after)
            found.extend(page.groups)
    if json:
        show.print_json(found)
        return
    show.table(
        ["number", "name", "tags", "note", "by", "at", "deleted"],
        [(str(g.number), g.name, g.tags, g.note, g.creator, show.when(g.created), show.when(g.deleted)) for g in found],
        empty="No group is deleted." if deleted else "No groups yet.",
    )


@groups.command("show")
@click.argument("group")
@as_json
@click.pass_context
def show_group(ctx: click.Context, group: str, json: bool) -> None:
    """One group, deleted or not."""
    with session(ctx) as s:
        found = names.group(s, group, "all")
    if json:
        show.print_json(found)
        return
    show.title(f"{found.ref}  {found.name}")
    show.facts(
        [
            ("note", found.note),
            ("tags", found.tags),
            ("made", f"{show.when(found.created)} by {found.creator}"),
            ("changed", show.when(found.changed)),
            ("deleted", show.when(found.deleted)),
        ]
    )


@groups.command()
@click.argument("name")
@click.option("--note", default="", help="What it is for.")
@as_json
@click.pass_context
def create(ctx: click.Context, name: str, note: str, json: bool) -> None:
    """Make a group; `ll.run(..., group=NAME)` makes it, too."""
    with session(ctx) as s:
        made = s.groups.create(name, note=note)
    show.done(made, json, f"{made.ref} is the group {made.name!r}.", f"loopline groups delete {made.number}")


@groups.command()
@click.argument("group")
@click.argument("name")
@as_json
@click.pass_context
def rename(ctx: click.Context, group: str, name: str, json: bool) -> None:
    """Call a group otherwise."""
    with session(ctx) as s:
        before = names.group(s, group)
        found = s.groups.change(before.number, name=name)
    undo = f"loopline groups rename {found.number} {shlex.quote(before.name)}"
    show.done(found, json, f"{found.ref} is called {found.name!r}.", undo)


@groups.command()
@click.argument("group")
@click.argument("text")
@as_json
@click.pass_context
def note(ctx: click.Context, group: str, text: str, json: bool) -> None:
    """Say something of a group, in place of what was said before."""
    with session(ctx) as s:
        before = names.group(s, group)
        found = s.groups.change(before.number, note=text)
    show.done(found, json, f"{found.ref} is noted.", f"loopline groups note {found.number} {shlex.quote(before.note)}")


@groups.command()
@click.argument("group")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=TEXT...")
@as_json
@click.pass_context
def tag(ctx: click.Context, group: str, tags: tuple[str, ...], json: bool) -> None:
    """Set tags of a group; KEY= removes one."""
    given = names.tags(tags)
    with session(ctx) as s:
        before = names.group(s, group)
        found = s.groups.tag(before.number, given)
    undo = names.untagged(given, before.tags)
    show.done(found, json, f"{found.ref} is tagged.", f"loopline groups tag {found.number} {undo}")


@groups.command()
@click.argument("group")
@as_json
@click.pass_context
def delete(ctx: click.Context, group: str, json: bool) -> None:
    """Delete a group, and with it its runs."""
    with session(ctx) as s:
        found = s.groups.delete(names.group(s, group).number)
    show.done(
        found,
        json,
        f"{found.ref} ({found.name!r}) and its runs are deleted.",
        f"loopline groups restore {found.number}",
    )


@groups.command()
@click.argument("group")
@as_json
@click.pass_context
def restore(ctx: click.Context, group: str, json: bool) -> None:
    """Make a deleted group live again, and the runs that were deleted with it."""
    with session(ctx) as s:
        found = s.groups.restore(names.group(s, group, "deleted").number)
    show.done(
        found, json, f"{found.ref} ({found.name!r}) is live, and its runs.", f"loopline groups delete {found.number}"
    )


@groups.command()
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@click.pass_context
def purge(ctx: click.Context, groups: tuple[str, ...], dry_run: bool, json: bool) -> None:
    """Remove deleted groups and all their runs for good. Nothing undoes it."""
    from loopline.cli.deletion import purged

    with session(ctx) as s:
        numbers = tuple(names.group(s, each, "deleted").number for each in groups)
        purged(s, json, dry_run=dry_run, groups=numbers)
