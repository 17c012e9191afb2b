"""`loopline data add --files|checkout|status`: folders of files as versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.data.manifest import FilesDiff
    from loopline.data.records import DatasetVersion

_SHOWN = 50


def add_folder(ctx: click.Context, s: Session, name: str, folder: str, message: str) -> DatasetVersion:
    """The folder as the next version of the dataset."""
    from loopline.data.files.adding import add

    return add(s.files, name, Path(folder), states=_states(ctx), message=message)


def say_added(version: DatasetVersion, *, new: bool) -> None:
    """What was added."""
    said = "Added" if new else "The same content is there already:"
    click.echo(f"{said} {version.ref}: {version.files:,} files, {show.size(version.bytes)}.")
    if "case" in version.facts:
        click.echo(f"Beware: {version.facts['case']}.", err=True)


def say_diff(found: FilesDiff) -> None:
    """What changed between two versions."""
    show.title(f"{found.before} to {found.after}")
    _say(found, "Nothing changed.")


@click.command()
@click.argument("ref")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--writable", is_flag=True, help="Copy the files, so that they can be changed in place.")
@click.option("--force", is_flag=True, help="Write over what was changed by hand.")
@as_json
@click.pass_context
def checkout(ctx: click.Context, ref: str, folder: str, writable: bool, force: bool, json: bool) -> None:
    """Make FOLDER hold the files of the version REF, read-only. What else is in it stays.

    Whole files are linked from the store, large ones put together. It can be ended anywhere and done again.
    """
    from loopline.data.files.checkout import checkout as check_out

    with session(ctx) as s:
        name, version = names.dataset(s, ref)
        withdrawn = s.datasets.show(name, version).withdrawn
        found = check_out(s.files, name, version, Path(folder), states=_states(ctx), force=force, writable=writable)
    if json:
        show.print_json(found)
        return
    if withdrawn:
        click.echo(f"Beware: {found.ref} is withdrawn: {withdrawn}", err=True)
    click.echo(
        f"{found.folder} holds {found.ref}: {found.placed:,} files placed ({show.size(found.bytes)}), "
        f"{found.same:,} were there, {found.removed:,} removed."
    )


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@as_json
@click.pass_context
def status(ctx: click.Context, folder: str, json: bool) -> None:
    """How FOLDER differs from the version that it was added as or checked out from. Ends with 1 where it does."""
    from loopline.data.files.state import status as status_of

    found = status_of(_states(ctx), Path(folder))
    if json:
        show.print_json(found)
    else:
        show.title(f"{found.folder}, {found.ref}")
        _say(found, "Nothing differs.")
    ctx.exit(0 if found.clean else 1)


def _say(found: Any, nothing: str) -> None:
    listed = [
        (what, path)
        for what, paths in (("added", found.added), ("removed", found.removed), ("changed", found.changed))
        for path in paths
    ]
    for what, path in listed[:_SHOWN]:
        click.echo(f"{what:8} {path}")
    if len(listed) > _SHOWN:
        click.echo(f"and {len(listed) - _SHOWN:,} more: --json lists all.")
    click.echo(
        f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed, {found.same:,} as before."
        if listed
        else nothing
    )


def _states(ctx: click.Context) -> Path:
    return settings_of(ctx).workspace / "folders"


COMMANDS = (checkout, status)
